-- Chore: steps whose time has come are ready. Room: timer -> task. Locks: timer rows, those that others hold are skipped.

create or replace function fire_these(p_items text[]) returns bigint
language plpgsql as $$
-- The caller has locked the timers. A run that is paused or goes on right now waits for them: its state stays as it is read here.
declare
  v_ids   uuid[];
  v_seqs  integer[];
  v_due   timer[];
  v_tasks task[];
begin
  select array_agg(split_part(i, ' ', 1)::uuid), array_agg(split_part(i, ' ', 2)::integer) into v_ids, v_seqs from unnest(p_items) i;
  with due as (
    delete from timer t
    where t.ctid = any (array(
      select x.ctid from unnest(v_ids, v_seqs) k(run_id, seq)
      cross join lateral (select y.ctid from timer y where y.run_id = k.run_id and y.seq = k.seq offset 0) x))
    returning t
  )
  select array_agg(d.t order by (d.t).fire_at) into v_due from due d;
  v_tasks := array(
    select (d.run_id, task_position(d.fire_at), d.lane_id, d.seq, d.attempt, d.priority, d.failures)::task from unnest(v_due) d);
  perform lower_floors(v_tasks);
  perform place_ready(v_tasks);
  return cardinality(v_due);
end $$;
comment on function fire_these(text[]) is 'Makes steps ready whose timers are named by run and number. Returns how many.';

create or replace function fire_timers(p_limit integer) returns bigint
language plpgsql as $$
declare
  v_now   timestamptz := clock();
  v_from  timestamptz := time_of(floor_of(0));
  v_begun timestamptz := clock_timestamp();
  v_due   text[];
begin
  v_due := array(
    select format('%s %s', t.run_id, t.seq) from timer t
    where t.fire_at between v_from and v_now and not is_set_aside('fire_these', format('%s %s', t.run_id, t.seq), v_now)
    order by t.fire_at limit p_limit for update skip locked);
  if is_long(v_begun) then
    perform raise_floors('{0}');
  end if;
  return in_parts('fire_these', v_due);
end $$;
comment on function fire_timers(integer) is
  'Makes up to so many steps ready whose delay, backoff or sleep is over; they stand in line from the time they were due. Returns how many.';

create or replace function fire_timers() returns bigint
language sql as $$ select fire_timers(5000) $$;
comment on function fire_timers() is 'Chore: fire_timers(5000).';

select define_chore('fire_timers', 200, 'Makes steps ready whose delay, backoff or sleep is over.');
