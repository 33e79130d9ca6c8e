-- Deploying flows: a definition is checked, filled in with defaults, and stored for good.

create or replace function store_steps(
  p_flow flow, p_steps jsonb, p_names text[], p_from integer[], p_to integer[], p_readers integer[], p_reads text[]
) returns void
language plpgsql set enable_nestloop = off set jit = off as $$
-- One statement for all steps, joined by hash or merge: no statistics know steps that are only now stored.
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
  select distinct q.id, s ->> 'handler', s ?| array['input', 'for_each', 'undoes', 'concurrency']
  from jsonb_array_elements(v_all) s join queue q on q.tenant = p_flow.tenant and q.name = s ->> 'queue'
  where s ->> 'handler' is not null
  order by 1, 2, 3
  on conflict (queue_id, handler, own_input) do nothing;

  with part as materialized (
    select s, (s ->> 'seq')::int as seq, s ->> 'name' as name, s ->> 'queue' as queue, s ->> 'handler' as handler,
      s ?| array['input', 'for_each', 'undoes', 'concurrency'] as own_input, (s ->> 'undoes')::int as undoes,
      (case when s ? 'flow' then 'child' when s ? 'sleep_ms' then 'sleep' when s ? 'wait_signal' then 'signal' else 'handler' end)::step_kind as kind,
      nullif((select coalesce(jsonb_object_agg(k.key, k.value), '{}') from jsonb_each(s) k
              where k.key in ('flow', 'flow_version', 'detached', 'sleep_ms', 'approval', 'budget', 'concurrency', 'fair')) || coalesce(s -> 'wait_signal', '{}'), '{}') as settings
    from jsonb_array_elements(v_all) s
  ), judged as materialized (
    select p.*, p.kind = 'handler' and (p.s ->> 'when') is null and not coalesce(p.s -> 'input' is not null, false) and (p.s ->> 'for_each') is null and p.settings is null as plain
    from part p
  ), edge as materialized (
    select f.step - 1 as seq, f.next - 1 as next from unnest(p_from, p_to) f(step, next)
  ), after as (
    select e.seq, array_agg(e.next order by e.next) as successors from edge e group by e.seq
  ), before as (
    select e.next as seq, array_agg(e.seq order by e.seq) as seqs from edge e group by e.next
  ), reading as (
    select r.step - 1 as seq, array_agg(n.place::int - 1 order by r.name) as reads
    from unnest(p_readers, p_reads) r(step, name) join unnest(p_names) with ordinality n(name, place) on n.name = r.name
    group by r.step
  )
  insert into flow_step (flow_id, seq, name, phase, lane_id, priority, predecessors, predecessor_seqs, successors, max_attempts, backoff_ms, factor, cap_ms,
                         jitter, never_on, timeout_ms, parameters, kind, plain, own_input, continues, reads, condition, input, each, window_size,
                         undo, undoes, settings)
  select p_flow.id, j.seq, j.name, j.s ->> 'phase', l.id, (j.s ->> 'priority')::smallint,
         -- A compensation waits for the failure of its run.
         coalesce(cardinality(b.seqs), (j.undoes is not null)::int), coalesce(b.seqs, '{}'), coalesce(a.successors, '{}'),
         (j.s -> 'retry' ->> 'attempts')::smallint, (j.s -> 'retry' ->> 'backoff_ms')::bigint,
         (j.s -> 'retry' ->> 'factor')::double precision, (j.s -> 'retry' ->> 'cap_ms')::bigint, (j.s -> 'retry' ->> 'jitter')::double precision,
         (select array_agg(c) from jsonb_array_elements_text(j.s -> 'retry' -> 'never_on') c), (j.s ->> 'timeout_ms')::bigint, nullif(j.s -> 'with', 'null'),
         j.kind, j.plain, coalesce(l.own_input, false), coalesce(j.s ->> 'on_failure' = 'continue', false), coalesce(r.reads, '{}'),
         (j.s ->> 'when')::jsonpath, j.s -> 'input', (j.s ->> 'for_each')::jsonpath, (j.s ->> 'window')::int, u.seq, j.undoes, j.settings
  from judged j
  left join queue q on q.tenant = p_flow.tenant and q.name = j.queue
  left join lane l on l.queue_id = q.id and l.handler = j.handler and l.own_input = j.own_input
  left join after a on a.seq = j.seq
  left join before b on b.seq = j.seq
  left join reading r on r.seq = j.seq
  left join judged u on u.undoes = j.seq;
end $$;
comment on function store_steps(flow, jsonb, text[], integer[], integer[], integer[], text[]) is 'Stores the steps of a flow version, and the queues and lanes that they need.';

create or replace function set_gate_limits(p_flow flow) returns void
language plpgsql as $$
-- Deployments that share limits come one after the other, by an advisory lock of the tenant.
declare
  v_bad     record;
  v_changed text[];
