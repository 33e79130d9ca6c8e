-- Schedules. Cron expressions and time zones are read by the scheduler process; what a tick does is decided here, in one
-- transaction with its row in schedule_tick.

create or replace function refuse_bad_schedule(
  p_name text, p_cron text, p_zone text, p_input jsonb, p_missed text, p_overlap text, p_jitter_ms bigint,
  p_starts_at timestamptz, p_ends_at timestamptz, p_next_at timestamptz
) returns void
language plpgsql as $$
declare
  v_now timestamptz := clock();
  v_max bigint := setting_value('max_payload_bytes');
  v_why text;
begin
  v_why := case
    when not coalesce(valid_label(p_name), false) then format('%L is not a name of a schedule: letters, digits, ., _ and -, at most 100', p_name)
    when p_cron is null or length(p_cron) not between 1 and 500 then 'a cron expression has 1 to 500 characters'
    when p_zone is null or p_zone !~ '^[A-Za-z0-9_+/-]{1,100}$' then format('%L is not a time zone; write an IANA name, as in Europe/Berlin or UTC', left(p_zone, 100))
    when pg_column_size(p_input) / 2 > v_max then
      format('the input has %s bytes, more than the limit of %s (setting max_payload_bytes)', pg_column_size(p_input), v_max)
    when coalesce(p_missed, '') not in ('skip', 'once', 'all') then format('missed is skip, once or all, not %s', coalesce(p_missed, 'null'))
    when coalesce(p_overlap, '') not in ('allow', 'skip', 'queue') then format('overlap is allow, skip or queue, not %s', coalesce(p_overlap, 'null'))
    when p_jitter_ms not between 0 and 864000000000 then format('jitter must be from 0 to 10000 days, not %s ms', p_jitter_ms)
    when p_starts_at not between timestamptz 'epoch' and latest_time(v_now) then format('the first tick must be from 1970 to 10000 days ahead, not %s', p_starts_at)
    when p_ends_at not between timestamptz 'epoch' and latest_time(v_now) then
      format('the last tick must be from 1970 to 10000 days ahead, not %s; a schedule without an end has none', p_ends_at)
    when p_next_at not between timestamptz 'epoch' and latest_time(v_now) then format('the next tick must be from 1970 to 10000 days ahead, not %s', p_next_at)
  end;
  if v_why is not null then
    raise exception using errcode = 'LH001', message = v_why;
  end if;
end $$;
comment on function refuse_bad_schedule(text, text, text, jsonb, text, text, bigint, timestamptz, timestamptz, timestamptz) is
  'Raises an error when a setting of a schedule cannot be used. Expressions and zones are read by the caller.';

create or replace function put_schedule(
  p_tenant text, p_name text, p_cron text, p_zone text, p_flow text, p_version integer, p_input jsonb, p_missed text, p_overlap text,
  p_jitter_ms bigint, p_starts_at timestamptz, p_ends_at timestamptz, p_next_at timestamptz
) returns integer
language plpgsql as $$
declare
  v_id   integer;
  v_next timestamptz := case when isfinite(p_next_at) then date_trunc('second', p_next_at) else p_next_at end;
begin
  perform refuse_bad_schedule(p_name, p_cron, p_zone, p_input, p_missed, p_overlap, p_jitter_ms, p_starts_at, p_ends_at, p_next_at);
  if not exists (select from flow f where f.tenant = p_tenant and f.name = p_flow and (p_version is null or f.version = p_version)) then
    raise exception using errcode = 'LH002', message = format('there is no flow %s%s for tenant %s; deploy it first', p_flow, ' version ' || p_version, p_tenant);
  end if;
  insert into schedule as s (tenant, name, cron, zone, flow, version, input, missed, overlap, jitter_ms, starts_at, ends_at, next_at, created_at)
  values (p_tenant, p_name, p_cron, p_zone, p_flow, p_version, coalesce(p_input, '{}'), p_missed, p_overlap, coalesce(p_jitter_ms, 0), p_starts_at, p_ends_at, v_next, clock())
  on conflict (tenant, name) do update
    set cron = excluded.cron, zone = excluded.zone, flow = excluded.flow, version = excluded.version, input = excluded.input, missed = excluded.missed,
        overlap = excluded.overlap, jitter_ms = excluded.jitter_ms, starts_at = excluded.starts_at, ends_at = excluded.ends_at, retry_at = null,
        -- The same expression again does not move the next tick: what is due stays due.
        next_at = case when s.cron = excluded.cron and s.zone = excluded.zone and s.starts_at is not distinct from excluded.starts_at
                            and s.ends_at is not distinct from excluded.ends_at then s.next_at else excluded.next_at end
  returning s.id into v_id;
  return v_id;
