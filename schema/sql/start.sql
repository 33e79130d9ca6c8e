-- Starting runs. Rooms: steps without predecessors go to task, or to timer when the start is delayed; the others are blocked.

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
  p_deadlines_ms bigint[] default null
) returns table (id uuid, existing boolean, refusal text)
language plpgsql as $$
declare
  v_now      timestamptz := clock();
  v_flow     flow;
  v_lowest   uuid;
  v_first    uuid := uuid_at(clock_timestamp() - interval '1 day');
  v_last     uuid := uuid_at(clock_timestamp() + interval '1 day');
  -- Clients count compact text, which the database does not see: it lets pass what may be that, in its own form.
  v_max      bigint := setting_value('max_payload_bytes');
  v_items    new_run[];
  v_refused  uuid[];
  v_refusals text[];
  v_created  uuid[];
  v_special  integer[];
  v_position bigint;
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
  with judged as (
    select i.*,
      case when i.id is null then 'a run needs an id'
           when i.id < v_first or i.id > v_last then
             format('run id %s does not carry a time within a day of the server''s clock; run ids are UUIDv7', i.id)
           when pg_column_size(i.input) > 2 * v_max then
             format('the input has %s bytes, more than the limit of %s (setting max_payload_bytes)', pg_column_size(i.input), v_max)
           when length(i.name) > 200 then 'the name has more than 200 characters'
           when jsonb_typeof(i.metadata) not in ('object', 'null') then 'metadata must be an object'
           when i.deadline_ms < 1 then 'a deadline must be in the future'
           when i.priority not between -1000 and 1000 then format('priority must be from -1000 to 1000, not %s', i.priority)
      end as refusal
    from unnest(p_ids, p_inputs, p_names, p_priorities, p_start_ats, p_delays_ms, p_metadata, p_deadlines_ms)
      i(id, input, name, priority, start_at, delay_ms, metadata, deadline_ms)
  )
  select
    array_agg((j.id, coalesce(j.input, 'null'), j.name, case when j.refusal is null then j.priority end,
               coalesce(j.start_at, v_now) + coalesce(j.delay_ms, 0) * interval '1 millisecond', nullif(j.metadata, 'null'), j.deadline_ms)::new_run)
      filter (where j.refusal is null),
    array_agg(j.id) filter (where j.refusal is not null),
    array_agg(j.refusal) filter (where j.refusal is not null)
  into v_items, v_refused, v_refusals
  from judged j;
  return query select r.id, false, r.refusal from unnest(v_refused, v_refusals) r(id, refusal);
  if v_items is null then
    return;
  end if;

  -- An id that is there already is the rare case (the caller asks again after a lost answer), so it alone pays for
  -- the check: ON CONFLICT would write a second WAL record for each row.
  begin
    insert into run (id, created_at, start_at, flow_id, open_steps, state, tenant, name, input, metadata, parent_id, parent_seq, parent_path, depth)
    select i.id, v_now, nullif(i.start_at, v_now), v_flow.id, v_flow.step_count, 'running', p_tenant, i.name, i.input, i.metadata,
           p_parent.run_id, p_parent.seq, p_parent.path, p_parent.depth
    from unnest(v_items) i;
  exception when unique_violation then
    with inserted as (
      insert into run (id, created_at, start_at, flow_id, open_steps, state, tenant, name, input, metadata, parent_id, parent_seq, parent_path, depth)
      select i.id, v_now, nullif(i.start_at, v_now), v_flow.id, v_flow.step_count, 'running', p_tenant, i.name, i.input, i.metadata,
           p_parent.run_id, p_parent.seq, p_parent.path, p_parent.depth
      from unnest(v_items) i
      on conflict do nothing
      returning run.id
    )
    select coalesce(array_agg(n.id), '{}') into v_created from inserted n;
    return query
    select i.id, r.flow_id = v_flow.id and r.tenant = p_tenant,
           case when r.flow_id <> v_flow.id or r.tenant <> p_tenant then format('run id %s is taken by a run of another flow', i.id) end
    from (select * from unnest(v_items) limit cardinality(v_items)) i join run r on r.id = i.id and r.id >= v_lowest
    where i.id <> all (v_created);
    select array_agg(i) into v_items
    from (select distinct on (x.id) x from unnest(v_items) x where x.id = any (v_created)) d(i);
    if v_items is null then
      return;
    end if;
  end;

  insert into step (run_id, seq, lane_id, blockers, priority)
  select i.id, s.seq, s.lane_id, s.predecessors, coalesce(i.priority, s.priority)
  from unnest(v_items) i
  cross join lateral (select * from flow_step fs where fs.flow_id = v_flow.id and fs.seq < v_flow.step_count order by fs.seq) s;

  insert into timer (run_id, fire_at, seq, attempt, failures, kind)
  select i.id, i.start_at, s.seq, 0, 0, 'start'
  from unnest(v_items) i
  join flow_step s on s.flow_id = v_flow.id and s.predecessors = 0 and s.plain
  where i.start_at > v_now;
  if found then
    -- A bulk start may take longer than the delay.
    perform note_due(0, (select min(i.start_at) from unnest(v_items) i where i.start_at > v_now));
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
    insert into deadline (run_id, at)
    select i.id, least(i.start_at + v_flow.timeout_ms * interval '1 millisecond', v_now + i.deadline_ms * interval '1 millisecond')
    from unnest(v_items) i where v_flow.timeout_ms is not null or i.deadline_ms is not null;
  end if;

  v_special := array(
    select s.seq from flow_step s where s.flow_id = v_flow.id and s.predecessors = 0 and s.seq < v_flow.step_count and not s.plain order by s.seq);
  if cardinality(v_special) > 0 then
    -- Not a timer: what these steps need to begin is looked at then, under the run's lock.
    insert into wait (run_id, seq, path, attempt, failures, kind, completes, since, due_at)
    select i.id, s.seq, 'start', 0, 0, 'retry', false, v_now, i.start_at
    from unnest(v_items) i cross join unnest(v_special) s(seq) where i.start_at > v_now;
    perform note_due(-1, (select min(i.start_at) from unnest(v_items) i where i.start_at > v_now));
    perform begin_steps(array(
      select (i.id, s.seq)::step_key from unnest(v_items) i cross join unnest(v_special) s(seq) where i.start_at <= v_now order by i.id, s.seq));
  end if;
