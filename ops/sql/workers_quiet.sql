-- Which workers have not been heard of for long, and what do they hold?
select worker_id, worker, host, pid, state, longhaul.present() - heartbeat_at as silent_for, expires_at, running
from longhaul.workers
where state in ('active', 'draining') and heartbeat_at < longhaul.present() - (expires_at - heartbeat_at) / 2
order by heartbeat_at;
