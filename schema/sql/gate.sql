-- Keys of bounded concurrency: limits by admission. A step with a key comes to the room queued, and enters task only when its
-- key has room; so claims never meet what is blocked, whatever the backlog. Rooms: -> queued -> task.
--
-- Many runs share a key, and a caller may keep a transaction open for a day. So no call that a caller makes touches a key's
-- row: a step that comes is a row in queued, a step that leaves task or lease is a row in gate_call. Claims and a chore, which
-- are transactions of their own, work these off: admit(). They alone change gate. Whom somebody else works on is skipped.
--
-- Fair turns: the position of a step is a virtual time (start-time fair queueing; Goyal, Vin and Cheng 1996), so that a flood
-- of one key interleaves with the trickle of another.

create or replace function gate_id(p_tenant text, p_name text, p_key text) returns bigint
language sql immutable as $$
  select hashtextextended(format('%L %L %L', p_tenant, p_name, p_key), 0)
$$;
comment on function gate_id(text, text, text) is 'The number of a key: computed, so that nobody has to make its row first.';

create or replace function gate_key(p_limit jsonb, p_item jsonb, p_context jsonb) returns text
language plpgsql immutable as $$
begin
  -- A limit without a key bounds all its steps together. A key that the data do not have is no key: nothing bounds the step.
  if coalesce(jsonb_typeof(p_limit -> 'key'), 'null') = 'null' then
    return '';
  end if;
  return key_from('limit ' || (p_limit ->> 'name'), p_limit -> 'key', p_context || jsonb_build_object('item', p_item));
end $$;
comment on function gate_key(jsonb, jsonb, jsonb) is 'The key of a step under a limit; null when its data have none.';

create or replace function gate_of(p_run run, p_step own_step, p_flow_step flow_step, p_context jsonb) returns bigint
language plpgsql stable as $$
declare
  v_limit jsonb := p_flow_step.settings -> 'concurrency';
  v_key   text := gate_key(v_limit, p_step.input, p_context);
begin
  return case when v_key is not null then gate_id(p_run.tenant, v_limit ->> 'name', v_key) end;
end $$;
comment on function gate_of(run, own_step, flow_step, jsonb) is 'The number of the key that a step belongs to; null when nothing bounds it.';

create or replace function place_queued(p_tasks task[]) returns task[]
language plpgsql as $$
declare
  v_free  task[];
  v_lanes integer[];
begin
  with mine as (
    select t, s.gate_id
    from unnest(p_tasks) t
    left join lateral (select x.gate_id from own_step x where x.run_id = t.run_id and x.seq = t.seq offset 0) s on true
  ), come as (
    insert into queued (run_id, gate_id, position, lane_id, seq, attempt, priority, failures, waits)
    select (m.t).run_id, m.gate_id, (m.t).position, (m.t).lane_id, (m.t).seq, (m.t).attempt, (m.t).priority, (m.t).failures, false
    from mine m where m.gate_id is not null
    returning lane_id, position
  )
  select (select array_agg(m.t) from mine m where m.gate_id is null), (select array_agg(c.lane_id) from come c)
  into v_free, v_lanes;
  if v_lanes is not null then
    -- An older place than the present moment's may lie below the floor.
    perform lower_floor(-2, 0::smallint, (select min(t.position) from unnest(p_tasks) t));
    perform wake(array(select distinct x from unnest(v_lanes) x), cardinality(v_lanes));
  end if;
  return coalesce(v_free, '{}');
end $$;
comment on function place_queued(task[]) is 'Puts those steps that have a key to the room queued, and returns the others.';

create or replace function gates_of(p_steps step_key[]) returns bigint[]
language plpgsql stable as $$
begin
  return (
    select array_agg(s.gate_id)
    from unnest(p_steps) k
    cross join lateral (select x.gate_id from own_step x where x.run_id = k.run_id and x.seq = k.seq offset 0) s
    where s.gate_id is not null);
end $$;
comment on function gates_of(step_key[]) is 'The keys of steps, one for each step that has one.';

create or replace function leave_gates(p_gates bigint[]) returns void
language plpgsql as $$
-- One entry for each step that left task or lease.
declare
  v_position bigint;
