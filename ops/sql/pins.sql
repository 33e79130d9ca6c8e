-- Who keeps dead rows from being removed, for how long, and what ends it?
select kind, name, pid, username, state, clock_timestamp() - since as open_for, transactions, remedy
from longhaul.horizon_pins
order by since nulls last, transactions desc;
