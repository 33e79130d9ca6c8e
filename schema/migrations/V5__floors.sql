-- Floors: where claims and timers begin to look, so that entries of what was taken long ago cost nothing while a snapshot
-- that somebody holds keeps the server from removing them. All of it is unlogged: after a crash of the server there are no
-- floors, and everybody looks from the beginning until there are new ones.

create unlogged table horizon_mark (
  at  timestamptz primary key,
  xid xid8 not null
);
comment on table horizon_mark is 'Times, and the transaction number that was given out right after each.';

create unlogged table floor (
  id         bigint generated always as identity,
  line       integer not null,
  horizon    bigint not null,
  folded     bigint not null,
  priorities smallint[] not null,
  positions  bigint[] not null,
  primary key (line, id)
);
comment on table floor is
  'For each line (a lane; 0: timers; -1: waits) and priority a position below which nothing stands. The newest row of a line counts, with what was lowered since.';
comment on column floor.horizon is 'The position below which, when it was made, no transaction in progress could put anything.';
comment on column floor.folded is 'Rows of lowered up to this id are contained.';

create unlogged table lowered (
  line     integer not null,
  id       bigint generated always as identity,
  priority smallint not null,
  position bigint not null,
  primary key (line, id)
);
comment on table lowered is 'Positions below their floor that steps were put to since it was made.';

-- Who was lost is swept once, instead of looking at the owners of all leases every second.

alter table worker add column swept boolean not null default false;
create index worker_unswept on worker (id) where state = 'lost' and not swept;
comment on column worker.swept is 'Lost, and none of its leases is left.';