begin
  if p_gates is null then
    return;
  end if;
  v_position := ready_position();
  insert into gate_call (position, gate_id, ended)
  select v_position, x.id, count(*) from unnest(p_gates) x(id) group by x.id;
  if exists (select from listener) then
    perform wake(array(
      select n.lane_id
      from (select distinct x.id from unnest(p_gates) x(id)) g
      cross join lateral (select q.lane_id from queued q where q.gate_id = g.id and q.waits order by q.priority, q.position limit 1) n),
      cardinality(p_gates));
  end if;
end $$;
comment on function leave_gates(bigint[]) is 'Steps have left task or lease: the next claim lets others of their keys in.';

create or replace function look_at_gates(p_tenant text, p_name text) returns void
language plpgsql as $$
declare
  v_position bigint := ready_position();
begin
  insert into gate_call (position, gate_id, ended) select v_position, g.id, 0 from gate g where g.tenant = p_tenant and g.name = p_name;
end $$;
comment on function look_at_gates(text, text) is 'Has all keys of a limit looked at once more, as when the limit was raised.';

-- Admission -----------------------------------------------------------------------------------------------------------

create or replace function make_gates(p_ids bigint[]) returns void
language plpgsql as $$
declare
  v_new     record;
  v_limit   jsonb;
  v_key     text;
  v_context jsonb;
begin
  for v_new in
    select x.id, s.step, r.run, f.def
    from (select distinct y.id from unnest(p_ids) y(id)) x
    cross join lateral (
      select q.run_id, q.seq from queued q where q.gate_id = x.id
      order by q.waits, q.priority, q.position limit 1) q
    cross join lateral (select y as step from own_step y where y.run_id = q.run_id and y.seq = q.seq offset 0) s
    cross join lateral (select y as run from run y where y.id = q.run_id offset 0) r
    join lateral (select y as def from flow_step y where y.flow_id = (r.run).flow_id and y.seq = coalesce((s.step).def, (s.step).seq)) f on true
    where not exists (select from gate g where g.id = x.id)
    order by x.id
  loop
    -- Somebody else makes it right now.
    continue when not pg_try_advisory_xact_lock(lock_class('gate'), (v_new.id & 2147483647)::integer);
    v_limit := (v_new.def).settings -> 'concurrency';
    -- The data may have changed since the step came to its key: then the number alone tells the key.
    v_key := format('(%s)', v_new.id);
    begin
      v_context := step_context(v_new.run, v_new.def);
      if gate_of(v_new.run, v_new.step, v_new.def, v_context) = v_new.id then
        v_key := gate_key(v_limit, (v_new.step).input, v_context);
      end if;
    exception when others then
      if not bad_data(sqlstate) then
        raise;
      end if;
    end;
    insert into gate (id, tenant, name, key, most) values (v_new.id, (v_new.run).tenant, v_limit ->> 'name', v_key, (v_limit ->> 'limit')::integer)
    on conflict do nothing;
  end loop;
end $$;
comment on function make_gates(bigint[]) is 'Makes the rows of keys that have none, from what the first of their steps says.';

create or replace function called_gates(p_limit integer, p_but bigint[]) returns bigint[]
language plpgsql stable as $$
declare
  v_come  bigint := floor_of(-2);
  v_ended bigint := floor_of(-3);
begin
  return array(
    (select q.gate_id from queued q where not q.waits and q.position >= v_come and q.gate_id <> all (p_but) order by q.position limit p_limit)
    union
    (select c.gate_id from gate_call c where c.position >= v_ended and c.gate_id <> all (p_but) order by c.position limit p_limit));
end $$;
comment on function called_gates(integer, bigint[]) is 'Keys to which steps have come, or whose steps have ended; but not these.';

create or replace function lock_gates(p_limit integer) returns bigint[]
language plpgsql as $$
declare
  v_called bigint[];
  v_seen   bigint[] := '{}';
  v_mine   bigint[] := '{}';
begin
  -- Once more beyond those that others hold, so that they hide nobody; a few times, so that this has an end.
  for i in 1 .. 4 loop
    v_called := called_gates(p_limit, v_seen);
    exit when cardinality(v_called) = 0;
    perform make_gates(v_called);
    v_mine := v_mine || array(select g.id from gate g where g.id = any (v_called) order by g.id for no key update skip locked);
    exit when cardinality(v_mine) >= cardinality(v_called);
    v_seen := v_seen || v_called;
  end loop;
  -- Calls of a key that has no row, and no step to make one from, are over.
  delete from gate_call c where c.gate_id = any (v_seen) and c.position >= floor_of(-3) and not exists (select from gate g where g.id = c.gate_id);
  return v_mine;
