-- The gates of a step, from its run's door to the worker that does it.

create or replace function explain_waits(p_run_id uuid, p_seq integer)
returns table (gate text, state text, figures jsonb, finding text, opened_by text, estimate timestamptz)
language plpgsql stable as $$
declare
  v_now    timestamptz := present();
  v_wait   wait;
  v_items  fan_out;
  v_child  record;
  v_budget jsonb;
  v_used   numeric;
begin
  for v_wait in select w.* from wait w where w.run_id = p_run_id and w.seq = p_seq order by w.path limit 20 loop
    state := 'closed';
    estimate := case when isfinite(v_wait.due_at) then v_wait.due_at end;
    figures := jsonb_build_object('since', v_wait.since, 'due_at', estimate);
    case v_wait.kind
      when 'items' then
        select f.* into v_items from fan_out f where f.run_id = p_run_id and f.seq = p_seq;
        gate := 'items';
        figures := figures || jsonb_build_object('ended', v_items.ended, 'opened', v_items.opened, 'total', v_items.total);
        finding := format('%s of %s items have ended', v_items.ended, v_items.total);
        opened_by := 'the end of all its items';
        estimate := case when v_items.ended > 0 then v_wait.since + (v_now - v_wait.since) / v_items.ended * v_items.total end;
      when 'child' then
        gate := 'child';
        select r.id, r.state, f.name into v_child from run r join flow f on f.id = r.flow_id where r.id = v_wait.child_id;
        figures := figures || jsonb_build_object('run_id', v_wait.child_id, 'flow', v_child.name, 'state', v_child.state);
        finding := format('it waits for run %s of flow %s, which is %s', v_wait.child_id, v_child.name, coalesce(v_child.state::text, 'gone'));
        opened_by := format('the end of that run: longhaul explain %s', v_wait.child_id);
      when 'signal', 'external' then
        gate := case v_wait.kind when 'signal' then 'signal' else 'outside work' end;
        figures := figures || jsonb_build_object('topic', v_wait.topic, 'key', v_wait.key);
        finding := format('it waits for %s %s%s for %s', gate, v_wait.topic, coalesce(' with key ' || v_wait.key, ''), in_words(v_now - v_wait.since));
        opened_by := case
          when v_wait.kind = 'external' then format('longhaul complete %s %s', v_wait.topic, v_wait.key)
          when v_wait.key is not null then format('longhaul signal key:%s %s', v_wait.key, v_wait.topic)
          else format('longhaul signal %s %s', p_run_id, v_wait.topic) end;
      when 'decision', 'interrupt' then
        gate := 'question';
        figures := figures || jsonb_build_object('question', v_wait.prompt -> 'question', 'choices', choices_of(v_wait.prompt), 'may_answer', v_wait.prompt -> 'by',
                                                 'at_expiry', v_wait.prompt -> 'default');
        finding := format('a question is open for %s: %s', in_words(v_now - v_wait.since), v_wait.prompt ->> 'question');
        opened_by := case v_wait.kind when 'interrupt' then format('longhaul resume %s --data JSON', p_run_id)
          else format('longhaul decide %s STEP CHOICE', p_run_id) end;
      when 'retry' then
        gate := 'budget';
        select f.settings -> 'budget' into v_budget
        from run r join flow_step f on f.flow_id = r.flow_id and f.seq = coalesce(def_of(p_run_id, p_seq), p_seq)
        where r.id = p_run_id;
        select b.used into v_used from run r join budget b on b.tenant = r.tenant and b.name = v_budget ->> 'name'
        where r.id = p_run_id order by b.window_at desc limit 1;
        figures := figures || jsonb_build_object('name', v_budget -> 'name', 'used', v_used, 'most', v_budget -> 'limit', 'per_ms', v_budget -> 'per_ms');
        finding := format('budget %s: %s of %s is spent in the present window', v_budget ->> 'name', coalesce(v_used, 0), v_budget ->> 'limit');
        opened_by := 'the next window of time';
      else
        gate := 'time';
        finding := format('it sleeps for another %s', in_words(v_wait.due_at - v_now));
        opened_by := 'time';
    end case;
    return next;
  end loop;
end $$;
comment on function explain_waits(uuid, integer) is 'What a waiting step waits for, each as a gate.';

