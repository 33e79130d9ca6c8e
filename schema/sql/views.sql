-- What operators read. Everything here may be queried at any time: reads never wait for writers.

create or replace view runs as
select r.id, r.tenant, f.name as flow, f.version, r.name,
  case when r.state = 'running' and r.start_at > clock() then 'pending' else r.state end as state,
  r.created_at, r.start_at, r.ended_at, f.step_count as steps, r.open_steps, r.revision, r.input, r.error, r.flow_id
from run r join flow f on f.id = r.flow_id;
comment on view runs is 'Runs with the names of their flows. A run whose delayed start has not come yet is pending.';

create or replace view steps as
select s.run_id, s.seq, fs.name, l.handler, q.name as queue, s.priority,
  coalesce(s.outcome, case when le.run_id is not null then 'running' when t.run_id is not null then 'ready'
                           when ti.run_id is not null then 'waiting' else 'blocked' end::step_state) as state,
  s.blockers,
  coalesce(s.attempt, le.attempt, t.attempt, ti.attempt) as attempt,
  coalesce(le.failures, t.failures, ti.failures) as failures, fs.max_attempts,
  coalesce(s.worker_id, le.worker_id) as worker_id,
  coalesce(s.started_at, le.claimed_at) as started_at, s.ended_at, ti.fire_at, ti.kind as timer, s.output, s.error
from step s
join run r on r.id = s.run_id
join flow_step fs on fs.flow_id = r.flow_id and fs.seq = s.seq
join lane l on l.id = s.lane_id
join queue q on q.id = l.queue_id
left join task t on t.run_id = s.run_id and t.seq = s.seq
left join lease le on le.run_id = s.run_id and le.seq = s.seq
left join timer ti on ti.run_id = s.run_id and ti.seq = s.seq;
comment on view steps is 'Steps with their names and present states, as their rooms tell them.';

create or replace view queues as
select q.tenant, q.name, l.handler, count(t.run_id) as ready,
  to_timestamp(min(t.position) / 1000000.0) as oldest_ready_at,
  (select count(*) from worker w where w.tenant = q.tenant and w.state = 'active' and q.name = any (w.queues) and l.handler = any (w.handlers)) as workers
from queue q join lane l on l.queue_id = q.id left join task t on t.lane_id = l.id
group by q.tenant, q.name, l.handler, q.id;
comment on view queues is 'Ready steps by queue and handler, and how many workers could take them. Counts rows: for looking, not for polling.';

create or replace view workers as
select w.id, w.tenant, w.name, w.host, w.pid, w.version, w.state, w.started_at, w.heartbeat_at, w.expires_at, w.stopped_at,
  w.slots, w.queues, w.handlers, (select count(*) from lease l where l.worker_id = w.id) as running
from worker w;
comment on view workers is 'Registered workers and how many steps each is running.';

create or replace view leases as
select l.run_id, fs.name as step, l.attempt, l.worker_id, w.name as worker, w.host, l.claimed_at, w.expires_at
from lease l
join run r on r.id = l.run_id
join flow_step fs on fs.flow_id = r.flow_id and fs.seq = l.seq
left join worker w on w.id = l.worker_id;
comment on view leases is 'Steps in flight: who owns each, since when, and until when at least.';

create or replace view room_violations as
with room as (
  select t.run_id, t.seq, 'task' as name from task t
  union all select l.run_id, l.seq, 'lease' from lease l
  union all select i.run_id, i.seq, 'timer' from timer i
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
where l.live <> r.open_steps or (r.state in ('completed', 'failed', 'cancelled')) <> (r.open_steps = 0);
comment on view room_violations is
  'The invariant: a live step is in exactly one room, a final one in none, and a run lives as long as it has live steps. Always empty; a row is a defect.';

create or replace function run_output(p_run_id uuid) returns jsonb
language sql stable as $$
  select case when count(*) = 1 then (array_agg(s.output))[1] else jsonb_object_agg(f.name, s.output) end
  from run r
  join flow_step f on f.flow_id = r.flow_id and f.successors = '{}'
  join step s on s.run_id = r.id and s.seq = f.seq
  where r.id = p_run_id and r.state = 'completed'
$$;
comment on function run_output(uuid) is
  'What a completed run gave: the output of its last step or, when several steps have no successor, an object of their outputs by name. Null for other runs.';

create or replace function why(p_run_id uuid, p_step text) returns text
language plpgsql stable as $$
declare
  v_step    steps;
  v_run     runs;
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
    when 'waiting' then
      return format('Step %s sleeps until %s (%s)%s.', p_step, v_step.fire_at,
        case v_step.timer when 'start' then 'delayed start' when 'retry' then 'backoff' else 'snooze' end,
        case when v_step.failures > 0 then format(' after %s of %s attempts failed', v_step.failures, v_step.max_attempts) else '' end);
    when 'blocked' then
      select string_agg(b.name, ', ') into v_waiting
      from (select p.name from steps p join flow_step f on f.flow_id = v_run.flow_id and f.seq = p.seq
            where p.run_id = p_run_id and p.state <> 'completed' and v_step.seq = any (f.successors) order by p.seq limit 5) b;
      return format('Step %s is blocked: it waits for %s of its predecessors (%s%s).', p_step, v_step.blockers, v_waiting,
        case when v_step.blockers > 5 then ', …' else '' end);
    when 'ready' then
      if not exists (select from worker w where w.tenant = v_run.tenant and w.state = 'active'
                     and v_step.queue = any (w.queues) and v_step.handler = any (w.handlers)) then
        return format('Step %s is ready, but no worker takes handler %s from queue %s; it waits until one comes.', p_step, v_step.handler, v_step.queue);
      end if;
      return format('Step %s is ready in queue %s and waits for a free slot.', p_step, v_step.queue);
    else
      return format('Step %s is %s since %s.', p_step, v_step.state, v_step.ended_at);
  end case;
end $$;
comment on function why(uuid, text) is 'Says in one sentence why a step is not running.';
