-- Going on after steps have ended: successors, items of a fan-out, compensations. Rooms: blocked, or none -> task, held, wait.
-- The caller holds the runs' locks.

create or replace function unblock_successors(p_steps step_key[]) returns step_key[]
language plpgsql as $$
declare
  v_lowest   uuid;
  v_ready    task[];
  v_special  step_key[];
  v_paused   boolean;
  v_position bigint := ready_position();
  -- A bound that the planner does not know: see decision 4.
  v_most     bigint := 2147483647;
begin
  v_lowest := lowest_id(array(select k.run_id from unnest(p_steps) k));
  with counted as (
    select d.run_id, n.seq, count(*)::int as ended, r.flow_id, r.priority, r.state = 'paused' as paused
    from (select * from unnest(p_steps) limit cardinality(p_steps)) d
    -- What has ended in a run that ended by it, or is being undone, begins nothing any more.
    cross join lateral (
      select x.flow_id, x.state, x.priority from run x
      where x.id = d.run_id and x.id >= v_lowest and x.state in ('running', 'paused') and x.compensating is not true offset 0) r
    cross join lateral (select x.successors from flow_step x where x.flow_id = r.flow_id and x.seq = d.seq offset 0) f
    cross join lateral unnest(f.successors) n(seq)
    group by d.run_id, n.seq, r.flow_id, r.priority, r.state
  ), waiting as materialized (
    select c.run_id, c.seq, c.paused, f.plain, f.lane_id, coalesce(c.priority, f.priority) as priority, b.tid,
      coalesce(b.blockers, f.predecessors) - c.ended as blockers
    from (select * from counted limit v_most) c
    cross join lateral (
      select x.plain, x.lane_id, x.priority, x.predecessors from flow_step x where x.flow_id = c.flow_id and x.seq = c.seq offset 0) f
    left join lateral (
      select x.ctid as tid, x.blockers from blocked x where f.predecessors > 1 and x.run_id = c.run_id and x.seq = c.seq offset 0) b on true
  ), gone as (
    delete from blocked x where x.ctid = any (array(select w.tid from waiting w where w.blockers = 0 and w.tid is not null))
  ), stay as (
    update blocked x set blockers = w.blockers
    from (select * from waiting y where y.blockers > 0 and y.tid is not null limit v_most) w
    where x.ctid = w.tid
  ), come as (
    insert into blocked (run_id, seq, blockers) select w.run_id, w.seq, w.blockers from waiting w where w.blockers > 0 and w.tid is null
  )
  select array_agg((w.run_id, v_position, w.lane_id, w.seq, 0, w.priority, 0)::task order by w.run_id, w.seq) filter (where w.plain),
         array_agg((w.run_id, w.seq)::step_key order by w.run_id, w.seq) filter (where not w.plain),
         bool_or(w.paused)
  into v_ready, v_special, v_paused
  from waiting w where w.blockers = 0;

  if v_ready is not null and v_paused then
    perform place_ready(v_ready);
  elsif v_ready is not null then
    insert into task select t.* from unnest(v_ready) t;
    perform wake(array(select distinct t.lane_id from unnest(v_ready) t), cardinality(v_ready));
  end if;
  return v_special;
end $$;
comment on function unblock_successors(step_key[]) is
  'Counts ended steps off their successors. Plain ones that wait for nothing more go to their lanes; the others are returned.';

create or replace function advance(p_ended step_key[]) returns void
language plpgsql as $$
-- A loop and no recursion, and no longer than a call may take: what is left then is done by deliver_notices().
declare
  v_pending step_key[] := '{}';
  v_ended   step_key[] := p_ended;
  v_rounds  integer := 0;
begin
  while cardinality(v_ended) > 0 loop
    v_rounds := v_rounds + 1;
    if v_rounds > 1000 then
      insert into notice (kind, run_id, seqs, due_at)
      select 'go_on', k.run_id, array_agg(k.seq order by k.seq), clock() from unnest(v_ended) k group by k.run_id order by k.run_id;
      exit;
    end if;
    v_ended := next_round(v_ended);
    v_pending := v_pending || v_ended;
  end loop;
  perform count_off(v_pending);
end $$;
comment on function advance(step_key[]) is
  'Goes on after steps that have ended and were counted off their runs, until nothing ends at once any more.';

create or replace function next_round(p_ended step_key[]) returns step_key[]
language plpgsql as $$
declare
  v_own     step_key[];
  v_items   step_key[];
  v_special step_key[];
  v_ended   step_key[] := '{}';
begin
  select array_agg(k) filter (where k.seq < 32768), array_agg(k) filter (where k.seq >= 32768) into v_own, v_items from unnest(p_ended) k;
  if v_own is not null then
    v_special := unblock_successors(v_own);
    if v_special is not null then
      v_ended := enter_steps(v_special);
    end if;
  end if;
  if v_items is not null then
    v_ended := v_ended || items_ended(v_items);
  end if;
  return v_ended;
end $$;
comment on function next_round(step_key[]) is
  'Begins what waited for these steps and waits for nothing more. Returns what has ended by that already, still to be counted off.';

create or replace function go_on(p_ended step_key[]) returns void
language plpgsql as $$
begin
  if cardinality(p_ended) > 0 then
    perform count_off(p_ended);
    perform advance(p_ended);
  end if;
end $$;
comment on function go_on(step_key[]) is 'Counts steps whose outcome was written off their runs, and goes on after them.';

create or replace function end_step(p_run_id uuid, p_seq integer, p_output jsonb, p_started_at timestamptz default null) returns void
language plpgsql as $$
declare
  v_key step_key := (p_run_id, p_seq);
