-- Waking idle workers. NOTIFY takes a lock that serialises commits, so it is sent only while somebody is idle:
-- a worker that found a queue empty enters itself in listener, and leaves it when it is busy again.

create or replace function wake_channel(p_worker bigint) returns text
language plpgsql stable as $$
begin
  return format('longhaul_%s_%s', 'listener'::regclass::oid, p_worker);
end $$;
comment on function wake_channel(bigint) is 'The channel that a worker listens on; unlike for each installation in a database.';

create or replace function idle_workers(p_queue integer, p_handler text, p_most integer) returns bigint[]
language plpgsql as $$
-- One that has just died or hangs stands in the line as well: whoever beat lately is preferred, and where that is in doubt
-- one more is chosen. A heartbeat comes about every third of a lease.
declare
  v_now    timestamptz := clock();
  v_idle   bigint;
  v_skip   bigint;
  v_window bigint[];
  v_chosen bigint[];
  v_doubts boolean[];
begin
  select count(*) into v_idle from (select from listener n where n.queue_id = p_queue limit 1000) x;
  -- By their number in the line, and not by their ids, which have gaps. Of a long line a part is looked at.
  if v_idle > 64 then
    v_skip := floor(random() * v_idle);
    v_window := array(select n.worker_id from listener n where n.queue_id = p_queue order by n.worker_id offset v_skip limit 64);
    v_window := v_window || array(select n.worker_id from listener n where n.queue_id = p_queue order by n.worker_id limit 64 - cardinality(v_window));
  end if;
  -- All of them when that part knows nobody.
  for attempt in 1 .. 2 loop
    if v_window is null then
      v_window := array(select n.worker_id from listener n where n.queue_id = p_queue);
    end if;
    select array_agg(c.id order by c.place), array_agg(c.doubtful order by c.place) into v_chosen, v_doubts
    from (
      select w.id, w.heartbeat_at < v_now - w.lease_ms * interval '0.4 milliseconds' as doubtful,
        row_number() over (order by w.heartbeat_at < v_now - w.lease_ms * interval '0.67 milliseconds', random()) as place
      from unnest(v_window) i(worker_id)
      cross join lateral (select x.* from worker x where x.id = i.worker_id offset 0) w
      where p_handler = any (w.handlers)
      order by place limit p_most + 1) c;
    exit when v_chosen is not null or v_idle <= 64;
    v_window := null;
  end loop;
  return v_chosen[1:p_most + (true = any (v_doubts[1:p_most]))::integer];
end $$;
comment on function idle_workers(integer, text, integer) is
  'Chooses so many idle workers of a queue that know a handler, at random; one more when one of them may be dead.';

create or replace function wake(p_lanes integer[], p_tasks bigint) returns void
language plpgsql as $$
-- Wakes one worker for each new task, and at most 8 or so.
declare
  v_most   integer := least(p_tasks, 8);
  v_chosen bigint[] := '{}';
  v_lane   record;
begin
  if not exists (select from listener) then
    return;
  end if;
  for v_lane in select distinct l.queue_id, l.handler from lane l where l.id = any (p_lanes) loop
    v_chosen := v_chosen || idle_workers(v_lane.queue_id, v_lane.handler, v_most);
    exit when cardinality(v_chosen) >= v_most;
  end loop;
  perform pg_notify(wake_channel(c.worker_id), 'claim') from (select distinct x.worker_id from unnest(v_chosen) x(worker_id)) c;
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