create or replace function explain_key(p_run_id uuid, p_seq integer, p_seconds_each double precision)
returns table (gate text, state text, figures jsonb, finding text, opened_by text, estimate timestamptz)
language plpgsql stable as $$
declare
  v_now    timestamptz := present();
  v_queued queued;
  v_gate   gate;
  v_id     bigint;
  v_most   integer;
  v_used   bigint;
  v_ahead  bigint;
begin
  select o.gate_id into v_id from own_step o where o.run_id = p_run_id and o.seq = p_seq;
  if v_id is null then
    return;
  end if;
  select q.* into v_queued from queued q where q.run_id = p_run_id and q.seq = p_seq;
  select g.* into v_gate from gate g where g.id = v_id;
  v_most := coalesce((select l.most from gate_limit l where l.tenant = v_gate.tenant and l.name = v_gate.name), v_gate.most);
  v_used := greatest(0, v_gate.used - coalesce((
    select sum(c.ended) from (select x.ended from gate_call x where x.position >= floor_of(-3) and x.gate_id = v_id limit 10000) c), 0));
  gate := 'key';
  figures := jsonb_build_object('name', v_gate.name, 'key', v_gate.key, 'used', v_used, 'most', v_most);
  if v_queued.run_id is null then
    if exists (select from task t where t.run_id = p_run_id and t.seq = p_seq) or exists (select from lease l where l.run_id = p_run_id and l.seq = p_seq) then
      state := 'open';
      finding := format('it has been let in under key %s', concat_ws(' ', v_gate.name, nullif(v_gate.key, '')));
    else
      state := case when v_used >= v_most then 'closed' else 'open' end;
      finding := format('when its time comes it queues for key %s, which has %s of at most %s at a time', concat_ws(' ', v_gate.name, nullif(v_gate.key, '')), v_used, v_most);
      opened_by := case when state = 'closed' then 'the end of steps of that key' end;
    end if;
    return next;
    return;
  end if;
  select count(*) into v_ahead
  from (select from queued q where q.gate_id = v_id and q.waits
          and (q.priority, q.position, q.run_id, q.seq) < (v_queued.priority, v_queued.position, v_queued.run_id, v_queued.seq) limit 10000) x;
  state := 'closed';
  figures := figures || jsonb_build_object('ahead', v_ahead);
  finding := format('key %s has %s of at most %s at a time, and %s%s it',
    concat_ws(' ', v_gate.name, nullif(v_gate.key, '')), coalesce(v_used, 0), v_most, v_ahead, case when v_ahead = 1 then ' stands before' else ' stand before' end);
  opened_by := 'the end of steps of that key';
  estimate := v_now + (v_ahead + 1) * p_seconds_each / v_most * interval '1 second';
  return next;
end $$;
comment on function explain_key(uuid, integer, double precision) is
  'The key of bounded concurrency of a step, and its place in line; estimated from how many seconds a step takes.';

create or replace function explain_lease(p_run_id uuid, p_seq integer, p_seconds_each double precision)
returns table (gate text, state text, figures jsonb, finding text, opened_by text, estimate timestamptz)
language plpgsql stable as $$
declare
  v_now    timestamptz := present();
  v_lease  lease;
  v_worker worker;
