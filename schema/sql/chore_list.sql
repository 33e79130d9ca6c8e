-- The chores of workflows; each function stands with its subject.

select define_chore('fire_waits', 200, 'Ends durable sleeps that are over, and waits whose answer did not come in time.');
select define_chore('deliver_notices', 200, 'Does what could not be done at once because another run was busy.');
select define_chore('end_overdue_runs', 1000, 'Fails runs that take longer than their flow allows.');
select define_chore('forget_signals', 3600000, 'Deletes signals whose time is over.');
