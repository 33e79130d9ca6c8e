-- Where a step goes that is ready: to its lane, or aside while its run is paused. Rooms: -> task, held, wait.
-- The caller holds the runs' locks.

create or replace function place_ready(p_tasks task[]) returns void
language plpgsql as $$
declare
  v_tasks task[];
  v_lanes integer[];
begin
  with judged as (
    select t, r.state from unnest(p_tasks) t cross join lateral (select x.state from run x where x.id = t.run_id offset 0) r
  ), kept as (
    insert into held (run_id, position, lane_id, seq, attempt, priority, failures)
    select (j.t).run_id, (j.t).position, (j.t).lane_id, (j.t).seq, (j.t).attempt, (j.t).priority, (j.t).failures
    from judged j where j.state = 'paused'
  )
  select coalesce(array_agg(j.t) filter (where j.state <> 'paused'), '{}') into v_tasks from judged j;
  if exists (select from gate) then
    v_tasks := admit(v_tasks);
  end if;
  with ready as (
    insert into task select t.* from unnest(v_tasks) t returning lane_id
  )
  select array_agg(r.lane_id) into v_lanes from ready r;
  if v_lanes is not null then
    perform wake(array(select distinct x from unnest(v_lanes) x), cardinality(v_lanes));
  end if;
end $$;
comment on function place_ready(task[]) is 'Puts steps in their lanes or, while their run is paused or their key has no room, aside.';

create or replace function last_attempt(p_run_id uuid, p_seq integer) returns integer
language plpgsql stable as $$
begin
  return (select coalesce(max(a.attempt), 0) from attempt a where a.run_id = p_run_id and a.seq = p_seq);
end $$;
comment on function last_attempt(uuid, integer) is
  'Number of the last attempt at a step that has ended without completing it: the next one is higher, also after the run was retried.';

create or replace function place_step(
  p_run_id uuid, p_seq integer, p_position bigint, p_attempt integer default null, p_failures smallint default 0::smallint
) returns void
language plpgsql as $$
begin
  perform place_ready(array_agg((s.run_id, p_position, s.lane_id, s.seq, coalesce(p_attempt, last_attempt(s.run_id, s.seq)), s.priority, p_failures)::task))
  from step s where s.run_id = p_run_id and s.seq = p_seq;
end $$;
comment on function place_step(uuid, integer, bigint, integer, smallint) is
  'Puts one step in its lane, at this place in line: after its last attempt, with all its attempts before it unless failures are named.';

create or replace function enter_step(p_run run, p_step step, p_flow_step flow_step) returns boolean
language plpgsql as $$
-- What a step asks for before it begins, in this order: that its run is not paused, its condition, its input, an approval,
-- room in a budget. Then it begins: true when it has ended by that already.
declare
  v_now     timestamptz := clock();
  v_item    boolean := p_step.def is not null;
  v_context jsonb;
  v_input   jsonb;
  v_holds   boolean;
