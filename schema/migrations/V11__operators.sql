-- What operators look at and act through: throughput over time, tokens of the HTTP API, the record of what they did.

insert into setting (name, value, description, most) values
  ('keep_throughput_days', 3, 'How long throughput by the minute is kept, in days.', 366),
  ('keep_audit_days', 400, 'How long the record of operators'' acts is kept, in days.', 36500);

create table throughput_minute (
  at        timestamptz not null,
  queue_id  integer not null,
  claimed   bigint not null,
  completed bigint not null,
  failed    bigint not null,
  ready     bigint not null,
  oldest_ms bigint not null,
  primary key (at, queue_id)
);
comment on table throughput_minute is 'What was done by queue and minute; see the view throughput. Idle queues have no rows.';
comment on column throughput_minute.at is 'The beginning of the minute in which it was noted.';
comment on column throughput_minute.claimed is 'Attempts that were claimed.';
comment on column throughput_minute.completed is 'Attempts that completed their steps.';
comment on column throughput_minute.failed is 'Attempts that failed.';
comment on column throughput_minute.queue_id is 'The queue.';
comment on column throughput_minute.ready is 'Ready steps when it was noted, counted up to 10,000 for each handler.';
comment on column throughput_minute.oldest_ms is 'For how many milliseconds the oldest of them was ready.';

create table throughput_noted (
  queue_id  integer primary key,
  claimed   bigint not null,
  completed bigint not null,
  failed    bigint not null
) with (fillfactor = 50);
comment on table throughput_noted is 'Up to which of the workers'' counters throughput_minute has been written.';
comment on column throughput_noted.queue_id is 'The queue.';
comment on column throughput_noted.claimed is 'Sum over its workers.';
comment on column throughput_noted.completed is 'Sum over its workers.';
comment on column throughput_noted.failed is 'Sum over its workers.';
