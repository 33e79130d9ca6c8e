-- Schedules. Cron expressions and time zones are read by the scheduler process; what a tick does is decided here, in one
-- transaction with its row in schedule_tick.

create or replace function put_schedule(
  p_tenant text, p_name text, p_cron text, p_zone text, p_flow text, p_version integer, p_input jsonb, p_missed text, p_overlap text,
  p_jitter_ms bigint, p_starts_at timestamptz, p_ends_at timestamptz, p_next_at timestamptz
) returns integer
language plpgsql as $$
declare
  v_id integer;
begin
  if not coalesce(valid_label(p_name), false) then
    raise exception using errcode = 'LH001', message = format('%L is not a name of a schedule: letters, digits, ., _ and -, at most 100', p_name);
  end if;
  if not exists (select from flow f where f.tenant = p_tenant and f.name = p_flow and (p_version is null or f.version = p_version)) then
    raise exception using errcode = 'LH002', message = format('there is no flow %s%s for tenant %s; deploy it first', p_flow, ' version ' || p_version, p_tenant);
  end if;
  insert into schedule as s (tenant, name, cron, zone, flow, version, input, missed, overlap, jitter_ms, starts_at, ends_at, next_at, created_at)
  values (p_tenant, p_name, p_cron, p_zone, p_flow, p_version, coalesce(p_input, '{}'), p_missed, p_overlap, coalesce(p_jitter_ms, 0), p_starts_at, p_ends_at, p_next_at, clock())
  on conflict (tenant, name) do update
    set cron = excluded.cron, zone = excluded.zone, flow = excluded.flow, version = excluded.version, input = excluded.input, missed = excluded.missed,
        overlap = excluded.overlap, jitter_ms = excluded.jitter_ms, starts_at = excluded.starts_at, ends_at = excluded.ends_at,
        -- The same expression again does not move the next tick: what is due stays due.
        next_at = case when s.cron = excluded.cron and s.zone = excluded.zone and s.starts_at is not distinct from excluded.starts_at
                            and s.ends_at is not distinct from excluded.ends_at then s.next_at else excluded.next_at end
  returning s.id into v_id;
  return v_id;
exception when check_violation then
  raise exception using errcode = 'LH001', message = format('missed is skip, once or all, not %s; overlap is allow, skip or queue, not %s; jitter is not negative', p_missed, p_overlap);
end $$;
comment on function put_schedule(text, text, text, text, text, integer, jsonb, text, text, bigint, timestamptz, timestamptz, timestamptz) is
  'Makes or changes a schedule. The caller has checked the expression and computed its next tick.';

create or replace function due_schedules(p_limit integer) returns setof schedule
language plpgsql as $$
declare
  v_now timestamptz := clock();
begin
  return query
  select s.* from schedule s where s.next_at <= v_now and s.paused_at is null order by s.next_at limit p_limit for update skip locked;
end $$;
comment on function due_schedules(integer) is 'Locks schedules with a due tick, but for those that another scheduler is at.';

create or replace function fire_tick(p_schedule integer, p_tick timestamptz, p_missed boolean) returns uuid
language plpgsql as $$
declare
  v_schedule schedule;
  v_run      uuid := new_run_id();
  v_outcome  text := 'started';
  v_refusal  text;