begin
  select l.* into v_lease from lease l where l.run_id = p_run_id and l.seq = p_seq;
  if not found then
    return;
  end if;
  select w.* into v_worker from worker w where w.id = v_lease.worker_id;
  gate := 'lease';
  figures := jsonb_build_object('worker_id', v_lease.worker_id, 'worker', v_worker.name, 'host', v_worker.host, 'pid', v_worker.pid, 'attempt', v_lease.attempt,
    'claimed_at', v_lease.claimed_at, 'heartbeat_at', v_worker.heartbeat_at, 'heartbeat_age_s', seconds_between(v_worker.heartbeat_at, v_now),
    'expires_at', v_worker.expires_at, 'progress', (select jsonb_object_agg(p.key, p.value) from progress p where p.run_id = p_run_id and p.seq = p_seq));
  if v_worker.id is null then
    state := 'closed';
    finding := format('worker %s, which holds it, is not known any more', v_lease.worker_id);
    opened_by := 'the chore free_orphans';
  elsif v_worker.expires_at <= v_now then
    state := 'closed';
    finding := format('worker %s (%s on %s, process %s) holds it, and its lease was over %s ago', v_worker.id, v_worker.name, v_worker.host, v_worker.pid,
      in_words(v_now - v_worker.expires_at));
    opened_by := 'the chore expire_leases';
    estimate := v_now;
  else
    state := 'open';
    finding := format('worker %s (%s on %s, process %s) does attempt %s for %s; its last heartbeat came %s ago', v_worker.id, v_worker.name, v_worker.host, v_worker.pid,
      v_lease.attempt, in_words(v_now - v_lease.claimed_at), in_words(v_now - v_worker.heartbeat_at));
    opened_by := 'the end of the attempt';
    estimate := greatest(v_lease.claimed_at + p_seconds_each * interval '1 second', v_now);
    if v_now - v_worker.heartbeat_at > v_worker.lease_ms * interval '1 millisecond' / 2 then
      state := 'closed';
      finding := finding || ', which is long: without another one the step goes to others';
      opened_by := 'a heartbeat of that worker, or the end of its lease';
      estimate := v_worker.expires_at;
    end if;
  end if;
  return next;
end $$;
comment on function explain_lease(uuid, integer, double precision) is 'Who does a step, since when, and whether that worker still says that it lives.';

create or replace function explain_place(p_run_id uuid, p_seq integer, p_lane integer, p_pace double precision)
returns table (gate text, state text, figures jsonb, finding text, opened_by text, estimate timestamptz)
language plpgsql stable as $$
declare
  v_task  task;
  v_lane  record;
  v_fair  jsonb;
  v_ahead bigint;
begin
  select t.* into v_task from task t where t.run_id = p_run_id and t.seq = p_seq;
  if not found then
    return;
  end if;
  select q.tenant, q.name as queue into v_lane from lane l join queue q on q.id = l.queue_id where l.id = p_lane;
  select count(*) into v_ahead
  from (select from task t where t.lane_id = p_lane and (t.priority, t.position) < (v_task.priority, v_task.position) limit 10000) x;
  select f.settings -> 'fair' into v_fair
  from run r join flow_step f on f.flow_id = r.flow_id and f.seq = coalesce(def_of(p_run_id, p_seq), p_seq)
  where r.id = p_run_id;
  if v_fair is not null then
    gate := 'fair share';
    figures := jsonb_build_object('key', v_fair -> 'key', 'weight', v_fair -> 'weight', 'ahead', v_ahead);
    state := case when v_ahead > 0 then 'closed' else 'open' end;
    finding := format('turns are given by key: %s of other keys or of its own%s before it', v_ahead, case when v_ahead = 1 then ' comes' else ' come' end);
    opened_by := case when v_ahead > 0 then 'turns of the steps before it' end;
    return next;
  end if;
  return query select * from explain_slots(v_lane.tenant, v_lane.queue, v_ahead, p_pace);
end $$;
comment on function explain_place(uuid, integer, integer, double precision) is 'Where a ready step stands in line: its fair turn, and the slots; estimated from the pace of its lane.';

create or replace function explain_sleep(p_run_id uuid, p_seq integer)
returns table (gate text, state text, figures jsonb, finding text, opened_by text, estimate timestamptz)
language plpgsql stable as $$
declare
  v_now   timestamptz := present();
  v_timer timer;
begin
  select t.* into v_timer from timer t where t.run_id = p_run_id and t.seq = p_seq;
  if not found then
    return;
  end if;
  gate := 'timer';
  state := 'closed';
  figures := jsonb_build_object('kind', v_timer.kind, 'fire_at', nullif(v_timer.fire_at, 'infinity'), 'attempt', v_timer.attempt, 'failures', v_timer.failures);
  if not isfinite(v_timer.fire_at) then
    finding := 'it sleeps until somebody starts its run';
    opened_by := format('longhaul begin %s', p_run_id);
  else
    finding := format('%s: %s', case v_timer.kind when 'start' then 'delayed start' when 'retry' then format('backoff after %s failed attempts', v_timer.failures) else 'its handler put it off' end,
      case when v_timer.fire_at > v_now then format('it sleeps for another %s', in_words(v_timer.fire_at - v_now)) else format('its time came %s ago', in_words(v_now - v_timer.fire_at)) end);
    opened_by := 'time';
    estimate := v_timer.fire_at;
  end if;
  return next;
  if v_timer.fire_at < v_now + interval '1 hour' then
    return query select * from explain_chore('fire_timers');
  end if;
