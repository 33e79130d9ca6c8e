-- Starting runs. Rooms: steps without predecessors go to task, or to timer when the start is delayed. Of the others nothing is
-- written: the flow tells them.

create or replace function interval_ms(p_interval interval) returns bigint
language sql immutable as $$
  -- A hundred years are for ever, and nobody can count further.
  select case when p_interval >= interval '36500 days' then 3153600000000
              when p_interval <= interval '-36500 days' then -3153600000000
              else (extract(epoch from p_interval) * 1000)::bigint end
$$;
comment on function interval_ms(interval) is 'Milliseconds of an interval, of at most a hundred years.';

create or replace function latest_time(p_now timestamptz) returns timestamptz
language sql immutable as $$ select p_now + interval '10000 days' $$;
comment on function latest_time(timestamptz) is 'Up to this time, starts and schedules may be asked for.';

create or replace function checked_run_id(p_id uuid) returns uuid
language plpgsql volatile as $$
begin
  if p_id is null then
    raise exception using errcode = 'LH001', message = 'a run needs an id';
  end if;
  if p_id not between uuid_at(clock_timestamp() - interval '1 day') and uuid_at(clock_timestamp() + interval '1 day') or get_byte(uuid_send(p_id), 6) >> 4 <> 7 then
    raise exception using errcode = 'LH001',
      message = format('run id %s does not carry a time within a day of the server''s clock; run ids are UUIDv7', p_id);
  end if;
  return p_id;
end $$;
comment on function checked_run_id(uuid) is 'The id, if it is a UUIDv7 made within a day of now; an error otherwise.';

create or replace function differing_start(p_run_id uuid, p_tenant text, p_flow text, p_version integer, p_input jsonb) returns text
language plpgsql stable as $$
begin
  -- Nothing is known of a run that retention has deleted: it counts as the same.
  return (
    select case when r.tenant <> p_tenant or f.name <> p_flow then 'flow'
                when p_version is not null and f.version <> p_version then 'version'
                when r.input <> coalesce(p_input, 'null') then 'input' end
    from run r join flow f on f.id = r.flow_id where r.id = p_run_id);
end $$;
comment on function differing_start(uuid, text, text, integer, jsonb) is
  'In what a run differs from a start that is asked for once more: flow, version (when one is named) or input; null when in nothing.';

drop function if exists start_runs(text, text, integer, uuid[], jsonb[], text[], integer[], timestamptz[], bigint[], jsonb[], parent_step, bigint[]);

create or replace function start_runs(
  p_tenant     text,
  p_flow       text,
  p_version    integer,
  p_ids        uuid[],
  p_inputs     jsonb[],
  p_names      text[] default null,
  p_priorities integer[] default null,
  p_start_ats  timestamptz[] default null,
  p_delays_ms  bigint[] default null,
  p_metadata   jsonb[] default null,
  p_parent     parent_step default null,
  p_deadlines_ms bigint[] default null,
  p_keys       text[] default null,
  p_windows_ms bigint[] default null,
  p_create_only boolean[] default null
) returns table (id uuid, existing boolean, refusal text, run_id uuid, conflict boolean)
language plpgsql as $$
-- Every start of a run goes through here. Locks: keys of unique starts (in their order), then only what is new.
declare
  v_now      timestamptz := clock();
  v_flow     flow;
  v_lowest   uuid;
  v_first    uuid := uuid_at(clock_timestamp() - interval '1 day');
  v_last     uuid := uuid_at(clock_timestamp() + interval '1 day');
  -- Clients count compact text, which the database does not see: it lets pass what may be that, in its own form.
  v_max      bigint := setting_value('max_payload_bytes');
  v_latest   timestamptz := latest_time(v_now);
  v_items    new_run[];
  v_refused  uuid[];
  v_refusals text[];
  v_created  uuid[];
  v_special  integer[];
  v_position bigint;
  v_next     timestamptz;
