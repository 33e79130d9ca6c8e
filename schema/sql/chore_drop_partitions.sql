-- Chore: partitions of the past of whose runs the policies want none any more are dropped, instead of deleting run by run.

create or replace function wanted_run(p_partition regclass) returns uuid
language plpgsql stable as $$
declare
  v_wanted uuid;
begin
  execute format($query$
    with policy as materialized (
      select p.tenant, (select present()) - min(p.age) as before from retention_policy p
      where p.state is null and p.flow is null and p.keep_last = 0 group by p.tenant
    ), archive as materialized (
      select p.tenant, p.state, p.flow from retention_policy p where p.archive
    ), told as materialized (
      select n.child_id as id from notice n where n.child_id is not null union select n.run_id from notice n where n.run_id is not null
    )
    select r.id from %1$s r left join policy p on p.tenant = r.tenant
    where r.state not in ('completed', 'failed', 'cancelled') or r.open_steps > 0 or p.before is null or r.ended_at >= p.before
      or r.id in (select t.id from told t)
      or r.parent_id is not null and exists (
           select from run x where x.id = r.parent_id and (x.state not in ('completed', 'failed', 'cancelled') or x.open_steps > 0))
      or exists (
           select from archive a join flow f on f.id = r.flow_id
           where a.tenant = r.tenant and (a.state is null or a.state = r.state) and (a.flow is null or a.flow = f.name))
    limit 1$query$, p_partition) into v_wanted;
  return v_wanted;
end $$;
comment on function wanted_run(regclass) is
  'A run of a partition that must stay: it lives, a live run can need it, it is younger than its tenant''s policy for all runs, or it is to stand in an archive before.';

create or replace function droppable(p_partition regclass) returns boolean
language sql stable as $$ select wanted_run(p_partition) is null $$;
comment on function droppable(regclass) is 'Whether the policies want nothing of a partition of run any more. Empty ones are.';

create or replace function drop_partition(p_partition regclass, p_from uuid, p_to uuid) returns void
language plpgsql as $$
-- The partition of run is locked against changes while it is looked through; nobody writes there but who retries an old run. The
-- drop itself takes milliseconds, and gives up when it would have to wait for somebody. Of the other tables go those partitions
-- within the range to which no run belongs any more, whatever their names and bounds are.
declare
  v_now   timestamptz := clock();
  v_table text;
  v_part  record;
begin
  execute format('lock table %s in share row exclusive mode', p_partition);
  if not droppable(p_partition) then
    return;
  end if;
  delete from dead_letter x where x.run_id >= p_from and x.run_id < p_to;
  delete from deadline x where x.run_id >= p_from and x.run_id < p_to;
  delete from progress x where x.run_id >= p_from and x.run_id < p_to;
  delete from signal x where x.run_id >= p_from and x.run_id < p_to;
  delete from start_key x where x.run_id >= p_from and x.run_id < p_to and (x.until is null or x.until <= v_now);
  execute format('drop table %s', p_partition);
  foreach v_table in array array_remove(history_tables(), 'run') loop
    for v_part in select p.part, p.from_id, p.to_id from partitions_of(v_table) p where p.from_id < p_to and p.to_id > p_from loop
      if not exists (select from run r where r.id >= v_part.from_id and r.id < v_part.to_id) then
        execute format('drop table %s', v_part.part);
      end if;
    end loop;
  end loop;
end $$;
comment on function drop_partition(regclass, uuid, uuid) is 'Drops a partition of run of which nothing is wanted, and what belongs to its runs.';

create or replace function drop_partitions() returns bigint
language plpgsql as $$
-- Of the past only. A run that must stay is remembered for each partition and looked at first: a partition is not read as a whole
-- each time because of one run in it.
declare
  v_seen    jsonb := coalesce((select c.place from chore_place c where c.chore = 'drop_partitions'), '{}');
  v_known   jsonb := '{}';
  v_part    record;
  v_wanted  uuid;
  v_dropped bigint := 0;
  v_problem text;
begin
  for v_part in
    select p.part, p.from_id, p.to_id from partitions_of('run') p where p.to_id < uuid_at(clock_timestamp() - interval '2 days') order by p.to_id
  loop
    v_wanted := still_wanted((v_seen ->> v_part.part::text)::uuid);
    if v_wanted is null then
      v_wanted := wanted_run(v_part.part);
    end if;
    if v_wanted is not null then
      v_known := v_known || jsonb_build_object(v_part.part::text, v_wanted);
      continue;
    end if;
    begin
      perform set_config('lock_timeout', '500ms', true);
      perform drop_partition(v_part.part, v_part.from_id, v_part.to_id);
      v_dropped := v_dropped + (not exists (select from pg_class c where c.oid = v_part.part))::int;
    exception when lock_not_available or deadlock_detected or dependent_objects_still_exist then
      v_problem := format('%s: %s', v_part.part, sqlerrm);
    end;
  end loop;
  if v_known <> v_seen then
    insert into chore_place as c (chore, place) values ('drop_partitions', v_known) on conflict (chore) do update set place = excluded.place;
  end if;
  if v_dropped = 0 and v_problem is not null then
    raise exception using errcode = 'LH003', message = format('partitions could not be dropped, such as %s', v_problem);
  end if;
  return v_dropped;
end $$;
comment on function drop_partitions() is
  'Chore: drops partitions of the past of whose runs the policies want none any more, instead of deleting them one by one. Returns how many.';

create or replace function still_wanted(p_run_id uuid) returns uuid
language plpgsql stable as $$
begin
  return (
    select r.id from run r
    where r.id = p_run_id and (
      r.state not in ('completed', 'failed', 'cancelled') or r.open_steps > 0 or is_needed(r.id, r.parent_id)
      or wants_archive(r.tenant, r.state, r.flow_id)
      or not exists (
        select from retention_policy p
        where p.tenant = r.tenant and p.state is null and p.flow is null and p.keep_last = 0 and r.ended_at < (select present()) - p.age)));
end $$;
comment on function still_wanted(uuid) is 'This run, if it must stay; see wanted_run().';

select define_chore('drop_partitions', 600000, 'Drops partitions of the past that nobody wants any more.');
