-- The one clock, and the settings.

create or replace function setting_value(p_name text) returns bigint
language plpgsql stable as $$
begin
  return (select s.value from setting s where s.name = p_name);
end $$;
comment on function setting_value(text) is 'The value of a setting, or null when there is none of that name.';

create or replace function set_setting(p_name text, p_value bigint) returns void
language plpgsql as $$
declare
  v_most bigint;
begin
  if p_name = 'clock_offset_ms' then
    raise exception using errcode = 'LH001', message = 'the clock is moved with advance_clock(), not with set_setting()';
  end if;
  if p_value is null or p_value < 1 then
    raise exception using errcode = 'LH001', message = format('setting %s must be at least 1, not %s', p_name, coalesce(p_value::text, 'null'));
  end if;
  select s.most into v_most from setting s where s.name = p_name;
  if not found then
    raise exception using errcode = 'LH002', message = format('there is no setting named %s', p_name);
  end if;
  if p_value > v_most then
    raise exception using errcode = 'LH001', message = format('setting %s is at most %s, not %s', p_name, v_most, p_value);
  end if;
  update setting set value = p_value where name = p_name;
end $$;
comment on function set_setting(text, bigint) is 'Changes a setting, within 1 and its column most; it counts from the next call on.';

create or replace function clock() returns timestamptz
language plpgsql volatile as $$
begin
  return clock_timestamp() + (select s.value from setting s where s.name = 'clock_offset_ms') * interval '1 millisecond';
end $$;
comment on function clock() is 'The time by which everything is decided: the server''s clock, plus the offset that a test has set.';

create or replace function present() returns timestamptz
language plpgsql stable parallel safe as $$
begin
  return clock_timestamp() + (select s.value from setting s where s.name = 'clock_offset_ms') * interval '1 millisecond';
end $$;
comment on function present() is
  'clock() for queries and views. In a query it is asked once, as (select present()); a volatile function would be asked for each row, and keep the planner from looking into a view.';

create or replace function advance_clock(p_by interval) returns timestamptz
language plpgsql as $$
declare
  v_ms bigint := (extract(epoch from p_by) * 1000)::bigint;
begin
  -- Living workers are taken along: a jump of the clock must not look like their death.
  update worker set expires_at = expires_at + v_ms * interval '1 millisecond' where state in ('active', 'draining');
  update setting set value = value + v_ms where name = 'clock_offset_ms';
  return clock();
end $$;
comment on function advance_clock(interval) is 'Moves the clock. For tests: a month''s sleep passes at once. Leases of living workers move along.';

create or replace function uuid_at(p_time timestamptz) returns uuid
language plpgsql immutable as $$
begin
  return (lpad(to_hex((extract(epoch from p_time) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid;
end $$;
comment on function uuid_at(timestamptz) is 'The lowest UUIDv7 of a time: bounds of partitions and of searches by time.';

create or replace function lowest_id(p_ids uuid[]) returns uuid
language plpgsql immutable as $$
-- A loop takes half the time of a query.
declare
  v_id     uuid;
  v_lowest uuid;
begin
  foreach v_id in array coalesce(p_ids, '{}') loop
    if v_id < v_lowest or v_lowest is null then
      v_lowest := v_id;
    end if;
  end loop;
  return v_lowest;
end $$;
comment on function lowest_id(uuid[]) is
  'The lowest of some run ids. As a bound in a statement it lets the executor leave out the partitions of older runs before it starts.';

create or replace function milliseconds_of(p_id uuid) returns bigint
language sql immutable as $$ select ('x0000' || left(replace(p_id::text, '-', ''), 12))::bit(64)::bigint $$;
comment on function milliseconds_of(uuid) is 'The time that a UUIDv7 carries, in milliseconds.';

drop function if exists new_run_id();

create or replace function new_run_id(p_after uuid default null) returns uuid
language sql volatile
-- RFC 9562: 48 bits of milliseconds, version 7 and twelve bits that are nothing, variant 2 and 62 random bits. One expression, whose
-- names are settled here: the planner takes it into the statement that asks, in a third of the time of a call.
return encode(
  int8send(greatest(
    (extract(epoch from clock_timestamp()) * 1000)::bigint,
    ('x0000' || left(replace(p_after::text, '-', ''), 12))::bit(64)::bigint + 1) << 16 | 28672)
  || substr(uuid_send(gen_random_uuid()), 9), 'hex')::uuid;
comment on function new_run_id(uuid) is 'A new UUIDv7 for a run; one that follows another, whatever time that carries.';

create or replace function lock_class(p_table regclass) returns integer
language sql immutable as $$
  select p_table::oid::bigint::bit(32)::integer
$$;
comment on function lock_class(regclass) is 'Class of the advisory locks that belong to a table: each installation has its own.';

create or replace function task_position(p_time timestamptz) returns bigint
language plpgsql immutable as $$
begin
  return case p_time when 'infinity' then 9223372036854775807 when '-infinity' then -9223372036854775808
                     else (extract(epoch from p_time) * 1000000)::bigint end;
end $$;
comment on function task_position(timestamptz) is 'The place in line of a step that became ready at a time.';

create or replace function time_of(p_position bigint) returns timestamptz
language plpgsql immutable as $$
begin
  -- Outside of what a time can hold, all is past or future.
  return case when p_position < 0 then '-infinity'
              when p_position > 9000000000000000 then 'infinity'
              else timestamptz 'epoch' + p_position * interval '1 microsecond' end;
end $$;
comment on function time_of(bigint) is 'The time that a place in line stands for.';

create or replace function ready_position() returns bigint
language plpgsql volatile as $$
begin
  -- First the transaction's number and its lock, then the clock: whoever knows when a number was given out, or sees that
  -- there is no lock, knows that no step of its transaction stands further ahead (floor.sql).
  perform pg_current_xact_id();
  lock table task in row exclusive mode;
  return task_position(clock());
end $$;
comment on function ready_position() is 'The place in line of a step that becomes ready now.';
