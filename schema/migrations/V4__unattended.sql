-- What makes it run by itself for years: schedules, retention, unique starts, locks, progress and figures.

alter type new_run add attribute deadline_ms bigint;

create table schedule (
  id         integer generated always as identity primary key,
  tenant     text not null,
  name       text not null,
  cron       text not null,
  zone       text not null,
  flow       text not null,
  version    integer,
  input      jsonb not null,
  missed     text not null check (missed in ('skip', 'once', 'all')),
  overlap    text not null check (overlap in ('allow', 'skip', 'queue')),
  jitter_ms  bigint not null check (jitter_ms >= 0),
  starts_at  timestamptz,
  ends_at    timestamptz,
  paused_at  timestamptz,
  next_at    timestamptz,
  last_at    timestamptz,
  last_error text,
  created_at timestamptz not null,
  unique (tenant, name)
);
create index schedule_next on schedule (next_at) where paused_at is null;
comment on table schedule is 'Cron expressions that start runs; whichever scheduler finds a tick due starts its run.';
comment on column schedule.missed is 'Ticks that passed while no scheduler ran or the schedule was paused: skip them, run once for all of them, or run all.';
comment on column schedule.overlap is 'When the run of the tick before still lives: allow another, skip the tick, or queue its run behind.';
comment on column schedule.next_at is 'The next tick; null: none will come.';

create table schedule_tick (
  schedule_id integer not null,
  tick        timestamptz not null,
  fired_at    timestamptz not null,
  outcome     text not null check (outcome in ('started', 'queued', 'skipped', 'missed', 'failed')),
  run_id      uuid,
  error       text,
  primary key (schedule_id, tick)
);
comment on table schedule_tick is 'What became of each tick. Its key is why a tick starts one run, however many schedulers there are.';

create table start_key (
  tenant text not null,
  flow   text not null,
  key    text not null,
  run_id uuid not null,
  until  timestamptz,
  primary key (tenant, flow, key)
);
create index start_key_run on start_key (run_id);
comment on table start_key is 'Keys of unique starts: a second start with a key that counts still gives the first one''s run.';
comment on column start_key.until is 'How long the key counts; null: as long as the run lives.';

create table retention_policy (
  id        integer generated always as identity primary key,
  tenant    text not null,
  name      text not null,
  state     run_state check (state in ('completed', 'failed', 'cancelled')),
  flow      text,
  age       interval not null check (age >= interval '0'),
  keep_last integer not null default 0 check (keep_last >= 0),
  unique (tenant, name)
);
comment on table retention_policy is 'Which ended runs are deleted: of a state and a flow (null: of any), when they ended longer ago than age, but for the last so many of each flow.';

create table lock (
  tenant      text not null,
  name        text not null,
  token       bigint not null,
  holder      text,
  acquired_at timestamptz,
  expires_at  timestamptz,
  acquired    bigint not null default 0,
  blocked     bigint not null default 0,
  expired     bigint not null default 0,
  forced      bigint not null default 0,
  held_ms     double precision not null default 0,
  primary key (tenant, name)
) with (fillfactor = 50);
comment on table lock is 'Named locks. A row stays when the lock is free, so that its token only grows.';
comment on column lock.token is 'The fencing token: grows with each acquisition.';

create table lock_event (
  at     timestamptz not null,
  tenant text not null,
  name   text not null,
  kind   text not null,
  token  bigint not null,
  holder text,
  actor  text not null
);
create index lock_event_name on lock_event (tenant, name, at);
comment on table lock_event is 'Locks that operators forced open, and locks that expired in their holder''s hands.';

create table progress (
  run_id uuid not null,
  seq    integer not null,
  key    text not null,
  value  jsonb not null,
  at     timestamptz not null,
  primary key (run_id, seq, key)
) with (fillfactor = 50);
comment on table progress is 'How far steps are: the last value of each key that their handlers reported.';

create table queue_figure (
  queue_id   integer not null,
  worker_id  bigint not null,
  running    integer not null,
  slots      integer not null,
  claimed    bigint not null,
  completed  bigint not null,
  failed     bigint not null,
  at         timestamptz not null,
  primary key (queue_id, worker_id)
) with (fillfactor = 50);
comment on table queue_figure is 'What each worker last said of each of its queues; counters since it registered.';

insert into setting (name, value, description) values
  ('keep_ticks_days', 90, 'How long the outcome of a schedule''s tick is kept, in days.');
