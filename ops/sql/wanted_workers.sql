-- How many workers of sixteen slots does each queue want? (KEDA's postgresql scaler asks this for one queue.)
select queue, ceil(sum(ready + running) / 16.0)::integer as workers
from longhaul.queues
where paused_at is null
group by queue
order by queue;
