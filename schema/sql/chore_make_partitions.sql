-- Chore: partitions of the history are made ahead of their time, for each table on its own: one that somebody uses does not stop
-- the others. What a partition holds is what its bounds say, never its name.

create or replace function history_tables() returns text[]
language sql immutable as $$ select array['run', 'step', 'attempt', 'fan_out', 'checkpoint', 'event'] $$;
comment on function history_tables() is 'The tables that are partitioned by the time in the run id.';

-- Asked from outside as well, where nobody's search path has the function that it calls.
create or replace function time_of_id(p_id uuid) returns timestamptz
language sql immutable set search_path from current as $$
  select to_timestamp(milliseconds_of(p_id) / 1000.0)
$$;
comment on function time_of_id(uuid) is 'The time that a run id carries; uuid_at() is its inverse.';

create or replace function partitions_of(p_table text) returns table (part regclass, from_id uuid, to_id uuid)
language sql stable as $$
  select b.part, coalesce(b.bounds[1]::uuid, '00000000-0000-0000-0000-000000000000'), coalesce(b.bounds[2]::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
  from (
    select c.oid::regclass as part, pg_get_expr(c.relpartbound, c.oid) as text,
      regexp_match(pg_get_expr(c.relpartbound, c.oid), '^FOR VALUES FROM \((?:''([0-9a-f-]{36})''|MINVALUE)\) TO \((?:''([0-9a-f-]{36})''|MAXVALUE)\)$') as bounds
    from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = p_table::regclass) b
  where b.bounds is not null
$$;
comment on function partitions_of(text) is 'The partitions of a table of the history, the default one left out: from an id to before an id.';

create or replace function key_of(p_table text) returns text
language sql immutable as $$ select case p_table when 'run' then 'id' else 'run_id' end $$;
comment on function key_of(text) is 'The column that holds the run id in a table of the history.';

create or replace function astray(p_table text, p_from uuid, p_to uuid, p_place bigint) returns uuid
language plpgsql stable as $$
declare
  v_id uuid;
begin
  execute format('select d.%1$I from %2$I d where d.%1$I >= $1 and d.%1$I < $2 order by d.%1$I offset $3 limit 1', key_of(p_table), p_table || '_default')
    into v_id using p_from, p_to, p_place;
  return v_id;
end $$;
comment on function astray(text, uuid, uuid, bigint) is 'The run id of the so-manieth row in the default partition of a table, of those between two ids; null when there are not so many.';

create or replace function make_partition(p_table text, p_from timestamptz, p_to timestamptz) returns boolean
language plpgsql as $$
declare
  v_from    uuid := uuid_at(p_from);
  v_to      uuid := uuid_at(p_to);
  v_default text := p_table || '_default';
  v_name    text := format('%s_%s', p_table, to_char(p_from at time zone 'UTC', 'YYYYMMDD'));
begin
  if exists (select from partitions_of(p_table) p where p.from_id < v_to and p.to_id > v_from) then
    return false;
  end if;
  if to_regclass(v_name) is not null then
    v_name := format('%s_%s', p_table, to_char(p_from at time zone 'UTC', 'YYYYMMDD_HH24MISSMS'));
  end if;
  -- ATTACH takes a weaker lock on the parent than CREATE ... PARTITION OF. It waits for whoever uses the default partition, and
  -- everybody else would wait behind it: so it gives up soon, and the chore tries again. There is time.
  perform set_config('lock_timeout', '500ms', true);
  execute format('create table %I (like %I including defaults including constraints including comments)%s', v_name, p_table,
                 case when p_table = 'run' then ' with (fillfactor = 50)' else '' end);
  if astray(p_table, v_from, v_to, 0) is not null then
    -- Rows that came before their partition move into it. All stand still meanwhile: nobody may look where they were, or are not yet.
    execute format('lock table %I in access exclusive mode', p_table);
    execute format('with moved as (delete from %1$I d where d.%2$I >= %3$L and d.%2$I < %4$L returning d.*) insert into %5$I select m.* from moved m',
                   v_default, key_of(p_table), v_from, v_to, v_name);
  end if;
  execute format('alter table %I attach partition %I for values from (%L) to (%L)', p_table, v_name, v_from, v_to);
  execute format('comment on table %I is %L', v_name,
                 format('Partition of %s: ids made from %s to %s.', p_table, p_from at time zone 'UTC', p_to at time zone 'UTC'));
  return true;
end $$;
comment on function make_partition(text, timestamptz, timestamptz) is
  'Makes one partition, unless there is one for a part of its time already. Rows of its time that stand in the default partition move into it.';

create or replace function make_partitions_ahead(p_table text) returns bigint
language plpgsql as $$
-- By the server's own clock, not clock(): the ids carry real times even when a test has moved the other one.
declare
  v_width interval := setting_value('partition_days') * interval '1 day';
  v_days  bigint := setting_value('partition_days');
  v_end   timestamptz := clock_timestamp() + interval '1 day' + setting_value('partitions_ahead') * v_width;
  v_from  timestamptz := to_timestamp(floor(extract(epoch from clock_timestamp() - interval '1 day') / (86400 * v_days)) * 86400 * v_days);
  v_next  uuid;
  v_to    timestamptz;
  v_many  uuid;
  v_made  bigint := 0;
begin
  loop
    -- Behind the partition that the moment stands in, if it is in one.
    loop
      select time_of_id(p.to_id) into v_to from partitions_of(p_table) p where p.from_id <= uuid_at(v_from) and p.to_id > uuid_at(v_from);
      exit when not found;
      v_from := v_to;
    end loop;
    exit when v_from >= v_end;
    v_to := v_from + v_width;
    select p.from_id into v_next from partitions_of(p_table) p where p.from_id > uuid_at(v_from) order by p.from_id limit 1;
    v_to := least(v_to, time_of_id(v_next));
    -- A period of the past, as when the width has changed: drop_partitions() would drop it, and it would be made again, for ever.
    if v_to < clock_timestamp() - interval '1 day' then
      v_from := v_to;
      continue;
    end if;
    -- Very many rows are moved by and by (fetch_astray); from the next hour on there is a partition, so that no more come.
    v_many := astray(p_table, uuid_at(v_from), uuid_at(v_to), 200000);
    if v_many is not null and v_from < clock_timestamp() then
      v_from := least(date_trunc('hour', clock_timestamp()) + interval '1 hour', v_to);
      continue when v_from = v_to;
    end if;
    v_made := v_made + make_partition(p_table, v_from, v_to)::int;
    v_from := v_to;
  end loop;
  return v_made;
end $$;
comment on function make_partitions_ahead(text) is 'Makes the partitions of one table for the present and the coming periods.';

create or replace function fetch_astray(p_table text) returns bigint
language plpgsql as $$
declare
  v_width interval := setting_value('partition_days') * interval '1 day';
  v_first uuid := astray(p_table, '00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff', 0);
  v_from  uuid;
  v_to    uuid;
  v_many  uuid;
begin
  -- Ids from outside the years that a partition is made for stay where they are; none is accepted any more.
  if v_first is null or time_of_id(v_first) not between '2000-01-01' and clock_timestamp() + interval '10 years' then
    return 0;
  end if;
  v_from := uuid_at(date_trunc('day', time_of_id(v_first), 'UTC'));
  select greatest(v_from, max_id(array_agg(p.to_id))) into v_from from partitions_of(p_table) p where p.to_id <= v_first;
  v_to := uuid_at(time_of_id(v_from) + v_width);
  select least(v_to, lowest_id(array_agg(p.from_id))) into v_to from partitions_of(p_table) p where p.from_id > v_first;
  -- No more at once than takes a second or two.
  v_many := astray(p_table, v_first, v_to, 200000);
  if v_many is not null then
    v_to := greatest(uuid_at(time_of_id(v_many)), uuid_at(time_of_id(v_first) + interval '1 millisecond'));
  end if;
  return make_partition(p_table, time_of_id(v_from), time_of_id(v_to))::int;
end $$;
comment on function fetch_astray(text) is 'Makes a partition for the oldest rows in the default partition of a table, and moves them into it.';

create or replace function max_id(p_ids uuid[]) returns uuid
language sql immutable as $$ select x from unnest(p_ids) x where x is not null order by x desc limit 1 $$;
comment on function max_id(uuid[]) is 'The highest of some run ids.';

create or replace function make_partitions() returns bigint
language plpgsql as $$
declare
  v_table   text;
  v_astray  uuid;
  v_made    bigint := 0;
  v_problem text;
begin
  foreach v_table in array history_tables() loop
    v_astray := astray(v_table, '00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff', 0);
    begin
      v_made := v_made + make_partitions_ahead(v_table);
    exception when others then
      v_problem := coalesce(v_problem, format('%s: %s (SQLSTATE %s)', v_table, sqlerrm, sqlstate));
    end;
    begin
      v_made := v_made + fetch_astray(v_table);
    exception when others then
      v_problem := coalesce(v_problem, format('%s: %s (SQLSTATE %s)', v_table, sqlerrm, sqlstate));
    end;
    -- Where rows may have moved, all who want the table wait until this transaction ends: the other tables come next time.
    exit when v_astray is not null and v_made > 0;
  end loop;
  if v_made = 0 and v_problem is not null then
    raise exception using errcode = 'LH003', message = format('partitions could not be made for table %s', v_problem);
  end if;
  return v_made;
end $$;
comment on function make_partitions() is
  'Chore: makes the partitions for the present and the coming periods (settings partition_days, partitions_ahead), and one for rows that stand in a default partition. Returns how many were made; an error only when none could be made.';

select define_chore('make_partitions', 3600000, 'Makes partitions of the history ahead of their time.');
-- Until nothing is left to move: whoever reads a table while its rows move may miss them once.
do $$
begin
  while make_partitions() > 0 loop
  end loop;
end $$;
