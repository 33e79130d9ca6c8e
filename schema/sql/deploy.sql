-- Deploying flows: a definition is checked, filled in with defaults, and stored for good.

create or replace function valid_handler_name(p_name text) returns boolean
language sql immutable as $$
  select p_name ~ '^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){0,9}$' and length(p_name) <= 200
$$;
comment on function valid_handler_name(text) is
  'Letters, digits, _ and -, in at most 10 parts joined by single dots, at most 200 characters.';

create or replace function valid_label(p_name text) returns boolean
language sql immutable as $$
  select p_name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$'
$$;
comment on function valid_label(text) is
  'Names of flows, steps, queues and tenants: letters, digits, ., _ and -, starting with a letter or digit, at most 100 characters.';

create or replace function duration_ms(p_text text, p_place text) returns bigint
language plpgsql immutable strict as $$
declare
  v_part text[] := regexp_match(p_text, '^([0-9]{1,9})(ms|s|m|h|d)$');
begin
  if v_part is null then
    raise exception using errcode = 'LH001',
      message = format('%s: %L is not a duration; write a whole number and a unit (ms, s, m, h, d), as in "90s"', p_place, p_text);
  end if;
  return v_part[1]::bigint * case v_part[2] when 'ms' then 1 when 's' then 1000 when 'm' then 60000 when 'h' then 3600000 else 86400000 end;
end $$;
comment on function duration_ms(text, text) is 'Milliseconds of a duration such as 90s; the place is named when it is malformed.';

create or replace function refuse_unknown_keys(p_object jsonb, p_known text[], p_place text) returns void
language plpgsql immutable as $$
declare
  v_key text;
begin
  if jsonb_typeof(p_object) is distinct from 'object' then
    raise exception using errcode = 'LH001', message = format('%s must be an object', p_place);
  end if;
  select k into v_key from jsonb_object_keys(p_object) k where k <> all (p_known) order by k limit 1;
  if found then
    raise exception using errcode = 'LH001', message = format('%s has an unknown key %L', p_place, v_key);
  end if;
end $$;
comment on function refuse_unknown_keys(jsonb, text[], text) is 'Raises an error that names the place and the first key that is not known.';

create or replace function normal_retry(p_retry jsonb, p_place text) returns jsonb
language plpgsql immutable as $$
declare
  v_attempts numeric := coalesce((p_retry ->> 'attempts')::numeric, 5);
  v_factor   numeric := coalesce((p_retry ->> 'factor')::numeric, 2);
  v_jitter   numeric := coalesce((p_retry ->> 'jitter')::numeric, 0.2);
begin
  perform refuse_unknown_keys(p_retry, array['attempts', 'backoff', 'factor', 'cap', 'jitter'], p_place);
  if v_attempts not between 1 and 30000 or v_attempts <> trunc(v_attempts) then
    raise exception using errcode = 'LH001', message = format('%s: attempts must be a whole number from 1 to 30000, not %s', p_place, v_attempts);
  end if;
  if v_factor not between 1 and 100 then
    raise exception using errcode = 'LH001', message = format('%s: factor must be from 1 to 100, not %s', p_place, v_factor);
  end if;
  if v_jitter not between 0 and 1 then
    raise exception using errcode = 'LH001', message = format('%s: jitter must be from 0 to 1, not %s', p_place, v_jitter);
  end if;
  return jsonb_build_object(
    'attempts', v_attempts::int,
    'backoff_ms', duration_ms(coalesce(p_retry ->> 'backoff', '1s'), p_place || '.backoff'),
    'factor', v_factor,
    'cap_ms', duration_ms(coalesce(p_retry ->> 'cap', '1h'), p_place || '.cap'),
    'jitter', v_jitter);
exception when invalid_text_representation or numeric_value_out_of_range then
  raise exception using errcode = 'LH001', message = format('%s: attempts, factor and jitter must be numbers', p_place);
end $$;
comment on function normal_retry(jsonb, text) is 'A retry policy with its defaults filled in: 5 attempts, 1s, doubling, up to 1h, jitter of a fifth.';

create or replace function normal_step(p_step jsonb, p_index integer) returns jsonb
language plpgsql immutable as $$
declare
  v_name     text := p_step ->> 'name';
  v_place    text := format('step %s', coalesce(quote_literal(v_name), 'number ' || p_index));
  v_priority numeric;
