-- Floors. Claims take the head of a lane, so the index entries of what was claimed before lie in front of it. The server
-- removes them as soon as no snapshot needs them; while an analyst keeps one open they pile up, and every claim would walk
-- over all of them. The floor of a lane says from where on to look.
--
-- A floor is a hint and no proof. What makes it right nearly always: steps become ready at the position of the present moment,
-- which is read after their transaction has got its number (ready_position()). A chore writes down marks: a time, and a
-- transaction number that was given out after it. So every transaction with a higher number than a mark's puts steps behind
-- the mark's time, and once all lower numbers have ended, what they put there can be seen. That time is the horizon; no floor is
-- above it, nor above what can be seen. A step that takes an older place in line (a timer that fired, a resumed run, a fair
-- turn) lowers the floor in its own transaction.
--
-- What makes it harmless when it is wrong (a clock that steps back, a time that was read long before its row was written):
-- check_floors() looks below every floor, without a lower bound, and lowers it to what it finds.
--
-- Lines: a lane; 0: timers; -1: waits that have a time; -2: steps that have come to their key; -3: calls to look at a key.

create or replace function mark_horizon() returns bigint
language plpgsql as $$
declare
  -- When the transaction began: it may have got its number before this function was called.
  v_at timestamptz := clock() - (clock_timestamp() - now());
begin
  if (select m.at from horizon_mark m order by m.at desc limit 1) > v_at + interval '1 second' then
    perform clock_stepped_back();
  end if;
  insert into horizon_mark (at, xid) values (v_at, pg_current_xact_id()) on conflict do nothing;
  -- A window, not all that is older: the entries of what was deleted before are not walked over.
  delete from horizon_mark m where m.at between v_at - interval '11 minutes' and v_at - interval '10 minutes';
  return 0;
end $$;
create or replace function clock_stepped_back() returns void
language plpgsql as $$
-- Times that were taken from the clock before it stepped back lie in the future now. Each is brought to where it would be.
declare
  v_now timestamptz := clock();
begin
  delete from horizon_mark;
  delete from lowered;
  delete from floor;
  update chore c set next_at = v_now where c.next_at > v_now + c.interval_ms * interval '1 millisecond';
  update worker w set heartbeat_at = v_now, expires_at = v_now + w.lease_ms * interval '1 millisecond'
  where w.state in ('active', 'draining') and w.heartbeat_at > v_now;
  update queue q set open_until = v_now + q.breaker_ms * interval '1 millisecond'
  where q.open_until > v_now + q.breaker_ms * interval '1 millisecond';
  delete from rate_use u using queue q where q.id = u.queue_id and u.bucket > rate_bucket(q, v_now);
  update set_aside a set until = v_now where a.until > v_now + interval '1 hour';
  update notice n set due_at = v_now where n.due_at > v_now + interval '1 minute';
  update lock l set acquired_at = v_now, expires_at = v_now + (l.expires_at - l.acquired_at) where l.holder is not null and l.acquired_at > v_now;
  update schedule s set retry_at = v_now where s.retry_at > v_now + interval '1 minute';
end $$;
comment on function clock_stepped_back() is
  'Forgets floors and marks, and brings chores, leases, breakers and rates back from the future, after the server''s clock was set back.';

comment on function mark_horizon() is 'Chore: writes down the time and a transaction number, for horizon().';

create or replace function oldest_of(p_snapshot pg_snapshot, p_above xid8 default '0', p_and xid[] default '{}') returns xid8
language plpgsql immutable as $$
begin
  return coalesce(
    (select x from pg_snapshot_xip(p_snapshot) x where x > p_above or x::xid = any (p_and) order by x limit 1), pg_snapshot_xmax(p_snapshot));
end $$;
comment on function oldest_of(pg_snapshot, xid8, xid[]) is
  'The oldest transaction in progress in a snapshot, of those above a number and some others; where there is none, the first that the snapshot does not know.';

