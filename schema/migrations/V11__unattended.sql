-- Left alone for years: what it costs does not grow with history, and nothing grows that nobody needs any more.

-- Settings have an upper bound: what is not meant is refused, and not found out by the next start.
alter table setting add column most bigint not null default 2147483647;
comment on column setting.most is 'The highest value that set_setting() takes.';
update setting s set most = b.most
from (values ('max_payload_bytes', 268435456), ('partition_days', 366), ('partitions_ahead', 366), ('keep_workers_days', 36500),
             ('max_history', 10000000), ('keep_signals_days', 36500), ('keep_ticks_days', 36500)) b(name, most)
where s.name = b.name;
update setting set most = 9223372036854775807 where name = 'clock_offset_ms';
update setting set value = most where value > most;

-- Retention: what is to stand in an archive first, and how far each policy has looked.
alter table retention_policy
  add column archive   boolean not null default false,
  add column looked_to uuid,
  add column kept      jsonb not null default '{}',
  add column looked_at timestamptz;
comment on column retention_policy.archive is
  'What it is about is deleted only by whoever has written it to an archive: longhaul retention run --archive. Schedulers leave it alone.';
comment on column retention_policy.looked_to is 'Runs from this one on have been looked at in this round, the newest first; null: the next look begins a round.';
comment on column retention_policy.kept is 'How many runs of each flow were passed over in this round because they are among the last so many.';
comment on column retention_policy.looked_at is 'When it was applied last: the policy that has waited longest is applied first.';
update retention_policy set age = interval '36500 days' where age > interval '36500 days';
alter table retention_policy add check (age <= interval '36500 days');

-- What a run is asked for when it is to be deleted.
create index signal_run on signal (run_id) where run_id is not null;
create index notice_child on notice (child_id) where child_id is not null;

-- Where chores that go through a table bit by bit have got to.
create table chore_place (
  chore text primary key,
  place jsonb not null
);
comment on table chore_place is 'Where a chore that goes through a table bit by bit goes on: the key of the last row that it has looked at.';

create index lock_event_at on lock_event (at);
create index flow_step_budget on flow_step (flow_id, seq) where settings ? 'budget';

-- One sequence for the tokens of all locks: they grow also when the row of a lock has been forgotten meanwhile. It begins above
-- whatever counter a forgotten lock may have had, of which one acquisition a millisecond since 1970 would have been the most.
alter table lock alter column token add generated always as identity;
select setval(pg_get_serial_sequence(format('%I.lock', current_schema()), 'token'),
              greatest((select max(token) from lock), (extract(epoch from clock_timestamp()) * 1000)::bigint));
comment on column lock.token is 'The fencing token: taken anew from one sequence with each acquisition, so that it only grows.';

-- These go through their tables bit by bit now.
update chore set interval_ms = 60000 where name = 'forget_locks' and interval_ms = 3600000;
