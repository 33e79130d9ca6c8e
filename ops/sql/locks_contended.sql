-- Which locks are found taken most often, and who holds them?
select tenant, lock, holder, held, acquired, blocked, expired, round((held_ms / nullif(acquired, 0))::numeric, 1) as mean_held_ms
from longhaul.locks
where blocked > 0 or held
order by blocked desc
limit 50;
