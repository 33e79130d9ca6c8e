-- Which schedules are paused, late, or could not start a run?
select s.tenant, s.schedule, s.flow, s.paused_at, s.next_at, s.failed_ticks, s.last_error,
  (select max(f.tick) from longhaul.failed_ticks f where f.tenant = s.tenant and f.schedule = s.schedule) as last_failed_tick
from longhaul.schedules s
where s.paused_at is not null or s.failed_ticks > 0 or s.next_at < longhaul.present()
order by s.tenant, s.schedule;
