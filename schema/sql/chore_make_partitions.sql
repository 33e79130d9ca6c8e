-- Chore: partitions of run, step and attempt are made ahead of their time.

create or replace function history_tables() returns text[]
language sql immutable as $$ select array['run', 'step', 'attempt', 'fan_out', 'checkpoint', 'event'] $$;
comment on function history_tables() is 'The tables that are partitioned by the time in the run id.';

create or replace function make_partition(p_table text, p_from timestamptz, p_to timestamptz) returns boolean
language plpgsql as $$
declare
  v_name text := format('%s_%s', p_table, to_char(p_from at time zone 'UTC', 'YYYYMMDD'));
begin
  if to_regclass(v_name) is not null then
    return false;
  end if;
  -- ATTACH takes a weaker lock on the parent than CREATE ... PARTITION OF. It waits for whoever uses the (empty) default
  -- partition, and everybody else would wait behind it: so it gives up soon, and the chore tries again. There is time.
  perform set_config('lock_timeout', '500ms', true);
  execute format('create table %I (like %I including defaults including constraints including comments)%s', v_name, p_table,
                 case when p_table in ('run', 'step') then ' with (fillfactor = 50)' else '' end);
  execute format('alter table %I attach partition %I for values from (%L) to (%L)', p_table, v_name, uuid_at(p_from), uuid_at(p_to));
  execute format('comment on table %I is %L', v_name,
                 format('Partition of %s: ids made from %s to %s.', p_table, p_from at time zone 'UTC', p_to at time zone 'UTC'));
  return true;
end $$;
comment on function make_partition(text, timestamptz, timestamptz) is 'Makes one partition unless it is there.';

create or replace function make_partitions() returns bigint
language plpgsql as $$
-- By the server's own clock, not clock(): the ids carry real times even when a test has moved the other one.
declare
  v_days bigint := setting_value('partition_days');
  v_from timestamptz := to_timestamp(floor(extract(epoch from clock_timestamp() - interval '1 day') / (86400 * v_days)) * 86400 * v_days);
  v_end  timestamptz := clock_timestamp() + (1 + setting_value('partitions_ahead') * v_days) * interval '1 day';
  v_made bigint := 0;
  v_to   timestamptz;
  v_table text;
begin
  while v_from < v_end loop
    v_to := v_from + v_days * interval '1 day';
    foreach v_table in array history_tables() loop
      v_made := v_made + make_partition(v_table, v_from, v_to)::int;
    end loop;
    v_from := v_to;
  end loop;
  return v_made;
end $$;
comment on function make_partitions() is
  'Chore: makes the partitions for the present and the coming periods (settings partition_days, partitions_ahead). Returns how many were made.';

select define_chore('make_partitions', 3600000, 'Makes partitions of the history ahead of their time.');
select make_partitions();
