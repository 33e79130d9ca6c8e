-- How many steps wake up in each of the next hours?
select date_trunc('hour', due_at) as hour, count(*) filter (where what = 'timer') as timers, count(*) filter (where what = 'wait') as waits
from (
  select 'timer' as what, fire_at as due_at from longhaul.timers
  union all
  select 'wait', due_at from longhaul.waits) x
where due_at < longhaul.present() + interval '1 day'
group by 1
order by 1;