begin
  if not exists (select from flow_step s where s.flow_id = p_flow.id and s.settings ? 'concurrency')
     and not exists (select from gate_limit_use u where u.tenant = p_flow.tenant and u.flow = p_flow.name) then
    return;
  end if;
  perform pg_advisory_xact_lock(lock_class('gate_limit'::regclass), hashtext(p_flow.tenant));

  select a.name as step, b.name as other, a.settings -> 'concurrency' ->> 'name' as name,
         a.settings -> 'concurrency' ->> 'limit' as most, b.settings -> 'concurrency' ->> 'limit' as others into v_bad
  from flow_step a join flow_step b on b.flow_id = a.flow_id and b.settings -> 'concurrency' ->> 'name' = a.settings -> 'concurrency' ->> 'name'
  where a.flow_id = p_flow.id and a.settings -> 'concurrency' ->> 'limit' <> b.settings -> 'concurrency' ->> 'limit' and a.seq < b.seq
  order by a.seq, b.seq limit 1;
  if found then
    raise exception using errcode = 'LH001', message = format(
      'flow %s: the concurrency limit %s is %s at step %s and %s at step %s; a name has one limit', p_flow.name, v_bad.name, v_bad.most, v_bad.step, v_bad.others, v_bad.other);
  end if;
  -- An older version deployed late has nothing to say.
  if exists (select from flow f where f.tenant = p_flow.tenant and f.name = p_flow.name and f.version > p_flow.version) then
    insert into gate_limit (tenant, name, most)
    select p_flow.tenant, s.settings -> 'concurrency' ->> 'name', min((s.settings -> 'concurrency' ->> 'limit')::integer)
    from flow_step s where s.flow_id = p_flow.id and s.settings ? 'concurrency' group by 2
    on conflict do nothing;
    return;
  end if;

  delete from gate_limit_use u where u.tenant = p_flow.tenant and u.flow = p_flow.name;
  insert into gate_limit_use (tenant, name, flow, version, most)
  select p_flow.tenant, s.settings -> 'concurrency' ->> 'name', p_flow.name, p_flow.version, min((s.settings -> 'concurrency' ->> 'limit')::integer)
  from flow_step s where s.flow_id = p_flow.id and s.settings ? 'concurrency' group by 2;
  select m.name, m.most, o.flow, o.version, o.most as others into v_bad
  from gate_limit_use m join gate_limit_use o on o.tenant = m.tenant and o.name = m.name and o.most <> m.most
  where m.tenant = p_flow.tenant and m.flow = p_flow.name
  order by m.name, o.flow limit 1;
  if found then
    raise exception using errcode = 'LH004', message = format(
      'flow %s version %s: the concurrency limit %s is %s here and %s in flow %s version %s; a name has one limit, so give this one another name or the same limit',
      p_flow.name, p_flow.version, v_bad.name, v_bad.most, v_bad.others, v_bad.flow, v_bad.version);
  end if;
  with changed as (
    insert into gate_limit as g (tenant, name, most)
    select u.tenant, u.name, u.most from gate_limit_use u where u.tenant = p_flow.tenant and u.flow = p_flow.name
    on conflict (tenant, name) do update set most = excluded.most where g.most <> excluded.most
    returning g.name
  )
  select array_agg(c.name order by c.name) into v_changed from changed c;
  -- A higher limit lets steps in that wait.
  perform look_at_gates(p_flow.tenant, c.name) from unnest(v_changed) c(name);
end $$;
comment on function set_gate_limits(flow) is
  'Sets the limits of concurrency that a flow version names, for the running steps of its older versions as well. Refuses one that contradicts the latest version of another flow.';

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
language plpgsql set enable_nestloop = off set jit = off as $$
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
  v_readers integer[];
  v_reads   text[];
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
  where not exists (select from unnest(v_names) n(name) where n.name = a.name) limit 1;
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
  select array_agg(s.place::int order by s.place, r.name), array_agg(r.name order by s.place, r.name) into v_readers, v_reads
  from jsonb_array_elements(v_steps) with ordinality s(step, place) cross join lateral unnest(steps_read(paths_of_step(s.step))) r(name);
  perform refuse_forward_reads(v_names, v_readers, v_reads, steps_in_order(v_names, v_from, v_to), v_from, v_to);
  perform refuse_bad_template(p_definition -> 'output', 'output');
  v_read := steps_read(array(select paths_in(p_definition -> 'output')));
  select r.n into v_bad from unnest(v_read) r(n) where not exists (select from unnest(v_names) n(name) where n.name = r.n) limit 1;
  if found then
    raise exception using errcode = 'LH001', message = format('output looks at %L, which is no step of the flow', v_bad.n);
  end if;

  v_normal := jsonb_build_object('name', v_name, 'version', v_version::int, 'description', p_definition -> 'description', 'steps', v_steps)
    || case when p_definition ? 'output' then jsonb_build_object('output', p_definition -> 'output', 'output_reads', (
         select coalesce(jsonb_agg(n.place - 1 order by r.place), '[]')
         from unnest(v_read) with ordinality r(name, place) join unnest(v_names) with ordinality n(name, place) on n.name = r.name)) else '{}' end
    || jsonb_strip_nulls(jsonb_build_object('timeout_ms', timeout_of(p_definition -> 'timeout', 'timeout'),
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

  perform store_steps(v_flow, v_steps, v_names, v_from, v_to, v_readers, v_reads);
  perform set_gate_limits(v_flow);

  return query select v_flow.id, v_flow.version, true;
end $$;
comment on function deploy(text, jsonb) is
  'Stores a flow version. The same definition again changes nothing; another definition under the same version is refused, as are cycles, unknown step names and unknown keys.';
