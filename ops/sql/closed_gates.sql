-- Which gates are closed before the runs that are alive for longest?
select r.run_id, r.flow, longhaul.present() - r.created_at as age, e.step, e.gate, e.finding, e.opened_by, e.estimate
from (
  select x.* from longhaul.find_runs(p_state => 'running', p_limit => 20) f join longhaul.runs x on x.run_id = f.id
  order by x.created_at limit 5) r
cross join lateral longhaul.explain_run(r.run_id, 3) e
where e.state = 'closed'
order by r.created_at, e.seq nulls first;
