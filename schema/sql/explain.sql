-- Every gate that a step, a run, a queue or a schedule has to pass: open or closed, its figures, what opens it, and when that is to be
-- expected. The short form is why(). All of it is read by keys, or bounded: what it costs does not grow with the history.

create or replace function in_words(p_length interval) returns text
language plpgsql immutable strict as $$
-- The two largest units, as the program writes lengths.
declare
  v_seconds bigint := greatest(extract(epoch from p_length), 0)::bigint;
begin
  return case
    when v_seconds < 60 then format('%ss', v_seconds)
    when v_seconds < 3600 then format('%sm %ss', v_seconds / 60, v_seconds % 60)
    when v_seconds < 86400 then format('%sh %sm', v_seconds / 3600, v_seconds % 3600 / 60)
    else format('%sd %sh', v_seconds / 86400, v_seconds % 86400 / 3600) end;
end $$;
comment on function in_words(interval) is 'A length of time in its two largest units, as in 3m 20s.';

create or replace function recent_pace(p_lane integer) returns table (ended bigint, per_second double precision, seconds_each double precision)
language plpgsql stable as $$
-- Steps are done about in the order of their runs: what ended last is found just before the head of the line, or among the newest runs.
declare
  v_now  timestamptz := present();
  v_head uuid;
begin
  select t.run_id into v_head from task t where t.lane_id = p_lane order by t.lane_id, t.priority, t.position limit 1;
  return query
  select count(*), count(*) / greatest(extract(epoch from v_now - min(e.ended_at)), 1)::double precision,
    avg(extract(epoch from e.ended_at - e.started_at))::double precision
  from (
    select s.ended_at, s.started_at
    from (
      (select r.id, r.flow_id from run r where r.id < v_head order by r.id desc limit 500)
      union
      (select r.id, r.flow_id from run r order by r.id desc limit 500)
    ) i
    cross join lateral (
      select x.ended_at, x.started_at, x.outcome, coalesce(x.def, x.seq) as def from step x where x.run_id = i.id limit 1000) s
    join flow_step f on f.flow_id = i.flow_id and f.seq = s.def
    where f.lane_id = p_lane and s.outcome = 'completed' and s.ended_at > v_now - interval '10 minutes'
  ) e;
end $$;
comment on function recent_pace(integer) is
  'How many steps of a lane ended in the last ten minutes among about a thousand runs, how many that is a second, and how long each took: what estimates are made of. It looks at a bounded number of runs.';

create or replace function explain_chore(p_chore text)
returns table (gate text, state text, figures jsonb, finding text, opened_by text, estimate timestamptz)
language plpgsql stable as $$
declare
  v_now   timestamptz := present();
  v_chore chore;
begin
  select c.* into v_chore from chore c where c.name = p_chore;
  gate := 'scheduler';
  figures := jsonb_build_object('chore', p_chore, 'next_at', v_chore.next_at, 'failures', v_chore.failures, 'last_error', v_chore.last_error);
  if v_chore.next_at < v_now - interval '10 seconds' then
    state := 'closed';
    finding := format('nobody does the chore %s: it is %s late', p_chore, in_words(v_now - v_chore.next_at));
    opened_by := 'start a scheduler or a worker that does the chores';
  elsif v_chore.last_done is null and v_chore.failures > 0 then
    state := 'closed';
    finding := format('the chore %s fails: %s', p_chore, v_chore.last_error);
    opened_by := 'mend what the error names; it is tried again by itself';
  else
    state := 'open';
    finding := format('somebody does the chore %s', p_chore);
  end if;
  return next;
end $$;
comment on function explain_chore(text) is 'Whether somebody does a chore on which a gate depends.';

create or replace function explain_workers(p_tenant text, p_queue text, p_handler text)
returns table (gate text, state text, figures jsonb, finding text, opened_by text, estimate timestamptz)
language plpgsql stable as $$
declare
  v_now  timestamptz := present();
  v_take bigint;
  v_late bigint;
  v_same bigint;
  v_know bigint;
begin
  select count(*) filter (where x.both and x.state = 'active' and x.expires_at > v_now),
    count(*) filter (where x.both and (x.state <> 'active' or x.expires_at <= v_now)),
    count(*) filter (where x.serves and not x.both), count(*) filter (where x.knows and not x.both)
  into v_take, v_late, v_same, v_know
  from (
    select w.state, w.expires_at, p_queue = any (w.queues) as serves, p_handler = any (w.handlers) as knows,
      p_queue = any (w.queues) and p_handler = any (w.handlers) as both
    from worker w where w.tenant = p_tenant and w.state in ('active', 'draining')) x;
  gate := 'worker';
  figures := jsonb_build_object('handler', p_handler, 'take_it', v_take, 'draining_or_overdue', v_late, 'serve_the_queue_only', v_same, 'know_the_handler_only', v_know);
  if v_take > 0 then
    state := 'open';
    finding := format('workers that take handler %s from queue %s: %s', p_handler, p_queue, v_take);
  else
    state := 'closed';
    finding := format('no worker takes handler %s from queue %s', p_handler, p_queue) || case
      when v_late > 0 then format(': those that could are draining or overdue (%s)', v_late)
      when v_same > 0 and v_know > 0 then format(': %s serve the queue, but do not know the handler, and %s the other way round', v_same, v_know)
      when v_same > 0 then format(': %s serve the queue, but do not know the handler', v_same)
      when v_know > 0 then format(': %s know the handler, but do not serve the queue', v_know)
      else ': none is registered for either' end;
    opened_by := format('start a worker with handler %s for queue %s', p_handler, p_queue);
  end if;
  return next;
