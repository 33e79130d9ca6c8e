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