end $$;
comment on function put_schedule(text, text, text, text, text, integer, jsonb, text, text, bigint, timestamptz, timestamptz, timestamptz) is
  'Makes or changes a schedule. The caller has checked the expression and computed its next tick, which is a whole second.';

drop function if exists due_schedules(integer);

create or replace function due_schedules(p_limit integer, p_again boolean default false) returns setof schedule
language plpgsql as $$
declare
  v_now timestamptz := clock();
begin
  if p_again then
    return query
    select s.* from schedule s
    where s.retry_at <= v_now and s.paused_at is null and s.retry_at is not null
    order by s.retry_at limit p_limit for update skip locked;
  else
    return query
    select s.* from schedule s
    where s.next_at <= v_now and s.paused_at is null and s.retry_at is null
    order by s.next_at limit p_limit for update skip locked;
  end if;
end $$;
comment on function due_schedules(integer, boolean) is
  'Locks schedules with a due tick, but for those that another scheduler is at: those that are due by their time or, again, those whose last try failed and is to be repeated now.';

create or replace function refusal_state(p_state text) returns boolean
language sql immutable as $$
  -- Ours (LH), a cardinality, value or constraint that does not hold (21, 22, 23), a program limit (54), what a trigger raises (P0).
  select left(p_state, 2) in ('LH', '21', '22', '23', '54', 'P0')
$$;
comment on function refusal_state(text) is
  'Whether an error says that the same call will fail again. All others may pass: a deadlock, a full disk, a lock, a shutdown, a privilege that is being granted.';

create or replace function fire_tick(p_schedule integer, p_tick timestamptz, p_missed boolean) returns uuid
language plpgsql as $$
-- Locks the schedule. An error that may pass goes up, so that the tick is fired again; a refusal is written down.
declare
  v_now      timestamptz := clock();
  v_schedule schedule;
  v_run      uuid := new_run_id();
  v_outcome  text := 'started';
  v_refusal  text;
begin
  select s.* into v_schedule from schedule s where s.id = p_schedule for no key update;
  if not found then
    return null;
  elsif p_missed then
    v_outcome := 'missed';
  elsif v_schedule.overlap <> 'allow' and (
      v_schedule.queued > 0 or exists (select from run r where r.id = v_schedule.last_run and r.state in ('running', 'paused'))) then
    v_outcome := case v_schedule.overlap when 'skip' then 'skipped' else 'queued' end;
  end if;
  insert into schedule_tick (schedule_id, tick, fired_at, outcome, run_id)
  values (p_schedule, p_tick, v_now, v_outcome, case when v_outcome in ('started', 'queued') then v_run end)
  on conflict do nothing;
  if not found or v_outcome in ('missed', 'skipped') then
    return null;
  end if;
  begin
    select s.refusal into v_refusal
    from start_runs(v_schedule.tenant, v_schedule.flow, v_schedule.version, array[v_run], array[v_schedule.input],
      p_names => array[v_schedule.name],
      p_delays_ms => case when v_outcome = 'started' and v_schedule.jitter_ms > 0 then array[floor(random() * v_schedule.jitter_ms)::bigint] end,
      p_metadata => array[jsonb_build_object('schedule', v_schedule.name, 'tick', p_tick)],
      p_create_only => case when v_outcome = 'queued' then array[true] end) s
    where s.refusal is not null;
    if v_refusal is not null then
      raise exception using errcode = 'LH001', message = v_refusal;
    end if;
  exception when others then
    if not refusal_state(sqlstate) then
      raise;
    end if;
    update schedule_tick t set outcome = 'failed', run_id = null, error = sqlerrm where t.schedule_id = p_schedule and t.tick = p_tick;
    update schedule s set last_error = sqlerrm where s.id = p_schedule;
    return null;
  end;
  update schedule s
  set last_error = null, last_run = case when v_outcome = 'started' then v_run else s.last_run end, queued = s.queued + (v_outcome = 'queued')::integer
  where s.id = p_schedule;
  return v_run;