end $$;
comment on function lock_gates(integer) is 'Locks the rows of keys that must be looked at, but for those that somebody else holds.';

create or replace function let_in(p_gates bigint[], p_ended jsonb, p_come bigint, p_limit integer, out p_next queued[], out p_aside bigint)
language plpgsql as $$
-- Its lists are joined by hash (see installation.sql): a thousand keys are not compared with each of their steps.
begin
  with room as materialized (
    select g.id, greatest(0, g.used - coalesce((p_ended ->> g.id::text)::integer, 0)) as used, coalesce(l.most, g.most) as most
    from unnest(p_gates) m(id)
    cross join lateral (select y.id, y.tenant, y.name, y.used, y.most from gate y where y.id = m.id offset 0) g
    left join lateral (select y.most from gate_limit y where y.tenant = g.tenant and y.name = g.name offset 0) l on true
  ), come as materialized (
    select x.ctid as tid, x.gate_id, x as queued from queued x
    where not x.waits and x.position >= p_come and x.gate_id = any (p_gates)
    order by x.position limit p_limit for update skip locked
  ), candidate as materialized (
    -- Those that have come, and as many of those that wait as there is room for.
    select c.tid, c.gate_id, c.queued from come c
    union all
    select q.tid, r.id, q.queued
    from room r
    cross join lateral (
      select x.ctid as tid, x as queued from queued x
      where x.gate_id = r.id and x.waits order by x.priority, x.position limit greatest(r.most - r.used, 0) for update skip locked) q
  ), judged as materialized (
    select k.tid, k.queued, r.id,
      row_number() over (partition by r.id order by (k.queued).priority, (k.queued).position, (k.queued).run_id, (k.queued).seq) <= r.most - r.used as enters
    from candidate k join room r on r.id = k.gate_id
  ), admitted as (
    delete from queued q where q.ctid = any (array(select j.tid from judged j where j.enters)) returning q
  ), aside as (
    update queued q set waits = true where q.ctid = any (array(select j.tid from judged j where not j.enters and not (j.queued).waits))
    returning q.gate_id
  ), counted as (
    -- In a full key as many leave as enter, and its row stays as it is.
    update gate g set used = n.used, most = n.most
    from (
      select r.id, r.most, r.used + count(j.id) filter (where j.enters)::int as used
      from room r left join judged j on j.id = r.id group by r.id, r.most, r.used limit cardinality(p_gates)) n
    where g.id = n.id and (g.used <> n.used or g.most <> n.most)
  )
  select array_agg(a.q), (select count(*) from aside) into p_next, p_aside from admitted a;
end $$;
comment on function let_in(bigint[], jsonb, bigint, integer) is
  'Takes those steps out of the room queued that enter, and counts them; says how many others are to wait from now on. The caller has locked the keys, and says how many steps of each have ended and from where on new ones have come.';

create or replace function admit(p_limit integer) returns bigint
language plpgsql as $$
declare
  v_begun    timestamptz := clock_timestamp();
  v_mine     bigint[] := lock_gates(p_limit);
  v_long     boolean := is_long(v_begun) and cardinality(v_mine) < 10;
  v_come     bigint := floor_of(-2);
  v_ended    jsonb;
  v_next     queued[];
  v_aside    bigint;
  v_done     bigint := 0;
  v_tasks    task[];
  v_lanes    integer[];
  v_position bigint;
