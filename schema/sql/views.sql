-- What operators read. Everything here may be queried at any time: reads never wait for writers.

create or replace view runs as
select r.id, r.tenant, f.name as flow, f.version, r.name,
  case when r.state = 'running' and r.start_at > clock() then 'pending' else r.state end as state,
  r.created_at, nullif(r.start_at, 'infinity'::timestamptz) as start_at, r.ended_at, f.step_count as steps, r.open_steps, r.revision, r.input, r.error, r.flow_id,
  r.metadata, r.paused_for, coalesce(r.compensating, false) as compensated, r.dismissed_at, r.parent_id, r.forked_from
from run r join flow f on f.id = r.flow_id;
comment on view runs is 'Runs with the names of their flows. A run whose start has not come yet is pending; start_at is null when it started at once, or waits to be started.';

create or replace view steps as
select s.run_id, s.seq, step_label(s.run_id, fs.name, s.seq, s.def) as name, l.handler, q.name as queue, s.priority,
  coalesce(s.outcome, case when le.run_id is not null then 'running' when t.run_id is not null then 'ready' when h.run_id is not null then 'paused' when qd.run_id is not null then 'waiting'
                           when ti.run_id is not null or w.kinds is not null then 'waiting' else 'blocked' end::step_state) as state,
  s.blockers,
  coalesce(s.attempt, le.attempt, t.attempt, ti.attempt, h.attempt, w.attempt, qd.attempt) as attempt,
  coalesce(le.failures, t.failures, ti.failures, h.failures, w.failures, qd.failures) as failures, fs.max_attempts,
  coalesce(s.worker_id, le.worker_id) as worker_id,
  coalesce(s.started_at, le.claimed_at) as started_at, s.ended_at, nullif(coalesce(ti.fire_at, w.due_at), 'infinity') as fire_at, ti.kind as timer,
  s.output, s.error, case when qd.run_id is not null then 'its turn: ' || g.name || coalesce(' ' || nullif(g.key, ''), '') || ' has ' || g.most || ' at a time' else w.kinds end as waits_for, fs.kind, fs.phase, coalesce(s.def, s.seq) as def
from step s
join run r on r.id = s.run_id
join flow_step fs on fs.flow_id = r.flow_id and fs.seq = coalesce(s.def, s.seq)
left join lane l on l.id = s.lane_id
left join queue q on q.id = l.queue_id
left join task t on t.run_id = s.run_id and t.seq = s.seq
left join lease le on le.run_id = s.run_id and le.seq = s.seq
left join timer ti on ti.run_id = s.run_id and ti.seq = s.seq
left join held h on h.run_id = s.run_id and h.seq = s.seq
left join queued qd on qd.run_id = s.run_id and qd.seq = s.seq
left join gate g on g.id = qd.gate_id
left join lateral (
  select string_agg(case when x.kind = 'retry' then x.path else x.kind::text end || coalesce(' ' || x.topic, '') || coalesce(' ' || x.key, ''), ', ' order by x.path) as kinds, min(x.due_at) as due_at, max(x.attempt) as attempt, max(x.failures) as failures
  from wait x where x.run_id = s.run_id and x.seq = s.seq) w on true;
comment on view steps is 'Steps with their names and present states, as their rooms tell them. Items of a fan-out are steps, once their turn has come.';

create or replace view waits as
select w.run_id, step_label(w.run_id, fs.name, w.seq, s.def) as step, r.tenant, f.name as flow, w.kind, w.path, w.topic, w.key, w.child_id, w.since,
  nullif(w.due_at, 'infinity') as due_at, w.prompt
from wait w
join run r on r.id = w.run_id
join flow f on f.id = r.flow_id
join step s on s.run_id = w.run_id and s.seq = w.seq
join flow_step fs on fs.flow_id = r.flow_id and fs.seq = coalesce(s.def, s.seq);
comment on view waits is 'What waiting steps wait for.';

create or replace view flow_versions as
select f.tenant, f.name, f.version, f.checksum, f.deployed_at, f.step_count as steps, coalesce(l.live, 0) as live_runs
from flow f
left join (
  select r.flow_id, count(*) as live
  from (select run_id from task union select run_id from lease union select run_id from timer union select run_id from wait union select run_id from held union select run_id from queued) x
  join run r on r.id = x.run_id group by r.flow_id) l on l.flow_id = f.id;
comment on view flow_versions is 'Deployed versions, and how many live runs each has: what still runs on an old version.';