begin
  select f.* into v_flow from flow f
  where f.tenant = p_tenant and f.name = p_flow and (p_version is null or f.version = p_version)
  order by f.version desc limit 1;
  if not found then
    raise exception using errcode = 'LH002',
      message = format('there is no flow %s%s for tenant %s; deploy it first', p_flow, ' version ' || p_version, p_tenant);
  end if;
  if cardinality(p_ids) is distinct from cardinality(p_inputs) then
    raise exception using errcode = 'LH001', message = 'as many ids as inputs are needed';
  end if;

  v_lowest := lowest_id(p_ids);

  -- What is wrong with an item concerns that item alone.
  with asked as (
    select i.*, coalesce(i.create_only, i.start_at = 'infinity', false) as created_only
    from unnest(p_ids, p_inputs, p_names, p_priorities, p_start_ats, p_delays_ms, p_metadata, p_deadlines_ms, p_keys, p_windows_ms, p_create_only)
      i(id, input, name, priority, start_at, delay_ms, metadata, deadline_ms, key, window_ms, create_only)
  ), judged as (
    select i.*,
      case when i.id is null then 'a run needs an id'
           when (p_parent is null and (i.id < v_first or i.id > v_last)) or get_byte(uuid_send(i.id), 6) >> 4 <> 7 then
             format('run id %s does not carry a time within a day of the server''s clock; run ids are UUIDv7', i.id)
           when pg_column_size(i.input) / 2 > v_max then
             format('the input has %s bytes, more than the limit of %s (setting max_payload_bytes)', pg_column_size(i.input), v_max)
           -- Most items have nothing else to be wrong.
           when num_nonnulls(i.name, i.priority, i.start_at, i.delay_ms, i.metadata, i.deadline_ms, i.key, i.window_ms, i.create_only) = 0 then null
           when pg_column_size(i.metadata) / 2 > v_max then
             format('the metadata has %s bytes, more than the limit of %s (setting max_payload_bytes)', pg_column_size(i.metadata), v_max)
           when length(i.name) > 200 then 'the name has more than 200 characters'
           when jsonb_typeof(i.metadata) not in ('object', 'null') then 'metadata must be an object'
           when i.priority not between -1000 and 1000 then format('priority must be from -1000 to 1000, not %s', i.priority)
           when i.created_only and (i.delay_ms is not null or i.start_at < 'infinity') then 'a run that is only created has no start time and no delay'
           when not i.created_only and i.start_at not between timestamptz 'epoch' and v_latest then
             format('the start time must be from 1970 to 10000 days ahead, not %s', i.start_at)
           when i.delay_ms not between 0 and 864000000000 then format('a delay must be from 0 to 10000 days, not %s ms', i.delay_ms)
           when not i.created_only and i.start_at + i.delay_ms * interval '1 millisecond' > v_latest then 'the start must be at most 10000 days ahead'
           when i.deadline_ms < 1 then 'a deadline must be in the future'
           when i.deadline_ms > 864000000000 then format('a deadline must be within 10000 days, not %s ms', i.deadline_ms)
           when length(i.key) not between 1 and 500 then 'a key of a unique start has 1 to 500 characters'
           when i.window_ms is not null and i.key is null then 'a window needs a key'
           when i.window_ms < 1 then 'the window of a key must be longer than nothing'
      end as refusal
    from asked i
  )
  select
    array_agg((j.id, coalesce(j.input, 'null'), j.name, case when j.refusal is null then j.priority end,
               -- A time in the past is now.
               case when j.refusal is not null then null
                    when j.created_only then 'infinity'
                    else greatest(coalesce(j.start_at, v_now) + coalesce(j.delay_ms, 0) * interval '1 millisecond', v_now) end,
               nullif(j.metadata, 'null'), j.deadline_ms, j.created_only, j.key, j.window_ms)::new_run)
      filter (where j.refusal is null),
    array_agg(j.id) filter (where j.refusal is not null),
    array_agg(j.refusal) filter (where j.refusal is not null)
  into v_items, v_refused, v_refusals
  from judged j;
  return query select r.id, false, r.refusal, null::uuid, false from unnest(v_refused, v_refusals) r(id, refusal);
  if p_keys is not null and v_items is not null then
    select array_agg(h.id), array_agg(h.difference), array_agg(h.holder) into v_refused, v_refusals, v_created
    from held_keys(p_tenant, p_flow, p_version, v_items, v_now) h;
    return query
    select h.id, h.difference is null, h.difference, h.holder, h.difference is not null
    from unnest(v_refused, v_refusals, v_created) h(id, difference, holder);
    v_items := array(select i from unnest(v_items) i where v_refused is null or i.id <> all (v_refused));
  end if;
  if v_items is null or cardinality(v_items) = 0 then
    return;
  end if;

  -- An id that is there already is the rare case (the caller asks again after a lost answer), so it alone pays for
  -- the check: ON CONFLICT would write a second WAL record for each row.
  begin
    insert into run (id, created_at, start_at, flow_id, open_steps, state, tenant, name, input, metadata, parent_id, parent_seq, parent_path, depth, priority)
    select i.id, v_now, nullif(i.start_at, v_now), v_flow.id, v_flow.step_count, 'running', p_tenant, i.name, i.input, i.metadata,
           p_parent.run_id, p_parent.seq, p_parent.path, p_parent.depth, i.priority
    from unnest(v_items) i;
  exception when unique_violation then
    with inserted as (
      insert into run (id, created_at, start_at, flow_id, open_steps, state, tenant, name, input, metadata, parent_id, parent_seq, parent_path, depth, priority)
      select i.id, v_now, nullif(i.start_at, v_now), v_flow.id, v_flow.step_count, 'running', p_tenant, i.name, i.input, i.metadata,
             p_parent.run_id, p_parent.seq, p_parent.path, p_parent.depth, i.priority
      from unnest(v_items) i
      on conflict do nothing
      returning run.id
    )
    select coalesce(array_agg(n.id), '{}') into v_created from inserted n;
    return query
    select x.id, x.difference is null,
           case when x.difference = 'flow' then format('run id %s is taken by a run of another flow', x.id)
                when x.difference is not null then format('run id %s is taken by a run with another %s; the same start again has the same %2$s', x.id, x.difference) end,
           case when x.difference is distinct from 'flow' then x.id end, x.difference is not null
    from (
      select i.id, differing_start(i.id, p_tenant, p_flow, p_version, i.input) as difference
      from unnest(v_items) i where i.id <> all (v_created)) x;
    select array_agg(i) into v_items
    from (select distinct on (x.id) x from unnest(v_items) x where x.id = any (v_created)) d(i);
    if v_items is null then
      return;
    end if;
  end;

  if p_start_ats is not null or p_delays_ms is not null or p_create_only is not null then
    v_next := (select min(i.start_at) from unnest(v_items) i where i.start_at > v_now);
  end if;
  if v_next is not null then
    insert into timer (run_id, fire_at, seq, attempt, failures, kind, lane_id, priority)
    select i.id, i.start_at, s.seq, 0, 0, 'start', s.lane_id, coalesce(i.priority, s.priority)
    from unnest(v_items) i
    join flow_step s on s.flow_id = v_flow.id and s.predecessors = 0 and s.plain
    where i.start_at > v_now;
    -- A bulk start may take longer than the delay.
    perform note_due(0, v_next);
  end if;

  v_position := ready_position();
  insert into task (run_id, position, lane_id, seq, attempt, priority, failures)
  select i.id, v_position, s.lane_id, s.seq, 0, coalesce(i.priority, s.priority), 0
  from unnest(v_items) i
  join flow_step s on s.flow_id = v_flow.id and s.predecessors = 0 and s.plain
  where i.start_at <= v_now;
  if found then
    perform wake(array(select s.lane_id from flow_step s where s.flow_id = v_flow.id and s.predecessors = 0 and s.plain), cardinality(v_items));
  end if;

  if v_flow.timeout_ms is not null or p_deadlines_ms is not null then
    -- Counted from the start, which may still be moved: start_pending_run() counts anew.
    insert into deadline (run_id, at, ms)
    select i.id, i.start_at + least(v_flow.timeout_ms, i.deadline_ms) * interval '1 millisecond', i.deadline_ms
    from unnest(v_items) i where least(v_flow.timeout_ms, i.deadline_ms) is not null;
  end if;

  v_special := array(
    select s.seq from flow_step s where s.flow_id = v_flow.id and s.predecessors = 0 and s.seq < v_flow.step_count and not s.plain order by s.seq);
  if cardinality(v_special) > 0 then
    -- Not a timer: what these steps need to begin is looked at then, under the run's lock.
    insert into wait (run_id, seq, path, attempt, failures, kind, completes, since, due_at)
    select i.id, s.seq, 'start', 0, 0, 'retry', false, v_now, i.start_at
    from unnest(v_items) i cross join unnest(v_special) s(seq) where i.start_at > v_now;
    perform note_due(-1, v_next);
    perform begin_steps(array(
      select (i.id, s.seq)::step_key from unnest(v_items) i cross join unnest(v_special) s(seq) where i.start_at <= v_now order by i.id, s.seq));
  end if;
