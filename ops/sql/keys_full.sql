-- Which keys of bounded concurrency are full, and how many steps wait behind each?
select tenant, gate, key, used, most, queued
from longhaul.gates
where queued > 0
order by queued desc
limit 50;