begin
  perform refuse_unknown_keys(
    p_step, array['name', 'handler', 'after', 'queue', 'priority', 'timeout', 'retry', 'with'], v_place);
  if v_name is null or not valid_label(v_name) then
    raise exception using errcode = 'LH001',
      message = format('%s: a name of letters, digits, ., _ and - (at most 100) is needed', v_place);
  end if;
  if not coalesce(valid_handler_name(p_step ->> 'handler'), false) then
    raise exception using errcode = 'LH001',
      message = format('%s: %s is not a handler name; it has letters, digits, _ and -, in at most 10 parts joined by dots',
                       v_place, coalesce(quote_literal(p_step ->> 'handler'), 'nothing'));
  end if;
  if not valid_label(coalesce(p_step ->> 'queue', 'default')) then
    raise exception using errcode = 'LH001', message = format('%s: %L is not a queue name', v_place, p_step ->> 'queue');
  end if;
  if p_step ? 'after' and (jsonb_typeof(p_step -> 'after') <> 'array'
      or exists (select from jsonb_array_elements(p_step -> 'after') a where jsonb_typeof(a) <> 'string')) then
    raise exception using errcode = 'LH001', message = format('%s: after must be a list of step names', v_place);
  end if;
  if p_step ? 'with' and jsonb_typeof(p_step -> 'with') <> 'object' then
    raise exception using errcode = 'LH001', message = format('%s: with must be an object', v_place);
  end if;
  v_priority := case when jsonb_typeof(p_step -> 'priority') = 'number' then (p_step ->> 'priority')::numeric
                     when p_step ? 'priority' then null else 0 end;
  if v_priority is null or v_priority not between -1000 and 1000 or v_priority <> trunc(v_priority) then
    raise exception using errcode = 'LH001',
      message = format('%s: priority must be a whole number from -1000 to 1000, not %s', v_place, p_step -> 'priority');
  end if;
  return jsonb_build_object(
    'name', v_name,
    'handler', p_step ->> 'handler',
    'queue', coalesce(p_step ->> 'queue', 'default'),
    'priority', v_priority::int,
    'after', coalesce((select jsonb_agg(distinct a order by a) from jsonb_array_elements_text(p_step -> 'after') a), '[]'),
    'retry', normal_retry(coalesce(p_step -> 'retry', '{}'), v_place || '.retry'),
    'timeout_ms', duration_ms(p_step ->> 'timeout', v_place || '.timeout'),
    'with', p_step -> 'with');
end $$;
comment on function normal_step(jsonb, integer) is 'A step''s definition, checked and with its defaults filled in.';

create or replace function refuse_cycle(p_names text[], p_from integer[], p_to integer[]) returns void
language plpgsql immutable as $$
-- Kahn (1962): take away steps without predecessors until none is left; what remains holds a cycle.
-- Steps are numbered from 1; edge i leads from p_from[i] to p_to[i], and edges are sorted by p_from.
declare
  v_steps  integer := cardinality(p_names);
  v_edges  integer := coalesce(cardinality(p_from), 0);
  v_left   integer[] := array_fill(0, array[v_steps]);
  v_first  integer[] := array_fill(0, array[v_steps]);
  v_ready  integer[] := '{}';
  v_head   integer := 1;
  v_step   integer;
  v_edge   integer;
  v_path   integer[];
begin
  for i in 1 .. v_edges loop
    v_left[p_to[i]] := v_left[p_to[i]] + 1;
    if v_first[p_from[i]] = 0 then
      v_first[p_from[i]] := i;
    end if;
  end loop;
  for i in 1 .. v_steps loop
    if v_left[i] = 0 then
      v_ready := v_ready || i;
    end if;
  end loop;
  while v_head <= cardinality(v_ready) loop
    v_step := v_ready[v_head];
    v_head := v_head + 1;
    v_edge := v_first[v_step];
    while v_edge > 0 and v_edge <= v_edges and p_from[v_edge] = v_step loop
      v_left[p_to[v_edge]] := v_left[p_to[v_edge]] - 1;
      if v_left[p_to[v_edge]] = 0 then
        v_ready := v_ready || p_to[v_edge];
      end if;
      v_edge := v_edge + 1;
    end loop;
  end loop;
  if cardinality(v_ready) = v_steps then
    return;
  end if;
  -- Every step that is left has a predecessor that is left: going backwards from any of them ends in the cycle.
  v_step := array_position(v_left, (select x from unnest(v_left) x where x > 0 limit 1));
  while array_position(v_path, v_step) is null loop
    v_path := v_step || v_path;
    select p_from[i] into v_step from generate_subscripts(p_from, 1) i
    where p_to[i] = v_step and v_left[p_from[i]] > 0 limit 1;
  end loop;
  v_path := v_step || v_path[1 : array_position(v_path, v_step)];
  raise exception using errcode = 'LH001',
    message = format('the steps wait for each other in a cycle: %s',
                     (select string_agg(p_names[s], ' -> ' order by o) from unnest(v_path) with ordinality p(s, o)));
end $$;
comment on function refuse_cycle(text[], integer[], integer[]) is 'Raises an error that names a cycle in the order of steps, if there is one.';

create or replace function deploy(p_tenant text, p_definition jsonb)
returns table (flow_id integer, flow_version integer, created boolean)
language plpgsql as $$
declare
  v_now     timestamptz := clock();
  v_name    text := p_definition ->> 'name';
  v_version numeric;
  v_steps   jsonb;
  v_names   text[];
  v_from    integer[];
  v_to      integer[];
  v_normal  jsonb;
  v_flow    flow;
  v_bad     record;