end $$;
comment on function fire_tick(integer, timestamptz, boolean) is 'Starts the run of a tick, once. Returns its id; null when it was fired before, or is not to start one.';

create or replace function fire_ticks(p_schedules integer[], p_ticks timestamptz[], p_missed boolean[]) returns bigint
language plpgsql as $$
declare
  v_started bigint := 0;
begin
  for i in 1 .. coalesce(cardinality(p_schedules), 0) loop
    v_started := v_started + (fire_tick(p_schedules[i], p_ticks[i], p_missed[i]) is not null)::integer;
  end loop;
  return v_started;
end $$;
comment on function fire_ticks(integer[], timestamptz[], boolean[]) is 'fire_tick() for many ticks, in this order. Returns how many runs were started.';

create or replace function move_schedules(p_schedules integer[], p_lasts timestamptz[], p_nexts timestamptz[], p_errors text[]) returns void
language plpgsql as $$
begin
  update schedule s
  set last_at = coalesce(m.last, s.last_at), next_at = m.next, retry_at = null, tried_tick = null, last_error = coalesce(m.error, s.last_error)
  from unnest(p_schedules, p_lasts, p_nexts, p_errors) m(id, last, next, error)
  where s.id = m.id;
end $$;
comment on function move_schedules(integer[], timestamptz[], timestamptz[], text[]) is
  'Sets the last and the next tick of schedules; with an error, why there is no next one.';

create or replace function move_schedule(p_schedule integer, p_last timestamptz, p_next timestamptz) returns void
language sql as $$
  select move_schedules(array[p_schedule], array[p_last], array[p_next], array[null::text])
$$;
comment on function move_schedule(integer, timestamptz, timestamptz) is 'Sets the next tick of a schedule.';

create or replace function postpone_schedule(p_schedule integer, p_tick timestamptz, p_error text) returns void
language plpgsql as $$
begin
  update schedule s
  set last_error = p_error, tried_tick = coalesce(p_tick, s.tried_tick),
      -- Twice as long as it has been tried, from a second to a minute.
      retry_at = clock() + coalesce(least(greatest(clock() - p_tick, interval '1 second'), interval '1 minute'), interval '1 minute')
  where s.id = p_schedule;
end $$;
comment on function postpone_schedule(integer, timestamptz, text) is
  'A tick of this schedule could not be fired for a reason that may pass: it is tried again soon, behind the others, and is not missed meanwhile.';

create or replace function the_schedule(p_tenant text, p_name text) returns schedule
language plpgsql as $$
declare
  v_schedule schedule;
begin
  select s.* into v_schedule from schedule s where s.tenant = p_tenant and s.name = p_name for update;
  if not found then
    raise exception using errcode = 'LH002', message = format('there is no schedule %s for tenant %s', p_name, p_tenant);
  end if;
  return v_schedule;
end $$;
comment on function the_schedule(text, text) is 'Locks a schedule and returns it.';

create or replace function pause_schedule(p_tenant text, p_name text) returns boolean
language plpgsql as $$
declare
  v_schedule schedule := the_schedule(p_tenant, p_name);
begin
  update schedule s set paused_at = clock() where s.id = v_schedule.id and s.paused_at is null;
  return found;