begin
  if is_live(p_run_id, p_seq) then
    perform record_end(p_run_id, p_seq, 'completed', coalesce(p_started_at, clock()), p_output);
    perform go_on(array[v_key]);
    -- Children that it has begun and that lost against what completed it.
    perform stop_children_of_steps(parents_among(array[v_key]));
  end if;
end $$;
comment on function end_step(uuid, integer, jsonb, timestamptz) is 'Completes a step that the database does itself.';

create or replace function parents_among(p_steps step_key[]) returns step_key[]
language plpgsql stable as $$
begin
  return array(
    select k from unnest(p_steps) k
    cross join lateral (select x.has_children from run x where x.id = k.run_id offset 0) r
    where r.has_children);
end $$;
comment on function parents_among(step_key[]) is 'Those of some steps that may have started child runs that end with them.';

-- Failing steps ---------------------------------------------------------------------------------------------------

create or replace function fail_steps(p_failed ended_attempt[]) returns step_key[]
language plpgsql as $$
-- Their rooms have been left by the caller.
declare
  v_now        timestamptz := clock();
  v_lowest     uuid;
  v_run_ids    uuid[];
  v_errors     jsonb[];
  v_continuing step_key[];
begin
  v_lowest := lowest_id(array(select x.run_id from unnest(p_failed) x));

  with ended as materialized (
    select e.run_id, e.claimed_at, e.worker_id, e.seq, e.attempt, e.error, o.tid, o.def, o.input
    from (select * from unnest(p_failed) limit cardinality(p_failed)) e
    left join lateral (select x.ctid as tid, x.def, x.input from own_step x where x.run_id = e.run_id and x.seq = e.seq offset 0) o on true
  ), gone as (
    delete from own_step o where o.ctid = any (array(select e.tid from ended e where e.tid is not null))
  )
  insert into step (run_id, started_at, ended_at, worker_id, seq, attempt, def, outcome, error, input)
  select e.run_id, e.claimed_at, v_now, e.worker_id, e.seq, e.attempt, e.def, 'failed', e.error, e.input from ended e;
  perform stop_children_of_steps(parents_among(array(select (e.run_id, e.seq)::step_key from unnest(p_failed) e)));

  insert into dead_letter (run_id, seq, died_at) select e.run_id, e.seq, v_now from unnest(p_failed) e on conflict do nothing;

  with judged as (
    select e.run_id, e.seq, f.name,
      -- What a compensation cannot undo stays as it is; the others are undone all the same.
      f.continues or (f.undoes is not null and r.compensating is true) as continues,
      -- The public part of the error only: the detail stays with the attempt.
      coalesce(e.error, '{}') - 'detail' || jsonb_build_object('step', f.name) as error
    from (select * from unnest(p_failed) limit cardinality(p_failed)) e
    cross join lateral (select x.seq, x.def from step x where x.run_id = e.run_id and x.seq = e.seq and x.run_id >= v_lowest offset 0) s
    cross join lateral (select x.flow_id, x.compensating from run x where x.id = e.run_id and x.id >= v_lowest offset 0) r
    join flow_step f on f.flow_id = r.flow_id and f.seq = coalesce(s.def, s.seq)
  ), first as (
    select distinct on (j.run_id) j.run_id, j.error from judged j where not j.continues order by j.run_id, j.seq
  )
  select (select array_agg(f.run_id) from first f), (select array_agg(f.error) from first f),
         (select array_agg((j.run_id, j.seq)::step_key) from judged j
          where j.continues and not exists (select from first f where f.run_id = j.run_id))
  into v_run_ids, v_errors, v_continuing;

  if v_run_ids is not null then
    perform fail_runs(v_run_ids, v_errors);
  end if;
  return coalesce(v_continuing, '{}');
end $$;
comment on function fail_steps(ended_attempt[]) is
  'Fails steps for good, and their runs unless the flow says that they go on without them. Returns the steps whose runs go on; these are still to be counted off.';

create or replace function fail_step_with(p_run_id uuid, p_seq integer, p_error jsonb) returns boolean
language plpgsql as $$
begin
  return cardinality(fail_steps(array[(p_run_id, p_seq, null, null, clock(), 0, 'failed', checked_error(p_error), false, null, null)::ended_attempt])) > 0;
end $$;
comment on function fail_step_with(uuid, integer, jsonb) is
  'Fails a step that cannot begin or go on. True when its run goes on without it; it is still to be counted off then.';

create or replace function fail_step(p_run_id uuid, p_seq integer, p_message text) returns boolean
language plpgsql as $$
begin
  return fail_step_with(p_run_id, p_seq, jsonb_build_object('message', p_message));
end $$;
comment on function fail_step(uuid, integer, text) is 'fail_step_with() this message.';

create or replace function fail_runs(p_run_ids uuid[], p_errors jsonb[]) returns void
language plpgsql as $$
declare
  v_ids    uuid[] := '{}';
  v_errors jsonb[] := '{}';
begin
  for i in 1 .. cardinality(p_run_ids) loop
    if not begin_compensation(p_run_ids[i], p_errors[i]) then
      v_ids := v_ids || p_run_ids[i];
      v_errors := v_errors || p_errors[i];
    end if;
  end loop;
  if cardinality(v_ids) > 0 then
    perform end_runs(v_ids, 'failed', v_errors);
  end if;
end $$;
comment on function fail_runs(uuid[], jsonb[]) is 'Fails runs: at once or, where completed steps have compensations, once these are done.';