end $$;
comment on function start_runs(text, text, integer, uuid[], jsonb[], text[], integer[], timestamptz[], bigint[], jsonb[], parent_step, bigint[]) is
  'Starts runs of one flow (its latest version when none is named), in the caller''s transaction. Returns only the items that were not created: those that exist already (asking twice is safe) and those refused, with the reason.';

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
  p_metadata jsonb default null
) returns uuid
language plpgsql as $$
declare
  v_id      uuid := coalesce(p_id, new_run_id());
  v_problem text;
begin
  select s.refusal into v_problem
  from start_runs(p_tenant, p_flow, p_version, array[v_id], array[p_input], array[p_name], array[p_priority],
                  array[p_start_at], array[(extract(epoch from p_delay) * 1000)::bigint], array[p_metadata]) s
  where s.refusal is not null;
  if found then
    raise exception using errcode = 'LH001', message = v_problem;
  end if;
  return v_id;
end $$;
comment on function start_run(text, jsonb, text, integer, uuid, text, integer, timestamptz, interval, jsonb) is
  'Starts one run and returns its id: select longhaul.start_run(''order'', ''{"id": 7}''). With an id of the caller''s, asking twice starts once.';

create or replace function create_run(
  p_flow     text,
  p_input    jsonb default '{}',
  p_tenant   text default 'default',
  p_version  integer default null,
  p_id       uuid default null,
  p_name     text default null,
  p_priority integer default null,
  p_metadata jsonb default null
) returns uuid
language sql as $$
  select start_run(p_flow, p_input, p_tenant, p_version, p_id, p_name, p_priority, 'infinity', null, p_metadata)
$$;
comment on function create_run(text, jsonb, text, integer, uuid, text, integer, jsonb) is
  'Creates a run without starting it: it is pending until start_pending_run().';
