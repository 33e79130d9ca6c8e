-- When is each backlog worked off at the present pace?
select q.queue, g.figures ->> 'handler' as handler, (g.figures ->> 'ready')::bigint as ready, (g.figures ->> 'per_minute')::numeric as per_minute, g.estimate
from (select distinct x.tenant, x.queue from longhaul.queues x) q
cross join lateral longhaul.explain_queue(q.queue, q.tenant) g
where g.gate = 'ready' and g.state = 'closed'
order by g.estimate desc nulls first;
