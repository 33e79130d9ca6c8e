-- Where a step goes that is ready: to its lane, or aside while its run is paused. Rooms: -> task, held, wait.
-- The caller holds the runs' locks.
--
-- Functions that begin steps return those that have ended at once. Who asked counts them off their runs, once, at the end of
-- all: a count a step would be a version of the run's row a step, each walked over by the next.

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
  if exists (select from gate_limit) then
    v_tasks := place_queued(v_tasks);
  end if;
  with ready as (
    insert into task select t.* from unnest(v_tasks) t returning lane_id
  )
  select array_agg(r.lane_id) into v_lanes from ready r;
  if v_lanes is not null then
    perform wake(array(select distinct x from unnest(v_lanes) x), cardinality(v_lanes));
  end if;
end $$;
comment on function place_ready(task[]) is 'Puts steps in their lanes, to their keys or, while their run is paused, aside.';

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
declare
  v_step own_step := live_step(p_run_id, p_seq);
begin
  if v_step.run_id is not null then
    perform place_ready(array[
      (p_run_id, p_position, v_step.lane_id, p_seq, coalesce(p_attempt, last_attempt(p_run_id, p_seq)), v_step.priority, p_failures)::task]);
  end if;
end $$;
comment on function place_step(uuid, integer, bigint, integer, smallint) is
  'Puts one live step in its lane, at this place in line: after its last attempt, with all its attempts before it unless failures are named.';

create or replace function enter_step(p_run run, p_step own_step, p_flow_step flow_step) returns step_key[]
language plpgsql as $$
-- What a step asks for before it begins, in this order: that its run is not paused, its condition, its input, an approval,
-- room in a budget. Then it begins. Returned are the steps that have ended by that already: itself, or items of it.
declare
  v_now     timestamptz := clock();
  v_item    boolean := p_step.def is not null;
  v_own     own_step := p_step;
  v_key     step_key := (p_step.run_id, p_step.seq);
  v_context jsonb;
  v_input   jsonb;
  v_holds   boolean;
begin
  if p_run.state = 'paused' then
    insert into held (run_id, position, lane_id, seq, attempt, priority, failures)
    values (p_run.id, ready_position(), null, p_step.seq, 0, p_step.priority, 0);
    return '{}';
  end if;

  if p_flow_step.condition is not null or p_flow_step.input is not null or p_flow_step.each is not null or p_flow_step.settings is not null then
    v_context := step_context(p_run, p_flow_step);
  end if;

  if p_flow_step.condition is not null and not v_item then
    v_holds := jsonb_path_match(v_context, p_flow_step.condition, '{}', true);
    if v_holds is null then
      return case when fail_step(p_run.id, p_step.seq, format('its condition %s is neither true nor false', p_flow_step.condition))
                  then array[v_key] else '{}' end;
    end if;
    if not v_holds then
      perform record_end(p_run.id, p_step.seq, 'skipped');
      return array[v_key];
    end if;
  end if;

  if not v_item and p_flow_step.each is not null then
    return begin_fan_out(p_run, p_step, p_flow_step, v_context);
  end if;
  if p_flow_step.input is not null and (not v_item or p_step.input is null) then
    v_input := case when v_item then item_input(p_step, p_flow_step, v_context) else filled_in(p_flow_step.input, v_context) end;
    v_own.input := v_input;
    perform keep_own(v_own);
    p_step.input := case when v_item then v_input else p_step.input end;
  end if;
  v_input := coalesce(v_input, p_step.input, p_run.input);

  if p_flow_step.settings ? 'approval' then
    if ask_approval(p_run, p_step, p_flow_step) then
      return '{}';
    end if;
  end if;
  if p_flow_step.settings ? 'budget' then
    v_holds := spend(p_run, p_step, p_flow_step, v_context);
    if not coalesce(v_holds, false) then
      -- Null: it has failed, and its run goes on without it.
      return case when v_holds is null then array[v_key] else '{}' end;
    end if;
  end if;

  case p_flow_step.kind
    when 'handler' then
      if p_flow_step.settings ? 'concurrency' then
        v_own.gate_id := gate_of(p_run, p_step, p_flow_step, v_context);
        perform keep_own(v_own);
      end if;
      if p_flow_step.settings ? 'fair' then
        perform place_step(p_run.id, p_step.seq, next_turn(p_step.lane_id, p_step.priority,
          coalesce(key_from('its fair turns', p_flow_step.settings -> 'fair' -> 'key', v_context || jsonb_build_object('item', p_step.input)), ''),
          (p_flow_step.settings -> 'fair' ->> 'weight')::numeric));
      else
        perform place_step(p_run.id, p_step.seq, ready_position());
      end if;
      return '{}';
    when 'child' then
      return case when begin_child(p_run, p_step, p_flow_step, v_input) then array[v_key] else '{}' end;
    when 'sleep' then
      insert into wait (run_id, seq, path, attempt, failures, kind, completes, since, due_at)
      values (p_run.id, p_step.seq, '', 0, 0, 'sleep', true, v_now,
              v_now + (p_flow_step.settings ->> 'sleep_ms')::bigint * interval '1 millisecond');
      return '{}';
    when 'signal' then
      return case when begin_signal_wait(p_run, p_step, p_flow_step, v_context) then array[v_key] else '{}' end;
  end case;
