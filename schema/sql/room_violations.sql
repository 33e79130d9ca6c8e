-- The invariant, as a query. It starts from the rooms: what it costs follows what is alive, not what the history holds. Of the
-- history it looks at the newest runs, for steps that have fallen out of all rooms; violations_among(null) looks at all.

create or replace function below_floors() returns table (run_id uuid, seq integer, violation text)
language plpgsql stable as $$
declare
  v_timers timestamptz;
  v_waits  timestamptz;
begin
  -- Floors are unlogged: a standby has none, and may not even ask.
  if pg_is_in_recovery() then
    return;
  end if;
  v_timers := time_of(floor_of(0));
  v_waits := time_of(floor_of(-1));
  return query
  select t.run_id, t.seq, format('ready at %s, below the floor of its lane at %s', t.position, p.position)
  from (select distinct f.line from floor f where f.line > 0) l
  cross join lateral floors_of(l.line) p
  cross join lateral (
    select x.run_id, x.seq, x.position from task x
    where x.lane_id = l.line and x.priority = p.priority and x.position < p.position order by x.lane_id, x.priority, x.position limit 1000) t
  union all
  select t.run_id, t.seq, format('due at %s, below the floor of timers at %s', t.fire_at, v_timers) from timer t where t.fire_at < v_timers
  union all
  select w.run_id, w.seq, format('due at %s, below the floor of waits at %s', w.due_at, v_waits) from wait w where w.due_at < v_waits
  union all
  select q.run_id, q.seq, format('has come to its key at %s, below the floor at %s', q.position, floor_of(-2))
  from queued q where not q.waits and q.position < floor_of(-2);
end $$;
comment on function below_floors() is 'Steps that stand below the floor of their line, where nobody looks. None on a standby, which has no floors.';

create or replace function gate_miscounts() returns table (run_id uuid, seq integer, violation text)
language plpgsql stable as $$
begin
  -- What a key counts, less what has been told it since and what is in task and lease, leaves nothing.
  return query
  select null::uuid, null::integer, format('key %s %s counts %s steps more than are in task or lease', g.name, g.key, u.surplus)
  from (
    select x.id, sum(x.steps) as surplus
    from (
      select k.id, k.used::bigint as steps from gate k where k.used <> 0
      union all
      select c.gate_id, -c.ended from gate_call c
      union all
      select s.gate_id, -1
      from (select t.run_id, t.seq from task t union all select l.run_id, l.seq from lease l) r
      cross join lateral (select y.gate_id from step y where y.run_id = r.run_id and y.seq = r.seq offset 0) s
      where s.gate_id is not null and exists (select from gate)) x
    group by x.id having sum(x.steps) <> 0) u
  left join gate g on g.id = u.id;
end $$;
comment on function gate_miscounts() is 'Keys of bounded concurrency whose count is not that of their steps in task and lease.';

create or replace function stranded() returns table (run_id uuid, seq integer, violation text)
language plpgsql stable as $$
begin
  return query
  select w.run_id, w.seq, case when c.id is null then format('waits for child run %s, which is gone', w.child_id)
                               else format('waits for child run %s, which is %s, and nobody is to tell', w.child_id, c.state) end
  from wait w left join lateral (select r.id, r.state, r.open_steps from run r where r.id = w.child_id offset 0) c on true
  where w.child_id is not null and (c.id is null or c.state in ('completed', 'failed', 'cancelled') and c.open_steps = 0)
    and not exists (select from notice n where n.child_id = w.child_id) and not is_to_be_retried(w.child_id)
  union all
  select w.run_id, w.seq, format('sleeps at %s until a time that it does not name', w.path)
  from wait w where w.kind = 'sleep' and w.due_at is null;
end $$;
comment on function stranded() is 'Steps that wait for what can never come: a child run that is gone or has ended untold, a time that is none.';

create or replace function violations_among(p_recent bigint) returns table (run_id uuid, seq integer, violation text)
language sql stable set jit = off as $$
  with room as (
    select t.run_id, t.seq, 'task' as name from task t
    union all select l.run_id, l.seq, 'lease' from lease l
    union all select i.run_id, i.seq, 'timer' from timer i
    union all select h.run_id, h.seq, 'held' from held h
    union all select q.run_id, q.seq, 'queued' from queued q
    union all select distinct w.run_id, w.seq, 'wait' from wait w
  ), stay as materialized (
    select r.run_id, r.seq, count(*) as rooms, string_agg(r.name, ', ') as names from room r group by r.run_id, r.seq
  ), looked_at as materialized (
    select s.run_id, sum(s.placed) as placed
    from (select y.run_id, 1 as placed from stay y
          union all
          select r.id, 0 from (select x.id, x.state from run x order by x.id desc limit p_recent) r where r.state not in ('completed', 'failed', 'cancelled')
          union all
          (select r.id, 0 from run r order by r.id desc limit p_recent / 100)) s
    group by s.run_id
  ), judged as materialized (
    select a.run_id, a.placed, r.id, r.state, r.open_steps, r.paused_for, l.live, l.loose
    from looked_at a
    left join lateral (select x.id, x.state, x.open_steps, x.paused_for from run x where x.id = a.run_id offset 0) r on true
    cross join lateral (
      select count(*) as live, count(*) filter (where x.blockers <= 0) as loose from step x where x.run_id = a.run_id and x.outcome is null offset 0) l
  )
  select y.run_id, y.seq,
    case when s.there is null then 'in ' || y.names || ', but there is no such step'
         when s.outcome is not null then s.outcome || ', but in ' || y.names
         when y.rooms > 1 then 'in several rooms: ' || y.names
         else 'blocked, but in ' || y.names end
  from stay y
  left join lateral (select x.outcome, x.blockers, true as there from step x where x.run_id = y.run_id and x.seq = y.seq offset 0) s on true
  where s.there is null or s.outcome is not null or y.rooms > 1 or s.blockers > 0
  union all
  select j.run_id, s.seq, 'live, not blocked, and in no room'
  from judged j
  cross join lateral (select x.seq from step x where x.run_id = j.run_id and x.outcome is null and x.blockers <= 0 offset 0) s
  where j.loose > j.placed and not exists (select from stay y where y.run_id = j.run_id and y.seq = s.seq)
  union all
  select j.run_id, null, coalesce(format('%s with %s open steps, but %s are live', j.state, j.open_steps, j.live), 'in a room, but there is no such run')
  from judged j
  where j.id is null or j.live <> j.open_steps or (j.state in ('completed', 'failed', 'cancelled')) <> (j.open_steps = 0)
  union all
  select j.run_id, null, 'paused until a question is answered, but none is open'
  from judged j
  where j.state = 'paused' and j.paused_for = 'question' and not exists (
    select from wait w where w.run_id = j.run_id and w.kind in ('decision', 'interrupt') and coalesce(w.prompt ->> 'pauses', 'run') = 'run')
  union all
  select * from stranded()
  union all
  select * from gate_miscounts()
  union all
  select * from below_floors()
$$;
comment on function violations_among(bigint) is
  'The violations of the invariant among what is alive, and among so many of the newest runs: those that have not ended, and the newest hundredth of them with all their steps. Null: all runs with all their steps, which takes as long as there is history.';

create or replace view room_violations as
select v.run_id, v.seq, v.violation from violations_among(100000) v;
comment on view room_violations is
  'The invariant: a live step is in exactly one room, a final one in none, a run lives as long as it has live steps, and what a step waits for can come. Always empty; a row is a defect. Looks at all that is alive, and at the 100,000 newest runs: violations_among(null) looks at the whole history.';
