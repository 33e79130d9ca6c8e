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
      cross join lateral (select y.gate_id from own_step y where y.run_id = r.run_id and y.seq = r.seq offset 0) s
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

create or replace function in_room(p_run_id uuid, p_seq integer) returns boolean
language plpgsql stable as $$
begin
  return exists (select from task x where x.run_id = p_run_id and x.seq = p_seq)
    or exists (select from lease x where x.run_id = p_run_id and x.seq = p_seq)
    or exists (select from timer x where x.run_id = p_run_id and x.seq = p_seq)
    or exists (select from held x where x.run_id = p_run_id and x.seq = p_seq)
    or exists (select from queued x where x.run_id = p_run_id and x.seq = p_seq)
    or exists (select from wait x where x.run_id = p_run_id and x.seq = p_seq);
end $$;
comment on function in_room(uuid, integer) is 'Whether a step stands in one of the rooms from which it goes on.';

create or replace function ended_before(p_run_id uuid, p_def flow_step) returns integer
language plpgsql stable as $$
begin
  return (
    select count(*) from unnest(p_def.predecessor_seqs) p(seq)
    cross join lateral (select from step s where s.run_id = p_run_id and s.seq = p.seq offset 0) x);
end $$;
comment on function ended_before(uuid, flow_step) is 'How many predecessors of a step have ended.';

create or replace function lost_steps(p_run_id uuid) returns table (seq integer, violation text)
language plpgsql stable as $$
-- Of one live run: what stands in no room has to wait for something that has not ended, and is counted right.
declare
  v_run run;
begin
  select r.* into v_run from run r where r.id = p_run_id;
  if v_run.compensating then
    -- One compensation after the other: the first that has not ended is in a room.
    return query
    select o.seq, 'live, not blocked, and in no room'
    from (select x.seq from own_step x where x.run_id = p_run_id order by x.seq limit 1) o where not in_room(p_run_id, o.seq);
    return;
  end if;
  if exists (select from notice n where n.run_id = p_run_id and n.kind = 'go_on') then
    return;
  end if;
  return query
  select o.seq, 'live, not blocked, and in no room' from own_step o where o.run_id = p_run_id and o.def is not null and not in_room(p_run_id, o.seq);
  return query
  select j.seq, case when j.ended = j.predecessors then 'live, not blocked, and in no room'
                     else format('blocked by %s steps, but counted as blocked by %s', j.predecessors - j.ended, coalesce(j.counted::text, 'all')) end
  from (
    select f.seq, f.predecessors, ended_before(p_run_id, f) as ended, (select b.blockers from blocked b where b.run_id = p_run_id and b.seq = f.seq) as counted
    from flow_step f
    where f.flow_id = v_run.flow_id and f.undoes is null and not exists (select from step s where s.run_id = p_run_id and s.seq = f.seq)
      and not in_room(p_run_id, f.seq)) j
  where j.ended = j.predecessors
    or j.counted is distinct from case when j.predecessors > 1 and j.ended > 0 then j.predecessors - j.ended end;
end $$;
comment on function lost_steps(uuid) is 'Steps of a live run that have fallen out of all rooms, or are counted wrong.';

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
          select b.run_id, 0 from blocked b
          union all
          select o.run_id, 0 from own_step o
          union all
          select r.id, 0 from (select x.id, x.state from run x order by x.id desc limit p_recent) r where r.state not in ('completed', 'failed', 'cancelled')
          union all
          (select r.id, 0 from run r order by r.id desc limit p_recent / 100)) s
    group by s.run_id
  ), shape as materialized (
    select f.flow_id, bool_or(f.predecessors > 1) as joins, count(*) filter (where f.predecessors = 0) as first
    from flow_step f where f.undoes is null group by f.flow_id
  ), judged as materialized (
    select a.run_id, a.placed, r.id, r.state, r.open_steps, r.paused_for, r.state in ('completed', 'failed', 'cancelled') as ended,
      -- Only then are its steps looked at one by one.
      c.to_begin + o.others <> a.placed or h.joins or coalesce(r.compensating, false) as doubtful,
      case when r.state in ('failed', 'cancelled') then 0
           when r.compensating then o.others
           else f.step_count - d.own + o.others end as live
    from looked_at a
    left join lateral (select x.id, x.state, x.open_steps, x.paused_for, x.compensating, x.flow_id from run x where x.id = a.run_id offset 0) r on true
    left join flow f on f.id = r.flow_id
    cross join lateral (select count(*) filter (where x.def is null) as own from step x where x.run_id = a.run_id offset 0) d
    cross join lateral (select count(*) filter (where x.def is not null) as others from own_step x where x.run_id = a.run_id offset 0) o
    left join shape h on h.flow_id = r.flow_id
    cross join lateral (
      select case when h.joins or r.state not in ('running', 'paused') then 0 when d.own = 0 then h.first
                  else (
                    select count(*) from flow_step x
                    where x.flow_id = r.flow_id and x.undoes is null
                      and not exists (select from step s where s.run_id = a.run_id and s.seq = x.seq)
                      and not exists (
                        select from unnest(x.predecessor_seqs) p(seq) where not exists (select from step s where s.run_id = a.run_id and s.seq = p.seq)))
             end as to_begin) c
  )
  select y.run_id, y.seq,
    case when s.outcome is not null then s.outcome || ', but in ' || y.names
         when o.there is null and f.predecessors is null then 'in ' || y.names || ', but there is no such step'
         when y.rooms > 1 then 'in several rooms: ' || y.names
         when o.there is null and r.over then 'its run is over, but it is in ' || y.names
         else 'blocked, but in ' || y.names end
  from stay y
  join lateral (select x.flow_id, x.state in ('completed', 'failed', 'cancelled') or coalesce(x.compensating, false) as over from run x where x.id = y.run_id offset 0) r on true
  left join lateral (select x.outcome from step x where x.run_id = y.run_id and x.seq = y.seq offset 0) s on true
  left join lateral (select true as there from own_step x where x.run_id = y.run_id and x.seq = y.seq and x.def is not null offset 0) o on true
  left join lateral (
    select x.predecessors, case when x.predecessors > 0 then ended_before(y.run_id, x) else 0 end as ended
    from flow_step x where x.flow_id = r.flow_id and x.seq = y.seq and x.undoes is null offset 0) f on true
  where s.outcome is not null or y.rooms > 1 or (o.there is null and (f.predecessors is null or r.over or f.ended < f.predecessors))
  union all
  select j.run_id, l.seq, l.violation from judged j cross join lateral lost_steps(j.run_id) l where not j.ended and j.live > j.placed and j.doubtful
  union all
  select j.run_id, null, coalesce(format('%s with %s open steps, but %s are live', j.state, j.open_steps, j.live), 'in a room, but there is no such run')
  from judged j
  where j.id is null or j.live <> j.open_steps or j.ended <> (j.open_steps = 0)
  union all
  select b.run_id, b.seq, 'counted as blocked, but ' || case when j.ended then 'its run has ended' else 'in a room' end
  from blocked b join judged j on j.run_id = b.run_id where j.ended or in_room(b.run_id, b.seq)
  union all
  select o.run_id, o.seq, 'its run has ended, but it has something of its own still' from own_step o join judged j on j.run_id = o.run_id where j.ended
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