begin
  perform refuse_unknown_keys(p_definition, array['name', 'version', 'description', 'steps'], 'the flow');
  if not coalesce(valid_label(p_tenant), false) then
    raise exception using errcode = 'LH001', message = format('%L is not a tenant name', p_tenant);
  end if;
  if not coalesce(valid_label(v_name), false) then
    raise exception using errcode = 'LH001',
      message = format('%s is not a flow name; it has letters, digits, ., _ and -, at most 100', coalesce(quote_literal(v_name), 'nothing'));
  end if;
  v_version := case when jsonb_typeof(p_definition -> 'version') = 'number' then (p_definition ->> 'version')::numeric end;
  if v_version is null or v_version not between 1 and 2147483647 or v_version <> trunc(v_version) then
    raise exception using errcode = 'LH001', message = format('flow %s: version must be a whole number from 1 on', v_name);
  end if;
  if jsonb_typeof(p_definition -> 'steps') is distinct from 'array' or jsonb_array_length(p_definition -> 'steps') not between 1 and 20000 then
    raise exception using errcode = 'LH001', message = format('flow %s: steps must be a list of 1 to 20000 steps', v_name);
  end if;

  select jsonb_agg(normal_step(s.step, s.place::int) order by s.place), array_agg(s.step ->> 'name' order by s.place)
  into v_steps, v_names
  from jsonb_array_elements(p_definition -> 'steps') with ordinality s(step, place);

  select n.name into v_bad from unnest(v_names) n(name) group by n.name having count(*) > 1 order by n.name limit 1;
  if found then
    raise exception using errcode = 'LH001', message = format('flow %s has two steps named %s', v_name, v_bad.name);
  end if;

  select s.step ->> 'name' as step, a.name into v_bad
  from jsonb_array_elements(v_steps) s(step) cross join lateral jsonb_array_elements_text(s.step -> 'after') a(name)
  where a.name <> all (v_names) limit 1;
  if found then
    raise exception using errcode = 'LH001', message = format('flow %s: step %s waits for %L, which is no step of the flow', v_name, v_bad.step, v_bad.name);
  end if;

  with named as (
    select n.name, n.place::int as place from unnest(v_names) with ordinality n(name, place)
  )
  select array_agg(f.place order by f.place, s.place), array_agg(s.place::int order by f.place, s.place) into v_from, v_to
  from jsonb_array_elements(v_steps) with ordinality s(step, place)
  cross join lateral jsonb_array_elements_text(s.step -> 'after') a(name)
  join named f on f.name = a.name;
  perform refuse_cycle(v_names, v_from, v_to);

  v_normal := jsonb_build_object('name', v_name, 'version', v_version::int, 'description', p_definition -> 'description', 'steps', v_steps);

  insert into flow (tenant, name, version, definition, step_count, deployed_at)
  values (p_tenant, v_name, v_version::int, v_normal, cardinality(v_names), v_now)
  on conflict (tenant, name, version) do nothing
  returning * into v_flow;
  if not found then
    select f.* into v_flow from flow f where f.tenant = p_tenant and f.name = v_name and f.version = v_version::int;
    if v_flow.definition <> v_normal then
      raise exception using errcode = 'LH004',
        message = format('flow %s version %s is deployed already with another definition; versions never change, so raise the version number', v_name, v_version);
    end if;
    return query select v_flow.id, v_flow.version, false;
    return;
  end if;

  insert into queue (tenant, name, created_at)
  select distinct p_tenant, s.step ->> 'queue', v_now from jsonb_array_elements(v_steps) s(step) order by 2
  on conflict (tenant, name) do nothing;

  insert into lane (queue_id, handler)
  select distinct q.id, s.step ->> 'handler'
  from jsonb_array_elements(v_steps) s(step) join queue q on q.tenant = p_tenant and q.name = s.step ->> 'queue'
  order by 1, 2
  on conflict (queue_id, handler) do nothing;

  insert into flow_step (flow_id, seq, name, lane_id, priority, predecessors, successors,
                         max_attempts, backoff_ms, factor, cap_ms, jitter, timeout_ms, parameters)
  select v_flow.id, (s.place - 1)::int, s.step ->> 'name', l.id, (s.step ->> 'priority')::smallint,
         jsonb_array_length(s.step -> 'after'), coalesce(e.successors, '{}'),
         (s.step -> 'retry' ->> 'attempts')::smallint, (s.step -> 'retry' ->> 'backoff_ms')::bigint,
         (s.step -> 'retry' ->> 'factor')::double precision, (s.step -> 'retry' ->> 'cap_ms')::bigint,
         (s.step -> 'retry' ->> 'jitter')::double precision, (s.step ->> 'timeout_ms')::bigint, nullif(s.step -> 'with', 'null')
  from jsonb_array_elements(v_steps) with ordinality s(step, place)
  join queue q on q.tenant = p_tenant and q.name = s.step ->> 'queue'
  join lane l on l.queue_id = q.id and l.handler = s.step ->> 'handler'
  left join (select f.step, array_agg(f.next - 1 order by f.next) as successors from unnest(v_from, v_to) f(step, next) group by f.step) e
    on e.step = s.place;

  return query select v_flow.id, v_flow.version, true;
end $$;
comment on function deploy(text, jsonb) is
  'Stores a flow version. The same definition again changes nothing; another definition under the same version is refused, as are cycles, unknown step names and unknown keys.';
