-- What all transitions of running steps share: the lock on their runs, and the end of a run.
--
-- Locks are taken in one order: worker, run (ids ascending), rooms. Rooms are left forward (timer -> queued -> task ->
-- lease) without the run's lock; every other move holds it. Whoever ends or pauses a run therefore looks into the rooms
-- in that order. A transition that finds something to do for another run takes that run's lock only if it is free, and
-- leaves a notice otherwise (notices.sql).

create or replace function lock_runs(p_run_ids uuid[], p_lowest uuid) returns void
language plpgsql as $$
begin
  perform r.id from run r where r.id = any (p_run_ids) and r.id >= p_lowest order by r.id for no key update;
end $$;
comment on function lock_runs(uuid[], uuid) is 'Locks run rows, of which this is the lowest id, in the order of their ids.';

create or replace function lock_runs(p_run_ids uuid[]) returns void
language plpgsql as $$
begin
  perform lock_runs(p_run_ids, lowest_id(p_run_ids));
end $$;
comment on function lock_runs(uuid[]) is 'Locks run rows in the order of their ids.';

create or replace function lock_runs_or_skip(p_run_ids uuid[], p_skip boolean, p_lowest uuid default null) returns uuid[]
language plpgsql as $$
declare
  v_lowest uuid := coalesce(p_lowest, lowest_id(p_run_ids));
  v_mine   uuid[];
begin
  if not p_skip then
    perform lock_runs(p_run_ids, v_lowest);
    return null;
  end if;
  -- Rows of a free run can be held as well: by a claim or a checkpoint in an open transaction, or by a claim whose worker froze
  -- before it had read the answer. The call fails soon then, and its caller sends the others apart.
  perform set_config('lock_timeout', '1s', true);
  v_mine := array(select r.id from run r where r.id = any (p_run_ids) and r.id >= v_lowest order by r.id for no key update skip locked);
  if cardinality(v_mine) = cardinality(p_run_ids) then
    return null;
  end if;
  -- The others are named twice, gone, or somebody's.
  return nullif(array(
    select distinct i.id from unnest(p_run_ids) i(id)
    where i.id <> all (v_mine) and exists (select from run r where r.id = i.id)), '{}');
end $$;
comment on function lock_runs_or_skip(uuid[], boolean, uuid) is
  'Locks runs in the order of their ids. When asked to skip, waits for nobody: the runs that somebody else holds are returned (null: there are none), and whatever else is held is waited for one second at most, until the transaction ends.';

create or replace function cancel_steps(p_run_ids uuid[], p_reason text) returns void
language plpgsql as $$
-- The caller holds the runs' locks and sets their open_steps.
declare
  v_now    timestamptz;
  v_lowest uuid;
  v_asleep step_key[];
  v_held   step_key[];
  v_queued step_key[];
  v_left   step_key[];
  v_waits  step_key[];
  v_leases lease[];
  v_gates  bigint[];
begin
  v_lowest := lowest_id(p_run_ids);

  -- One statement for each room: what has left one while its row was waited for is found in the next.
  with closed as (
    delete from timer t where t.run_id = any (p_run_ids) returning t.run_id, t.seq
  )
  select array_agg((c.run_id, c.seq)::step_key) into v_asleep from closed c;
  with closed as (
    delete from held h where h.run_id = any (p_run_ids) returning h.run_id, h.seq
  )
  select array_agg((c.run_id, c.seq)::step_key) into v_held from closed c;
  with closed as (
    delete from queued q where q.run_id = any (p_run_ids) returning q.run_id, q.seq
  )
  select array_agg((c.run_id, c.seq)::step_key) into v_queued from closed c;
  with closed as (
    delete from task t where t.run_id = any (p_run_ids) returning t.run_id, t.seq
  )
  select array_agg((c.run_id, c.seq)::step_key) into v_left from closed c;
  with closed as (
    delete from lease l where l.run_id = any (p_run_ids) returning l
  )
  select array_agg(c.l) into v_leases from closed c;
  with closed as (
    delete from wait w where w.run_id = any (p_run_ids) returning w.run_id, w.seq
  )
  select array_agg(distinct (c.run_id, c.seq)::step_key) into v_waits from closed c;
  delete from blocked b where b.run_id = any (p_run_ids);
  delete from notice n where n.run_id = any (p_run_ids) and n.kind = 'go_on';

  -- Not before: the rooms may have been waited for, while claims took steps.
  v_now := clock();
  if v_leases is not null then
    insert into attempt (run_id, claimed_at, ended_at, worker_id, seq, attempt, outcome, error)
    select l.run_id, l.claimed_at, v_now, l.worker_id, l.seq, l.attempt, 'cancelled', jsonb_build_object('message', p_reason)
    from unnest(v_leases) l;
    perform pg_notify(wake_channel(l.worker_id), 'heartbeat') from (select distinct x.worker_id from unnest(v_leases) x) l;
  end if;

  v_left := v_left || array(select (l.run_id, l.seq)::step_key from unnest(v_leases) l);
  v_gates := gates_of(v_left);
  with own as (
    delete from own_step o where o.run_id = any (p_run_ids) returning o.run_id, o.seq, o.def, o.input
  )
  insert into step (run_id, ended_at, seq, def, outcome, input) select o.run_id, v_now, o.seq, o.def, 'cancelled', o.input from own o;
  -- Of what has not begun nothing is written: the end of the run is its end.
  insert into step (run_id, ended_at, seq, outcome)
  select k.run_id, v_now, k.seq, 'cancelled'
  from (select * from unnest(v_asleep || v_held || v_queued || v_left || v_waits)) k
  where not exists (select from step s where s.run_id = k.run_id and s.seq = k.seq and s.run_id >= v_lowest);

  perform leave_gates(v_gates);
  perform leave_queues(array(select l.lane_id from unnest(v_leases) l), null, false);

  perform stop_children(p_run_ids, v_lowest);