end $$;
comment on function explain_workers(text, text, text) is 'Whether a living worker takes a handler''s steps from a queue.';

create or replace function explain_limits(p_queue queue, p_seconds_each double precision)
returns table (gate text, state text, figures jsonb, finding text, opened_by text, estimate timestamptz)
language plpgsql stable as $$
declare
  v_now     timestamptz := present();
  v_running bigint;
  v_used    bigint;
begin
  gate := 'queue';
  figures := jsonb_build_object('paused_at', p_queue.paused_at, 'paused_by', p_queue.paused_by);
  if p_queue.paused_at is not null then
    state := 'closed';
    finding := format('queue %s is paused for %s by %s', p_queue.name, in_words(v_now - p_queue.paused_at), p_queue.paused_by);
    opened_by := format('longhaul queue resume %s', p_queue.name);
  else
    state := 'open';
    finding := format('queue %s is not paused', p_queue.name);
  end if;
  return next;
  opened_by := null;
  if p_queue.max_running is not null then
    v_running := greatest(0, p_queue.running - coalesce((select sum(c.ended) from queue_call c where c.queue_id = p_queue.id), 0));
    gate := 'queue limit';
    figures := jsonb_build_object('used', v_running, 'most', p_queue.max_running);
    finding := format('%s of at most %s steps of queue %s run', v_running, p_queue.max_running, p_queue.name);
    state := case when v_running >= p_queue.max_running then 'closed' else 'open' end;
    if state = 'closed' then
      opened_by := 'the end of a running step, or a higher limit: longhaul queue limit';
      estimate := v_now + p_seconds_each / p_queue.max_running * interval '1 second';
    end if;
    return next;
    estimate := null;
    opened_by := null;
  end if;
  if p_queue.rate_limit is not null then
    v_used := coalesce((select sum(u.used) from rate_use u where u.queue_id = p_queue.id and u.bucket >= rate_bucket(p_queue, v_now) - 20), 0);
    gate := 'rate';
    figures := jsonb_build_object('used', v_used, 'most', p_queue.rate_limit, 'per_ms', p_queue.rate_ms);
    finding := format('%s of at most %s steps of queue %s began in the last %s ms', v_used, p_queue.rate_limit, p_queue.name, p_queue.rate_ms);
    state := case when v_used >= p_queue.rate_limit then 'closed' else 'open' end;
    if state = 'closed' then
      opened_by := 'time, or a higher rate: longhaul queue limit';
      estimate := to_timestamp((select min(u.bucket) + 21 from rate_use u where u.queue_id = p_queue.id and u.bucket >= rate_bucket(p_queue, v_now) - 20)
                               * (p_queue.rate_ms / 20000.0));
    end if;
    return next;
    estimate := null;
    opened_by := null;
  end if;
  if p_queue.breaker_failures is not null then
    gate := 'breaker';
    figures := jsonb_build_object('unanswered', p_queue.breaker_count, 'most', p_queue.breaker_failures, 'open_until', p_queue.open_until);
    if p_queue.open_until > v_now then
      state := 'closed';
      finding := format('%s attempts in a row got no answer: queue %s is closed for another %s', p_queue.breaker_count, p_queue.name, in_words(p_queue.open_until - v_now));
      opened_by := format('time: then one step tries; or longhaul queue resume %s', p_queue.name);
      estimate := p_queue.open_until;
    else
      state := 'open';
      finding := case when p_queue.breaker_count >= p_queue.breaker_failures then format('one step of queue %s at a time tries whether its provider answers', p_queue.name)
                      else format('%s of %s attempts in a row got no answer', p_queue.breaker_count, p_queue.breaker_failures) end;
    end if;
    return next;
  end if;
end $$;
comment on function explain_limits(queue, double precision) is 'Pause, limit, rate and breaker of a queue; the estimates from how many seconds a step takes.';

create or replace function explain_slots(p_tenant text, p_queue text, p_ahead bigint, p_per_second double precision)
returns table (gate text, state text, figures jsonb, finding text, opened_by text, estimate timestamptz)
language plpgsql stable as $$
declare
  v_now   timestamptz := present();
  v_slots bigint;
  v_busy  bigint;
begin
  select sum(f.slots), sum(f.running) into v_slots, v_busy
  from queue q join queue_figure f on f.queue_id = q.id join worker w on w.id = f.worker_id and w.state = 'active' and w.expires_at > v_now
  where q.tenant = p_tenant and q.name = p_queue;
  gate := 'slot';
  figures := jsonb_build_object('ahead', p_ahead, 'slots', v_slots, 'busy', v_busy, 'per_minute', round((p_per_second * 60)::numeric, 1));
  state := case when p_ahead > 0 or v_busy >= v_slots then 'closed' else 'open' end;
  finding := format('%s%s ready before it; slots that are busy: %s of %s', p_ahead, case when p_ahead >= 10000 then ' or more are' when p_ahead = 1 then ' is' else ' are' end,
    coalesce(v_busy, 0), coalesce(v_slots, 0)) || case when p_per_second > 0 then format('; %s a minute end', round((p_per_second * 60)::numeric, 1)) else '' end;
  if state = 'closed' then
    opened_by := 'the end of steps before it, more slots, or more workers';
    estimate := case when p_per_second > 0 then v_now + (p_ahead + 1) / p_per_second * interval '1 second' end;
  end if;
  return next;
end $$;
comment on function explain_slots(text, text, bigint, double precision) is 'Free slots for a queue, and how many stand in line; estimated from the pace.';
