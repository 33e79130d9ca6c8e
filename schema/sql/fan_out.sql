-- Fan-out: a step for each item of a list that is known only at run time. Items become steps as others end, a window of
-- them at a time; so a list of 100,000 costs no more at once than its window. The caller holds the runs' locks.

create or replace function begin_fan_out(p_run run, p_step own_step, p_flow_step flow_step, p_context jsonb) returns step_key[]
language plpgsql as $$
declare
  v_key   step_key := (p_step.run_id, p_step.seq);
  v_list  jsonb := jsonb_path_query_first(p_context, p_flow_step.each, '{}', true);
  v_total integer;
begin
  if jsonb_typeof(v_list) is distinct from 'array' then
    return case when fail_step(p_run.id, p_step.seq, format('for_each %s found %s, not a list', p_flow_step.each, coalesce(jsonb_typeof(v_list), 'nothing')))
                then array[v_key] else '{}' end;
  end if;
  v_total := jsonb_array_length(v_list);
  insert into fan_out (run_id, seq, first_seq, total, opened, ended, list)
  values (p_run.id, p_step.seq, next_dynamic_seq(p_run.id), v_total, 0, 0, v_list);
  if v_total = 0 then
    perform record_end(p_run.id, p_step.seq, 'completed');
    return array[v_key];
  end if;
  insert into wait (run_id, seq, path, attempt, failures, kind, completes, since)
  values (p_run.id, p_step.seq, '', 0, 0, 'items', true, clock());
  return open_items(p_run.id, p_step.seq, p_flow_step.window_size);
end $$;
comment on function begin_fan_out(run, own_step, flow_step, jsonb) is
  'Begins a fan-out. Returns what has ended by that already, still to be counted off: the step itself when its list is empty, or items.';

create or replace function next_dynamic_seq(p_run_id uuid) returns integer
language sql stable as $$
  -- Flows have at most 20,000 steps.
  select greatest(32768, (select max(f.first_seq + f.total) from fan_out f where f.run_id = p_run_id))
$$;
comment on function next_dynamic_seq(uuid) is 'The first number that is free for items and compensations of a run.';

create or replace function item_inputs(p_template jsonb, p_base jsonb, p_items jsonb[], p_first integer, out inputs jsonb[], out errors text[])
language plpgsql immutable as $$
-- All at once; when the data of one of them do not fit, one by one.
begin
  begin
    inputs := array(
      select filled_in(p_template, p_base || jsonb_build_object('item', i.item, 'index', p_first + i.place - 1))
      from unnest(p_items) with ordinality i(item, place) order by i.place);
    return;
  exception when others then
    if not bad_data(sqlstate) then
      raise;
    end if;
  end;
  inputs := array_fill(null::jsonb, array[cardinality(p_items)]);
  errors := array_fill(null::text, array[cardinality(p_items)]);
  for i in 1 .. cardinality(p_items) loop
    begin
      inputs[i] := filled_in(p_template, p_base || jsonb_build_object('item', p_items[i], 'index', p_first + i - 1));
    exception when others then
      if not bad_data(sqlstate) then
        raise;
      end if;
      errors[i] := sqlerrm;
    end;
  end loop;
end $$;
comment on function item_inputs(jsonb, jsonb, jsonb[], integer) is
  'The inputs of items of a fan-out, from the template of its step. An item whose data the template cannot use has an error and no input.';

create or replace function item_input(p_step own_step, p_flow_step flow_step, p_context jsonb) returns jsonb
language plpgsql stable as $$
declare
  v_place integer;
  v_item  jsonb;
begin
  select p_step.seq - f.first_seq, f.list -> (p_step.seq - f.first_seq) into v_place, v_item
  from fan_out f where f.run_id = p_step.run_id and f.seq = p_step.def;
  return filled_in(p_flow_step.input, p_context || jsonb_build_object('item', v_item, 'index', v_place));
end $$;
comment on function item_input(own_step, flow_step, jsonb) is
  'The input of an item that has none yet: the template of its step could not use its data when it was opened, and is asked again when its run is retried.';

create or replace function open_items(p_run_id uuid, p_seq integer, p_count integer) returns step_key[]
language plpgsql as $$
declare
  v_run      run;
  v_def      flow_step;
  v_fan      fan_out;
  v_to       integer;
  v_first    integer;
  v_inputs   jsonb[];
  v_errors   text[];
  v_items    task[];
  v_bad      integer[];
  v_ended    step_key[] := '{}';
  v_position bigint := ready_position();
