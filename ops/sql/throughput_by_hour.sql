-- How many steps ended in each hour of the last day, by flow?
select at, flow, sum(completed) as completed, sum(failed) as failed, sum(attempts_failed) as attempts_failed, bool_and(whole) as whole
from longhaul.throughput_of(longhaul.present() - interval '1 day', '1 hour')
group by at, flow
order by at, flow;
