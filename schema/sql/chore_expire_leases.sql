-- Chore: leases of workers whose heartbeat stopped go to others. Room: lease -> task, or none after the last attempt.
-- Locks: worker, run (ascending), lease, step, task.

create or replace function expire_leases(p_limit integer) returns bigint
language plpgsql as $$
declare
  v_now   timestamptz := clock();
  v_dead  bigint[];
  v_found lease[];
  v_ended ended_attempt[];
begin
  update worker w set state = 'lost', stopped_at = v_now
  where w.id = any (array(
    select x.id from worker x where x.state in ('active', 'draining') and x.expires_at <= v_now
    order by x.id for update skip locked));

  -- Owners that are not alive, the ones whose worker row has been removed among them: a loose index scan finds each
  -- owner once, however many leases there are.
  with recursive owner(id) as (
    (select l.worker_id from lease l order by l.worker_id limit 1)
    union all
    select (select l.worker_id from lease l where l.worker_id > o.id order by l.worker_id limit 1) from owner o where o.id is not null
  )
  select array_agg(o.id) into v_dead from owner o
  where o.id is not null and not exists (select from worker w where w.id = o.id and w.state in ('active', 'draining'));
  delete from listener n where n.worker_id = any (v_dead);
  if v_dead is null then
    return 0;
  end if;

  v_found := array(select l from lease l where l.worker_id = any (v_dead) limit p_limit);
  perform lock_runs(array(select f.run_id from unnest(v_found) f));

  with closed as (
    delete from lease l
    using unnest(v_found) f
    where l.run_id = f.run_id and l.seq = f.seq and l.attempt = f.attempt and l.worker_id = f.worker_id
    returning l
  )
  select array_agg(((c.l).run_id, (c.l).seq, (c.l).attempt, (c.l).worker_id, (c.l).claimed_at, (c.l).failures, 'expired',
                    jsonb_build_object('message', format('worker %s stopped its heartbeat', (c.l).worker_id)), true, 0, null)::ended_attempt)
  into v_ended from closed c;
  if v_ended is null then
    return 0;
  end if;
  perform leave_limits(
    array(select (e.run_id, e.seq)::step_key from unnest(v_ended) e),
    array(select f.lane_id from unnest(v_found) f join unnest(v_ended) e on e.run_id = f.run_id and e.seq = f.seq), null, false);
  perform settle_attempts(v_ended);
  return cardinality(v_ended);
end $$;
comment on function expire_leases(integer) is
  'Gives up workers whose heartbeat is overdue by the database''s clock, and hands up to so many of their steps to others. Returns how many.';

create or replace function expire_leases() returns bigint
language sql as $$ select expire_leases(1000) $$;
comment on function expire_leases() is 'Chore: expire_leases(1000).';

select define_chore('expire_leases', 1000, 'Takes the steps of workers whose heartbeat stopped, and hands them to others.');
