-- The tables of Longhaul: what is known about flows, runs and steps, and the rooms that live steps stand in.
--
-- A live step is always in exactly one room: blocked (its step row alone), task (ready), lease (running) or
-- timer (asleep). The rooms are narrow and have few indexes, so that the busy part of the database stays small
-- whatever the history holds. Nothing that a transition changes on run and step is indexed: those updates are HOT.

create type run_state as enum ('pending', 'running', 'paused', 'completed', 'failed', 'cancelled');
create type step_state as enum (
  'blocked', 'ready', 'running', 'waiting', 'paused', 'completed', 'failed', 'cancelled', 'skipped'
);
create type worker_state as enum ('active', 'draining', 'lost', 'gone');
create type timer_kind as enum ('start', 'retry', 'snooze');
create type attempt_outcome as enum ('failed', 'timed_out', 'panicked', 'expired', 'released', 'snoozed', 'cancelled');

create type new_run as (id uuid, input jsonb, name text, priority smallint, start_at timestamptz);
create type ended_attempt as (
  run_id uuid, seq integer, attempt integer, worker_id bigint, claimed_at timestamptz, failures smallint,
  outcome attempt_outcome, error jsonb, retryable boolean, delay_ms bigint
);

comment on type new_run is 'One item of start_runs().';
comment on type ended_attempt is
  'An attempt whose lease was closed without completing: how it ended, whether another may follow, and after how long (null: by the step''s policy).';
comment on type run_state is 'States of a run; completed, failed and cancelled are final.';
comment on type step_state is 'States of a step; a step row stores only the four final ones, its room tells the others.';
comment on type worker_state is
  'active: claims steps; draining: finishes what it has; lost: its heartbeat expired; gone: it left in good order.';
comment on type timer_kind is 'Why a step sleeps: delayed start of its run, backoff after a failed attempt, or a snooze.';
comment on type attempt_outcome is
  'How an attempt ended that did not complete its step; released, snoozed and cancelled consume no attempt.';

-- Settings and the clock ------------------------------------------------------------------------------------------

create table setting (
  name        text primary key,
  value       bigint not null,
  description text not null
);
comment on table setting is 'Limits and intervals of this installation; change them with set_setting().';

insert into setting (name, value, description) values
  ('clock_offset_ms', 0, 'Added to the server''s clock wherever Longhaul asks for the time. Tests only; 0 in production.'),
  ('max_payload_bytes', 1048576, 'Largest input or output that clients and workers send, in bytes of compact JSON text; the database itself refuses inputs of twice that.'),
  ('partition_days', 7, 'Width of the partitions of run, step and attempt, in days. Counts for partitions not made yet.'),
  ('partitions_ahead', 4, 'How many partitions are kept ready ahead of the present one.'),
  ('keep_workers_days', 7, 'How long the row of a worker that is gone or lost is kept, in days.');

-- Flows -----------------------------------------------------------------------------------------------------------

create table flow (
  id          integer generated always as identity primary key,
  tenant      text not null,
  name        text not null,
  version     integer not null check (version > 0),
  definition  jsonb not null,
  step_count  integer not null,
  deployed_at timestamptz not null,
  unique (tenant, name, version)
);
comment on table flow is 'Deployed flow versions; a row never changes.';
comment on column flow.definition is 'The definition with every default filled in; two deployments are equal when this is.';

create table queue (
  id         integer generated always as identity primary key,
  tenant     text not null,
  name       text not null,
  created_at timestamptz not null,
  unique (tenant, name)
);
comment on table queue is 'Named lines of ready steps. A queue is made by the first flow or worker that names it.';

create table lane (
  id       integer generated always as identity primary key,
  queue_id integer not null references queue,
  handler  text not null,
  unique (queue_id, handler)
);
comment on table lane is
  'One handler''s part of a queue. A worker claims from the lanes of the handlers that it knows, so that steps of other handlers are never in its way.';

create table flow_step (
  flow_id      integer not null references flow,
  seq          integer not null,
  name         text not null,
  lane_id      integer not null references lane,
  priority     smallint not null,
  predecessors integer not null,
  successors   integer[] not null,
  max_attempts smallint not null check (max_attempts > 0),
  backoff_ms   bigint not null check (backoff_ms >= 0),
  factor       double precision not null check (factor >= 1),
  cap_ms       bigint not null check (cap_ms >= 0),
  jitter       double precision not null check (jitter between 0 and 1),
  timeout_ms   bigint check (timeout_ms > 0),
  parameters   jsonb,
  primary key (flow_id, seq),
  unique (flow_id, name)
);
comment on table flow_step is 'The steps of a flow version, numbered from 0 in the order of the definition; a row never changes.';
comment on column flow_step.predecessors is 'How many steps must complete before this one is ready.';
comment on column flow_step.successors is 'The sequence numbers of the steps that wait for this one.';
comment on column flow_step.parameters is 'Constant settings of the step, given to its handler beside the input.';

-- Runs and steps: the history, partitioned by the time in the run id (UUIDv7) -----------------------------------------

create table run (
  id         uuid not null,
  created_at timestamptz not null,
  ended_at   timestamptz,
  start_at   timestamptz,
  flow_id    integer not null,
  open_steps integer not null,
  revision   integer not null default 0,
  state      run_state not null,
  tenant     text not null,
  name       text,
  input      jsonb not null,
  error      jsonb,
  primary key (id)
) partition by range (id);
comment on table run is 'One row per run: an execution of a flow version. Partitioned by the time in the id.';
comment on column run.start_at is 'Before this time the run is pending; null: it started at once.';
comment on column run.open_steps is 'Steps that are not final yet; the run ends when none is left.';
comment on column run.revision is 'Raised by every change of this row.';
comment on column run.error is 'Why the run failed: the error of the step that failed it, with the step''s name.';

