-- Chore: steps whose time has come are ready. Room: timer -> task. Locks: timer rows, those that others hold are skipped.

create or replace function fire_timers(p_limit integer) returns bigint
language plpgsql as $$
declare
  v_now    timestamptz := clock();
  v_lowest uuid;
  v_due    timer[];
  v_tasks  task[];
  v_from   timestamptz := time_of(floor_of(0));
  v_begun  timestamptz := clock_timestamp();
begin
  with due as (
    delete from timer t
    where t.ctid = any (array(
      select x.ctid from timer x where x.fire_at between v_from and v_now order by x.fire_at limit p_limit for update skip locked))
    returning t
  )
  select array_agg(d.t order by (d.t).fire_at) into v_due from due d;
  if is_long(v_begun) then
    perform raise_floors('{0}');
  end if;
  if v_due is null then
    return 0;
  end if;
  v_lowest := lowest_id(array(select x.run_id from unnest(v_due) x));

  -- A run that is paused or goes on right now waits for these timers, which are ours: its state stays as it is read here.
  v_tasks := array(
    select (d.run_id, task_position(d.fire_at), s.lane_id, d.seq, d.attempt, s.priority, d.failures)::task
    from (select * from unnest(v_due) limit cardinality(v_due)) d
    cross join lateral (
      select y.lane_id, y.priority from step y where y.run_id = d.run_id and y.seq = d.seq and y.run_id >= v_lowest offset 0) s);
  perform lower_floors(v_tasks);
  perform place_ready(v_tasks);
  return cardinality(v_due);
end $$;
comment on function fire_timers(integer) is
  'Makes up to so many steps ready whose delay, backoff or sleep is over; they stand in line from the time they were due. Returns how many.';

create or replace function fire_timers() returns bigint
language sql as $$ select fire_timers(5000) $$;
comment on function fire_timers() is 'Chore: fire_timers(5000).';

select define_chore('fire_timers', 200, 'Makes steps ready whose delay, backoff or sleep is over.');
