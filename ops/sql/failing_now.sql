-- Which steps have failed attempts behind them and are tried again?
select s.run_id, s.flow, s.step, s.failures, s.fire_at as next_attempt_at, longhaul.last_error(s.run_id, s.seq) as last_error
from longhaul.timers s
where s.kind = 'retry'
order by s.failures desc, s.fire_at
limit 50;