create table step (
  run_id     uuid not null,
  started_at timestamptz,
  ended_at   timestamptz,
  worker_id  bigint,
  seq        integer not null,
  lane_id    integer not null,
  blockers   integer not null,
  attempt    integer,
  outcome    step_state check (outcome in ('completed', 'failed', 'cancelled', 'skipped')),
  priority   smallint not null,
  output     jsonb,
  error      jsonb,
  primary key (run_id, seq)
) partition by range (run_id);
comment on table step is 'One row per step of a run. While the step lives, its room tells its state; outcome is null.';
comment on column step.blockers is 'Predecessors that have not completed yet; the step is blocked while there are any.';
comment on column step.started_at is 'When the attempt that ended the step was claimed.';
comment on column step.worker_id is 'Worker of the attempt that ended the step.';
comment on column step.attempt is 'Number (fencing token) of the attempt that ended the step.';

create table attempt (
  run_id     uuid not null,
  claimed_at timestamptz not null,
  ended_at   timestamptz not null,
  worker_id  bigint not null,
  seq        integer not null,
  attempt    integer not null,
  outcome    attempt_outcome not null,
  error      jsonb,
  primary key (run_id, seq, attempt)
) partition by range (run_id);
comment on table attempt is 'What attempts leave that did not complete their step. The completing attempt stands on the step.';

create table run_default partition of run default with (fillfactor = 50);
create table step_default partition of step default with (fillfactor = 50);
create table attempt_default partition of attempt default;
comment on table run_default is 'Catches ids outside the made partitions; meant to stay empty.';
comment on table step_default is 'Catches ids outside the made partitions; meant to stay empty.';
comment on table attempt_default is 'Catches ids outside the made partitions; meant to stay empty.';

-- The rooms -------------------------------------------------------------------------------------------------------

create table task (
  run_id   uuid not null,
  position bigint not null,
  lane_id  integer not null,
  seq      integer not null,
  attempt  integer not null,
  priority smallint not null,
  failures smallint not null,
  primary key (run_id, seq)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0,
        autovacuum_vacuum_insert_scale_factor = 0.5);
create index task_ready on task (lane_id, priority, position);
comment on table task is 'Room: ready steps, which may be claimed now.';
comment on column task.position is 'Microseconds since 1970 when the step became ready: first in, first out within a priority.';
comment on column task.attempt is 'Number of the last attempt; the next claim takes the next number.';
comment on column task.failures is 'Attempts consumed so far.';
comment on column task.priority is 'Lower goes first.';

create table lease (
  run_id     uuid not null,
  worker_id  bigint not null,
  claimed_at timestamptz not null,
  seq        integer not null,
  attempt    integer not null,
  failures   smallint not null,
  primary key (run_id, seq)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0,
        autovacuum_vacuum_insert_scale_factor = 0.5);
create index lease_worker on lease (worker_id);
comment on table lease is 'Room: running steps, each owned by a worker for one attempt, as long as the worker''s heartbeat lives.';
comment on column lease.attempt is 'The fencing token: whatever a worker sends must name it.';

create table timer (
  run_id   uuid not null,
  fire_at  timestamptz not null,
  seq      integer not null,
  attempt  integer not null,
  failures smallint not null,
  kind     timer_kind not null,
  primary key (run_id, seq)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0,
        autovacuum_vacuum_insert_scale_factor = 0.5);
create index timer_fire on timer (fire_at);
comment on table timer is 'Room: steps that sleep until a time.';

-- Workers ---------------------------------------------------------------------------------------------------------

create table worker (
  id           bigint generated always as identity primary key,
  tenant       text not null,
  name         text not null,
  host         text not null,
  pid          integer not null,
  version      text not null,
  state        worker_state not null,
  lease_ms     bigint not null check (lease_ms > 0),
  started_at   timestamptz not null,
  heartbeat_at timestamptz not null,
  expires_at   timestamptz not null,
  stopped_at   timestamptz,
  slots        integer not null,
  queues       text[] not null,
  handlers     text[] not null
);
create index worker_expiry on worker (expires_at) where state in ('active', 'draining');
create index worker_stopped on worker (stopped_at) where state in ('lost', 'gone');
comment on table worker is 'One row per registration of a worker process. A process that was lost registers anew, under a new id.';
comment on column worker.expires_at is 'When its leases go to others unless a heartbeat comes before, by the database''s clock.';

create unlogged table listener (
  queue_id  integer not null,
  worker_id bigint not null,
  primary key (queue_id, worker_id)
);
create index listener_worker on listener (worker_id);
comment on table listener is
  'Workers with free slots that found a queue empty and want to be notified. Unlogged: after a crash of the server workers poll until they have asked again.';

-- Chores ----------------------------------------------------------------------------------------------------------

create table chore (
  name         text primary key,
  interval_ms  bigint not null check (interval_ms > 0),
  next_at      timestamptz not null,
  started_at   timestamptz,
  duration_ms  double precision,
  done         bigint not null default 0,
  last_done    bigint,
  runs         bigint not null default 0,
  failures     bigint not null default 0,
  last_error   text,
  description  text not null
);
comment on table chore is 'Recurring duties, each done by whichever scheduler finds it due; no leader is elected.';
comment on column chore.done is 'Items handled since the installation.';
