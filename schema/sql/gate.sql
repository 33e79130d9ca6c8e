-- Keys of bounded concurrency: limits by admission. A step with a key enters task only when its key has room; otherwise it
-- stands in queued, in order, and each step of its key that ends lets the next one in. So claims never meet what is blocked,
-- whatever the backlog. Fair turns: the position of a step is a virtual time (start-time fair queueing; Goyal, Vin and Cheng
-- 1996), so that a flood of one key interleaves with the trickle of another.
--
-- Locks: gate (ids ascending) comes after run, step and lease, and before queued and task.

create or replace function gate_of(p_run run, p_step step, p_flow_step flow_step, p_context jsonb) returns bigint
language plpgsql as $$
declare
  v_limit jsonb := p_flow_step.settings -> 'concurrency';
  v_key   jsonb := filled_in(v_limit -> 'key', p_context || jsonb_build_object('item', p_step.input));
  v_id    bigint;
begin
  select g.id into v_id from gate g
  where g.tenant = p_run.tenant and g.name = v_limit ->> 'name' and g.key = coalesce(v_key #>> '{}', '') and g.most = (v_limit ->> 'limit')::integer;
  if v_id is null then
    insert into gate as g (tenant, name, key, most)
    values (p_run.tenant, v_limit ->> 'name', coalesce(v_key #>> '{}', ''), (v_limit ->> 'limit')::integer)
    on conflict (tenant, name, key) do update set most = excluded.most
    returning g.id into v_id;
  end if;
  return v_id;
end $$;
comment on function gate_of(run, step, flow_step, jsonb) is 'The key of bounded concurrency that a step belongs to.';

create or replace function admit(p_tasks task[]) returns task[]
language plpgsql as $$
declare
  v_free task[];
begin
  perform from gate g
  where g.id in (
    select s.gate_id from unnest(p_tasks) t
    cross join lateral (select x.gate_id from step x where x.run_id = t.run_id and x.seq = t.seq offset 0) s)
  order by g.id for no key update;
  with mine as (
    select t, s.gate_id, row_number() over (partition by s.gate_id order by t.priority, t.position, t.run_id, t.seq) as rank
    from unnest(p_tasks) t
    cross join lateral (select x.gate_id from step x where x.run_id = t.run_id and x.seq = t.seq offset 0) s
  ), judged as (
    select m.t, m.gate_id,
      g.id is null or (m.rank <= g.most - g.used and not exists (select from queued q where q.gate_id = g.id)) as free
    from mine m left join gate g on g.id = m.gate_id
  ), taken as (
    update gate g set used = g.used + n.steps
    from (select j.gate_id, count(*)::int as steps from judged j where j.free and j.gate_id is not null group by j.gate_id) n
    where g.id = n.gate_id
  ), aside as (
    insert into queued (run_id, gate_id, position, lane_id, seq, attempt, priority, failures)
    select (j.t).run_id, j.gate_id, (j.t).position, (j.t).lane_id, (j.t).seq, (j.t).attempt, (j.t).priority, (j.t).failures
    from judged j where not j.free
  )
  select array_agg(j.t) into v_free from judged j where j.free;
  return coalesce(v_free, '{}');
end $$;
comment on function admit(task[]) is 'Lets those steps in whose keys have room, and returns them; the others are queued.';

create or replace function gates_of(p_steps step_key[]) returns bigint[]
language plpgsql stable as $$
begin
  return (
    select array_agg(s.gate_id)
    from unnest(p_steps) k
    cross join lateral (select x.gate_id from step x where x.run_id = k.run_id and x.seq = k.seq offset 0) s
    where s.gate_id is not null);
end $$;
comment on function gates_of(step_key[]) is 'The keys of steps, one for each step that has one.';

create or replace function leave_gates(p_gates bigint[]) returns void
language plpgsql as $$
-- One entry for each step that left task or lease.
declare
  v_next     queued[];
  v_lanes    integer[];
  v_position bigint;
begin
  if p_gates is null then
    return;
  end if;
  perform from gate g where g.id = any (p_gates) order by g.id for no key update;
  with room as (
    select l.id, greatest(0, g.used - l.steps) as used, g.most
    from (select x.id, count(*)::int as steps from unnest(p_gates) x(id) group by x.id limit cardinality(p_gates)) l
    cross join lateral (select y.used, y.most from gate y where y.id = l.id offset 0) g
  ), next as (
    select n.ctid
    from room r
    cross join lateral (
      select q.ctid from queued q where q.gate_id = r.id order by q.priority, q.position limit greatest(r.most - r.used, 0) for update skip locked) n
  ), admitted as (
    delete from queued q where q.ctid = any (array(select n.ctid from next n)) returning q
  ), counted as (
    -- In a full key as many leave as enter, and its row stays as it is.
    update gate g set used = n.used
    from (
      select u.id, sum(u.used)::int as used
      from (select r.id, r.used from room r union all select (a.q).gate_id, 1 from admitted a) u
      group by u.id limit cardinality(p_gates)) n
    where g.id = n.id and g.used <> n.used
  )
  select array_agg(a.q) into v_next from admitted a;
  if v_next is null then
    return;
  end if;
  -- They stand in line from now on: an older place would keep the floor of the lane down (floor.sql).
  v_position := ready_position();
  -- Whoever pauses the run of one of these waits for its row in queued, which is ours, and finds it in task then.
  with ready as (
    insert into task (run_id, position, lane_id, seq, attempt, priority, failures)
    select n.run_id, greatest(n.position, v_position), n.lane_id, n.seq, n.attempt, n.priority, n.failures from unnest(v_next) n
    returning lane_id
  )
  select array_agg(r.lane_id) into v_lanes from ready r;
  perform wake(array(select distinct x from unnest(v_lanes) x), cardinality(v_lanes));
end $$;
comment on function leave_gates(bigint[]) is 'Steps have left task or lease: the next ones of their keys are let in.';

create or replace function next_turn(p_lane integer, p_priority smallint, p_key text, p_weight numeric) returns bigint
language plpgsql as $$
declare
  v_head bigint;
  v_turn bigint;
begin
  select t.position into v_head from task t
  where t.lane_id = p_lane and t.priority = p_priority and t.position >= floor_of(p_lane, p_priority)
  order by t.lane_id, t.priority, t.position limit 1;
  v_head := coalesce(v_head, ready_position());
  insert into fair_share as f (lane_id, key, last) values (p_lane, p_key, v_head + (1000 / p_weight)::bigint)
  on conflict (lane_id, key) do update set last = greatest(f.last, v_head) + (1000 / p_weight)::bigint
  returning f.last into v_turn;
  perform lower_floor(p_lane, p_priority, v_turn);
  return v_turn;
end $$;
comment on function next_turn(integer, smallint, text, numeric) is
  'The place in line of the next step of a key: as far behind its last one as its weight says, and never before the head of the line.';
