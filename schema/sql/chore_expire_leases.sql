-- Chore: leases of workers whose heartbeat stopped go to others. Room: lease -> task, or step after the last attempt. Leases of a
-- worker are found by reading all leases, which are no more than what runs: an index on their owners would cost each of them, for
-- the sake of the few that lose him.
-- Locks: worker, run (ascending, those that others hold are skipped), lease, own_step, task.

create or replace function expire_leases(p_limit integer) returns bigint
language plpgsql as $$
declare
  v_now   timestamptz := clock();
  v_dead  bigint[];
  v_freed bigint;
begin
  -- One that claims right now is given up the next time.
  update worker w set state = 'lost', stopped_at = v_now
  where w.id = any (array(
    select x.id from worker x where x.state in ('active', 'draining') and x.expires_at <= v_now order by x.id for update skip locked))
    and pg_try_advisory_xact_lock(lock_class('worker'), (w.id & 2147483647)::integer);

  v_dead := array(select w.id from worker w where w.state = 'lost' and not w.swept order by w.id);
  if cardinality(v_dead) = 0 then
    return 0;
  end if;
  delete from listener n where n.worker_id = any (v_dead);
  v_freed := free_leases(v_dead, p_limit);
  if v_freed = 0 then
    update worker w set swept = true
    where w.id = any (v_dead) and w.id <> all (array(select distinct l.worker_id from lease l where l.worker_id = any (v_dead)));
  end if;
  return v_freed;
end $$;
comment on function expire_leases(integer) is
  'Gives up workers whose heartbeat is overdue by the database''s clock, and hands up to so many of their steps to others. Returns how many.';

create or replace function free_leases(p_workers bigint[], p_limit integer) returns bigint
language plpgsql as $$
declare
  v_run_ids uuid[];
begin
  -- Runs that somebody else holds are left for the next time: a caller's open transaction keeps its own run only.
  v_run_ids := array(
    select r.id from run r
    where r.id = any (array(select l.run_id from lease l where l.worker_id = any (p_workers)))
      and not is_set_aside('free_leases_of_runs', r.id::text, clock())
    order by r.id limit p_limit for no key update skip locked);
  perform set_config('longhaul.lost_workers', array_to_string(p_workers, ','), true);
  return in_parts('free_leases_of_runs', array(select x::text from unnest(v_run_ids) x order by x));
end $$;
comment on function free_leases(bigint[], integer) is 'Hands steps of these workers, of up to so many runs, to others. Returns how many.';

create or replace function free_leases_of_runs(p_items text[]) returns bigint
language plpgsql as $$
-- The caller holds the runs' locks, and has named the workers in longhaul.lost_workers.
declare
  v_run_ids uuid[] := p_items::uuid[];
  v_workers bigint[] := string_to_array(current_setting('longhaul.lost_workers'), ',')::bigint[];
  v_closed  lease[];
begin
  with closed as (
    delete from lease l where l.run_id = any (v_run_ids) and l.worker_id = any (v_workers) returning l
  )
  select array_agg(c.l) into v_closed from closed c;
  if v_closed is null then
    return 0;
  end if;
  perform leave_limits(
    array(select (l.run_id, l.seq)::step_key from unnest(v_closed) l), array(select l.lane_id from unnest(v_closed) l), null, false);
  -- What a worker could not hand back when it left is handed back now, with no attempt consumed.
  perform settle_attempts(array(
    select (l.run_id, l.seq, l.attempt, l.worker_id, l.claimed_at, l.failures, case when w.gone then 'released' else 'expired' end,
            case when w.gone is null then jsonb_build_object('message', format('worker %s stopped its heartbeat', l.worker_id)) end, true, 0, null)::ended_attempt
    from unnest(v_closed) l
    left join lateral (select true as gone from worker x where x.id = l.worker_id and x.state = 'gone' offset 0) w on true));
  return cardinality(v_closed);
end $$;
comment on function free_leases_of_runs(text[]) is 'Hands the steps to others that lost workers hold of these runs. Returns how many.';

create or replace function free_orphans() returns bigint
language plpgsql as $$
declare
  v_orphaned bigint[];
begin
  select array_agg(o.id) into v_orphaned from (select distinct l.worker_id as id from lease l) o
  where not exists (select from worker w where w.id = o.id and w.state <> 'gone');
  return case when v_orphaned is null then 0 else free_leases(v_orphaned, 1000) end;
end $$;
comment on function free_orphans() is 'Chore: hands steps to others whose owner is not known, as when somebody has deleted its row.';

create or replace function expire_leases() returns bigint
language sql as $$ select expire_leases(1000) $$;
comment on function expire_leases() is 'Chore: expire_leases(1000).';

select define_chore('expire_leases', 1000, 'Takes the steps of workers whose heartbeat stopped, and hands them to others.');
select define_chore('free_orphans', 60000, 'Hands steps to others whose owner is not known.');
