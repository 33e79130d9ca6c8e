-- What operators read. Everything here may be queried at any time: reads never wait for writers. Views ask for the time as
-- (select present()): once a query. What is alive is found from the rooms, and its runs and steps one by one by their keys
-- (lateral, with offset 0): what the history holds costs nothing, whatever the statistics say of it.

create or replace view runs as
select r.id, r.tenant, f.name as flow, f.version, r.name,
  case when r.state = 'running' and r.start_at > (select present()) then 'pending' else r.state end as state,
  r.created_at, nullif(r.start_at, 'infinity'::timestamptz) as start_at, r.ended_at, f.step_count as steps, r.open_steps, r.revision, r.input, r.error, r.flow_id,
  r.metadata, r.paused_for, coalesce(r.compensating, false) as compensated, r.dismissed_at, r.parent_id, r.forked_from,
  r.id as run_id, r.name as run_name
from run r join flow f on f.id = r.flow_id;
comment on view runs is 'Runs with the names of their flows. A run whose start has not come yet is pending; start_at is null when it started at once, or waits to be started.';

create or replace view step_names as
select n.run_id, n.seq, n.def, step_label(n.run_id, f.name, n.seq, n.def) as name, n.flow_id, f.lane_id
from (
  select r.id as run_id, x.seq, null::integer as def, r.flow_id from run r join flow_step x on x.flow_id = r.flow_id and x.undoes is null
  union all
  select s.run_id, s.seq, s.def, r.flow_id from step s join run r on r.id = s.run_id where s.def is not null
  union all
  select o.run_id, o.seq, o.def, r.flow_id from own_step o join run r on r.id = o.run_id where o.def is not null) n
join flow_step f on f.flow_id = n.flow_id and f.seq = coalesce(n.def, n.seq);
comment on view step_names is 'All steps of runs, whether they have begun or not: those that the flow names, the items of fan-outs that have been opened, and compensations.';

create or replace view steps as
select k.run_id, k.seq, k.name, l.handler, q.name as queue, coalesce(o.priority, r.priority, fs.priority) as priority,
  coalesce(s.outcome, case when le.run_id is not null then 'running' when t.run_id is not null then 'ready' when h.run_id is not null then 'paused' when qd.run_id is not null then 'waiting'
                           when ti.run_id is not null or w.kinds is not null then 'waiting' when x.not_begun then 'cancelled' else 'blocked' end::step_state) as state,
  case when s.run_id is not null or x.not_begun or num_nonnulls(le.run_id, t.run_id, h.run_id, qd.run_id, ti.run_id, w.kinds) > 0 then 0
       when k.def is not null then 1 else coalesce(b.blockers, fs.predecessors) end as blockers,
  coalesce(s.attempt, le.attempt, t.attempt, ti.attempt, h.attempt, w.attempt, qd.attempt) as attempt,
  coalesce(le.failures, t.failures, ti.failures, h.failures, w.failures, qd.failures) as failures, fs.max_attempts,
  coalesce(s.worker_id, le.worker_id) as worker_id,
  coalesce(s.started_at, le.claimed_at, w.begun_at) as started_at, coalesce(s.ended_at, case when x.not_begun then r.ended_at end) as ended_at,
  nullif(coalesce(ti.fire_at, w.due_at), 'infinity') as fire_at, ti.kind as timer,
  s.output, s.error, case when qd.run_id is not null then coalesce('its turn: ' || g.name || coalesce(' ' || nullif(g.key, ''), '') || ' has ' || g.most || ' at a time', 'its turn') else w.kinds end as waits_for, fs.kind, fs.phase, coalesce(k.def, k.seq) as def,
  k.name as step, r.tenant, r.flow_id
