-- The gates of a run, of a queue and of a schedule.

create or replace function explain_door(p_run run)
returns table (gate text, state text, figures jsonb, finding text, opened_by text, estimate timestamptz)
language plpgsql stable as $$
declare
  v_now      timestamptz := present();
  v_flow     flow;
  v_deadline timestamptz;
  v_aside    set_aside;
  v_lock     lock;
begin
  select f.* into v_flow from flow f where f.id = p_run.flow_id;
  gate := 'run';
  figures := jsonb_build_object('state', shown_state(p_run), 'open_steps', p_run.open_steps, 'paused_for', p_run.paused_for);
  state := case when p_run.ended_at is not null then 'ended' when p_run.state = 'paused' then 'closed' else 'open' end;
  finding := case
    when p_run.ended_at is not null then format('it is %s for %s%s', p_run.state, in_words(v_now - p_run.ended_at), coalesce(': ' || error_in_words(p_run.error), ''))
    when p_run.state = 'paused' and p_run.paused_for = 'question' then 'it is paused until a question is answered'
    when p_run.state = 'paused' then 'it is paused by an operator'
    else format('it is %s; steps that have not ended: %s', shown_state(p_run), p_run.open_steps) end;
  opened_by := case when state <> 'closed' then null when p_run.paused_for = 'question' then format('the answer: longhaul questions %s', p_run.id)
                    else format('longhaul resume %s', p_run.id) end;
  return next;
  if p_run.ended_at is not null then
    return;
  end if;
  opened_by := null;
  if p_run.start_at > v_now then
    gate := 'start';
    state := 'closed';
    figures := jsonb_build_object('start_at', nullif(p_run.start_at, 'infinity'));
    finding := case when isfinite(p_run.start_at) then format('it starts in %s', in_words(p_run.start_at - v_now)) else 'it was only created' end;
    opened_by := format('%slonghaul begin %s', case when isfinite(p_run.start_at) then 'time, or ' else '' end, p_run.id);
    estimate := case when isfinite(p_run.start_at) then p_run.start_at end;
    return next;
    estimate := null;
    opened_by := null;
  end if;
  select d.at into v_deadline from deadline d where d.run_id = p_run.id;
  if isfinite(v_deadline) then
    gate := 'deadline';
    state := case when v_deadline <= v_now then 'closed' else 'open' end;
    figures := jsonb_build_object('at', v_deadline);
    finding := case when v_deadline <= v_now then format('its time was over %s ago: it fails', in_words(v_now - v_deadline))
                    else format('it fails unless it has ended in %s', in_words(v_deadline - v_now)) end;
    estimate := v_deadline;
    return next;
    estimate := null;
    if v_deadline <= v_now then
      return query select * from explain_chore('end_overdue_runs');
    end if;
  end if;
  for v_aside in select a.* from set_aside a where a.run_id = p_run.id order by a.since limit 5 loop
    gate := 'set aside';
    state := 'closed';
    figures := jsonb_build_object('chore', v_aside.kind, 'tries', v_aside.tries, 'until', v_aside.until, 'error', v_aside.error);
    finding := format('the chore %s could not handle it, %s times: %s', v_aside.kind, v_aside.tries, v_aside.error);
    opened_by := 'mend what the error names; it is tried again by itself';
    estimate := v_aside.until;
    return next;
  end loop;
  opened_by := null;
  for v_lock in
    select l.* from lock l where l.tenant = p_run.tenant and l.expires_at > v_now and l.holder is not null
      and (starts_with(l.name, p_run.id::text) or strpos(l.holder, p_run.id::text) > 0) order by l.name limit 20
  loop
    gate := 'lock';
    state := 'closed';
    figures := jsonb_build_object('name', v_lock.name, 'holder', v_lock.holder, 'token', v_lock.token, 'acquired_at', v_lock.acquired_at, 'expires_at', v_lock.expires_at);
    finding := format('lock %s is held by %s for %s', v_lock.name, v_lock.holder, in_words(v_now - v_lock.acquired_at));
    opened_by := format('its release, or longhaul lock release %s', v_lock.name);
    estimate := v_lock.expires_at;
    return next;
  end loop;
end $$;
comment on function explain_door(run) is 'The gates that a run has to pass as a whole: pause, start, deadline, what a chore has set aside, locks that name it.';

create or replace function explain_run(p_run_id uuid, p_most integer default 10)
returns table (step text, seq integer, gate text, state text, figures jsonb, finding text, opened_by text, estimate timestamptz)
language plpgsql stable as $$
declare
  v_run  run;
  v_step record;
