-- Workflows: conditions, fan-out, child runs, waits, signals, decisions, checkpoints, pausing, and the record of what
-- was done to a run.
--
-- Two rooms are new. wait: the step waits for a signal, a decision, a child run, its items or a time, and holds no slot;
-- it is left under the run's lock. held: the step is ready, but its run is paused.

alter type attempt_outcome add value 'suspended';
alter type attempt_outcome add value 'deferred';
alter type ended_attempt add attribute def integer;
alter type new_run add attribute metadata jsonb;

create type step_key as (run_id uuid, seq integer);
create type parent_step as (run_id uuid, seq integer, path text, depth smallint);
create type step_kind as enum ('handler', 'child', 'sleep', 'signal');
create type wait_kind as enum ('items', 'sleep', 'signal', 'child', 'decision', 'interrupt', 'external', 'retry');
create type answer as enum ('ok', 'error', 'timeout');
create type signal_scope as enum ('one', 'all');

comment on type step_key is 'Names a step: its run and its number.';
comment on type parent_step is 'The step that starts a child run, which of its waits the child answers (null: none), and how deep the child is.';
comment on type step_kind is
  'Who does a step: a handler, or the database itself: a child run, a durable sleep, waiting for a signal.';
comment on type wait_kind is
  'What a step waits for: its fan-out''s items, a time, a signal, a child run, a decision, resumption after an interrupt, the completion of work handed to an outside provider, or a time after which it is considered anew (a spent budget).';
comment on type answer is 'How something that was waited for, or computed once, came out.';
comment on type signal_scope is 'Whether a signal is consumed by one waiter, or answers every wait for its topic and key.';

insert into setting (name, value, description) values
  ('max_history', 10000, 'Most checkpoints of one step; a durable function that needs more continues as new.'),
  ('keep_signals_days', 30, 'How long a signal is kept that nobody consumes, unless it names a time itself, and how long one that was consumed, in days.');

-- Flows -----------------------------------------------------------------------------------------------------------

alter table flow add column checksum text not null generated always as (md5(definition::text)) stored;
alter table flow add column timeout_ms bigint check (timeout_ms > 0);
alter table flow add column compensates boolean not null default false;
comment on column flow.checksum is 'MD5 of the definition: equal for equal definitions, in any installation.';
comment on column flow.timeout_ms is 'A run that takes longer fails.';
comment on column flow.compensates is 'Whether some of its steps have compensations.';

alter table lane add column own_input boolean not null default false;
alter table lane drop constraint lane_queue_id_handler_key;
alter table lane add unique (queue_id, handler, own_input);
comment on column lane.own_input is 'Whether the steps of this lane have inputs of their own instead of their run''s.';

alter table flow_step
  alter column lane_id drop not null,
  add column phase            text,
  add column kind             step_kind not null default 'handler',
  add column plain            boolean not null default true,
  add column plain_successors boolean not null default true,
  add column own_input        boolean not null default false,
  add column continues        boolean not null default false,
  add column predecessor_seqs integer[],
  add column reads            integer[] not null default '{}',
  add column condition        jsonpath,
  add column input            jsonb,
  add column each             jsonpath,
  add column window_size      integer check (window_size > 0),
  add column undo             integer,
  add column undoes           integer,
  add column never_on         text[],
  add column settings         jsonb;