from step_names k
join run r on r.id = k.run_id
join flow_step fs on fs.flow_id = k.flow_id and fs.seq = coalesce(k.def, k.seq)
left join lane l on l.id = k.lane_id
left join queue q on q.id = l.queue_id
left join step s on s.run_id = k.run_id and s.seq = k.seq
left join own_step o on o.run_id = k.run_id and o.seq = k.seq
left join blocked b on b.run_id = k.run_id and b.seq = k.seq
left join task t on t.run_id = k.run_id and t.seq = k.seq
left join lease le on le.run_id = k.run_id and le.seq = k.seq
left join timer ti on ti.run_id = k.run_id and ti.seq = k.seq
left join held h on h.run_id = k.run_id and h.seq = k.seq
left join queued qd on qd.run_id = k.run_id and qd.seq = k.seq
left join gate g on g.id = qd.gate_id
left join lateral (
  select string_agg(case when x.kind = 'retry' then x.path else x.kind::text end || coalesce(' ' || x.topic, '') || coalesce(' ' || x.key, ''), ', ' order by x.path) as kinds, min(x.due_at) as due_at, max(x.attempt) as attempt, max(x.failures) as failures, min(x.since) filter (where x.kind = 'items') as begun_at
  from wait x where x.run_id = k.run_id and x.seq = k.seq) w on true
-- Nothing was written for what had not begun when its run ended, or began to be undone.
cross join lateral (select s.run_id is null and k.def is null and (r.state in ('completed', 'failed', 'cancelled') or coalesce(r.compensating, false)) as not_begun) x;
comment on view steps is 'Steps with their names and present states, as their rooms tell them. Items of a fan-out are steps, once their turn has come.';

create or replace view waits as
select w.run_id, step_label(w.run_id, fs.name, w.seq, s.def) as step, r.tenant, f.name as flow, w.kind, w.path, w.topic, w.key, w.child_id, w.since,
  nullif(w.due_at, 'infinity') as due_at, w.prompt, w.seq
from wait w
cross join lateral (select x.tenant, x.flow_id from run x where x.id = w.run_id offset 0) r
join flow f on f.id = r.flow_id
cross join lateral (select def_of(w.run_id, w.seq) as def offset 0) s
join flow_step fs on fs.flow_id = r.flow_id and fs.seq = coalesce(s.def, w.seq);
comment on view waits is 'What waiting steps wait for.';

create or replace view timers as
select i.run_id, step_label(i.run_id, fs.name, i.seq, s.def) as step, r.tenant, f.name as flow, i.kind, nullif(i.fire_at, 'infinity') as fire_at, i.attempt, i.failures, i.seq
from timer i
cross join lateral (select x.tenant, x.flow_id from run x where x.id = i.run_id offset 0) r
join flow f on f.id = r.flow_id
cross join lateral (select def_of(i.run_id, i.seq) as def offset 0) s
join flow_step fs on fs.flow_id = r.flow_id and fs.seq = coalesce(s.def, i.seq);
comment on view timers is 'Steps that sleep until a time: delayed starts, backoff after failed attempts, snoozes. Durable sleeps stand in waits.';
comment on column timers.kind is 'start: delayed start of the run; retry: backoff; snooze: its handler asked for it.';
comment on column timers.fire_at is 'When it becomes ready; null: when somebody starts its run.';

create or replace view flow_versions as
select f.tenant, f.name, f.version, f.checksum, f.deployed_at, f.step_count as steps, coalesce(l.live, 0) as live_runs, f.name as flow
from flow f
left join (
  select r.flow_id, count(*) as live
  from (select run_id from task union select run_id from lease union select run_id from timer union select run_id from wait union select run_id from held union select run_id from queued) x
  cross join lateral (select y.flow_id from run y where y.id = x.run_id offset 0) r group by r.flow_id) l on l.flow_id = f.id;
comment on view flow_versions is 'Deployed versions, and how many live runs each has: what still runs on an old version.';

create or replace view queues as
with active as materialized (
  select w.tenant, w.queues, w.handlers from worker w where w.state = 'active'
), running as (
  select n.queue_id, n.handler, count(*) as steps from lease e join lane n on n.id = e.lane_id group by n.queue_id, n.handler
), line as (
  select l.queue_id, l.handler, array_agg(distinct l.id) as lanes, count(t.run_id) as ready, min(t.position) as oldest
  from lane l left join task t on t.lane_id = l.id group by l.queue_id, l.handler
)
select q.tenant, q.name, n.handler, n.ready, to_timestamp(n.oldest / 1000000.0) as oldest_ready_at,
  (select count(*) from active w where w.tenant = q.tenant and q.name = any (w.queues) and n.handler = any (w.handlers)) as workers,
  q.name as queue, coalesce(r.steps, 0) as running, h.run_id as first_run_id, h.seq as first_seq, q.paused_at, q.paused_by
