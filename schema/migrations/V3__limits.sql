-- Limits: queues that are paused, bounded in what runs at once and per period, and closed while their provider is down;
-- steps that share a key of bounded concurrency, or take fair turns.
--
-- One room is new. queued: the step is ready, but as many steps of its key as may run are in task or lease. It is left
-- forward (queued -> task), as timer is.

alter table queue
  add column paused_at        timestamptz,
  add column paused_by        text,
  add column max_running      integer check (max_running > 0),
  add column running          integer not null default 0,
  add column rate_limit       integer check (rate_limit > 0),
  add column rate_ms          bigint check (rate_ms >= 100),
  add column breaker_failures integer check (breaker_failures > 0),
  add column breaker_ms       bigint check (breaker_ms > 0),
  add column breaker_count    integer not null default 0,
  add column open_until       timestamptz,
  add check ((rate_limit is null) = (rate_ms is null)),
  add check ((breaker_failures is null) = (breaker_ms is null));
comment on column queue.paused_at is 'Since when nothing is claimed from it.';
comment on column queue.max_running is 'Most steps of it that run at once, over all workers.';
comment on column queue.running is 'Steps of it that run; kept only while max_running is set.';
comment on column queue.rate_limit is 'Most claims in any rate_ms milliseconds.';
comment on column queue.breaker_failures is
  'So many attempts in a row that were deferred or timed out open the breaker: nothing is claimed for breaker_ms, then one step at a time, until one completes.';
comment on column queue.open_until is 'Until when the breaker keeps the queue closed.';

alter table lease add column lane_id integer;
comment on column lease.lane_id is 'Lane of the step; null for leases from before this column.';

create table rate_use (
  queue_id integer not null,
  bucket   bigint not null,
  used     integer not null,
  primary key (queue_id, bucket)
);
comment on table rate_use is 'Claims from queues with a rate, by twentieths of its period.';

create table gate (
  id       bigint generated always as identity primary key,
  tenant   text not null,
  name     text not null,
  key      text not null,
  most     integer not null check (most > 0),
  used     integer not null default 0,
  unique (tenant, name, key)
);
comment on table gate is 'Keys of bounded concurrency: at most so many steps of a key are in task or lease.';
comment on column gate.used is 'Steps of this key that are in task or lease.';

alter table step add column gate_id bigint;
comment on column step.gate_id is 'The key of bounded concurrency that it belongs to.';

create table queued (
  run_id   uuid not null,
  gate_id  bigint not null,
  position bigint not null,
  lane_id  integer not null,
  seq      integer not null,
  attempt  integer not null,
  priority smallint not null,
  failures smallint not null,
  primary key (run_id, seq)
);
create index queued_turn on queued (gate_id, priority, position);
comment on table queued is 'Room: steps that are ready, but wait for others of their key.';

create table fair_share (
  lane_id integer not null,
  key     text not null,
  last    bigint not null,
  primary key (lane_id, key)
);
comment on table fair_share is 'The last turn that was given to each key of a lane whose steps take fair turns.';