begin
  select s.* into v_schedule from schedule s where s.id = p_schedule;
  if p_missed then
    v_outcome := 'missed';
  elsif v_schedule.overlap <> 'allow' and exists (
      select from schedule_tick t join run r on r.id = t.run_id
      where t.schedule_id = p_schedule and t.tick > clock() - interval '400 days' and r.state in ('running', 'paused')) then
    v_outcome := case v_schedule.overlap when 'skip' then 'skipped' else 'queued' end;
  end if;
  insert into schedule_tick (schedule_id, tick, fired_at, outcome, run_id)
  values (p_schedule, p_tick, clock(), v_outcome, case when v_outcome in ('started', 'queued') then v_run end)
  on conflict do nothing;
  if not found or v_outcome in ('missed', 'skipped') then
    return null;
  end if;
  begin
    select s.refusal into v_refusal
    from start_runs(v_schedule.tenant, v_schedule.flow, v_schedule.version, array[v_run], array[v_schedule.input],
      p_names => array[v_schedule.name],
      p_start_ats => case when v_outcome = 'queued' then array['infinity'::timestamptz] end,
      p_delays_ms => case when v_schedule.jitter_ms > 0 then array[floor(random() * v_schedule.jitter_ms)::bigint] end,
      p_metadata => array[jsonb_build_object('schedule', v_schedule.name, 'tick', p_tick)]) s
    where s.refusal is not null;
    if v_refusal is not null then
      raise exception '%', v_refusal;
    end if;
  exception when others then
    update schedule_tick t set outcome = 'failed', run_id = null, error = sqlerrm where t.schedule_id = p_schedule and t.tick = p_tick;
    update schedule s set last_error = sqlerrm where s.id = p_schedule;
    return null;
  end;
  return v_run;
end $$;
comment on function fire_tick(integer, timestamptz, boolean) is 'Starts the run of a tick, once. Returns its id; null when it was fired before, or is not to start one.';

create or replace function move_schedule(p_schedule integer, p_last timestamptz, p_next timestamptz) returns void
language sql as $$
  update schedule s set last_at = coalesce(p_last, s.last_at), next_at = p_next where s.id = p_schedule
$$;
comment on function move_schedule(integer, timestamptz, timestamptz) is 'Sets the next tick of a schedule.';

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
begin
  return fire_tick(v_schedule.id, clock(), false);
end $$;
comment on function run_schedule(text, text) is 'Runs a schedule now, as if a tick had come. Returns the run; null when the one before still lives and the schedule says to skip.';

create or replace function delete_schedule(p_tenant text, p_name text) returns void
language plpgsql as $$
declare
  v_schedule schedule := the_schedule(p_tenant, p_name);
begin
  delete from schedule_tick t where t.schedule_id = v_schedule.id;
  delete from schedule s where s.id = v_schedule.id;
end $$;
comment on function delete_schedule(text, text) is 'Deletes a schedule and the record of its ticks; its runs stay.';

create or replace function start_queued_ticks() returns bigint
language plpgsql as $$
declare
  v_tick    record;
  v_started bigint := 0;
begin
  for v_tick in
    select distinct on (t.schedule_id) t.schedule_id, t.tick, t.run_id, s.tenant
    from schedule_tick t join schedule s on s.id = t.schedule_id where t.outcome = 'queued' order by t.schedule_id, t.tick
  loop
    perform from schedule s where s.id = v_tick.schedule_id for update skip locked;
    continue when not found or exists (
      select from schedule_tick t join run r on r.id = t.run_id
      where t.schedule_id = v_tick.schedule_id and t.outcome = 'started' and r.state in ('running', 'paused'));
    update schedule_tick t set outcome = 'started' where t.schedule_id = v_tick.schedule_id and t.tick = v_tick.tick and t.outcome = 'queued';
    continue when not found;
    if exists (select from run r where r.id = v_tick.run_id and r.state = 'running') then
      perform start_pending_run(v_tick.tenant, v_tick.run_id, 'schedule');
    end if;
    v_started := v_started + 1;
  end loop;
  delete from schedule_tick t
  where (t.schedule_id, t.tick) in (
    select x.schedule_id, x.tick from schedule_tick x
    where x.tick < clock() - setting_value('keep_ticks_days') * interval '1 day' and x.outcome <> 'queued' limit 1000);
  return v_started;
end $$;
comment on function start_queued_ticks() is 'Chore: starts the runs of queued ticks whose turn has come, and forgets old ticks. Returns how many it started.';

create or replace view schedules as
select s.id, s.tenant, s.name, s.cron, s.zone, s.flow, s.version, s.missed, s.overlap, s.jitter_ms, s.starts_at, s.ends_at, s.paused_at, s.next_at, s.last_at, s.last_error, s.input
from schedule s;
comment on view schedules is 'Schedules with their next tick.';

select define_chore('start_queued_ticks', 1000, 'Starts the runs of schedules that waited for the run before.');