from line n
join queue q on q.id = n.queue_id
left join running r on r.queue_id = n.queue_id and r.handler = n.handler
left join lateral (
  select t.run_id, t.seq
  from unnest(n.lanes) i(lane_id)
  cross join lateral (
    select x.run_id, x.seq, x.priority, x.position from task x where x.lane_id = i.lane_id order by x.lane_id, x.priority, x.position limit 1) t
  order by t.priority, t.position limit 1) h on true;
comment on view queues is 'Ready steps by queue and handler, and how many workers could take them. Counts rows: for looking, not for polling.';

create or replace view queue_limits as
select q.tenant, q.name, q.paused_at, q.paused_by, q.max_running, case when q.max_running is not null
    then greatest(0, q.running - coalesce((select sum(c.ended) from queue_call c where c.queue_id = q.id), 0))::integer end as running,
  q.rate_limit, q.rate_ms, q.breaker_failures, q.breaker_ms, q.breaker_count, q.open_until, q.name as queue
from queue q;
comment on view queue_limits is 'What limits each queue: pause_queue(), limit_queue().';

create or replace view gates as
select g.tenant, g.name, g.key, coalesce(l.most, g.most) as most, greatest(0, g.used - coalesce(c.ended, 0))::integer as used, coalesce(n.steps, 0) as queued, g.name as gate
from gate g
left join gate_limit l on l.tenant = g.tenant and l.name = g.name
left join (select x.gate_id, sum(x.ended) as ended from gate_call x group by x.gate_id) c on c.gate_id = g.id
left join (select q.gate_id, count(*) as steps from queued q group by q.gate_id) n on n.gate_id = g.id;
comment on view gates is 'Keys of bounded concurrency: how many steps of each run or may run, and how many wait for them.';

create or replace view workers as
select w.id, w.tenant, w.name, w.host, w.pid, w.version, w.state, w.started_at, w.heartbeat_at, w.expires_at, w.stopped_at,
  w.slots, w.queues, w.handlers, coalesce(l.steps, 0) as running,
  w.id as worker_id, w.name as worker
from worker w left join (select x.worker_id, count(*) as steps from lease x group by x.worker_id) l on l.worker_id = w.id;
comment on view workers is 'Registered workers and how many steps each is running.';

create or replace view leases as
select l.run_id, step_label(l.run_id, fs.name, l.seq, s.def) as step, l.attempt, l.worker_id, w.name as worker, w.host, l.claimed_at, w.expires_at, l.seq, r.tenant, n.handler, q.name as queue
from lease l
cross join lateral (select x.flow_id, x.tenant from run x where x.id = l.run_id offset 0) r
cross join lateral (select def_of(l.run_id, l.seq) as def offset 0) s
join flow_step fs on fs.flow_id = r.flow_id and fs.seq = coalesce(s.def, l.seq)
left join worker w on w.id = l.worker_id
left join lane n on n.id = l.lane_id
left join queue q on q.id = n.queue_id;
comment on view leases is 'Steps in flight: who owns each, since when, and until when at least.';

comment on column runs.steps is 'Steps of the flow; items of fan-outs are not counted.';

create or replace function run_output(p_run_id uuid) returns jsonb
language plpgsql stable as $$
declare
  v_run      run;
  v_flow     flow;
  v_def      flow_step;
begin
  select r.* into v_run from run r where r.id = p_run_id and r.state = 'completed';
  if not found then
    return null;
  end if;
  select f.* into v_flow from flow f where f.id = v_run.flow_id;
  if v_flow.definition ? 'output' then
    v_def.reads := array(select jsonb_array_elements_text(v_flow.definition -> 'output_reads')::integer);
    return filled_in(v_flow.definition -> 'output', step_context(v_run, v_def));
  end if;
  return (
    select case when count(*) = 1 then (array_agg(step_output(s.run_id, s.seq)))[1] else jsonb_object_agg(f.name, step_output(s.run_id, s.seq)) end
    from flow_step f join step s on s.run_id = p_run_id and s.seq = f.seq
    where f.flow_id = v_run.flow_id and f.successors = '{}' and f.undoes is null);
end $$;
comment on function run_output(uuid) is
  'What a completed run gave: what its flow says or, without that, the output of its last step or, when several steps have no successor, an object of their outputs by name. Null for other runs.';

