-- Which old versions of flows still have live runs?
select v.tenant, v.flow, v.version, v.live_runs, v.deployed_at
from longhaul.flow_versions v
where v.live_runs > 0
  and v.version < (select max(n.version) from longhaul.flow_versions n where n.tenant = v.tenant and n.flow = v.flow)
order by v.deployed_at;