begin
  select r.* into v_run from run r where r.id = p_run_id;
  if not found then
    raise exception using errcode = 'LH002', message = format('there is no run %s', p_run_id);
  end if;
  return query select null::text, null::integer, d.* from explain_door(v_run) d;
  if v_run.ended_at is not null then
    return;
  end if;
  -- Those that something can be done about come first, those that wait for others last.
  for v_step in
    select s.name, s.seq as number from steps s where s.run_id = p_run_id and s.ended_at is null order by s.state = 'blocked', s.seq limit p_most
  loop
    -- The run's own gates have been told.
    return query select v_step.name, v_step.number, e.* from explain_step(p_run_id, v_step.number) e where e.gate <> 'run';
  end loop;
end $$;
comment on function explain_run(uuid, integer) is
  'Every gate of a run: those of the run itself (step is null), then those of at most so many steps that have not ended, as explain_step() tells them.';

create or replace function explain_queue(p_queue text, p_tenant text default 'default')
returns table (gate text, state text, figures jsonb, finding text, opened_by text, estimate timestamptz)
language plpgsql stable as $$
declare
  v_now    timestamptz := present();
  v_queue  queue;
  v_lane   record;
  v_pace   double precision;
  v_ready  bigint;
  v_oldest timestamptz;
begin
  select q.* into v_queue from queue q where q.tenant = p_tenant and q.name = p_queue;
  if not found then
    raise exception using errcode = 'LH002', message = format('there is no queue %s for tenant %s', p_queue, p_tenant);
  end if;
  return query
  select x.* from (select avg(p.seconds_each) as each from lane l cross join lateral recent_pace(l.id) p where l.queue_id = v_queue.id) a
  cross join lateral explain_limits(v_queue, a.each) x;
  for v_lane in
    select l.handler, array_agg(l.id) as ids from lane l where l.queue_id = v_queue.id group by l.handler order by l.handler
  loop
    return query select x.* from explain_workers(p_tenant, p_queue, v_lane.handler) x;
    select sum(p.per_second) into v_pace from unnest(v_lane.ids) i(id) cross join lateral recent_pace(i.id) p;
    select least(sum(d.ready), 10000), time_of(min((d.oldest).position)) into v_ready, v_oldest
    from unnest(v_lane.ids) i(id) cross join lateral lane_depth(i.id, 10000) d;
    gate := 'ready';
    state := case when v_ready > 0 then 'closed' else 'open' end;
    figures := jsonb_build_object('handler', v_lane.handler, 'ready', v_ready, 'oldest_ready_at', v_oldest, 'per_minute', round((v_pace * 60)::numeric, 1));
    finding := format('%s%s of handler %s %s ready%s', v_ready, case when v_ready = 10000 then ' or more' else '' end, v_lane.handler,
      case when v_ready = 1 then 'is' else 'are' end, coalesce(', the first for ' || in_words(v_now - v_oldest), ''));
    opened_by := case when v_ready > 0 then 'workers that take them' end;
    estimate := case when v_ready > 0 and v_pace > 0 then v_now + v_ready / v_pace * interval '1 second' end;
    return next;
  end loop;
  return query select * from explain_slots(p_tenant, p_queue, 0, null);
  return query select * from explain_chore('admit_queued');
end $$;
comment on function explain_queue(text, text) is
  'Every gate of a queue: pause, limits, who takes each handler, how many are ready and since when, slots, chores; the estimate of a backlog is when it is done at the pace of the last ten minutes. Counts at most 10,000 ready steps of a handler.';

create or replace function explain_schedule(p_schedule text, p_tenant text default 'default')
returns table (gate text, state text, figures jsonb, finding text, opened_by text, estimate timestamptz)
language plpgsql stable as $$
declare
  v_now      timestamptz := present();
  v_schedule schedule;
  v_version  integer;
  v_run      run;
  v_failed   schedule_tick;