create or replace function horizon() returns timestamptz
language plpgsql as $$
declare
  -- One snapshot for all that follows: each statement has a newer one. It lists what is in progress below its end, and all
  -- numbers from its end on may be.
  v_snapshot pg_snapshot := pg_current_snapshot();
  v_oldest   xid8 := oldest_of(v_snapshot);
  -- Read once: asked in the query, the clock would be asked for each row.
  v_before   timestamptz := clock() - interval '10 seconds';
  v_old      xid8;
begin
  select m.xid into v_old from horizon_mark m where m.at <= v_before order by m.at desc limit 1;
  if v_oldest <= v_old then
    -- A transaction that is ten seconds old and has no lock on these tables will read its position later than this.
    v_oldest := oldest_of(v_snapshot, v_old, array(
      select own.transactionid
      from pg_locks own join pg_locks t on t.virtualtransaction = own.virtualtransaction
      where t.database = (select d.oid from pg_database d where d.datname = current_database())
        and own.locktype = 'transactionid' and own.mode = 'ExclusiveLock' and own.granted
        and t.locktype = 'relation' and t.relation in ('task'::regclass, 'timer'::regclass, 'wait'::regclass) and t.mode = 'RowExclusiveLock'));
  end if;
  return (select m.at from horizon_mark m where m.xid < v_oldest order by m.at desc limit 1);
end $$;
comment on function horizon() is
  'The latest known time such that no transaction in progress puts a step before it. Null while there is none, as when a transaction that has started runs stays open for ten minutes.';

create or replace function floors_of(p_line integer) returns table (priority smallint, "position" bigint)
language plpgsql stable as $$
declare
  v_floor floor;
begin
  select f.* into v_floor from floor f where f.line = p_line order by f.id desc limit 1;
  if found then
    return query
    select f.priority, least(f.position, (
      select min(l.position) from lowered l where l.line = p_line and l.id > v_floor.folded and l.priority = f.priority))
    from unnest(v_floor.priorities, v_floor.positions) f(priority, position);
  end if;
end $$;
comment on function floors_of(integer) is 'The floors of a line, by priority.';

create or replace function floor_of(p_line integer, p_priority smallint default 0::smallint) returns bigint
language plpgsql stable as $$
begin
  return coalesce((select f.position from floors_of(p_line) f where f.priority = p_priority), (-9223372036854775808)::bigint);
end $$;
comment on function floor_of(integer, smallint) is 'Below this position nothing stands in a line at this priority.';

create or replace function ranges_of(p_lanes integer[])
returns table (lane_id integer, from_priority smallint, from_position bigint, to_priority smallint)
language plpgsql stable as $$
begin
  return query
  select l.id, f.priority, f.position, coalesce(lead(f.priority) over (partition by l.id order by f.priority), 32767::smallint)
  from unnest(p_lanes) l(id)
  cross join lateral (
    select (-32768)::smallint, (-9223372036854775808)::bigint union all select o.priority, o.position from floors_of(l.id) o) f(priority, position);
end $$;
comment on function ranges_of(integer[]) is
  'Where to look for ready steps: each range reaches from a priority''s floor to the next priority with one, so that priorities without a floor are found as well.';

create or replace function heads(p_lanes integer[], p_above smallint default (-32768)::smallint)
returns table (lane_id integer, priority smallint, "position" bigint)
language plpgsql stable as $$
begin
  return query
  select distinct on (g.lane_id) g.lane_id, h.priority, h.position
  from ranges_of(p_lanes) g
  cross join lateral (
    select case when g.from_priority > p_above then g.from_priority else p_above + 1 end::smallint as from_priority,
           case when g.from_priority > p_above then g.from_position else (-9223372036854775808)::bigint end as from_position) b
  cross join lateral (
    select t.priority, t.position from task t
    where t.lane_id = g.lane_id and (t.priority, t.position) >= (b.from_priority, b.from_position) and t.priority < g.to_priority
    order by t.lane_id, t.priority, t.position limit 1) h
  where g.to_priority > p_above + 1
  order by g.lane_id, h.priority;
