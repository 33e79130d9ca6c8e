-- Claiming. Rooms: queued -> task (admit()), task -> lease. Locks: worker (shared), gates, queues (ascending), task; rows of task
-- that others hold are skipped. No run or step row is touched. A claim is a transaction of its own: what it locks, other
-- claims may need.

create or replace function living_worker(p_worker bigint) returns worker
language plpgsql stable as $$
declare
  v_worker worker;
begin
  select w.* into v_worker from worker w where w.id = p_worker and w.state in ('active', 'draining');
  if not found then
    raise exception using errcode = 'LH005',
      message = format('worker %s is not registered, or was given up because its heartbeat stopped; register again', p_worker);
  end if;
  return v_worker;
end $$;
comment on function living_worker(bigint) is 'The row of a registered worker; an error (LH005) when it is lost or unknown.';

create or replace function claim_lane(
  p_worker bigint, p_lane integer, p_priority smallint, p_from bigint, p_limit integer, p_now timestamptz
) returns lease[]
language plpgsql as $$
-- The rows are found by the ready index, locked, and removed by their ctid. A join instead of ctid = any(array) was
-- planned as a hash join over the whole table once statistics were stale: 58 ms instead of 2 ms.
declare
  v_taken  task[];
  v_leases lease[];
begin
  with taken as (
    delete from task t
    where t.ctid = any (array(
      select r.ctid from task r
      where r.lane_id = p_lane and r.priority = p_priority and r.position >= p_from
      order by r.position limit p_limit
      for update skip locked))
    returning t
  )
  select array_agg(x.t) into v_taken from taken x;
  if v_taken is null then
    return '{}';
  end if;
  with leased as (
    insert into lease as l (run_id, worker_id, claimed_at, seq, attempt, failures, lane_id)
    select t.run_id, p_worker, p_now, t.seq, t.attempt + 1, t.failures, t.lane_id
    from unnest(v_taken) t
    returning l
  )
  select array_agg(x.l) into v_leases from leased x;
  return v_leases;
end $$;
comment on function claim_lane(bigint, integer, smallint, bigint, integer, timestamptz) is 'Claims from one lane at one priority, from its head on.';

create or replace function claimed_steps(p_leases lease[], p_queues text[], p_own boolean[])
returns table (run_id uuid, seq integer, attempt integer, failures smallint, flow_id integer, queue text, input jsonb, def integer)
language plpgsql stable as $$
declare
  v_lowest uuid;
begin
  v_lowest := lowest_id(array(select x.run_id from unnest(p_leases) x));
  if true = any (p_own) is not true then
    return query
    select l.run_id, l.seq, l.attempt, l.failures, r.flow_id, l.queue, r.input, l.seq
    from (select * from unnest(p_leases, p_queues) x(run_id, worker_id, claimed_at, seq, attempt, failures, lane_id, queue) limit cardinality(p_leases)) l
    cross join lateral (select x.flow_id, x.input from run x where x.id = l.run_id and x.id >= v_lowest offset 0) r;
    return;
  end if;
  return query
  select l.run_id, l.seq, l.attempt, l.failures, r.flow_id, q.queue, coalesce(s.input, r.input), coalesce(s.def, l.seq)
  from (select * from unnest(p_leases, p_queues, p_own) x(run_id, worker_id, claimed_at, seq, attempt, failures, lane_id, queue, own) limit cardinality(p_leases)) q
  cross join lateral (select q.run_id, q.seq, q.attempt, q.failures) l
  cross join lateral (select x.flow_id, x.input from run x where x.id = l.run_id and x.id >= v_lowest offset 0) r
  -- In a subquery, so that q.own is looked at before the step is: in the join's condition it would be looked at after.
  left join lateral (
    select x.input, x.def from own_step x where q.own and x.run_id = l.run_id and x.seq = l.seq offset 0) s on true;
end $$;
comment on function claimed_steps(lease[], text[], boolean[]) is 'What a worker needs to know of the steps that it holds.';

create or replace function queues_with_work(p_worker worker, p_queues text[]) returns integer[]
language plpgsql stable as $$
begin
  return array(
    select distinct l.queue_id
    from heads(array(
      select y.id
      from unnest(p_queues) a(name)
      cross join lateral (select x.id from queue x where x.tenant = p_worker.tenant and x.name = a.name offset 0) q
      cross join lateral (select x.id from lane x where x.queue_id = q.id and x.handler = any (p_worker.handlers) offset 0) y)) h
    join lane l on l.id = h.lane_id);
end $$;
comment on function queues_with_work(worker, text[]) is
  'Which of a worker''s queues have a ready step that it could do: one look for all, where a look for each would take a second for some thousand queues.';

create or replace function claim(p_worker bigint, p_queues text[], p_limits integer[], p_number bigint default null)
returns table (run_id uuid, seq integer, attempt integer, failures smallint, flow_id integer, queue text, input jsonb, def integer)
language plpgsql as $$
-- Strictly by priority over all lanes of a queue; within a priority the lane whose head waited longest goes first,
-- and each lane is first in, first out.
declare
  v_now      timestamptz := clock();
  v_worker   worker;
  v_asked    record;
  v_some     integer[];
  v_queue    queue;
  v_had      integer;
  v_lanes    integer[];
  v_left     integer;
  v_priority smallint;
  v_heads    integer[];
  v_from     bigint[];
  v_looked   timestamptz;
  v_long     integer[] := '{}';
  v_part     lease[];
  v_leases   lease[] := '{}';
  v_of       text[] := '{}';
  v_own      boolean[] := '{}';
  v_owns     integer[];
