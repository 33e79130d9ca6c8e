-- Which handlers take long, in the middle and at the worst of twenty?
with newest as (
  select r.id from longhaul.run r order by r.id desc limit 10000
)
select s.handler, count(*) as attempts,
  round(percentile_cont(0.5) within group (order by extract(epoch from s.ended_at - s.started_at))::numeric, 3) as median_seconds,
  round(percentile_cont(0.95) within group (order by extract(epoch from s.ended_at - s.started_at))::numeric, 3) as p95_seconds
from newest n cross join lateral (select x.* from longhaul.steps x where x.run_id = n.id) s
where s.state = 'completed' and s.handler is not null
group by s.handler
order by p95_seconds desc;