create or replace view queues as
select q.tenant, q.name, l.handler, count(t.run_id) as ready,
  to_timestamp(min(t.position) / 1000000.0) as oldest_ready_at,
  (select count(*) from worker w where w.tenant = q.tenant and w.state = 'active' and q.name = any (w.queues) and l.handler = any (w.handlers)) as workers
from queue q join lane l on l.queue_id = q.id left join task t on t.lane_id = l.id
group by q.tenant, q.name, l.handler, q.id;
comment on view queues is 'Ready steps by queue and handler, and how many workers could take them. Counts rows: for looking, not for polling.';

create or replace view queue_limits as
select q.tenant, q.name, q.paused_at, q.paused_by, q.max_running, case when q.max_running is not null
    then greatest(0, q.running - coalesce((select sum(c.ended) from queue_call c where c.queue_id = q.id), 0))::integer end as running,
  q.rate_limit, q.rate_ms, q.breaker_failures, q.breaker_ms, q.breaker_count, q.open_until
from queue q;
comment on view queue_limits is 'What limits each queue: pause_queue(), limit_queue().';

create or replace view gates as
select g.tenant, g.name, g.key, coalesce((select l.most from gate_limit l where l.tenant = g.tenant and l.name = g.name), g.most) as most,
  greatest(0, g.used - coalesce((select sum(c.ended) from gate_call c where c.gate_id = g.id), 0))::integer as used, (select count(*) from queued q where q.gate_id = g.id) as queued from gate g;
comment on view gates is 'Keys of bounded concurrency: how many steps of each run or may run, and how many wait for them.';

create or replace view workers as
select w.id, w.tenant, w.name, w.host, w.pid, w.version, w.state, w.started_at, w.heartbeat_at, w.expires_at, w.stopped_at,
  w.slots, w.queues, w.handlers, (select count(*) from lease l where l.worker_id = w.id) as running
from worker w;
comment on view workers is 'Registered workers and how many steps each is running.';

create or replace view leases as
select l.run_id, step_label(l.run_id, fs.name, l.seq, s.def) as step, l.attempt, l.worker_id, w.name as worker, w.host, l.claimed_at, w.expires_at
from lease l
join run r on r.id = l.run_id
join step s on s.run_id = l.run_id and s.seq = l.seq
join flow_step fs on fs.flow_id = r.flow_id and fs.seq = coalesce(s.def, s.seq)
left join worker w on w.id = l.worker_id;
comment on view leases is 'Steps in flight: who owns each, since when, and until when at least.';

create or replace view room_violations as
with room as (
  select t.run_id, t.seq, 'task' as name from task t
  union all select l.run_id, l.seq, 'lease' from lease l
  union all select i.run_id, i.seq, 'timer' from timer i
  union all select h.run_id, h.seq, 'held' from held h
  union all select q.run_id, q.seq, 'queued' from queued q
  union all select distinct w.run_id, w.seq, 'wait' from wait w
), stay as (
  select r.run_id, r.seq, count(*) as rooms, string_agg(r.name, ', ') as names from room r group by r.run_id, r.seq
)
select coalesce(s.run_id, y.run_id) as run_id, coalesce(s.seq, y.seq) as seq,
  case when s.run_id is null then 'in ' || y.names || ', but there is no such step'
       when s.outcome is not null then s.outcome || ', but in ' || y.names
       when y.rooms > 1 then 'in several rooms: ' || y.names
       when y.rooms = 1 and s.blockers > 0 then 'blocked, but in ' || y.names
       else 'live, not blocked, and in no room' end as violation
from step s full join stay y on y.run_id = s.run_id and y.seq = s.seq
where s.run_id is null or (s.outcome is not null and y.rooms > 0) or y.rooms > 1
   or (s.outcome is null and (s.blockers > 0) = (y.rooms is not null))
union all
select r.id, null, format('%s with %s open steps, but %s are live', r.state, r.open_steps, l.live)
from run r cross join lateral (select count(*) as live from step s where s.run_id = r.id and s.outcome is null) l
where l.live <> r.open_steps or (r.state in ('completed', 'failed', 'cancelled')) <> (r.open_steps = 0)
union all
select null, null, format('key %s %s counts %s steps, but %s are in task or lease', g.name, g.key, g.used, n.steps)
from gate g cross join lateral (
  select count(*) as steps from step s
  where s.gate_id = g.id and s.outcome is null
    and (exists (select from task t where t.run_id = s.run_id and t.seq = s.seq) or exists (select from lease l where l.run_id = s.run_id and l.seq = s.seq))) n