begin
  if cardinality(v_mine) > 0 then
    v_position := floor_of(-3);
    with taken as (
      delete from gate_call c
      where c.ctid = any (array(
        select x.ctid from gate_call x where x.position >= v_position and x.gate_id = any (v_mine) order by x.position limit 10000))
      returning c.gate_id, c.ended
    )
    select jsonb_object_agg(e.gate_id, e.ended), coalesce(sum(e.calls), 0) into v_ended, v_done
    from (select t.gate_id, sum(t.ended) as ended, count(*) as calls from taken t group by t.gate_id) e;

    select l.p_next, l.p_aside into v_next, v_aside from let_in(v_mine, v_ended, v_come, p_limit) l;
    v_done := v_done + coalesce(cardinality(v_next), 0) + v_aside;

    if v_next is not null then
      -- Those that have waited stand in line from now on: an older place would keep the floor of the lane down.
      v_position := ready_position();
      v_tasks := array(
        select (n.run_id, case when n.waits then greatest(n.position, v_position) else n.position end, n.lane_id, n.seq, n.attempt, n.priority, n.failures)::task
        from unnest(v_next) n);
      perform lower_floors(v_tasks);
      -- Whoever pauses the run of one of these waits for its row in queued, which is ours, and finds it in task then.
      with ready as (
        insert into task select t.* from unnest(v_tasks) t returning lane_id
      )
      select array_agg(r.lane_id) into v_lanes from ready r;
      perform wake(array(select distinct x from unnest(v_lanes) x), cardinality(v_lanes));
    end if;
  end if;
  if v_long then
    perform raise_floors('{-2,-3}');
  end if;
  return v_done;
end $$;
comment on function admit(integer) is
  'Lets steps in whose keys have room. Locks: gates (ascending, those that others hold are skipped), queued, then task. Returns what it has done: calls of keys, steps let in, steps that wait from now on. A step that somebody holds is none of these, so nobody comes back for it at once.';

create or replace function admit_queued() returns bigint
language sql as $$ select admit(1000) $$;
comment on function admit_queued() is 'Chore: admit(1000), for when no worker claims.';

create or replace function check_gates() returns bigint
language plpgsql as $$
declare
  v_position bigint := ready_position();
begin
  -- A step is passed over while somebody holds its row, as a pause does that is rolled back later.
  with recursive waiting(id) as (
    (select q.gate_id from queued q where q.waits order by q.gate_id limit 1)
    union all
    select (select q.gate_id from queued q where q.waits and q.gate_id > w.id order by q.gate_id limit 1) from waiting w where w.id is not null
  ), idle as (
    select w.id from waiting w
    left join lateral (select y.used, y.most from gate y where y.id = w.id offset 0) g on true
    where w.id is not null and coalesce(g.used < g.most, true)
  )
  insert into gate_call (position, gate_id, ended) select v_position, i.id, 0 from idle i;
  -- Not how many: whoever holds such a key holds it still.
  return 0;
end $$;
comment on function check_gates() is 'Chore: has keys looked at that have room and yet steps that wait.';

select define_chore('admit_queued', 200, 'Lets steps in whose keys have room, when no claim does.');
select define_chore('check_gates', 10000, 'Finds keys that have room and yet steps that wait.');

-- Fair turns ------------------------------------------------------------------------------------------------------------

create or replace function next_turn(p_lane integer, p_priority smallint, p_key text, p_weight numeric) returns bigint
language plpgsql as $$
declare
  v_head bigint;
  v_last bigint;
  v_turn bigint;
begin
  select t.position into v_head from task t
  where t.lane_id = p_lane and t.priority = p_priority and t.position >= floor_of(p_lane, p_priority)
  order by t.lane_id, t.priority, t.position limit 1;
  v_head := coalesce(v_head, ready_position());
  select f.last into v_last from fair_share f where f.lane_id = p_lane and f.key = p_key;
  v_turn := greatest(v_last, v_head) + (1000 / p_weight)::bigint;
  -- A turn is a matter of fairness, not of safety: while somebody's transaction holds the key's, nobody waits for it. Keys share
  -- a thousand locks: all sessions share one table of them, which a lock for each key of a bulk start would fill.
  if pg_try_advisory_xact_lock(lock_class('fair_share'), hashtext(format('%s %s', p_lane, p_key)) & 1023) then
    insert into fair_share as f (lane_id, key, last) values (p_lane, p_key, v_turn)
    on conflict (lane_id, key) do update set last = greatest(f.last, v_head) + (1000 / p_weight)::bigint
    returning f.last into v_turn;
  end if;
  perform lower_floor(p_lane, p_priority, v_turn);
  return v_turn;
end $$;
comment on function next_turn(integer, smallint, text, numeric) is
  'The place in line of the next step of a key: as far behind its last one as its weight says, and never before the head of the line.';
