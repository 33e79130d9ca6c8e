-- Ids of workers are made of time and chance by register_worker(): a serial number comes again when the database is set back, by
-- a restore or a failover, and then two living processes are the same worker.
alter table worker alter column id drop identity if exists;
comment on column worker.id is
  'The seconds since 2020, then 22 random bits: 53 bits, all of which a double can hold. Never given twice, also after the database was set back.';