update flow_step f set predecessor_seqs = b.seqs
from (select p.flow_id, n.seq, array_agg(p.seq order by p.seq) as seqs from flow_step p cross join lateral unnest(p.successors) n(seq) group by p.flow_id, n.seq) b
where b.flow_id = f.flow_id and b.seq = f.seq;
update flow_step set predecessor_seqs = '{}' where predecessor_seqs is null;
alter table flow_step alter column predecessor_seqs set not null;
comment on column flow_step.lane_id is 'Null for steps that the database does itself.';
comment on column flow_step.plain is 'A plain step has nothing to it but its handler: when it is ready it goes straight to its lane.';
comment on column flow_step.plain_successors is 'Whether all successors are plain.';
comment on column flow_step.continues is 'Whether the run goes on when this step fails.';
comment on column flow_step.predecessor_seqs is 'The steps that this one waits for.';
comment on column flow_step.reads is 'The steps that its expressions look at.';
comment on column flow_step.condition is 'The step is skipped unless this holds.';
comment on column flow_step.input is 'Template of the step''s input: texts that begin with $ are paths.';
comment on column flow_step.each is 'Path to the list of a fan-out.';
comment on column flow_step.window_size is 'How many items of a fan-out are live at once.';
comment on column flow_step.undo is 'The definition of the step''s compensation.';
comment on column flow_step.undoes is 'Set for compensations, which are no steps of a run until it fails: the step that is undone.';
comment on column flow_step.never_on is 'Codes of errors that are not retried.';
comment on column flow_step.settings is 'What the kind of the step asks for (flow, topic, duration), and its approval and budget.';

-- Runs and steps --------------------------------------------------------------------------------------------------

alter table run
  add column parent_id    uuid,
  add column parent_seq   integer,
  add column parent_path  text,
  add column depth        smallint,
  add column forked_from  uuid,
  add column dismissed_at timestamptz,
  add column paused_for   text check (paused_for in ('operator', 'question')),
  add column compensating boolean,
  add column metadata     jsonb check (jsonb_typeof(metadata) = 'object');
comment on column run.parent_id is 'The run that started this one as a child.';
comment on column run.parent_path is 'Which of that step''s waits it answers; null: detached.';
comment on column run.depth is 'How many runs are above it; null: none.';
comment on column run.dismissed_at is 'Since when it is left out of lists.';
comment on column run.paused_for is 'Why it is paused: by an operator, or until a question is answered.';
comment on column run.compensating is 'It has failed, and its completed steps are being undone.';
comment on column run.metadata is 'An object of the user''s, to find the run by and to show its progress.';

alter table step alter column lane_id drop not null, add column def integer, add column input jsonb;
comment on column step.def is 'For the items of a fan-out and for compensations: number of the definition; null: the step''s own number.';
comment on column step.input is 'Its own input, where it has one; null: the run''s.';

create table fan_out (
  run_id    uuid not null,
  seq       integer not null,
  first_seq integer not null,
  total     integer not null,
  opened    integer not null,
  ended     integer not null,
  list      jsonb not null,
  primary key (run_id, seq)
) partition by range (run_id);
create table fan_out_default partition of fan_out default;
comment on table fan_out is 'Steps that are done for each item of a list. Item i is step first_seq + i; at most window_size of them live at once.';
comment on column fan_out.opened is 'Items that have become steps so far.';
comment on column fan_out.ended is 'Items that have ended.';

create table checkpoint (
  run_id  uuid not null,
  at      timestamptz not null,
  seq     integer not null,
  attempt integer,
  path    text not null,
  kind    text not null,
  name    text not null,
  answer  answer,
  value   jsonb,
  primary key (run_id, seq, path)
) partition by range (run_id);
create table checkpoint_default partition of checkpoint default;
comment on table checkpoint is
  'What a step has computed or begun and will not do again: the history from which a durable function is resumed.';
comment on column checkpoint.path is 'Place in the function: the number of the operation, with the numbers of the branches that it is in, as in 3 or 2.0.1.';
comment on column checkpoint.answer is 'Null: begun, and still waited for.';

create table event (
  run_id  uuid not null,
  at      timestamptz not null,
  seq     integer,
  kind    text not null,
  actor   text not null,
  detail  jsonb,
  request uuid
) partition by range (run_id);
create index event_run on event (run_id, at);
create table event_default partition of event default;
comment on table event is 'What was done to a run, and by whom. Append-only; the view timeline joins it with what steps and attempts record.';
comment on column event.request is 'Given by the caller: an operation that is asked for twice under one request is carried out once.';

create table deadline (
  run_id uuid primary key,
  at     timestamptz not null
);
create index deadline_at on deadline (at);
comment on table deadline is 'When runs of flows with a timeout fail.';