end $$;
comment on function enter_step(run, own_step, flow_step) is
  'Begins a step whose predecessors have ended. Returns what has ended at once, still to be counted off: a step that was skipped or whose answer was there, items of a fan-out.';

create or replace function enter_in_turn(p_steps step_key[]) returns step_key[]
language plpgsql as $$
declare
  v_ended step_key[] := '{}';
  v_key   step_key;
  v_run   run;
  v_step  own_step;
  v_def   flow_step;
begin
  foreach v_key in array coalesce(p_steps, '{}') loop
    -- Read anew each time: the step before may have paused or ended the run.
    v_step := live_step(v_key.run_id, v_key.seq);
    continue when v_step.run_id is null;
    select r.* into v_run from run r where r.id = v_key.run_id;
    select f.* into v_def from flow_step f where f.flow_id = v_run.flow_id and f.seq = coalesce(v_step.def, v_step.seq);
    v_ended := v_ended || enter_step(v_run, v_step, v_def);
  end loop;
  return v_ended;
end $$;
comment on function enter_in_turn(step_key[]) is 'Begins steps; returns those that have ended by that already, still to be counted off.';

create or replace function bad_data(p_sqlstate text) returns boolean
language sql immutable as $$
  -- data_exception, program_limit_exceeded, feature_not_supported, undefined_object, integrity constraints.
  select left(p_sqlstate, 2) in ('22', '54', '0A', '23') or p_sqlstate = '42704'
$$;
comment on function bad_data(text) is
  'Whether an error comes from the data that an expression met: it concerns the step that asked, and nobody else.';

create or replace function enter_steps(p_steps step_key[]) returns step_key[]
language plpgsql as $$
-- What an expression meets in the data (a key too long for an index, times that cannot be compared) fails the step that asked for it, not
-- the call with which other steps end.
declare
  v_key   step_key;
  v_error text;
begin
  if coalesce(cardinality(p_steps), 0) = 0 then
    return '{}';
  end if;
  begin
    return enter_in_turn(p_steps);
  exception when others then
    if not bad_data(sqlstate) then
      raise;
    end if;
    v_error := sqlerrm;
  end;
  if cardinality(p_steps) > 1 then
    -- In halves: one bad step among thousands is found by a few tries.
    return enter_steps(p_steps[1 : cardinality(p_steps) / 2]) || enter_steps(p_steps[cardinality(p_steps) / 2 + 1 : ]);
  end if;
  v_key := p_steps[1];
  return case when fail_step(v_key.run_id, v_key.seq, v_error) then p_steps else '{}' end;
end $$;
comment on function enter_steps(step_key[]) is 'enter_in_turn(), but a step that cannot begin because of its data has failed.';

create or replace function begin_steps(p_steps step_key[]) returns void
language plpgsql as $$
begin
  perform go_on(enter_steps(p_steps));
end $$;
comment on function begin_steps(step_key[]) is 'Begins steps, and goes on with what follows those that end at once.';
