-- What lies on disk, and what is done at this moment.

create or replace view sizes as
select coalesce(p.relname, c.relname)::text as table_name, count(*) filter (where p.oid is not null)::integer as partitions,
  sum(pg_total_relation_size(c.oid))::bigint as bytes, sum(pg_indexes_size(c.oid))::bigint as index_bytes,
  sum(greatest(c.reltuples, 0))::bigint as rows_estimated, coalesce(sum(s.n_dead_tup), 0)::bigint as dead_rows,
  max(greatest(s.last_vacuum, s.last_autovacuum)) as vacuumed_at
from pg_class c
left join pg_inherits i on i.inhrelid = c.oid
left join pg_class p on p.oid = i.inhparent
left join pg_stat_all_tables s on s.relid = c.oid
where c.relkind = 'r' and c.relnamespace = (select x.relnamespace from pg_class x where x.oid = 'task'::regclass)
group by 1;
comment on view sizes is 'How many bytes each table takes, with its indexes and all its partitions, and how many dead rows are in it as the server estimates them.';

create or replace function live_queues(p_tenant text default 'default')
returns table (
  queue text, paused_at timestamptz, ready bigint, oldest_ready_at timestamptz, workers bigint, running bigint, slots bigint,
  claimed bigint, completed bigint, failed bigint
)
language sql stable as $$
  select q.name, q.paused_at, t.ready, time_of(t.oldest), f.workers, f.running, f.slots, f.claimed, f.completed, f.failed
  from queue q
  join queue_figures f on f.tenant = q.tenant and f.queue = q.name
  cross join lateral (
    select coalesce(sum(d.ready), 0)::bigint as ready, min((d.oldest).position) as oldest
    from lane l cross join lateral lane_depth(l.id, 10000) d
    where l.queue_id = q.id) t
  where q.tenant = p_tenant
  order by q.name
$$;
comment on function live_queues(text) is
  'The queues of a tenant at this moment: ready steps (at most 10,000 of a handler are counted), the oldest of them, slots, and what workers have done since they registered. Asked each second by longhaul top.';