begin
  if p_run.state = 'paused' then
    insert into held (run_id, position, lane_id, seq, attempt, priority, failures)
    values (p_run.id, ready_position(), null, p_step.seq, 0, p_step.priority, 0);
    return false;
  end if;

  if p_flow_step.condition is not null or p_flow_step.input is not null or p_flow_step.each is not null or p_flow_step.settings is not null then
    v_context := step_context(p_run, p_flow_step);
  end if;

  if p_flow_step.condition is not null and not v_item then
    v_holds := jsonb_path_match(v_context, p_flow_step.condition, '{}', true);
    if v_holds is null then
      return fail_step(p_run.id, p_step.seq, format('its condition %s is neither true nor false', p_flow_step.condition));
    end if;
    if not v_holds then
      update step s set outcome = 'skipped', ended_at = v_now where s.run_id = p_run.id and s.seq = p_step.seq;
      return true;
    end if;
  end if;

  if not v_item then
    if p_flow_step.each is not null then
      return begin_fan_out(p_run, p_step, p_flow_step, v_context);
    end if;
    if p_flow_step.input is not null then
      v_input := filled_in(p_flow_step.input, v_context);
      update step s set input = v_input where s.run_id = p_run.id and s.seq = p_step.seq;
    end if;
  end if;
  v_input := coalesce(v_input, p_step.input, p_run.input);

  if p_flow_step.settings ? 'approval' then
    if ask_approval(p_run, p_step, p_flow_step) then
      return false;
    end if;
  end if;
  if p_flow_step.settings ? 'budget' then
    v_holds := spend(p_run, p_step, p_flow_step, v_context);
    if not coalesce(v_holds, false) then
      -- Null: it has failed, and its run goes on without it.
      return v_holds is null;
    end if;
  end if;

  case p_flow_step.kind
    when 'handler' then
      if p_flow_step.settings ? 'concurrency' then
        update step s set gate_id = gate_of(p_run, p_step, p_flow_step, v_context) where s.run_id = p_run.id and s.seq = p_step.seq;
      end if;
      if p_flow_step.settings ? 'fair' then
        perform place_step(p_run.id, p_step.seq, next_turn(p_step.lane_id, p_step.priority,
          coalesce(filled_in(p_flow_step.settings -> 'fair' -> 'key', v_context || jsonb_build_object('item', p_step.input)) #>> '{}', ''),
          (p_flow_step.settings -> 'fair' ->> 'weight')::numeric));
      else
        perform place_step(p_run.id, p_step.seq, ready_position());
      end if;
      return false;
    when 'child' then
      return begin_child(p_run, p_step, p_flow_step, v_input);
    when 'sleep' then
      insert into wait (run_id, seq, path, attempt, failures, kind, completes, since, due_at)
      values (p_run.id, p_step.seq, '', 0, 0, 'sleep', true, v_now,
              v_now + (p_flow_step.settings ->> 'sleep_ms')::bigint * interval '1 millisecond');
      return false;
    when 'signal' then
      return begin_signal_wait(p_run, p_step, p_flow_step, v_context);
  end case;
end $$;
comment on function enter_step(run, step, flow_step) is
  'Begins a step whose predecessors have ended. True when it has ended at once: skipped, an empty fan-out, a detached child.';

create or replace function enter_in_turn(p_steps step_key[]) returns step_key[]
language plpgsql as $$
declare
  v_ended step_key[] := '{}';
  v_key   step_key;
  v_run   run;
  v_step  step;
  v_def   flow_step;
begin
  foreach v_key in array coalesce(p_steps, '{}') loop
    -- Read anew each time: the step before may have paused or ended the run.
    select s.* into v_step from step s where s.run_id = v_key.run_id and s.seq = v_key.seq and s.outcome is null;
    continue when not found;
    select r.* into v_run from run r where r.id = v_key.run_id;
    select f.* into v_def from flow_step f where f.flow_id = v_run.flow_id and f.seq = coalesce(v_step.def, v_step.seq);
    if enter_step(v_run, v_step, v_def) then
      -- At once: the next step may fail the run, and its count must be right then.
      perform count_off(array[v_key]);
      v_ended := v_ended || v_key;
    end if;
  end loop;
  return v_ended;
end $$;
comment on function enter_in_turn(step_key[]) is 'Begins steps; returns those that have ended by that already, and were counted off their runs.';

create or replace function enter_steps(p_steps step_key[]) returns step_key[]
language plpgsql as $$
-- What an expression meets in the data (a key too long for an index, times that cannot be compared) fails the step that asked for it, not
-- the call with which other steps end.
declare
  v_ended step_key[] := '{}';
  v_key   step_key;
  v_error text;
begin
  begin
    return enter_in_turn(p_steps);
  exception when data_exception or program_limit_exceeded or feature_not_supported or undefined_object then
    v_error := sqlerrm;
  end;
  if cardinality(p_steps) > 1 then
    foreach v_key in array p_steps loop
      v_ended := v_ended || enter_steps(array[v_key]);
    end loop;
    return v_ended;
  end if;
  v_key := p_steps[1];
  if not fail_step(v_key.run_id, v_key.seq, v_error) then
    return '{}';
  end if;
  perform count_off(p_steps);
  return p_steps;
end $$;
comment on function enter_steps(step_key[]) is 'enter_in_turn(), but a step that cannot begin because of its data has failed.';

create or replace function begin_steps(p_steps step_key[]) returns void
language plpgsql as $$
begin
  perform advance(enter_steps(p_steps));
end $$;
comment on function begin_steps(step_key[]) is 'Begins steps, and goes on with what follows those that end at once.';
