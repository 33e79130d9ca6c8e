-- How long do runs take from their start to their end, by flow, over the newest ten thousand?
with newest as (
  select r.* from (select x.id from longhaul.run x order by x.id desc limit 10000) i join longhaul.runs r on r.run_id = i.id
)
select flow, count(*) as ended, round(avg(extract(epoch from ended_at - coalesce(start_at, created_at)))::numeric, 3) as mean_seconds,
  round(percentile_cont(0.95) within group (order by extract(epoch from ended_at - coalesce(start_at, created_at)))::numeric, 3) as p95_seconds,
  count(*) filter (where state = 'failed') as failed
from newest
where ended_at is not null
group by flow
order by ended desc;
