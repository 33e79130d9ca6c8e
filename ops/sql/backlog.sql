-- Which queues have a backlog, since when, and does anybody take it?
select tenant, queue, handler, ready, running, workers, longhaul.present() - oldest_ready_at as waited, paused_by
from longhaul.queues
where ready > 0
order by oldest_ready_at;