begin
  -- Shared while it claims, exclusive while it is given up: after that nothing is claimed for it.
  perform pg_advisory_xact_lock_shared(lock_class('worker'), (p_worker & 2147483647)::integer);
  v_worker := living_worker(p_worker);
  if v_worker.state <> 'active' or v_worker.expires_at <= v_now then
    raise exception using errcode = 'LH003',
      message = format('worker %s may not claim: it is %s', p_worker,
                       case when v_worker.state = 'active' then 'overdue with its heartbeat' else v_worker.state::text end);
  end if;
  if p_number <= v_worker.claims_refused then
    raise exception using errcode = 'LH003', message = format('claim %s of worker %s comes too late: it has asked what its claims took', p_number, p_worker);
  end if;
  if cardinality(p_queues) is distinct from cardinality(p_limits) then
    raise exception using errcode = 'LH001', message = 'as many queues as limits are needed';
  end if;

  if exists (select from gate_limit) then
    perform admit(1000);
    -- Not before: what was let in now may have waited for an end that was later than this call's beginning.
    v_now := clock();
  end if;
  -- In the order of their ids: the rows of limited queues are locked.
  if cardinality(p_queues) > 8 then
    v_some := queues_with_work(v_worker, p_queues);
  end if;
  for v_asked in
    select x.q, a.most
    from unnest(p_queues, p_limits) a(name, most)
    cross join lateral (select q from queue q where q.tenant = v_worker.tenant and q.name = a.name offset 0) x
    where v_some is null or (x.q).id = any (v_some)
    order by (x.q).id
  loop
    v_queue := v_asked.q;
    v_left := claimable(v_queue, least(v_asked.most, 10000), v_now);
    v_had := cardinality(v_leases);
    select coalesce(array_agg(l.id), '{}'), coalesce(array_agg(l.id) filter (where l.own_input), '{}') into v_lanes, v_owns
    from lane l where l.queue_id = v_queue.id and l.handler = any (v_worker.handlers);
    v_priority := -32768;
    while v_left > 0 loop
      v_looked := clock_timestamp();
      select h.priority, array_agg(h.lane_id order by h.position), array_agg(h.position order by h.position) into v_priority, v_heads, v_from
      from heads(v_lanes, v_priority) h group by h.priority order by h.priority limit 1;
      if is_long(v_looked) then
        v_long := v_long || v_lanes;
      end if;
      exit when v_heads is null;
      for j in 1 .. cardinality(v_heads) loop
        v_part := claim_lane(p_worker, v_heads[j], v_priority, v_from[j], v_left, v_now);
        v_left := v_left - cardinality(v_part);
        v_leases := v_leases || v_part;
        v_of := v_of || array_fill(v_queue.name, array[cardinality(v_part)]);
        v_own := v_own || array_fill(v_heads[j] = any (v_owns), array[cardinality(v_part)]);
        exit when v_left <= 0;
      end loop;
    end loop;
    if cardinality(v_leases) > v_had and is_limited(v_queue) then
      perform count_claimed(v_queue, cardinality(v_leases) - v_had, v_now);
    end if;
  end loop;

  if cardinality(v_leases) > 0 then
    return query select * from claimed_steps(v_leases, v_of, v_own);
  end if;
  if cardinality(v_long) > 0 then
    perform raise_floors(v_long);
  end if;
end $$;
comment on function claim(bigint, text[], integer[], bigint) is
  'Gives a worker up to so many ready steps of each queue (at most 10000 each), with their attempt numbers (fencing tokens), inputs, and the numbers of their definitions. A worker that numbers its claims can have late ones refused: see forgotten_leases().';

create or replace function forgotten_leases(p_worker bigint, p_run_ids uuid[], p_seqs integer[], p_number bigint default null)
returns table (run_id uuid, seq integer, attempt integer, failures smallint, flow_id integer, queue text, input jsonb, def integer)
language plpgsql as $$
declare
  v_leases lease[];
  v_queues text[];
  v_own    boolean[];
begin
  -- Claims that are being carried out are waited for, and those that are still on their way come too late.
  perform lock_worker(p_worker);
  update worker w set claims_refused = p_number where w.id = p_worker and w.claims_refused < p_number;
  select array_agg(l), array_agg(q.name), array_agg(n.own_input) into v_leases, v_queues, v_own
  from lease l
  join lane n on n.id = l.lane_id
  join queue q on q.id = n.queue_id
  where l.worker_id = p_worker
    -- Hashed, unlike NOT EXISTS here: a worker may hold thousands.
    and (l.run_id, l.seq) not in (select k.run_id, k.seq from unnest(p_run_ids, p_seqs) k(run_id, seq) where k.run_id is not null and k.seq is not null);
  if v_leases is not null then
    return query select * from claimed_steps(v_leases, v_queues, v_own);
  end if;
end $$;
comment on function forgotten_leases(bigint, uuid[], integer[], bigint) is
  'The steps that a worker holds beside those that it names: how it learns, after a claim whose answer was lost, what that claim took. Claims up to this number take nothing after this.';