where g.used - coalesce((select sum(c.ended) from gate_call c where c.gate_id = g.id), 0) <> n.steps
union all
select t.run_id, t.seq, format('ready at %s, below the floor of its lane at %s', t.position, p.position)
from lane l cross join lateral floors_of(l.id) p join task t on t.lane_id = l.id and t.priority = p.priority and t.position < p.position;
comment on view room_violations is
  'The invariant: a live step is in exactly one room, a final one in none, and a run lives as long as it has live steps. Always empty; a row is a defect.';

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

create or replace function why(p_run_id uuid, p_step text) returns text
language plpgsql stable as $$
declare
  v_step    steps;
  v_run     runs;
  v_queue   queue;
  v_waiting text;
begin
  select s.* into v_step from steps s where s.run_id = p_run_id and s.name = p_step;
  if not found then
    raise exception using errcode = 'LH002', message = format('there is no step %s in run %s', p_step, p_run_id);
  end if;
  select r.* into v_run from runs r where r.id = p_run_id;
  case v_step.state
    when 'running' then
      return format('Step %s is running: worker %s holds it since %s (attempt %s).', p_step, v_step.worker_id, v_step.started_at, v_step.attempt);
    when 'paused' then
      return format('Step %s is ready, but its run is paused (%s).', p_step,
        case v_run.paused_for when 'question' then 'a question waits for an answer: see the view questions' else 'by an operator: resume it' end);
    when 'waiting' then
      if v_step.waits_for is not null then
        return format('Step %s waits for: %s%s.', p_step, v_step.waits_for, coalesce(', until ' || v_step.fire_at, ''));
      end if;
      if v_step.fire_at < clock() and exists (select from chore c where c.name = 'fire_timers' and c.next_at < clock() - interval '2 seconds') then
        return format('Step %s is to go on since %s: its time came %s s ago, but nobody does the chores. Start a worker or a scheduler.',
          p_step, v_step.fire_at, extract(epoch from clock() - v_step.fire_at)::bigint);
      end if;
      return format('Step %s sleeps %s (%s)%s.', p_step, coalesce('until ' || v_step.fire_at, 'until somebody starts its run'),
        case v_step.timer when 'start' then 'delayed start' when 'retry' then 'backoff' else 'snooze' end,
        case when v_step.failures > 0 then format(' after %s of %s attempts failed', v_step.failures, v_step.max_attempts) else '' end);
    when 'blocked' then
      select string_agg(b.name, ', ') into v_waiting
      from (select p.name from steps p join flow_step f on f.flow_id = v_run.flow_id and f.seq = p.seq
            where p.run_id = p_run_id and p.state not in ('completed', 'failed', 'skipped', 'cancelled') and v_step.seq = any (f.successors) order by p.seq limit 5) b;
      return format('Step %s is blocked: it waits for %s of its predecessors (%s%s).', p_step, v_step.blockers, v_waiting,
        case when v_step.blockers > 5 then ', …' else '' end);
    when 'ready' then
      if not exists (select from worker w where w.tenant = v_run.tenant and w.state = 'active'
                     and v_step.queue = any (w.queues) and v_step.handler = any (w.handlers)) then
        return format('Step %s is ready, but no worker takes handler %s from queue %s; it waits until one comes.', p_step, v_step.handler, v_step.queue);
      end if;
      select q.* into v_queue from queue q where q.tenant = v_run.tenant and q.name = v_step.queue;
      if v_queue.paused_at is not null then
        return format('Step %s is ready, but queue %s is paused since %s by %s.', p_step, v_step.queue, v_queue.paused_at, v_queue.paused_by);
      elsif v_queue.open_until > clock() then
        return format('Step %s is ready, but the breaker of queue %s is open until %s: %s attempts in a row got no answer.',
                      p_step, v_step.queue, v_queue.open_until, v_queue.breaker_count);
      elsif v_queue.running >= v_queue.max_running then
        return format('Step %s is ready, but %s steps of queue %s run, as many as may.', p_step, v_queue.running, v_step.queue);
      end if;
      return format('Step %s is ready in queue %s and waits for a free slot%s.', p_step, v_step.queue,
        case when v_queue.rate_limit is not null then format(' (at most %s begin in %s ms)', v_queue.rate_limit, v_queue.rate_ms) else '' end);
    else
      return format('Step %s is %s since %s.', p_step, v_step.state, v_step.ended_at);
  end case;
end $$;
comment on function why(uuid, text) is 'Says in one sentence why a step is not running.';
