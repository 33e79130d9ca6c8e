-- What was done, over time. Nothing keeps such figures: they are read from the newest runs, as many as are asked for and not more, so
-- that a look costs the same whatever the history holds.

create or replace function throughput_of(
  p_since timestamptz, p_bucket interval default '1 minute', p_look integer default 100000
) returns table (
  at timestamptz, tenant text, flow text, queue text, handler text, completed bigint, failed bigint, attempts_failed bigint, seconds_each double precision, whole boolean
)
language plpgsql stable as $$
begin
  return query
  with newest as materialized (
    select r.id, r.tenant, r.flow_id, r.created_at from run r order by r.id desc limit p_look
  ), bound as (
    -- Older runs than these were not looked at, unless these are all that there are.
    select case when count(*) >= p_look then min(n.created_at) else '-infinity' end as at from newest n
  ), done as (
    select s.ended_at, n.tenant, n.flow_id, s.def, s.outcome, s.started_at, 0 as attempts
    from newest n
    cross join lateral (
      select x.ended_at, x.started_at, coalesce(x.def, x.seq) as def, x.outcome from step x where x.run_id = n.id and x.ended_at >= p_since offset 0) s
    where s.outcome in ('completed', 'failed')
    union all
    select a.ended_at, n.tenant, n.flow_id, coalesce(def_of(n.id, a.seq), a.seq), null, null, 1
    from newest n
    cross join lateral (
      select x.ended_at, x.seq from attempt x
      where x.run_id = n.id and x.ended_at >= p_since and x.outcome in ('failed', 'timed_out', 'panicked', 'expired') offset 0) a
  )
  select date_bin(p_bucket, d.ended_at, 'epoch'), d.tenant, f.name, q.name, l.handler,
    count(*) filter (where d.outcome = 'completed'), count(*) filter (where d.outcome = 'failed'), sum(d.attempts)::bigint,
    avg(extract(epoch from d.ended_at - d.started_at)) filter (where d.outcome = 'completed')::double precision,
    date_bin(p_bucket, d.ended_at, 'epoch') >= (select b.at from bound b)
  from done d
  join flow f on f.id = d.flow_id
  left join flow_step s on s.flow_id = d.flow_id and s.seq = d.def
  left join lane l on l.id = s.lane_id
  left join queue q on q.id = l.queue_id
  group by 1, 2, 3, 4, 5
  order by 1, 2, 3, 4, 5;
end $$;
comment on function throughput_of(timestamptz, interval, integer) is
  'Steps that ended since a time, by buckets of time, flow, queue and handler: completed, failed for good, failed attempts, and the mean seconds of an attempt that completed. It looks at the newest p_look runs; whole says whether all runs that were created since the bucket began are among them.';

create or replace view throughput as
select t.at, t.tenant, t.flow, t.queue, t.handler, t.completed, t.failed, t.attempts_failed, t.seconds_each, t.whole
from throughput_of((select date_trunc('minute', present()) - interval '1 hour')) t;
comment on view throughput is 'Steps that ended in the last hour, minute by minute, among the newest 100,000 runs. For another time or grain: throughput_of().';