end $$;
comment on function heads(integer[], smallint) is 'The first ready step of each lane, of those with a priority above one.';

create or replace function lower_floor(p_line integer, p_priority smallint, p_position bigint) returns void
language plpgsql as $$
declare
  -- Shared, so that the floor is not raised meanwhile. Whoever raises it may be a caller with an open transaction, who is
  -- not waited for: the row is written all the same, and should it be overlooked, check_floors() finds what is below.
  v_alone boolean := not pg_try_advisory_xact_lock_shared(lock_class('floor'), p_line);
begin
  if v_alone or p_position < floor_of(p_line, p_priority) then
    insert into lowered (line, priority, position) values (p_line, p_priority, p_position);
  end if;
end $$;
comment on function lower_floor(integer, smallint, bigint) is
  'For what is put to an older place in line than the present moment''s: until this transaction has ended the floor stays below it.';

create or replace function note_due(p_line integer, p_at timestamptz) returns void
language plpgsql as $$
begin
  -- What is due in the future stands above the floor.
  if p_at <= clock() then
    perform lower_floor(p_line, 0::smallint, task_position(p_at));
  end if;
end $$;
comment on function note_due(integer, timestamptz) is
  'For timers (line 0) and waits (line -1) that were just written: a time that has passed already, or passed while the call went on, lowers the floor.';

create or replace function lower_floors(p_tasks task[]) returns void
language plpgsql as $$
begin
  perform lower_floor(l.lane_id, l.priority, l.position)
  from (select t.lane_id, t.priority, min(t.position) as position from unnest(p_tasks) t group by t.lane_id, t.priority order by t.lane_id, t.priority) l;
end $$;
comment on function lower_floors(task[]) is 'lower_floor() for each of these steps.';

create or replace function first_position(p_line integer, p_from bigint) returns bigint
language plpgsql stable as $$
begin
  return case p_line
    when 0 then (select task_position(t.fire_at) from timer t where t.fire_at >= time_of(p_from) and t.fire_at < 'infinity' order by t.fire_at limit 1)
    when -1 then (select task_position(w.due_at) from wait w where w.due_at >= time_of(p_from) and w.due_at < 'infinity' order by w.due_at limit 1)
    when -2 then (select q.position from queued q where not q.waits and q.position >= p_from order by q.position limit 1)
    when -3 then (select c.position from gate_call c where c.position >= p_from order by c.position limit 1)
  end;
end $$;
comment on function first_position(integer, bigint) is 'The first place from here on that is taken in a line that is no lane; null when there is none.';

create or replace function raise_floor(p_line integer, p_horizon bigint) returns boolean
language plpgsql as $$
declare
  v_floor      floor;
  v_folded     bigint;
  v_priorities smallint[] := '{}';
  v_positions  bigint[] := '{}';
  v_range      record;
  v_above      smallint;
  v_head       record;
