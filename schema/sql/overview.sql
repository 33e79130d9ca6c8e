-- What is shown at a glance, at a bounded cost whatever the rooms hold: counts stop at a number, and what has waited longest is
-- found by the index.

create or replace function room_counts(p_tenant text, p_most bigint default 10000)
returns table (room text, steps bigint, complete boolean)
language plpgsql stable as $$
declare
  v_alone  boolean := not exists (select from queue q where q.tenant <> p_tenant);
  v_looked bigint;
begin
  -- A lease says whose it is by its worker. Leases have no index on that: they are read once, not once for each worker.
  select 'lease', count(*), count(*) < p_most into room, steps, complete
  from (
    select from lease l
    cross join lateral (select y.tenant, y.state from worker y where y.id = l.worker_id offset 0) w
    where w.tenant = p_tenant and w.state in ('active', 'draining', 'lost') limit p_most) x;
  return next;
  foreach room in array array['timer', 'wait', 'held', 'queued'] loop
    -- These do not say whose they are: of the first so many, those are counted whose runs are the tenant's.
    execute format(
      'select count(distinct (x.run_id, x.seq)) filter (where $1 or r.tenant = $2), count(*)
       from (select y.run_id, y.seq from %I y limit $3) x
       left join lateral (select z.tenant from run z where not $1 and z.id = x.run_id offset 0) r on true', room)
    into steps, v_looked using v_alone, p_tenant, p_most;
    complete := v_looked < p_most;
    return next;
  end loop;
end $$;
comment on function room_counts(text, bigint) is
  'How many steps of a tenant are in the rooms other than task; each is counted up to p_most, and complete says whether that was all.';

create or replace function oldest_task(p_lane integer) returns task
language plpgsql stable as $$
-- From priority to priority: within one, the first of the index is the oldest.
declare
  v_from   smallint := -32768;
  v_task   task;
  v_oldest task;
begin
  loop
    select t.* into v_task from task t where t.lane_id = p_lane and t.priority >= v_from order by t.priority, t.position limit 1;
    exit when v_task.run_id is null;
    if v_oldest.run_id is null or v_task.position < v_oldest.position then
      v_oldest := v_task;
    end if;
    exit when v_task.priority = 32767;
    v_from := v_task.priority + 1;
  end loop;
  return v_oldest;
end $$;
comment on function oldest_task(integer) is 'The ready step of a lane that has waited longest.';

create or replace function lane_depth(p_lane integer, p_most bigint, out ready bigint, out oldest task)
language plpgsql stable as $$
begin
  select count(*) into ready from (select from task t where t.lane_id = p_lane limit p_most) x;
  if ready > 0 then
    oldest := oldest_task(p_lane);
  end if;
end $$;
comment on function lane_depth(integer, bigint) is 'How many steps of a lane are ready, counted up to p_most, and the one that has waited longest.';

create or replace function queue_lines(p_tenant text, p_most bigint default 10000)
returns table (queue text, handler text, ready bigint, complete boolean, oldest_at timestamptz, oldest_run uuid, oldest_step text, workers bigint)
language plpgsql stable as $$
begin
  return query
  with active as materialized (
    select w.queues, w.handlers from worker w where w.tenant = p_tenant and w.state = 'active'
  )
  select q.name, l.handler, sum(d.ready)::bigint, bool_and(d.ready < p_most), time_of(min(o.position)),
    (array_agg(o.run_id order by o.position))[1], (array_agg(o.step order by o.position))[1],
    (select count(*) from active a where q.name = any (a.queues) and l.handler = any (a.handlers))
  from queue q
  join lane l on l.queue_id = q.id
  cross join lateral lane_depth(l.id, p_most) d
  left join lateral (
    select t.position, t.run_id, step_label(t.run_id, f.name, t.seq, s.def) as step
    from (select (d.oldest).*) t
    cross join lateral (select x.flow_id from run x where x.id = t.run_id offset 0) r
    cross join lateral (select def_of(t.run_id, t.seq) as def offset 0) s
    join flow_step f on f.flow_id = r.flow_id and f.seq = coalesce(s.def, t.seq)) o on true
  where q.tenant = p_tenant
  group by q.name, l.handler order by q.name, l.handler;
end $$;
comment on function queue_lines(text, bigint) is
  'Ready steps of a tenant by queue and handler, counted up to p_most each (complete: that was all), the one that has waited longest, and the workers that could take them.';

create or replace function busy_gates(p_tenant text, p_name text, p_after_name text, p_after_key text, p_limit integer, p_most bigint default 10000)
returns table (name text, key text, most integer, used integer, queued bigint, complete boolean)
language plpgsql stable as $$
begin
  return query
  select g.name, g.key, coalesce(l.most, g.most), greatest(0, g.used - coalesce(c.ended, 0))::integer, q.steps, q.steps < p_most
  from (
    select x.* from gate x
    where x.tenant = p_tenant and (p_name is null or x.name = p_name) and (p_after_name is null or (x.name, x.key) > (p_after_name, coalesce(p_after_key, '')))
    order by x.name, x.key limit p_limit) g
  left join gate_limit l on l.tenant = g.tenant and l.name = g.name
  cross join lateral (select sum(x.ended) as ended from gate_call x where x.gate_id = g.id) c
  cross join lateral (select count(*) as steps from (select from queued x where x.gate_id = g.id limit p_most) y) q
  order by g.name, g.key;
end $$;
comment on function busy_gates(text, text, text, text, integer, bigint) is
  'Keys of bounded concurrency of a tenant, by name and key behind those given: how many steps of each run or may run, and how many wait, counted up to p_most.';

create or replace function live_versions(p_tenant text, p_flow text, p_most bigint default 10000)
returns table (version integer, runs bigint, complete boolean)
language plpgsql stable as $$
declare
  v_complete boolean := true;
  v_all      uuid[] := '{}';
  v_some     uuid[];
  v_room     text;
begin
  foreach v_room in array array['task', 'lease', 'timer', 'wait', 'held', 'queued'] loop
    -- The newest: by the primary key, which begins with the run.
    execute format('select array(select x.run_id from %I x order by x.run_id desc limit $1)', v_room) into v_some using p_most;
    v_complete := v_complete and cardinality(v_some) < p_most;
    v_all := v_all || v_some;
  end loop;
  return query
  select f.version, count(*), v_complete
  from (select distinct u.id from unnest(v_all) u(id)) i
  cross join lateral (select x.flow_id from run x where x.id = i.id offset 0) r
  join flow f on f.id = r.flow_id
  where f.tenant = p_tenant and f.name = p_flow
  group by f.version order by f.version;
end $$;
comment on function live_versions(text, text, bigint) is
  'How many live runs each version of a flow has, among the newest p_most steps of each room; complete says whether those were all. The view flow_versions counts all.';
