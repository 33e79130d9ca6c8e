-- What should have happened by now, and why has it not?
select kind, item, run_id, seq, longhaul.present() - since as late_by, reason
from longhaul.overdue
order by since
limit 50;