end $$;
comment on function cancel_steps(uuid[], text) is
  'Cancels all live steps of runs, and all their live child runs. Workers that run some are told to look at their leases.';

create or replace function end_runs(p_run_ids uuid[], p_state run_state, p_errors jsonb[]) returns void
language plpgsql as $$
-- Rooms: whatever the runs still have there is cancelled. The caller holds the runs' locks.
declare
  v_now      timestamptz;
  v_lowest   uuid;
  v_children uuid[];
begin
  perform cancel_steps(p_run_ids, 'the run ended');
  v_now := clock();
  v_lowest := lowest_id(p_run_ids);
  with ended as (
    update run r
    set state = p_state, ended_at = v_now, open_steps = 0, revision = r.revision + 1, error = i.error, paused_for = null
    from (select * from unnest(p_run_ids, p_errors) x(id, error) limit cardinality(p_run_ids)) i
    where r.id = i.id and r.id >= v_lowest
    returning r.id, r.parent_path
  )
  select array_agg(e.id) into v_children from ended e where e.parent_path is not null;
  if v_children is not null then
    perform tell_parents(v_children);
  end if;
end $$;
comment on function end_runs(uuid[], run_state, jsonb[]) is 'Ends runs before all their steps are done.';

create or replace function count_off(p_steps step_key[]) returns void
language plpgsql as $$
-- A step counts in the course of its run that it belongs to: while a run is undone its compensations count, and what ended
-- in the same call before that does not any more.
declare
  v_now      timestamptz := clock();
  v_lowest   uuid;
  v_children uuid[];
begin
  if coalesce(cardinality(p_steps), 0) = 0 then
    return;
  end if;
  v_lowest := lowest_id(array(select k.run_id from unnest(p_steps) k));
  with ended as (
    select k.run_id, is_undo(k) as undoing, count(*)::int as steps
    from (select * from unnest(p_steps) limit cardinality(p_steps)) k group by k.run_id, is_undo(k)
  ), counted as (
    update run r
    set open_steps = r.open_steps - e.steps,
        state = case when r.open_steps > e.steps then r.state when r.compensating then 'failed' else 'completed' end,
        ended_at = case when r.open_steps = e.steps then v_now end,
        revision = r.revision + 1
    from ended e
    where r.id = e.run_id and r.id >= v_lowest and r.state in ('running', 'paused') and coalesce(r.compensating, false) = e.undoing
    returning r.id, r.open_steps, r.parent_path
  )
  select array_agg(c.id) into v_children from counted c where c.open_steps = 0 and c.parent_path is not null;
  if v_children is not null then
    perform tell_parents(v_children);
  end if;
end $$;
comment on function count_off(step_key[]) is
  'Counts steps whose outcome was written off their runs, and ends the runs that have no step left. The caller holds the runs'' locks.';

create or replace function is_undo(p_key step_key) returns boolean
language plpgsql stable as $$
begin
  return p_key.seq >= 32768 and exists (
    select from step s join run r on r.id = s.run_id join flow_step f on f.flow_id = r.flow_id and f.seq = s.def
    where s.run_id = p_key.run_id and s.seq = p_key.seq and f.undoes is not null);
end $$;
comment on function is_undo(step_key) is 'Whether a step undoes another one.';