end $$;
comment on function explain_sleep(uuid, integer) is 'Until when a step sleeps, and whether somebody wakes it.';

create or replace function explain_step(p_run_id uuid, p_seq integer)
returns table (gate text, state text, figures jsonb, finding text, opened_by text, estimate timestamptz)
language plpgsql stable as $$
declare
  v_step  steps;
  v_lane  integer;
  v_queue queue;
  v_run   run;
  v_pace  record;
  v_left  text[];
begin
  select r.* into v_run from run r where r.id = p_run_id;
  select s.* into v_step from steps s where s.run_id = p_run_id and s.seq = p_seq;
  if not found then
    raise exception using errcode = 'LH002', message = format('there is no step number %s in run %s', p_seq, p_run_id);
  end if;
  select n.lane_id into v_lane from step_names n where n.run_id = p_run_id and n.seq = p_seq;
  select q.* into v_queue from lane l join queue q on q.id = l.queue_id where l.id = v_lane;
  select * into v_pace from recent_pace(v_lane);

  gate := 'room';
  state := case when v_step.ended_at is not null then 'ended' when v_step.state = 'running' then 'open' else 'closed' end;
  figures := jsonb_build_object('state', v_step.state, 'room', case v_step.state when 'ready' then 'task' when 'running' then 'lease' when 'paused' then 'held'
      when 'waiting' then case when v_step.timer is not null then 'timer' when exists (select from queued q where q.run_id = p_run_id and q.seq = p_seq) then 'queued' else 'wait' end end,
    'attempt', v_step.attempt, 'failures', v_step.failures, 'max_attempts', v_step.max_attempts);
  finding := why(p_run_id, v_step.name);
  return next;
  if v_step.ended_at is not null then
    return;
  end if;

  if v_step.state = 'paused' then
    gate := 'run';
    state := 'closed';
    figures := jsonb_build_object('paused_for', v_run.paused_for);
    finding := case v_run.paused_for when 'question' then 'its run is paused until a question is answered' else 'its run is paused by an operator' end;
    opened_by := case v_run.paused_for when 'question' then format('the answer: longhaul questions %s', p_run_id) else format('longhaul resume %s', p_run_id) end;
    return next;
  end if;
  if v_step.state = 'blocked' then
    v_left := array(
      select b.name from steps b join flow_step f on f.flow_id = v_run.flow_id and f.seq = b.seq
      where b.run_id = p_run_id and b.ended_at is null and p_seq = any (f.successors) order by b.seq limit 10);
    gate := 'predecessors';
    state := 'closed';
    figures := jsonb_build_object('left', v_step.blockers, 'names', v_left);
    finding := format('it waits for %s of its predecessors: %s', v_step.blockers, array_to_string(v_left, ', '));
    opened_by := 'their end';
    return next;
  end if;
  return query select * from explain_sleep(p_run_id, p_seq);
  return query select * from explain_waits(p_run_id, p_seq);
  if found and v_step.fire_at is not null then
    return query select * from explain_chore('fire_waits');
  end if;
  return query select * from explain_key(p_run_id, p_seq, v_pace.seconds_each);
  if v_queue.id is not null and v_step.state <> 'running' then
    return query select * from explain_limits(v_queue, v_pace.seconds_each);
    return query select * from explain_workers(v_run.tenant, v_step.queue, v_step.handler);
  end if;
  return query select * from explain_place(p_run_id, p_seq, v_lane, v_pace.per_second);
  return query select * from explain_lease(p_run_id, p_seq, v_pace.seconds_each);
  if v_step.state = 'running' then
    return query select * from explain_chore('expire_leases');
  end if;
end $$;
comment on function explain_step(uuid, integer) is
  'Every gate of a step: which room it stands in and why, then each gate that it has to pass: open or closed, with its figures, what opens it, and when that is to be expected from what ended lately (null: that cannot be told).';