begin
  select s.* into v_schedule from schedule s where s.tenant = p_tenant and s.name = p_schedule;
  if not found then
    raise exception using errcode = 'LH002', message = format('there is no schedule %s for tenant %s', p_schedule, p_tenant);
  end if;
  gate := 'schedule';
  state := case when v_schedule.paused_at is null then 'open' else 'closed' end;
  figures := jsonb_build_object('cron', v_schedule.cron, 'zone', v_schedule.zone, 'paused_at', v_schedule.paused_at);
  finding := coalesce('it is paused for ' || in_words(v_now - v_schedule.paused_at), 'it is not paused');
  opened_by := case when v_schedule.paused_at is not null then format('longhaul schedule resume %s', p_schedule) end;
  return next;

  gate := 'time';
  figures := jsonb_build_object('next_at', v_schedule.next_at, 'last_at', v_schedule.last_at, 'starts_at', v_schedule.starts_at, 'ends_at', v_schedule.ends_at);
  state := case when v_schedule.next_at <= v_now then 'open' else 'closed' end;
  finding := case when v_schedule.next_at is null then 'no tick will come any more' when v_schedule.next_at <= v_now then format('a tick came %s ago', in_words(v_now - v_schedule.next_at))
                  else format('the next tick comes in %s', in_words(v_schedule.next_at - v_now)) end;
  state := case when v_schedule.next_at is null then 'closed' else state end;
  opened_by := case when v_schedule.next_at is null then format('longhaul schedule put %s', p_schedule) when state = 'closed' then 'time' end;
  estimate := v_schedule.next_at;
  return next;
  estimate := null;

  gate := 'scheduler';
  figures := jsonb_build_object('next_at', v_schedule.next_at, 'retry_at', v_schedule.retry_at, 'last_error', v_schedule.last_error);
  if v_schedule.retry_at is not null then
    state := 'closed';
    finding := format('the last try to start its run failed, and is repeated: %s', v_schedule.last_error);
    opened_by := 'mend what the error names';
    estimate := v_schedule.retry_at;
    return next;
    estimate := null;
  elsif v_schedule.paused_at is null and v_schedule.next_at < v_now - interval '10 seconds' then
    state := 'closed';
    finding := format('no scheduler fires it: a tick is %s late', in_words(v_now - v_schedule.next_at));
    opened_by := 'start a scheduler or a worker that does the chores';
    return next;
  else
    return query select * from explain_chore('start_queued_ticks');
  end if;

  gate := 'flow';
  select max(f.version) into v_version from flow f where f.tenant = p_tenant and f.name = v_schedule.flow and (v_schedule.version is null or f.version = v_schedule.version);
  figures := jsonb_build_object('flow', v_schedule.flow, 'version', coalesce(v_schedule.version, v_version));
  state := case when v_version is null then 'closed' else 'open' end;
  finding := case when v_version is null then format('flow %s%s is not deployed', v_schedule.flow, ' version ' || v_schedule.version)
                  else format('its runs are of flow %s version %s', v_schedule.flow, v_version) end;
  opened_by := case when v_version is null then format('longhaul flow deploy: flow %s%s', v_schedule.flow, ' version ' || v_schedule.version) end;
  return next;

  select r.* into v_run from run r where r.id = v_schedule.last_run;
  gate := 'overlap';
  figures := jsonb_build_object('overlap', v_schedule.overlap, 'run_id', v_schedule.last_run, 'run_state', v_run.state, 'queued', v_schedule.queued);
  state := case when v_schedule.overlap <> 'allow' and (v_schedule.queued > 0 or v_run.state in ('running', 'paused')) then 'closed' else 'open' end;
  finding := case when v_schedule.last_run is null then 'no run was started yet' when v_run.id is null then 'the run before is deleted'
                  else format('the run before, %s, is %s', v_run.id, v_run.state) end
    || case when state = 'closed' and v_schedule.overlap = 'skip' then ': ticks are skipped meanwhile' when state = 'closed' then format(': %s wait behind it', v_schedule.queued) else '' end;
  opened_by := case when state = 'closed' then format('the end of that run: longhaul explain %s', v_schedule.last_run) end;
  return next;

  select t.* into v_failed from (select x.* from schedule_tick x where x.schedule_id = v_schedule.id order by x.tick desc limit 100) t
  where t.outcome = 'failed' order by t.tick desc limit 1;
  if v_failed.tick is not null then
    gate := 'failed tick';
    state := 'closed';
    figures := jsonb_build_object('tick', v_failed.tick, 'error', v_failed.error);
    finding := format('a tick of %s ago started no run: %s', in_words(v_now - v_failed.tick), v_failed.error);
    opened_by := format('longhaul schedule run %s makes up for it', p_schedule);
    return next;
  end if;
end $$;
comment on function explain_schedule(text, text) is
  'Every gate of a schedule: pause, the next tick, who fires it, the version of its flow, the run before, and the last tick that failed.';
