-- Deploying flows: a definition is checked, filled in with defaults, and stored for good.

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

create or replace function refuse_forward_reads(p_names text[], p_steps jsonb, p_from integer[], p_to integer[]) returns void
language plpgsql immutable as $$
declare
  v_step  record;
  v_name  text;
  v_above integer[];
  v_next  integer[];
begin
  for v_step in
    select s.place::int as place, s.step ->> 'name' as name, steps_read(paths_of_step(s.step)) as reads
    from jsonb_array_elements(p_steps) with ordinality s(step, place) order by s.place
  loop
    continue when cardinality(v_step.reads) = 0;
    -- All steps that must have ended before this one.
    v_above := '{}';
    v_next := array[v_step.place];
    while cardinality(v_next) > 0 loop
      v_next := array(select distinct e.a from unnest(p_from, p_to) e(a, b) where e.b = any (v_next) and e.a <> all (v_above));
      v_above := v_above || v_next;
    end loop;
    foreach v_name in array v_step.reads loop
      if array_position(p_names, v_name) is null then
        raise exception using errcode = 'LH001', message = format('step %L looks at %L, which is no step of the flow', v_step.name, v_name);
      elsif array_position(p_names, v_name) <> all (v_above) then
        raise exception using errcode = 'LH001', message = format('step %L looks at step %s, which need not have ended by then; name it in after', v_step.name, v_name);
      end if;
    end loop;
  end loop;
end $$;
comment on function refuse_forward_reads(text[], jsonb, integer[], integer[]) is
  'Raises an error when an expression looks at a step that is not there, or that need not have ended by then.';

create or replace function store_steps(p_flow flow, p_steps jsonb, p_names text[], p_from integer[], p_to integer[]) returns void
language plpgsql as $$
declare
  v_all jsonb;
  v_bad text;
