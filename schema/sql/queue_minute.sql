-- Throughput over time: what workers say of their queues, noted once a minute. Reading it counts nothing.

create or replace function note_queue_minutes() returns bigint
language plpgsql as $$
declare
  v_now       timestamptz := clock();
  v_minute    timestamptz := date_trunc('minute', v_now);
  v_forgotten bigint;
begin
  with total as (
    select f.queue_id, sum(f.claimed)::bigint as claimed, sum(f.completed)::bigint as completed, sum(f.failed)::bigint as failed
    from queue_figure f group by f.queue_id
  ), changed as (
    select t.*,
      -- The counters of workers that were forgotten are missing from the sum.
      greatest(0, t.claimed - coalesce(n.claimed, 0)) as more_claimed, greatest(0, t.completed - coalesce(n.completed, 0)) as more_completed,
      greatest(0, t.failed - coalesce(n.failed, 0)) as more_failed
    from total t left join queue_minute_noted n on n.queue_id = t.queue_id
    where (t.claimed, t.completed, t.failed) is distinct from (n.claimed, n.completed, n.failed)
  ), depth as (
    select l.queue_id, sum(d.ready)::bigint as ready, min((d.oldest).position) as position
    from lane l cross join lateral lane_depth(l.id, 10000) d
    group by l.queue_id having sum(d.ready) > 0
  ), noted as (
    insert into queue_minute_noted as n (queue_id, claimed, completed, failed)
    select c.queue_id, c.claimed, c.completed, c.failed from changed c order by c.queue_id
    on conflict (queue_id) do update set claimed = excluded.claimed, completed = excluded.completed, failed = excluded.failed
  )
  insert into queue_minute as m (at, queue_id, claimed, completed, failed, ready, oldest_ms)
  select v_minute, i.queue_id, coalesce(sum(i.claimed), 0), coalesce(sum(i.completed), 0), coalesce(sum(i.failed), 0), coalesce(sum(i.ready), 0),
    greatest(0, coalesce(max(extract(epoch from v_now - time_of(i.position)) * 1000), 0))::bigint
  from (
    select c.queue_id, c.more_claimed as claimed, c.more_completed as completed, c.more_failed as failed, null::bigint as ready, null::bigint as position from changed c
    union all
    select d.queue_id, null, null, null, d.ready, d.position from depth d) i
  group by i.queue_id order by i.queue_id
  on conflict (at, queue_id) do update
    set claimed = m.claimed + excluded.claimed, completed = m.completed + excluded.completed, failed = m.failed + excluded.failed,
        ready = greatest(m.ready, excluded.ready), oldest_ms = greatest(m.oldest_ms, excluded.oldest_ms);
  delete from queue_minute m
  where m.ctid = any (array(
    select x.ctid from queue_minute x where x.at < v_minute - setting_value('keep_queue_minutes_days') * interval '1 day' order by x.at limit 10000));
  get diagnostics v_forgotten = row_count;
  return case when v_forgotten = 10000 then v_forgotten else 0 end;
end $$;
comment on function note_queue_minutes() is
  'Chore: adds what workers did since the last time to the present minute, and forgets old minutes (setting keep_queue_minutes_days). Returns how many, when there may be more to forget.';

create or replace view queue_minutes as
select q.tenant, q.name as queue, m.at, m.claimed, m.completed, m.failed, m.ready, m.oldest_ms
from queue_minute m join queue q on q.id = m.queue_id;
comment on view queue_minutes is 'Attempts by queue and minute: claimed, completed and failed. Minutes in which nothing happened have no rows.';
comment on column queue_minutes.tenant is 'Tenant of the queue.';
comment on column queue_minutes.queue is 'Name of the queue.';
comment on column queue_minutes.at is 'The beginning of the minute in which it was noted.';
comment on column queue_minutes.claimed is 'Attempts that were claimed.';
comment on column queue_minutes.completed is 'Attempts that completed their steps.';
comment on column queue_minutes.failed is 'Attempts that failed.';
comment on column queue_minutes.ready is 'Ready steps when it was noted, counted up to 10,000 for each handler.';
comment on column queue_minutes.oldest_ms is 'For how many milliseconds the oldest of them was ready.';

create or replace function queue_minutes_of(p_tenant text, p_queue text, p_minutes integer, p_width integer)
returns table (at timestamptz, claimed bigint, completed bigint, failed bigint, ready bigint, oldest_ms bigint)
language plpgsql stable as $$
declare
  v_last timestamptz := date_bin(p_width * interval '1 minute', present(), 'epoch');
begin
  return query
  select b.at, coalesce(t.claimed, 0)::bigint, coalesce(t.completed, 0)::bigint, coalesce(t.failed, 0)::bigint,
    coalesce(t.ready, 0)::bigint, coalesce(t.oldest_ms, 0)::bigint
  from generate_series(v_last - (greatest(1, p_minutes / p_width) - 1) * p_width * interval '1 minute', v_last, p_width * interval '1 minute') b(at)
  cross join lateral (
    select sum(x.claimed) as claimed, sum(x.completed) as completed, sum(x.failed) as failed, max(x.ready) as ready, max(x.oldest_ms) as oldest_ms
    from (
      select sum(m.claimed) as claimed, sum(m.completed) as completed, sum(m.failed) as failed, sum(m.ready) as ready, max(m.oldest_ms) as oldest_ms
      from queue_minute m join queue q on q.id = m.queue_id
      where m.at >= b.at and m.at < b.at + p_width * interval '1 minute' and q.tenant = p_tenant and (p_queue is null or q.name = p_queue)
      group by m.at) x) t
  order by b.at;
end $$;
comment on function queue_minutes_of(text, text, integer, integer) is
  'Throughput of a tenant, of one queue if asked, over the last so many minutes, in pieces of so many minutes, the oldest first; ready and oldest_ms are the highest of a piece. Pieces in which nothing happened are zeros.';

select define_chore('note_queue_minutes', 60000, 'Notes what was done by queue and minute.');