begin
  select f.* into v_fan from fan_out f where f.run_id = p_run_id and f.seq = p_seq;
  v_to := least(v_fan.opened + p_count, v_fan.total);
  if v_to <= v_fan.opened then
    return '{}';
  end if;
  select r.* into v_run from run r where r.id = p_run_id;
  select f.* into v_def from flow_step f where f.flow_id = v_run.flow_id and f.seq = p_seq;
  v_first := v_fan.first_seq + v_fan.opened;
  v_inputs := array(
    select i.item from jsonb_path_query(v_fan.list, 'strict $[$first to $last]', jsonb_build_object('first', v_fan.opened, 'last', v_to - 1))
      with ordinality i(item, place) order by i.place);
  if v_def.input is not null then
    select i.inputs, i.errors into v_inputs, v_errors from item_inputs(v_def.input, step_context(v_run, v_def), v_inputs, v_fan.opened) i;
  end if;

  update fan_out f set opened = v_to where f.run_id = p_run_id and f.seq = p_seq;
  update run r set open_steps = r.open_steps + v_to - v_fan.opened where r.id = p_run_id;
  with opened as (
    insert into own_step as o (run_id, seq, lane_id, priority, def, input)
    select p_run_id, v_first + i.place::integer - 1, v_def.lane_id, coalesce(v_run.priority, v_def.priority), p_seq, i.input
    from unnest(v_inputs) with ordinality i(input, place)
    returning o.seq, o.lane_id, o.priority
  )
  select array_agg((p_run_id, v_position, o.lane_id, o.seq, 0, o.priority, 0)::task order by o.seq) into v_items from opened o;

  if v_errors is not null then
    v_bad := array(select v_first + i - 1 from generate_subscripts(v_errors, 1) i where v_errors[i] is not null order by i);
    for i in 1 .. cardinality(v_bad) loop
      if not fail_step(p_run_id, v_bad[i], v_errors[v_bad[i] - v_first + 1]) then
        -- With its run.
        return '{}';
      end if;
      v_ended := v_ended || (p_run_id, v_bad[i])::step_key;
    end loop;
    v_items := array(select i from unnest(v_items) i where i.seq <> all (v_bad) order by i.seq);
  end if;
  if v_def.kind = 'handler' and v_def.settings is null then
    perform place_ready(v_items);
    return v_ended;
  end if;
  return v_ended || enter_steps(array(select (i.run_id, i.seq)::step_key from unnest(v_items) i order by i.seq));
end $$;
comment on function open_items(uuid, integer, integer) is
  'Makes steps of the next items of a fan-out. Returns those that have ended by that already, still to be counted off.';

create or replace function fill_window(p_run_id uuid, p_seq integer) returns step_key[]
language plpgsql as $$
declare
  v_fan    fan_out;
  v_window integer;
  v_since  timestamptz;
begin
  select f.* into v_fan from fan_out f where f.run_id = p_run_id and f.seq = p_seq;
  if v_fan.ended < v_fan.total then
    select f.window_size into v_window from run r join flow_step f on f.flow_id = r.flow_id and f.seq = p_seq where r.id = p_run_id;
    return open_items(p_run_id, p_seq, v_window - (v_fan.opened - v_fan.ended));
  end if;
  delete from wait w where w.run_id = p_run_id and w.seq = p_seq returning w.since into v_since;
  perform record_end(p_run_id, p_seq, 'completed', v_since);
  return array[(p_run_id, p_seq)::step_key];
end $$;
comment on function fill_window(uuid, integer) is
  'Opens as many items of a fan-out as its window has room for, or completes it when all have ended. Returns what has ended by that already, still to be counted off.';

create or replace function items_ended(p_items step_key[]) returns step_key[]
language plpgsql as $$
declare
  v_group record;
  v_ended step_key[] := '{}';
begin
  for v_group in
    select s.run_id, s.def, f.undoes is not null as is_undo, max(s.seq) as last_seq, count(*)::int as items
    from unnest(p_items) k
    cross join lateral (select x.run_id, x.seq, x.def from step x where x.run_id = k.run_id and x.seq = k.seq offset 0) s
    cross join lateral (select x.flow_id from run x where x.id = k.run_id and x.state in ('running', 'paused') offset 0) r
    join flow_step f on f.flow_id = r.flow_id and f.seq = s.def
    group by s.run_id, s.def, f.undoes is not null
    order by s.run_id, s.def
  loop
    if v_group.is_undo then
      perform next_compensation(v_group.run_id, v_group.last_seq + 1);
      continue;
    end if;
    -- A run that is being undone opens no more items.
    continue when not is_live(v_group.run_id, v_group.def);
    update fan_out f set ended = f.ended + v_group.items where f.run_id = v_group.run_id and f.seq = v_group.def;
    v_ended := v_ended || fill_window(v_group.run_id, v_group.def);
  end loop;
  return v_ended;
end $$;
comment on function items_ended(step_key[]) is
  'Counts ended items off their fan-outs, opens the next ones, and goes on to the next compensation. Returns the steps that have ended by that, still to be counted off.';