end $$;
comment on function pause_schedule(text, text) is 'Pauses a schedule. False when it was paused already.';

create or replace function resume_schedule(p_tenant text, p_name text) returns boolean
language plpgsql as $$
declare
  v_schedule schedule := the_schedule(p_tenant, p_name);
begin
  update schedule s set paused_at = null where s.id = v_schedule.id and s.paused_at is not null;
  return found;
end $$;
comment on function resume_schedule(text, text) is 'Lets a schedule go on; ticks that passed meanwhile count as missed. False when it was not paused.';

create or replace function run_schedule(p_tenant text, p_name text) returns uuid
language plpgsql as $$
declare
  v_schedule schedule := the_schedule(p_tenant, p_name);
  v_moment   timestamptz := clock();
begin
  -- Ticks are whole seconds: this is none, and takes the place of none. The schedule is locked, so moments differ.
  v_moment := v_moment + case when v_moment = date_trunc('second', v_moment) then interval '1 microsecond' else interval '0' end;
  while exists (select from schedule_tick t where t.schedule_id = v_schedule.id and t.tick = v_moment) loop
    v_moment := v_moment + interval '1 microsecond';
  end loop;
  return fire_tick(v_schedule.id, v_moment, false);
end $$;
comment on function run_schedule(text, text) is 'Runs a schedule now, as if a tick had come; the moment stands for the tick. Returns the run; null when the one before still lives and the schedule says to skip, or its start was refused.';

create or replace function backfill_schedule(p_tenant text, p_name text, p_ticks timestamptz[]) returns bigint
language plpgsql as $$
declare
  v_schedule schedule := the_schedule(p_tenant, p_name);
  v_started  bigint := 0;
  v_tick     timestamptz;
begin
  foreach v_tick in array p_ticks loop
    -- A tick that has had its run is not fired again.
    delete from schedule_tick t where t.schedule_id = v_schedule.id and t.tick = v_tick and t.outcome in ('missed', 'skipped', 'failed');
    v_started := v_started + (fire_tick(v_schedule.id, v_tick, false) is not null)::integer;
  end loop;
  return v_started;
end $$;
comment on function backfill_schedule(text, text, timestamptz[]) is
  'Fires ticks of the past that started no run: missed, skipped and failed ones, and those of before the schedule was made. Returns how many runs were started or queued.';

create or replace function delete_schedule(p_tenant text, p_name text) returns void
language plpgsql as $$
declare
  v_schedule schedule := the_schedule(p_tenant, p_name);
  v_run      run;
begin
  -- Nobody would ever begin them.
  for v_run in
    select r.* from schedule_tick t cross join lateral (select x.* from run x where x.id = t.run_id offset 0) r
    where t.schedule_id = v_schedule.id and t.outcome = 'queued' order by r.id for no key update of r
  loop
    continue when v_run.state not in ('running', 'paused') or v_run.start_at is distinct from 'infinity';
    perform record_event(v_run.id, 'stopped', null, null, '{"reason": "its schedule was deleted"}');
    perform end_runs(array[v_run.id], 'cancelled', array['{"message": "its schedule was deleted before its turn had come"}'::jsonb]);
  end loop;
  delete from schedule_tick t where t.schedule_id = v_schedule.id;
  delete from schedule s where s.id = v_schedule.id;
end $$;
comment on function delete_schedule(text, text) is
  'Deletes a schedule and the record of its ticks. Its runs stay; those that are queued behind another and have not begun are stopped.';

create or replace function start_queued_tick(p_schedule schedule) returns boolean
language plpgsql as $$
-- The caller has locked the schedule. The run is only tried for: somebody may be at it.
declare
  v_tick schedule_tick;
  v_run  run;
