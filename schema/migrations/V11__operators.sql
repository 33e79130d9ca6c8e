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

create table token (
  id           text primary key check (id ~ '^[0-9a-f]{16}$'),
  name         text not null unique,
  hash         bytea not null check (length(hash) = 32),
  scope        text not null check (scope in ('read', 'operate', 'admin')),
  tenants      text[],
  created_at   timestamptz not null,
  created_by   text not null,
  expires_at   timestamptz,
  revoked_at   timestamptz,
  last_used_at timestamptz
);
comment on table token is 'Tokens of the HTTP API. The secret itself is not kept.';
comment on column token.id is 'First part of the token; finds its row.';
comment on column token.name is 'Whose it is; what is done with it is done by this name.';
comment on column token.hash is 'SHA-256 of the secret part.';
comment on column token.scope is 'read: may look; operate: may also start and steer runs, queues and schedules; admin: may also delete, and change limits and policies.';
comment on column token.tenants is 'Tenants that it is for; null: all.';
comment on column token.created_at is 'When it was made.';
comment on column token.created_by is 'By whom.';
comment on column token.expires_at is 'From when on it counts no more; null: never.';
comment on column token.revoked_at is 'Since when it counts no more.';
comment on column token.last_used_at is 'When it was used last, to the minute.';

create table operator_act (
  id      uuid primary key,
  at      timestamptz not null,
  tenant  text not null,
  actor   text not null,
  act     text not null,
  target  text,
  reason  text,
  detail  jsonb,
  before  jsonb,
  outcome text check (outcome in ('done', 'refused', 'failed')),
  after   jsonb,
  error   text
);
comment on table operator_act is 'What operators did through the HTTP API; see the view operator_acts.';
comment on column operator_act.id is 'A UUIDv7.';
comment on column operator_act.at is 'When it began.';
comment on column operator_act.tenant is 'For which tenant.';
comment on column operator_act.actor is 'By whom.';
comment on column operator_act.act is 'What, as in stop run.';
comment on column operator_act.target is 'To what: an id or a name.';
comment on column operator_act.reason is 'Why, as the operator said.';
comment on column operator_act.detail is 'With what: the choice, the filter, the limits.';
comment on column operator_act.before is 'The state before.';
comment on column operator_act.outcome is 'done, refused, or failed; null: it is being done, or nobody knows.';
comment on column operator_act.after is 'The state after.';
comment on column operator_act.error is 'Why it was refused or failed.';

create table api_request (
  tenant   text not null,
  key      text not null,
  digest   bytea not null,
  request  uuid not null,
  at       timestamptz not null,
  begun_at timestamptz not null,
  status   integer,
  answer   text,
  primary key (tenant, key)
);
create index api_request_at on api_request (at);
comment on table api_request is 'Idempotency keys of the HTTP API, for a day: what was asked under each, and what was answered.';
comment on column api_request.digest is 'SHA-256 of method, path and body: the same key with another request is refused.';
comment on column api_request.request is 'The id under which it is carried out: done again after a broken answer, it is done once.';
comment on column api_request.at is 'When the key was used first.';
comment on column api_request.begun_at is 'When it was last begun to be carried out.';
comment on column api_request.status is 'HTTP status of the answer; null: there is none yet.';
comment on column api_request.answer is 'The answer.';
comment on column api_request.tenant is 'For which tenant it was asked.';
comment on column api_request.key is 'The idempotency key.';