end $$;
comment on function start_runs(text, text, integer, uuid[], jsonb[], text[], integer[], timestamptz[], bigint[], jsonb[], parent_step, bigint[], text[], bigint[], boolean[]) is
  'Starts runs of one flow (its latest version when none is named), in the caller''s transaction. Returns only the items that were not created: those that exist already, with the run that does (asking twice is safe), and those refused, with the reason. conflict: the id or the key belongs to a run with another input, version or flow. A window of a hundred years is for ever; without one a key counts as long as its run lives.';

drop function if exists start_run(text, jsonb, text, integer, uuid, text, integer, timestamptz, interval, jsonb);

create or replace function start_run(
  p_flow     text,
  p_input    jsonb default '{}',
  p_tenant   text default 'default',
  p_version  integer default null,
  p_id       uuid default null,
  p_name     text default null,
  p_priority integer default null,
  p_start_at timestamptz default null,
  p_delay    interval default null,
  p_metadata jsonb default null,
  p_deadline interval default null,
  p_key      text default null,
  p_window   interval default null,
  p_create_only boolean default false
) returns uuid
language plpgsql as $$
declare
  v_id     uuid := coalesce(p_id, new_run_id());
  v_answer record;
begin
  select s.* into v_answer
  from start_runs(p_tenant, p_flow, p_version, array[v_id], array[p_input], array[p_name], array[p_priority], array[p_start_at],
                  array[interval_ms(p_delay)], array[p_metadata], null, case when p_deadline is not null then array[interval_ms(p_deadline)] end,
                  case when p_key is not null or p_window is not null then array[p_key] end,
                  case when p_window is not null then array[interval_ms(p_window)] end, array[coalesce(p_create_only, false)]) s;
  if not found then
    return v_id;
  elsif v_answer.refusal is not null then
    raise exception using errcode = case when v_answer.conflict then 'LH004' else 'LH001' end, message = v_answer.refusal;
  end if;
  return v_answer.run_id;
end $$;
comment on function start_run(text, jsonb, text, integer, uuid, text, integer, timestamptz, interval, jsonb, interval, text, interval, boolean) is
  'Starts one run and returns its id: select longhaul.start_run(''order'', ''{"id": 7}''). With an id of the caller''s, asking twice starts once. With a key, a run that holds it is returned instead: as long as that lives, or for a window.';

drop function if exists create_run(text, jsonb, text, integer, uuid, text, integer, jsonb);

create or replace function create_run(
  p_flow     text,
  p_input    jsonb default '{}',
  p_tenant   text default 'default',
  p_version  integer default null,
  p_id       uuid default null,
  p_name     text default null,
  p_priority integer default null,
  p_metadata jsonb default null,
  p_deadline interval default null,
  p_key      text default null,
  p_window   interval default null
) returns uuid
language sql as $$
  select start_run(p_flow, p_input, p_tenant, p_version, p_id, p_name, p_priority, null, null, p_metadata, p_deadline, p_key, p_window, true)
$$;
comment on function create_run(text, jsonb, text, integer, uuid, text, integer, jsonb, interval, text, interval) is
  'Creates a run without starting it: it is pending until start_pending_run(). Its deadline counts from then on.';
