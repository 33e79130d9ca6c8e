-- A step's row is written once, when the step has ended: step is the last of the rooms. A live step is known by its room and by
-- its flow; only what it has of its own beside that stands in own_step. See decision 21.

alter table run
  add column priority     smallint,
  add column has_children boolean;
comment on column run.priority is 'The priority of all its steps; null: as its flow says.';
comment on column run.has_children is 'Whether a step of it has started child runs that end with that step.';

create table own_step (
  run_id   uuid not null,
  gate_id  bigint,
  seq      integer not null,
  lane_id  integer,
  def      integer,
  priority smallint not null,
  input    jsonb,
  primary key (run_id, seq)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0,
        autovacuum_vacuum_insert_scale_factor = 0.5);
comment on table own_step is
  'What live steps have of their own: items of fan-outs, compensations, steps with an input or a key of their own. Of all others their flow and run tell what they are. Handed on to step when the step ends.';
comment on column own_step.def is 'For the items of a fan-out and for compensations: number of the definition; null: the step''s own number.';
comment on column own_step.gate_id is 'The key of bounded concurrency that it belongs to.';
comment on column own_step.input is 'Its own input; null: the run''s.';

create table blocked (
  run_id   uuid not null,
  seq      integer not null,
  blockers integer not null check (blockers > 0),
  primary key (run_id, seq)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);
comment on table blocked is
  'Room: steps of which some predecessors have ended, and others have not. A step none of whose predecessors has ended is in no room, nor is one with a single predecessor.';
comment on column blocked.blockers is 'Predecessors that have not ended.';

alter table timer
  add column lane_id  integer,
  add column priority smallint;
comment on column timer.lane_id is 'Where it goes when its time has come.';

create table last_step (
  run_id     uuid not null,
  started_at timestamptz,
  ended_at   timestamptz not null,
  worker_id  bigint,
  seq        integer not null,
  attempt    integer,
  def        integer,
  outcome    step_state not null check (outcome in ('completed', 'failed', 'cancelled', 'skipped')),
  output     jsonb,
  error      jsonb,
  input      jsonb,
  constraint last_step_pkey primary key (run_id, seq)
) partition by range (run_id);
create table last_step_default partition of last_step default;

-- What lives moves to where it belongs now.
update run r set priority = s.priority
from step s join run o on o.id = s.run_id join flow_step f on f.flow_id = o.flow_id and f.seq = s.seq
where r.id = s.run_id and s.def is null and s.outcome is null and s.priority <> f.priority;
update run r set has_children = true from step s where r.id = s.run_id and s.parent;

-- Steps with a key stand in lanes of their own from now on, like those with an input.
insert into lane (queue_id, handler, own_input)
select distinct l.queue_id, l.handler, true from flow_step f join lane l on l.id = f.lane_id where f.settings ? 'concurrency'
on conflict (queue_id, handler, own_input) do nothing;
update flow_step f set own_input = true, lane_id = o.id
from lane l join lane o on o.queue_id = l.queue_id and o.handler = l.handler and o.own_input
where l.id = f.lane_id and f.settings ? 'concurrency' and not l.own_input;

insert into own_step (run_id, gate_id, seq, lane_id, def, priority, input)
select s.run_id, s.gate_id, s.seq, o.id, s.def, s.priority, s.input
from step s
left join lane l on l.id = s.lane_id
left join lane o on o.queue_id = l.queue_id and o.handler = l.handler and o.own_input
where s.outcome is null and (s.def is not null or s.input is not null or s.gate_id is not null);
update lease l set lane_id = s.lane_id from step s where s.run_id = l.run_id and s.seq = l.seq and l.lane_id is null;
update timer t set lane_id = s.lane_id, priority = s.priority from step s where s.run_id = t.run_id and s.seq = t.seq;
update task t set lane_id = o.lane_id from own_step o where o.run_id = t.run_id and o.seq = t.seq and o.lane_id <> t.lane_id;
update lease t set lane_id = o.lane_id from own_step o where o.run_id = t.run_id and o.seq = t.seq and o.lane_id <> t.lane_id;
update timer t set lane_id = o.lane_id from own_step o where o.run_id = t.run_id and o.seq = t.seq and o.lane_id <> t.lane_id;
update held t set lane_id = o.lane_id from own_step o where o.run_id = t.run_id and o.seq = t.seq and o.lane_id <> t.lane_id;
update queued t set lane_id = o.lane_id from own_step o where o.run_id = t.run_id and o.seq = t.seq and o.lane_id <> t.lane_id;
-- Steps have come to lanes at places that their floors do not know.
truncate floor, lowered;

insert into blocked (run_id, seq, blockers)
select s.run_id, s.seq, s.blockers
from step s join run r on r.id = s.run_id join flow_step f on f.flow_id = r.flow_id and f.seq = s.seq
where s.outcome is null and s.def is null and s.blockers between 1 and f.predecessors - 1;

insert into last_step (run_id, started_at, ended_at, worker_id, seq, attempt, def, outcome, output, error, input)
select s.run_id, s.started_at, coalesce(s.ended_at, r.ended_at, r.created_at), s.worker_id, s.seq, s.attempt, s.def, s.outcome, s.output, s.error, s.input
from step s join run r on r.id = s.run_id where s.outcome is not null;

-- Views and functions that read the old rows go with them; those of this release are made right after this.
drop table step cascade;
alter table last_step rename to step;
alter table last_step_default rename to step_default;
alter table step rename constraint last_step_pkey to step_pkey;
alter index last_step_default_pkey rename to step_default_pkey;
comment on table step is 'Room: steps that have ended. A row is written once, when the step ends, and never changes; a retry of its run takes it away again.';
comment on table step_default is 'Catches ids outside the made partitions; meant to stay empty.';
comment on column step.started_at is 'When the attempt that ended the step was claimed.';
comment on column step.worker_id is 'Worker of the attempt that ended the step.';
comment on column step.attempt is 'Number (fencing token) of the attempt that ended the step.';
comment on column step.def is 'For the items of a fan-out and for compensations: number of the definition; null: the step''s own number.';
comment on column step.input is 'Its own input, where it had one; null: the run''s.';

alter table lease alter column lane_id set not null;
alter table timer alter column lane_id set not null, alter column priority set not null;
comment on column lease.lane_id is 'Lane of the step.';
comment on column lane.own_input is 'Whether the steps of this lane may have rows in own_step: an input or a key of their own.';

-- Whether a successor is plain is asked of the successor.
alter table flow_step drop column plain_successors;

-- The leases of a lost worker are found by reading all: there are no more than what runs.
drop index lease_worker;
