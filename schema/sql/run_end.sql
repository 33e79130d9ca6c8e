-- What all transitions of running steps share: the lock on their runs, and the end of a run.
--
-- Locks are taken in one order: worker, run (ids ascending), step, rooms. Rooms are left forward (timer -> task -> lease)
-- without the run's lock; every other move holds it. Whoever ends a run therefore looks into the rooms in that order.

create or replace function lock_runs(p_run_ids uuid[]) returns void
language plpgsql as $$
declare
  v_lo uuid;
  v_hi uuid;
begin
  select b.lo, b.hi into v_lo, v_hi from id_bounds(p_run_ids) b;
  perform r.id from run r where r.id = any (p_run_ids) and r.id between v_lo and v_hi order by r.id for no key update;
end $$;
comment on function lock_runs(uuid[]) is 'Locks run rows in the order of their ids.';

create or replace function end_runs(p_run_ids uuid[], p_state run_state, p_errors jsonb[]) returns void
language plpgsql as $$
-- Rooms: whatever the runs still have there is cancelled. The caller holds the runs' locks.
declare
  v_now    timestamptz := clock();
  v_lo     uuid;
  v_hi     uuid;
  v_leases lease[];
begin
  select b.lo, b.hi into v_lo, v_hi from id_bounds(p_run_ids) b;

  delete from timer t where t.run_id = any (p_run_ids);
  delete from task t where t.run_id = any (p_run_ids);
  with closed as (
    delete from lease l where l.run_id = any (p_run_ids) returning l
  )
  select array_agg(c.l) into v_leases from closed c;

  if v_leases is not null then
    insert into attempt (run_id, claimed_at, ended_at, worker_id, seq, attempt, outcome, error)
    select l.run_id, l.claimed_at, v_now, l.worker_id, l.seq, l.attempt, 'cancelled', jsonb_build_object('message', 'the run ended')
    from unnest(v_leases) l;
    perform pg_notify(wake_channel(l.worker_id), 'heartbeat') from (select distinct x.worker_id from unnest(v_leases) x) l;
  end if;

  update step s set outcome = 'cancelled', ended_at = v_now
  where s.run_id = any (p_run_ids) and s.run_id between v_lo and v_hi and s.outcome is null;

  update run r set state = p_state, ended_at = v_now, open_steps = 0, revision = r.revision + 1, error = i.error
  from unnest(p_run_ids, p_errors) i(id, error)
  where r.id = i.id and r.id between v_lo and v_hi;
end $$;
comment on function end_runs(uuid[], run_state, jsonb[]) is
  'Ends runs before all their steps are done. Workers that run steps of them are told to look at their leases.';
