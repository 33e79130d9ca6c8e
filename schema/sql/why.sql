-- Why a step is not running, in one sentence: what it waits for, and who has to do something.

create or replace function why(p_run_id uuid, p_step text) returns text
language plpgsql stable as $$
declare
  v_step    steps;
  v_run     runs;
  v_queue   queue;
  v_worker  worker;
  v_waiting text;
  v_now     timestamptz := present();
begin
  select s.* into v_step from steps s where s.run_id = p_run_id and s.name = p_step;
  if not found then
    raise exception using errcode = 'LH002', message = format('there is no step %s in run %s', p_step, p_run_id);
  end if;
  select r.* into v_run from runs r where r.id = p_run_id;
  case v_step.state
    when 'running' then
      select w.* into v_worker from worker w where w.id = v_step.worker_id;
      return format('Step %s is running: worker %s%s holds it since %s (attempt %s)%s.', p_step, v_step.worker_id,
        case when v_worker.id is not null then format(' (%s on %s, process %s)', v_worker.name, v_worker.host, v_worker.pid) end, v_step.started_at, v_step.attempt,
        case
          when v_worker.id is null then '; that worker is not known any more'
          when v_worker.expires_at < v_now - interval '10 seconds' then
            format('; its lease was over %s s ago, and the step goes to others: %s', seconds_between(v_worker.expires_at, v_now), late_because('expire_leases', p_run_id))
          when v_now - v_worker.heartbeat_at > v_worker.lease_ms * interval '1 millisecond' / 2 then
            format('; its last heartbeat came %s s ago: unless another comes, the step goes to others at %s', seconds_between(v_worker.heartbeat_at, v_now), v_worker.expires_at)
          else '' end);
    when 'paused' then
      return format('Step %s is ready, but its run is paused (%s).', p_step,
        case v_run.paused_for when 'question' then 'a question waits for an answer: see the view questions' else 'by an operator: resume it' end);
    when 'waiting' then
      -- A step without a handler has its start among its waits.
      if v_step.waits_for <> 'start' then
        return format('Step %s waits for: %s%s%s%s.', p_step, v_step.waits_for, awaited(p_run_id, v_step.seq, v_step.waits_for), coalesce(', until ' || v_step.fire_at, ''),
                      late_by(v_step.fire_at, v_now, 'fire_waits', p_run_id));
      end if;
      if v_step.fire_at is null then
        return format('Step %s sleeps until somebody starts its run (longhaul begin).', p_step);
      end if;
      return format('Step %s sleeps until %s (%s)%s%s.', p_step, v_step.fire_at,
        case coalesce(v_step.timer::text, v_step.waits_for) when 'start' then 'delayed start' when 'retry' then 'backoff' else 'put off' end,
        case when v_step.failures > 0 then format(' after %s of %s attempts failed%s', v_step.failures, v_step.max_attempts,
                                                  coalesce(', the last one with: ' || last_error(p_run_id, v_step.seq), '')) else '' end,
        late_by(v_step.fire_at, v_now, 'fire_timers', p_run_id));
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
      elsif v_queue.open_until > v_now then
        return format('Step %s is ready, but the breaker of queue %s is open until %s: %s attempts in a row got no answer.',
                      p_step, v_step.queue, v_queue.open_until, v_queue.breaker_count);
      elsif v_queue.running >= v_queue.max_running then
        return format('Step %s is ready, but %s steps of queue %s run, as many as may.', p_step, v_queue.running, v_step.queue);
      end if;
      return format('Step %s is ready in queue %s and waits for a free slot%s.', p_step, v_step.queue,
        case when v_queue.rate_limit is not null then format(' (at most %s begin in %s ms)', v_queue.rate_limit, v_queue.rate_ms) else '' end);
    else
      return format('Step %s is %s since %s%s.', p_step, v_step.state, v_step.ended_at,
                    case when v_step.state = 'failed' then coalesce(': ' || error_in_words(v_step.error), '') else '' end);
  end case;
end $$;
comment on function why(uuid, text) is 'Says in one sentence why a step is not running.';

create or replace function awaited(p_run_id uuid, p_seq integer, p_waits_for text) returns text
language sql stable as $$
  select coalesce(case p_waits_for
    when 'items' then (select format(' (%s of %s have ended)', f.ended, f.total) from fan_out f where f.run_id = p_run_id and f.seq = p_seq)
    when 'child' then (select format(' (run %s of flow %s, %s)', r.id, r.flow, r.state) from wait w join runs r on r.id = w.child_id
                       where w.run_id = p_run_id and w.seq = p_seq limit 1)
  end, '')
$$;
comment on function awaited(uuid, integer, text) is 'How far the items are that a step waits for, or which child run it is.';

create or replace function seconds_between(p_from timestamptz, p_to timestamptz) returns bigint
language sql immutable as $$ select extract(epoch from p_to - p_from)::bigint $$;
comment on function seconds_between(timestamptz, timestamptz) is 'Whole seconds from one time to another.';

create or replace function late_by(p_due timestamptz, p_now timestamptz, p_chore text, p_run_id uuid) returns text
language plpgsql stable as $$
begin
  return case when p_due < p_now - interval '10 seconds'
    then format('; its time came %s s ago, and %s', seconds_between(p_due, p_now), late_because(p_chore, p_run_id)) else '' end;
end $$;
comment on function late_by(timestamptz, timestamptz, text, uuid) is 'What is to be said of a time that came a while ago; otherwise nothing.';

create or replace function last_error(p_run_id uuid, p_seq integer) returns text
language plpgsql stable as $$
begin
  return (
    select error_in_words(a.error) from attempt a
    where a.run_id = p_run_id and a.seq = p_seq and a.error is not null and a.outcome not in ('released', 'snoozed', 'deferred') order by a.attempt desc limit 1);
end $$;
comment on function last_error(uuid, integer) is 'What went wrong in the last attempt at a step that failed.';

create or replace function error_in_words(p_error jsonb) returns text
language sql immutable as $$
  -- What an error says first is often only that a call failed; its last cause says why.
  select left(coalesce((p_error ->> 'message')
    || case when strpos(p_error ->> 'message', p_error #>> '{causes,-1}') = 0 then ': ' || (p_error #>> '{causes,-1}') else '' end, p_error::text), 500)
$$;
comment on function error_in_words(jsonb) is 'The message of an error, with its last cause.';