begin
  select t.* into v_tick from schedule_tick t where t.schedule_id = p_schedule.id and t.outcome = 'queued' order by t.schedule_id, t.tick limit 1;
  if not found then
    update schedule s set queued = 0 where s.id = p_schedule.id;
    return true;
  end if;
  if exists (select from run r where r.id = v_tick.run_id) then
    select r.* into v_run from run r where r.id = v_tick.run_id for update skip locked;
    if not found or (v_run.state = 'paused' and v_run.start_at > clock()) then
      return false;
    end if;
    -- One that somebody has begun or ended by hand has had its turn.
    if v_run.state = 'running' and v_run.start_at > clock() then
      perform start_pending_run(p_schedule.tenant, v_tick.run_id, 'schedule');
    end if;
  end if;
  update schedule_tick t set outcome = 'started' where t.schedule_id = v_tick.schedule_id and t.tick = v_tick.tick;
  update schedule s set queued = greatest(s.queued - 1, 0), last_run = v_tick.run_id where s.id = p_schedule.id;
  return true;
exception when others then
  if not refusal_state(sqlstate) then
    raise;
  end if;
  update schedule_tick t set outcome = 'failed', error = sqlerrm where t.schedule_id = v_tick.schedule_id and t.tick = v_tick.tick;
  update schedule s set queued = greatest(s.queued - 1, 0), last_error = sqlerrm where s.id = p_schedule.id;
  return true;
end $$;
comment on function start_queued_tick(schedule) is 'Starts the run of the first queued tick of a schedule. False when it must wait.';

create or replace function start_queued_ticks() returns bigint
language plpgsql as $$
declare
  v_schedule schedule;
  v_started  bigint := 0;
begin
  for v_schedule in
    select s.* from schedule s
    -- Those that may overlap meanwhile have nothing to wait for.
    where s.queued > 0 and (s.overlap = 'allow' or not exists (select from run r where r.id = s.last_run and r.state in ('running', 'paused')))
    order by s.id for no key update of s skip locked
  loop
    exit when v_started = 500;
    -- Looked at again under the lock: another chore may have started one.
    continue when v_schedule.overlap <> 'allow' and exists (
      select from schedule s join run r on r.id = s.last_run where s.id = v_schedule.id and r.state in ('running', 'paused'));
    v_started := v_started + start_queued_tick(v_schedule)::integer;
  end loop;
  return v_started;
end $$;
comment on function start_queued_ticks() is 'Chore: starts the runs of queued ticks whose turn has come. Returns how many it started.';

create or replace function forget_ticks() returns bigint
language plpgsql as $$
declare
  v_before    timestamptz := clock() - setting_value('keep_ticks_days') * interval '1 day';
  v_forgotten bigint;
begin
  delete from schedule_tick t
  where t.ctid = any (array(
    select x.ctid from schedule_tick x where x.tick < v_before and x.outcome <> 'queued' order by x.tick limit 1000 for update skip locked));
  get diagnostics v_forgotten = row_count;
  return v_forgotten;
end $$;
comment on function forget_ticks() is 'Chore: forgets what became of old ticks (setting keep_ticks_days), a thousand at a time. Returns how many.';

create or replace view schedules as
select s.id, s.tenant, s.name, s.cron, s.zone, s.flow, s.version, s.missed, s.overlap, s.jitter_ms, s.starts_at, s.ends_at, s.paused_at, s.next_at, s.last_at, s.last_error, s.input,
  (select count(*) from schedule_tick t where t.schedule_id = s.id and t.outcome = 'failed') as failed_ticks
from schedule s;
comment on view schedules is 'Schedules with their next tick, and how many of the ticks that are remembered could not start a run.';

create or replace view failed_ticks as
select s.tenant, s.name as schedule, t.tick, t.fired_at, t.error
from schedule_tick t join schedule s on s.id = t.schedule_id
where t.outcome = 'failed';
comment on view failed_ticks is 'Ticks whose runs could not be started, each with the reason. They are not tried again: longhaul schedule run makes up for one.';

select define_chore('start_queued_ticks', 1000, 'Starts the runs of schedules that waited for the run before.');
select define_chore('forget_ticks', 3600000, 'Forgets what became of old ticks.');