create table dead_letter (
  run_id  uuid not null,
  seq     integer not null,
  died_at timestamptz not null,
  primary key (run_id, seq)
);
comment on table dead_letter is 'Steps that used up their attempts and wait for somebody to retry or discard them; see the view dead_letters.';

-- Rooms -----------------------------------------------------------------------------------------------------------

create table wait (
  run_id    uuid not null,
  seq       integer not null,
  path      text not null,
  attempt   integer not null,
  failures  smallint not null,
  kind      wait_kind not null,
  completes boolean not null,
  since     timestamptz not null,
  due_at    timestamptz,
  tenant    text,
  topic     text,
  key       text,
  child_id  uuid,
  prompt    jsonb,
  primary key (run_id, seq, path)
);
create index wait_due on wait (due_at) where due_at is not null;
create index wait_topic on wait (tenant, topic, key, since) where key is not null;
comment on table wait is
  'Room: steps that wait, holding no slot. A row for each thing that the step waits for; the first that comes ends all its rows.';
comment on column wait.completes is 'Whether the answer completes the step; otherwise its handler is called again, with the answer in its history.';
comment on column wait.due_at is 'When it sleeps no longer, or when the wait ends without an answer.';
comment on column wait.prompt is 'The question of a decision or an interrupt: what is asked, the choices, who may answer.';

create table held (
  run_id   uuid not null,
  position bigint not null,
  lane_id  integer,
  seq      integer not null,
  attempt  integer not null,
  priority smallint not null,
  failures smallint not null,
  primary key (run_id, seq)
);
comment on table held is 'Room: steps that are ready, but kept back because their run is paused.';
comment on column held.lane_id is 'Null: what the step needs to begin is looked at when the run goes on.';

-- Signals ---------------------------------------------------------------------------------------------------------

create table signal (
  id              bigint generated always as identity primary key,
  tenant          text not null,
  run_id          uuid,
  topic           text not null,
  key             text,
  scope           signal_scope not null,
  payload         jsonb not null,
  failed          boolean not null default false,
  idempotency_key text,
  sent_at         timestamptz not null,
  sent_by         text not null,
  expires_at      timestamptz not null,
  consumed_at     timestamptz,
  consumed_by     uuid,
  consumed_seq    integer,
  check ((run_id is null) <> (key is null))
);
create unique index signal_once_run on signal (run_id, topic, idempotency_key) where run_id is not null and idempotency_key is not null;
create unique index signal_once_key on signal (tenant, topic, key, idempotency_key) where key is not null and idempotency_key is not null;
create unique index signal_completion on signal (tenant, topic, key) where scope = 'all';
create index signal_of_run on signal (run_id, topic, id) where consumed_at is null and run_id is not null;
create index signal_of_key on signal (tenant, topic, key, id) where consumed_at is null and key is not null;
create index signal_expiry on signal (expires_at);
comment on table signal is 'Messages to a run, or to a topic and correlation key; kept until consumed or expired.';
comment on column signal.failed is 'A completion that reports a failure.';
comment on column signal.scope is 'one: one waiter consumes it; all: a completion, which answers every wait for its topic and key.';

create table notice (
  id       bigint generated always as identity primary key,
  kind     text not null check (kind in ('stop', 'child_ended', 'match')),
  run_id   uuid,
  child_id uuid,
  tenant   text,
  topic    text,
  key      text
);
comment on table notice is
  'What could not be done at once because the other run was busy: the chore deliver_notices does it. So no transition of one run waits for another run.';

create table budget (
  tenant    text not null,
  name      text not null,
  window_at timestamptz not null,
  used      numeric not null,
  primary key (tenant, name, window_at)
);
comment on table budget is 'What was spent of the budgets that flows name, by window of time.';
comment on table fan_out_default is 'Catches ids outside the made partitions; meant to stay empty.';
comment on table checkpoint_default is 'Catches ids outside the made partitions; meant to stay empty.';
comment on table event_default is 'Catches ids outside the made partitions; meant to stay empty.';
