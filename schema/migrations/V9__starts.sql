-- Starts and schedules: deadlines that count from the real start, keys that are remembered after they were taken over, ticks at
-- whole seconds, and what schedules need so that their cost does not grow with their history.

alter table deadline add column ms bigint;
comment on column deadline.ms is 'How long the run itself may take from its start on, as its start said. Null: as long as its flow says.';
comment on column deadline.at is 'When the run fails. Infinite: it is not counted now; a start or a retry counts it anew.';

alter type new_run add attribute create_only boolean;
alter type new_run add attribute key text;
alter type new_run add attribute window_ms bigint;

-- Keys of unique starts.
create table run_key (
  run_id     uuid primary key,
  tenant     text not null,
  flow       text not null,
  key        text not null,
  while_live boolean not null
);
comment on table run_key is 'Keys that runs were started under and that other runs have taken over since: a retry of such a run asks whether its key is free.';
comment on column run_key.while_live is 'Whether the key counts as long as the run lives, and not for a time.';

create table key_sweep (
  last uuid not null
);
insert into key_sweep (last) values ('00000000-0000-0000-0000-000000000000');
comment on table key_sweep is 'How far the chore forget_keys has come: the run of the key that it looked at last.';

-- Schedules.
alter table schedule
  add column last_run   uuid,
  add column queued     integer not null default 0,
  add column retry_at   timestamptz,
  add column tried_tick timestamptz;
comment on column schedule.last_run is 'The run that was started last.';
comment on column schedule.queued is 'How many of its ticks have runs that wait for the run before.';
comment on column schedule.retry_at is 'Its ticks are looked at again at this time: the last try met something that passes.';
comment on column schedule.tried_tick is 'The tick that was tried then: it is fired, however late that is.';

update schedule set
  next_at = case when isfinite(next_at) then date_trunc('second', next_at) end,
  last_at = case when isfinite(last_at) then date_trunc('second', last_at) end,
  starts_at = case when isfinite(starts_at) then starts_at end,
  ends_at = case when isfinite(ends_at) then ends_at end;

-- Ticks are whole seconds.
update schedule_tick t set tick = date_trunc('second', t.tick)
from (
  select distinct on (x.schedule_id, date_trunc('second', x.tick)) x.schedule_id, x.tick
  from schedule_tick x order by x.schedule_id, date_trunc('second', x.tick), x.tick
) first
where t.schedule_id = first.schedule_id and t.tick = first.tick and t.tick <> date_trunc('second', t.tick);

update schedule s set last_run = (
  select t.run_id from schedule_tick t where t.schedule_id = s.id and t.outcome = 'started' order by t.tick desc limit 1);
update schedule s set queued = (select count(*) from schedule_tick t where t.schedule_id = s.id and t.outcome = 'queued');

drop index schedule_next;
create index schedule_next on schedule (next_at) where paused_at is null and retry_at is null;
create index schedule_retry on schedule (retry_at) where paused_at is null and retry_at is not null;
create index schedule_queued on schedule (id) where queued > 0;
create index schedule_tick_queued on schedule_tick (schedule_id, tick) where outcome = 'queued';
create index schedule_tick_failed on schedule_tick (schedule_id, tick) where outcome = 'failed';
create index schedule_tick_age on schedule_tick (tick) where outcome <> 'queued';

-- Limits of concurrency: a name has one value over the latest versions of all flows of a tenant.
create table gate_limit_use (
  tenant  text not null,
  name    text not null,
  flow    text not null,
  version integer not null,
  most    integer not null,
  primary key (tenant, name, flow)
);
create index gate_limit_use_flow on gate_limit_use (tenant, flow);
comment on table gate_limit_use is 'Which flows name a limit of concurrency in their latest version, and with what value.';

insert into gate_limit_use (tenant, name, flow, version, most)
select f.tenant, s.settings -> 'concurrency' ->> 'name', f.name, f.version, min((s.settings -> 'concurrency' ->> 'limit')::integer)
from (select distinct on (x.tenant, x.name) x.* from flow x order by x.tenant, x.name, x.version desc) f
join flow_step s on s.flow_id = f.id
where s.settings ? 'concurrency'
group by 1, 2, 3, 4;

-- Flows that contradict each other already: the smallest value is the one that breaks no promise.
insert into gate_limit as g (tenant, name, most)
select u.tenant, u.name, min(u.most) from gate_limit_use u group by 1, 2
on conflict (tenant, name) do update set most = excluded.most;

-- Durations end at 10,000 days: later ones cannot be counted with everywhere.
update flow_step set
  backoff_ms = least(backoff_ms, 864000000000), cap_ms = least(cap_ms, 864000000000), timeout_ms = least(timeout_ms, 864000000000)
where backoff_ms > 864000000000 or cap_ms > 864000000000 or timeout_ms > 864000000000;
update flow set timeout_ms = 864000000000 where timeout_ms > 864000000000;