begin
  -- Compensations follow the steps; nobody waits for them, and they are no steps of a run until it fails.
  select jsonb_agg(x.step order by x.place) into v_all from (
    select s.step || jsonb_build_object('seq', s.place - 1) as step, s.place
    from jsonb_array_elements(p_steps) with ordinality s(step, place)
    union all
    select jsonb_build_object('name', s.step ->> 'name' || '.undo', 'handler', s.step -> 'compensate', 'queue', s.step -> 'queue', 'priority', s.step -> 'priority',
                              'retry', s.step -> 'retry', 'timeout_ms', s.step -> 'timeout_ms', 'with', s.step -> 'with', 'undoes', s.place - 1,
                              'seq', p_flow.step_count + row_number() over (order by s.place) - 1), p_flow.step_count + s.place
    from jsonb_array_elements(p_steps) with ordinality s(step, place) where s.step ? 'compensate') x;
  select s ->> 'name' into v_bad from jsonb_array_elements(v_all) s group by 1 having count(*) > 1 limit 1;
  if found then
    raise exception using errcode = 'LH001', message = format('flow %s: the name %s is taken by a compensation', p_flow.name, v_bad);
  end if;

  insert into queue (tenant, name, created_at)
  select distinct p_flow.tenant, s ->> 'queue', p_flow.deployed_at from jsonb_array_elements(v_all) s where s ->> 'handler' is not null order by 2
  on conflict (tenant, name) do nothing;

  insert into lane (queue_id, handler, own_input)
  select distinct q.id, s ->> 'handler', s ?| array['input', 'for_each', 'undoes']
  from jsonb_array_elements(v_all) s join queue q on q.tenant = p_flow.tenant and q.name = s ->> 'queue'
  where s ->> 'handler' is not null
  order by 1, 2, 3
  on conflict (queue_id, handler, own_input) do nothing;

  insert into flow_step (flow_id, seq, name, phase, lane_id, priority, predecessors, predecessor_seqs, successors, max_attempts, backoff_ms, factor, cap_ms,
                         jitter, never_on, timeout_ms, parameters, kind, own_input, continues, reads, condition, input, each, window_size, undoes, settings)
  select p_flow.id, (s ->> 'seq')::int, s ->> 'name', s ->> 'phase', l.id, (s ->> 'priority')::smallint,
         -- A compensation waits for the failure of its run.
         coalesce(cardinality(b.before), (s ? 'undoes')::int), coalesce(b.before, '{}'), coalesce(e.successors, '{}'),
         (s -> 'retry' ->> 'attempts')::smallint, (s -> 'retry' ->> 'backoff_ms')::bigint,
         (s -> 'retry' ->> 'factor')::double precision, (s -> 'retry' ->> 'cap_ms')::bigint, (s -> 'retry' ->> 'jitter')::double precision,
         (select array_agg(c) from jsonb_array_elements_text(s -> 'retry' -> 'never_on') c), (s ->> 'timeout_ms')::bigint, nullif(s -> 'with', 'null'),
         (case when s ? 'flow' then 'child' when s ? 'sleep_ms' then 'sleep' when s ? 'wait_signal' then 'signal' else 'handler' end)::step_kind,
         coalesce(l.own_input, false), coalesce(s ->> 'on_failure' = 'continue', false),
         array(select array_position(p_names, n) - 1 from unnest(steps_read(paths_of_step(s))) n), (s ->> 'when')::jsonpath, s -> 'input', (s ->> 'for_each')::jsonpath,
         (s ->> 'window')::int, (s ->> 'undoes')::int,
         nullif((select coalesce(jsonb_object_agg(k.key, k.value), '{}') from jsonb_each(s) k
                 where k.key in ('flow', 'flow_version', 'detached', 'sleep_ms', 'approval', 'budget', 'concurrency', 'fair')) || coalesce(s -> 'wait_signal', '{}'), '{}')
  from jsonb_array_elements(v_all) s
  left join queue q on q.tenant = p_flow.tenant and q.name = s ->> 'queue'
  left join lane l on l.queue_id = q.id and l.handler = s ->> 'handler' and l.own_input = s ?| array['input', 'for_each', 'undoes']
  left join (select f.step - 1 as seq, array_agg(f.next - 1 order by f.next) as successors from unnest(p_from, p_to) f(step, next) group by f.step) e
    on e.seq = (s ->> 'seq')::int
  left join (select f.next - 1 as seq, array_agg(f.step - 1 order by f.step) as before from unnest(p_from, p_to) f(step, next) group by f.next) b
    on b.seq = (s ->> 'seq')::int;

  if p_flow.compensates then
    update flow_step f set undo = u.seq from flow_step u where u.flow_id = p_flow.id and u.undoes is not null and f.flow_id = p_flow.id and f.seq = u.undoes;
  end if;
  update flow_step f set plain = false
  where f.flow_id = p_flow.id and (f.kind <> 'handler' or f.condition is not null or f.input is not null or f.each is not null or f.settings is not null);
  update flow_step f set plain_successors = false
  where f.flow_id = p_flow.id and f.seq in (
    select b.seq from flow_step n cross join lateral unnest(n.predecessor_seqs) b(seq) where n.flow_id = p_flow.id and not n.plain);

  insert into gate_limit as g (tenant, name, most)
  select p_flow.tenant, f.settings -> 'concurrency' ->> 'name', min((f.settings -> 'concurrency' ->> 'limit')::integer)
  from flow_step f where f.flow_id = p_flow.id and f.settings ? 'concurrency' group by 2 order by 2
  on conflict (tenant, name) do update set most = excluded.most where g.most <> excluded.most;
end $$;
comment on function store_steps(flow, jsonb, text[], integer[], integer[]) is 'Stores the steps of a flow version, and the queues and lanes that they need.';

create or replace function flow_difference(p_tenant text, p_flow text, p_from integer, p_to integer)
returns table (step text, change text, before jsonb, after jsonb)
language plpgsql stable as $$
declare
  v_from jsonb;
  v_to   jsonb;
begin
  select f.definition into v_from from flow f where f.tenant = p_tenant and f.name = p_flow and f.version = p_from;
  select f.definition into v_to from flow f where f.tenant = p_tenant and f.name = p_flow and f.version = p_to;
  if v_from is null or v_to is null then
    raise exception using errcode = 'LH002',
      message = format('there is no flow %s version %s for tenant %s', p_flow, case when v_from is null then p_from else p_to end, p_tenant);
  end if;
  return query
  select coalesce(a.step ->> 'name', b.step ->> 'name'),
         case when a.step is null then 'added' when b.step is null then 'removed' else 'changed' end,
         (select jsonb_object_agg(k.key, k.value) from jsonb_each(a.step) k where b.step is null or k.value is distinct from b.step -> k.key),
         (select jsonb_object_agg(k.key, k.value) from jsonb_each(b.step) k where a.step is null or k.value is distinct from a.step -> k.key)
  from jsonb_array_elements(v_from -> 'steps') with ordinality a(step, place)
  full join jsonb_array_elements(v_to -> 'steps') with ordinality b(step, place) on a.step ->> 'name' = b.step ->> 'name'
  where a.step is distinct from b.step
  order by coalesce(b.place, a.place), 1;
  return query
  select null::text, 'changed', jsonb_build_object(k.key, v_from -> k.key), jsonb_build_object(k.key, v_to -> k.key)
  from jsonb_object_keys(v_from || v_to) k(key)
  where k.key in ('description', 'output', 'timeout_ms', 'checkpoints') and v_from -> k.key is distinct from v_to -> k.key order by k.key;
