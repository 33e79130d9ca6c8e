-- Waking idle workers. NOTIFY takes a lock that serialises commits, so it is sent only while somebody is idle:
-- a worker that found a queue empty enters itself in listener, and leaves it when it is busy again.

create or replace function wake_channel(p_worker bigint) returns text
language plpgsql stable as $$
begin
  return format('longhaul_%s_%s', 'listener'::regclass::oid, p_worker);
end $$;
comment on function wake_channel(bigint) is 'The channel that a worker listens on; unlike for each installation in a database.';

create or replace function wake(p_lanes integer[], p_tasks bigint) returns void
language plpgsql as $$
-- Wakes at most one worker for each new task, and at most 8; the choice starts at a random place in the line, so that
-- a worker that hangs is not asked every time.
declare
  v_pivot bigint;
begin
  if not exists (select from listener) then
    return;
  end if;
  v_pivot := (random() * (select max(worker_id) from listener))::bigint;
  perform pg_notify(wake_channel(chosen.worker_id), 'claim')
  from (
    select distinct i.worker_id
    from (select distinct l.queue_id, l.handler from lane l where l.id = any (p_lanes)) wanted
    cross join lateral (
      (select n.worker_id from listener n join worker w on w.id = n.worker_id and wanted.handler = any (w.handlers)
       where n.queue_id = wanted.queue_id and n.worker_id >= v_pivot order by n.worker_id limit 8)
      union all
      (select n.worker_id from listener n join worker w on w.id = n.worker_id and wanted.handler = any (w.handlers)
       where n.queue_id = wanted.queue_id and n.worker_id < v_pivot order by n.worker_id limit 8)
    ) i
    limit least(p_tasks, 8)
  ) chosen;
end $$;
comment on function wake(integer[], bigint) is 'Notifies idle workers that these lanes have got so many new tasks.';

create or replace function listen_for(p_worker bigint, p_queues text[]) returns void
language sql as $$
  insert into listener (queue_id, worker_id)
  select q.id, w.id from worker w join queue q on q.tenant = w.tenant and q.name = any (p_queues)
  where w.id = p_worker
  on conflict do nothing
$$;
comment on function listen_for(bigint, text[]) is
  'A worker asks to be notified when these queues get work. It must look once more after this call, for work that came meanwhile, and again as unfinished_before() says.';

create or replace function unfinished_before(p_id bigint default null) returns bigint
language sql as $$
  -- Who makes steps ready has an id before it looks for listeners. So whoever had looked before this worker's entry was
  -- committed has an id below the next one that is given out after it.
  select i.id
  from (select coalesce(p_id, pg_snapshot_xmax(pg_current_snapshot())::text::bigint) as id) i
  where pg_snapshot_xmin(pg_current_snapshot())::text::bigint < i.id
$$;
comment on function unfinished_before(bigint) is
  'Asked by a worker between listen_for() and its look: null when no transaction is writing that may have looked for listeners before the worker became one. Otherwise the id of the next transaction: asked with that id, it returns it until all earlier ones have ended, and one more look is due then.';

create or replace function stop_listening(p_worker bigint, p_queues text[]) returns void
language sql as $$
  delete from listener n using worker w, queue q
  where n.worker_id = p_worker and w.id = p_worker and q.id = n.queue_id and q.tenant = w.tenant and q.name = any (p_queues)
$$;
comment on function stop_listening(bigint, text[]) is 'A worker that is busy needs no notifications from these queues.';