begin
  select f.* into v_floor from floor f where f.line = p_line order by f.id desc limit 1;
  -- Marks come every 100 ms: what less would bring is not worth the work.
  if v_floor.horizon > p_horizon - 100000 or not pg_try_advisory_xact_lock(lock_class('floor'), p_line) then
    return false;
  end if;
  select f.* into v_floor from floor f where f.line = p_line order by f.id desc limit 1;
  v_folded := coalesce((select l.id from lowered l where l.line = p_line order by l.id desc limit 1), v_floor.folded, 0);

  if p_line > 0 then
    if v_floor.id is null then
      -- The lane may be empty right now; its flows tell its usual priorities.
      insert into floor (line, horizon, folded, priorities, positions)
      select p_line, 0, v_folded, array_agg(d.priority), array_agg(0)
      from (select distinct f.priority from flow_step f where f.lane_id = p_line) d
      having count(*) > 0
      returning * into v_floor;
    end if;
    for v_range in select g.* from ranges_of(array[p_line]) g order by g.from_priority loop
      if v_range.from_position > (-9223372036854775808)::bigint then
        v_priorities := v_priorities || v_range.from_priority;
        v_positions := v_positions || greatest(v_range.from_position, least(p_horizon, (
          select t.position from task t
          where t.lane_id = p_line and t.priority = v_range.from_priority and t.position >= v_range.from_position
          order by t.lane_id, t.priority, t.position limit 1)));
      end if;
      -- Priorities that have no floor yet.
      v_above := v_range.from_priority;
      loop
        select t.priority, t.position into v_head from task t
        where t.lane_id = p_line and t.priority > v_above and t.priority < v_range.to_priority
        order by t.lane_id, t.priority, t.position limit 1;
        exit when not found;
        v_priorities := v_priorities || v_head.priority;
        v_positions := v_positions || least(p_horizon, v_head.position);
        v_above := v_head.priority;
      end loop;
    end loop;
  else
    -- Times are read before a transaction has its number: hence the margin.
    v_priorities := '{0}';
    v_positions := array[greatest(floor_of(p_line), least(p_horizon - 5000000, first_position(p_line, floor_of(p_line))))];
  end if;

  if cardinality(v_priorities) > 0 then
    insert into floor (line, horizon, folded, priorities, positions) values (p_line, p_horizon, v_folded, v_priorities, v_positions);
    delete from floor f where f.line = p_line and f.id = v_floor.id;
    delete from lowered l where l.line = p_line and l.id > coalesce(v_floor.folded, 0) and l.id <= v_folded;
  end if;
  return true;
end $$;
comment on function raise_floor(integer, bigint) is
  'Raises the floors of a line to the horizon or to the first thing that stands there. False when somebody else does, or it would bring nothing.';

create or replace function raise_floors(p_lines integer[]) returns void
language plpgsql as $$
declare
  -- Before anything else is read: what ends after this is seen then.
  v_horizon bigint := task_position(horizon());
  v_line    integer;
begin
  if v_horizon is not null then
    foreach v_line in array p_lines loop
      perform raise_floor(v_line, v_horizon);
    end loop;
  end if;
end $$;
comment on function raise_floors(integer[]) is 'Raises the floors of lines, for who has just walked over much that was taken before.';

create or replace function is_long(p_since timestamptz) returns boolean
language plpgsql volatile as $$
begin
  return clock_timestamp() - p_since > interval '300 microseconds';
end $$;
comment on function is_long(timestamptz) is 'Whether a look at the head of a line took long enough to raise its floor: the time of some thousand dead index entries.';

create or replace function check_floors() returns bigint
language plpgsql as $$
declare
  v_below record;
  v_found bigint := 0;
begin
  for v_below in
    select f.line, p.priority, x.position
    from (select distinct o.line from floor o) f
    cross join lateral floors_of(f.line) p
    cross join lateral (
      select case when f.line > 0
        then (select t.position from task t where t.lane_id = f.line and t.priority = p.priority and t.position < p.position
              order by t.lane_id, t.priority, t.position limit 1)
        else first_position(f.line, (-9223372036854775808)::bigint) end as position) x
    where x.position < p.position
  loop
    perform lower_floor(v_below.line, v_below.priority, v_below.position);
    v_found := v_found + 1;
  end loop;
  return v_found;
end $$;
comment on function check_floors() is
  'Chore: finds what stands below a floor, in every line and however far below, and lowers the floor to it. What it has ever found is in its row of chore.';

select define_chore('mark_horizon', 100, 'Writes down the time and a transaction number, for the floors of lanes.');
select define_chore('check_floors', 5000, 'Lowers floors to what stands below them, whatever put it there.');