end $$;
comment on function flow_difference(text, text, integer, integer) is
  'How two versions of a flow differ: steps that were added, removed or changed (with the settings that differ), and settings of the flow (step is null).';

create or replace function deploy(p_tenant text, p_definition jsonb)
returns table (flow_id integer, flow_version integer, created boolean)
language plpgsql as $$
declare
  v_now     timestamptz := clock();
  v_name    text := p_definition ->> 'name';
  v_version numeric;
  v_given   jsonb;
  v_steps   jsonb;
  v_names   text[];
  v_from    integer[];
  v_to      integer[];
  v_normal  jsonb;
  v_flow    flow;
  v_read    text[];
  v_bad     record;
begin
  perform refuse_unknown_keys(p_definition, array['name', 'version', 'description', 'steps', 'phases', 'output', 'timeout', 'checkpoints'], 'the flow');
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
  if p_definition ?& array['steps', 'phases'] then
    raise exception using errcode = 'LH001', message = format('flow %s has both steps and phases; one of them is needed', v_name);
  end if;
  v_given := case when p_definition ? 'phases' then steps_of_phases(p_definition -> 'phases') else p_definition -> 'steps' end;
  if jsonb_typeof(v_given) is distinct from 'array' or jsonb_array_length(v_given) not between 1 and 20000 then
    raise exception using errcode = 'LH001', message = format('flow %s: steps must be a list of 1 to 20000 steps', v_name);
  end if;

  select jsonb_agg(normal_step(s.step, s.place::int) order by s.place), array_agg(s.step ->> 'name' order by s.place)
  into v_steps, v_names
  from jsonb_array_elements(v_given) with ordinality s(step, place);

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
  if cardinality(v_from) > 1000000 then
    raise exception using errcode = 'LH001', message = format('flow %s: its steps wait for each other in %s ways, more than the limit of 1000000', v_name, cardinality(v_from));
  end if;
  perform refuse_cycle(v_names, v_from, v_to);
  perform refuse_forward_reads(v_names, v_steps, v_from, v_to);
  perform refuse_bad_template(p_definition -> 'output', 'output');
  v_read := steps_read(array(select paths_in(p_definition -> 'output')));
  select n into v_bad from unnest(v_read) n where n <> all (v_names) limit 1;
  if found then
    raise exception using errcode = 'LH001', message = format('output looks at %L, which is no step of the flow', v_bad.n);
  end if;

  v_normal := jsonb_build_object('name', v_name, 'version', v_version::int, 'description', p_definition -> 'description', 'steps', v_steps)
    || case when p_definition ? 'output' then jsonb_build_object('output', p_definition -> 'output', 'output_reads', (
         select coalesce(jsonb_agg(array_position(v_names, n) - 1), '[]') from unnest(v_read) n)) else '{}' end
    || jsonb_strip_nulls(jsonb_build_object('timeout_ms', duration_of(p_definition -> 'timeout', 'timeout'),
                                            'checkpoints', case when not boolean_of(p_definition -> 'checkpoints', true, 'checkpoints') then false end));

  insert into flow (tenant, name, version, definition, step_count, deployed_at, timeout_ms, compensates)
  values (p_tenant, v_name, v_version::int, v_normal, cardinality(v_names), v_now, (v_normal ->> 'timeout_ms')::bigint,
          exists (select from jsonb_array_elements(v_steps) s where s ? 'compensate'))
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

  perform store_steps(v_flow, v_steps, v_names, v_from, v_to);

  return query select v_flow.id, v_flow.version, true;
end $$;
comment on function deploy(text, jsonb) is
  'Stores a flow version. The same definition again changes nothing; another definition under the same version is refused, as are cycles, unknown step names and unknown keys.';
