-- Chore: rows of workers that left long ago are deleted.

create or replace function forget_workers() returns bigint
language plpgsql as $$
declare
  v_forgotten bigint;
begin
  delete from worker w
  where w.id = any (array(
    select x.id from worker x
    where x.state in ('lost', 'gone') and x.stopped_at < clock() - setting_value('keep_workers_days') * interval '1 day'
    order by x.id limit 1000));
  get diagnostics v_forgotten = row_count;
  return v_forgotten;
end $$;
comment on function forget_workers() is 'Chore: deletes workers that are gone or lost for longer than keep_workers_days. Returns how many.';

select define_chore('forget_workers', 3600000, 'Deletes the rows of workers that left long ago.');
