-- Chores: rows of workers that left long ago are deleted, and what is left of them and of runs in tables beside. A row that
-- somebody holds stays until the next time, and keeps no other.

create or replace function forget_workers() returns bigint
language plpgsql as $$
declare
  v_before    timestamptz := clock() - setting_value('keep_workers_days') * interval '1 day';
  v_forgotten bigint;
begin
  delete from worker w
  where w.ctid = any (array(
    select x.ctid from worker x where x.state in ('lost', 'gone') and x.stopped_at < v_before order by x.stopped_at limit 1000 for update skip locked));
  get diagnostics v_forgotten = row_count;
  return v_forgotten;
end $$;
comment on function forget_workers() is 'Chore: deletes workers that are gone or lost for longer than keep_workers_days. Returns how many.';

create or replace function forget_listeners() returns bigint
language plpgsql as $$
declare
  v_worker    bigint := -1;
  v_deleted   bigint;
  v_forgotten bigint := 0;
begin
  -- From worker to worker, however many queues each listens for.
  loop
    v_worker := (select n.worker_id from listener n where n.worker_id > v_worker order by n.worker_id limit 1);
    exit when v_worker is null;
    continue when exists (select from worker w where w.id = v_worker and w.state in ('active', 'draining'));
    delete from listener n
    where n.ctid = any (array(select x.ctid from listener x where x.worker_id = v_worker for update skip locked));
    get diagnostics v_deleted = row_count;
    v_forgotten := v_forgotten + v_deleted;
  end loop;
  return v_forgotten;
end $$;
comment on function forget_listeners() is 'Deletes what workers listen for that do not live. Returns how many rows.';

create or replace function forget_figures() returns bigint
language plpgsql as $$
declare
  v_place     jsonb := coalesce(place_of('forget_figures'), '[-1, -1]');
  v_batch     constant integer := 10000;
  v_looked    bigint;
  v_last      jsonb;
  v_gone      tid[];
  v_forgotten bigint;
begin
  with looked as (
    select f.ctid, f.queue_id, f.worker_id from queue_figure f
    where (f.queue_id, f.worker_id) > ((v_place ->> 0)::integer, (v_place ->> 1)::bigint) order by f.queue_id, f.worker_id limit v_batch
  )
  select count(*), (select jsonb_build_array(l.queue_id, l.worker_id) from looked l order by l.queue_id desc, l.worker_id desc limit 1),
    array_agg(l.ctid) filter (where not exists (select from worker w where w.id = l.worker_id))
  into v_looked, v_last, v_gone from looked l;
  delete from queue_figure f
  where f.ctid = any (array(
    select x.ctid from queue_figure x
    where x.ctid = any (v_gone) and not exists (select from worker w where w.id = x.worker_id) for update skip locked));
  get diagnostics v_forgotten = row_count;
  perform set_place('forget_figures', case when v_looked = v_batch then v_last end);
  return v_forgotten;
end $$;
comment on function forget_figures() is 'Deletes figures of queues by workers that are forgotten. Returns how many.';

create or replace function forget_progress() returns bigint
language plpgsql as $$
declare
  v_place     jsonb := coalesce(place_of('forget_progress'), '["00000000-0000-0000-0000-000000000000", -1, ""]');
  v_batch     constant integer := 10000;
  v_looked    bigint;
  v_last      jsonb;
  v_gone      uuid[];
  v_forgotten bigint;
begin
  with looked as (
    select p.run_id, p.seq, p.key from progress p
    where (p.run_id, p.seq, p.key) > ((v_place ->> 0)::uuid, (v_place ->> 1)::integer, v_place ->> 2) order by p.run_id, p.seq, p.key limit v_batch
  )
  select count(*), (select jsonb_build_array(l.run_id, l.seq, l.key) from looked l order by l.run_id desc, l.seq desc, l.key desc limit 1),
    array_agg(distinct l.run_id) filter (where not exists (select from run r where r.id = l.run_id))
  into v_looked, v_last, v_gone from looked l;
  delete from progress p
  where p.ctid = any (array(select x.ctid from progress x where x.run_id = any (v_gone) for update skip locked));
  get diagnostics v_forgotten = row_count;
  perform set_place('forget_progress', case when v_looked = v_batch then v_last end);
  return v_forgotten;
end $$;
comment on function forget_progress() is 'Deletes progress of steps whose runs are not there. Returns how many rows.';

create or replace function forget_marks() returns bigint
language plpgsql as $$
declare
  v_before    timestamptz := clock() - interval '12 minutes';
  v_forgotten bigint;
begin
  -- What mark_horizon() has not deleted, because nobody called it at the time.
  delete from horizon_mark m
  where m.ctid = any (array(select x.ctid from horizon_mark x where x.at < v_before order by x.at limit 10000 for update skip locked));
  get diagnostics v_forgotten = row_count;
  return v_forgotten;
end $$;
comment on function forget_marks() is 'Deletes marks of times when no scheduler was there to delete them. Returns how many.';

create or replace function forget_leftovers() returns bigint
language sql as $$ select forget_listeners() + forget_figures() + forget_progress() + forget_marks() $$;
comment on function forget_leftovers() is 'Chore: deletes what is left of workers and runs that are gone. Returns how many rows.';

select define_chore('forget_workers', 3600000, 'Deletes the rows of workers that left long ago.');
select define_chore('forget_leftovers', 60000, 'Deletes what is left of workers and runs that are gone.');
