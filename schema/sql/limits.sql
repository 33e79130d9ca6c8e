-- Limits of queues, looked at when a worker claims; the queue's row is locked only when it has one. Whatever ends a lease
-- appends to queue_call, and the next claim counts it: so no call of a caller holds the row of a queue. Locks: queues
-- (ascending), by claims and operators alone, before task.

create or replace function is_limited(p_queue queue) returns boolean
language sql immutable as $$
  select p_queue.max_running is not null or p_queue.rate_limit is not null or p_queue.breaker_failures is not null
$$;
comment on function is_limited(queue) is 'Whether claims from a queue are counted.';

create or replace function lock_queue(p_queue integer) returns boolean
language plpgsql as $$
-- Other claims are waited for: they take a moment. Who keeps it for longer has an open transaction.
declare
  v_timeout text := current_setting('lock_timeout');
begin
  perform from queue q where q.id = p_queue for no key update skip locked;
  if found then
    return true;
  end if;
  begin
    perform set_config('lock_timeout', '500ms', true);
    perform from queue q where q.id = p_queue for no key update;
  exception when lock_not_available then
    return false;
  end;
  perform set_config('lock_timeout', v_timeout, true);
  return true;
end $$;
comment on function lock_queue(integer) is
  'Locks a queue for a claim. False when somebody keeps it in an open transaction, as an operator who pauses it: a worker claims from its other queues meanwhile.';

create or replace function claimable(p_queue queue, p_wanted integer, p_now timestamptz) returns integer
language plpgsql as $$
declare
  v_queue queue;
  v_left  integer := p_wanted;
begin
  if p_queue.paused_at is not null then
    return 0;
  end if;
  if not is_limited(p_queue) then
    return p_wanted;
  end if;
  -- From here on until the claim is committed nobody else claims from it.
  if not lock_queue(p_queue.id) then
    return 0;
  end if;
  perform count_calls(p_queue.id, p_now);
  select q.* into v_queue from queue q where q.id = p_queue.id;
  if v_queue.paused_at is not null or v_queue.open_until > p_now then
    return 0;
  end if;
  if v_queue.max_running is not null then
    v_left := least(v_left, v_queue.max_running - v_queue.running);
  end if;
  if v_queue.rate_limit is not null then
    -- Twentieths that began within the period, the one that it began in among them: never more in any period.
    v_left := least(v_left, v_queue.rate_limit - coalesce((
      select sum(u.used) from rate_use u where u.queue_id = v_queue.id and u.bucket >= rate_bucket(v_queue, p_now) - 20), 0)::integer);
  end if;
  if v_queue.breaker_count >= v_queue.breaker_failures then
    -- Half open: one step tries, and the next one only after another pause.
    v_left := least(v_left, 1);
  end if;
  return greatest(v_left, 0);
end $$;
comment on function claimable(queue, integer, timestamptz) is 'How many steps may be claimed from a queue now.';

create or replace function rate_bucket(p_queue queue, p_now timestamptz) returns bigint
language sql immutable as $$
  select floor(extract(epoch from p_now) * 1000 / (p_queue.rate_ms / 20.0))::bigint
$$;
comment on function rate_bucket(queue, timestamptz) is 'The twentieth of a period that a time lies in.';

create or replace function count_claimed(p_queue queue, p_claimed integer, p_now timestamptz) returns void
language plpgsql as $$
begin
  update queue q
  set running = case when q.max_running is null then q.running else q.running + p_claimed end,
      open_until = case when q.breaker_count >= q.breaker_failures then p_now + q.breaker_ms * interval '1 millisecond' end
  where q.id = p_queue.id and (q.max_running is not null or q.breaker_failures is not null);
  if p_queue.rate_limit is not null then
    insert into rate_use as u (queue_id, bucket, used) values (p_queue.id, rate_bucket(p_queue, p_now), p_claimed)
    on conflict (queue_id, bucket) do update set used = u.used + excluded.used;
  end if;
end $$;
comment on function count_claimed(queue, integer, timestamptz) is 'Counts claimed steps against the limits of their queue.';

create or replace function limits_in_use() returns boolean
language plpgsql stable as $$
begin
  return exists (select from queue q where q.max_running is not null or q.breaker_failures is not null);
end $$;
comment on function limits_in_use() is 'Whether the end of a lease has to be counted anywhere.';

create or replace function count_ended(p_lanes integer[], p_bad integer[], p_completed boolean) returns void
language plpgsql as $$
-- Leases of these lanes were closed; of the ones in p_bad because a provider did not answer.
declare
  v_lanes integer[];
begin
  with ended as (
    insert into queue_call (queue_id, ended, bad, completed)
    select q.id, count(*), count(b.lane), p_completed
    from unnest(p_lanes, p_bad) b(id, lane)
    join lane l on l.id = b.id
    join queue q on q.id = l.queue_id and (q.max_running is not null or q.breaker_failures is not null)
    group by q.id
    returning queue_id
  )
  select array_agg(l.id) into v_lanes from ended e join lane l on l.queue_id = e.queue_id;
  if v_lanes is not null then
    perform wake(v_lanes, cardinality(p_lanes));
  end if;
end $$;
comment on function count_ended(integer[], integer[], boolean) is 'Writes closed leases down for the limits of their queues, and wakes those who may claim now.';

create or replace function count_calls(p_queue integer, p_now timestamptz) returns void
language plpgsql as $$
-- The breaker counts attempts in a row: those after the last one that completed.
begin
  with counted as (
    delete from queue_call c using queue q where q.id = p_queue and c.queue_id = q.id and c.id > q.counted
    returning c.id, c.ended, c.bad, c.completed
  ), total as (
    select max(n.id) as last, sum(n.ended)::int as ended, bool_or(n.completed) as completed,
      coalesce(sum(n.bad) filter (where n.id > (select coalesce(max(m.id), 0) from counted m where m.completed)), 0)::int as bad
    from counted n
  )
  update queue q
  set counted = t.last, running = case when q.max_running is null then q.running else greatest(0, q.running - t.ended) end,
      breaker_count = case when t.completed then t.bad else q.breaker_count + t.bad end,
      open_until = case when t.bad > 0 and case when t.completed then t.bad else q.breaker_count + t.bad end >= q.breaker_failures
                          then p_now + q.breaker_ms * interval '1 millisecond'
                        when t.completed then null
                        else q.open_until end
  from total t
  where q.id = p_queue and t.last is not null;
end $$;
comment on function count_calls(integer, timestamptz) is 'Counts the ends of leases off the limits of a queue. The caller holds its lock.';

create or replace function leave_queues(p_lanes integer[], p_bad integer[], p_completed boolean) returns void
language plpgsql as $$
begin
  if limits_in_use() then
    perform count_ended(p_lanes, p_bad, p_completed);
  end if;
end $$;
comment on function leave_queues(integer[], integer[], boolean) is 'Leases of these lanes were closed: gives their places under the limits of queues to others.';

create or replace function leave_limits(p_steps step_key[], p_lanes integer[], p_bad integer[], p_completed boolean) returns void
language plpgsql as $$
begin
  perform leave_gates(gates_of(p_steps));
  perform leave_queues(p_lanes, p_bad, p_completed);
end $$;
comment on function leave_limits(step_key[], integer[], integer[], boolean) is
  'Steps have left task or lease, and leases of these lanes were closed: gives their places under the limits of keys and queues to others.';

-- What operators set ----------------------------------------------------------------------------------------------

create or replace function the_queue(p_tenant text, p_queue text) returns integer
language plpgsql as $$
declare
  v_id integer;
begin
  select q.id into v_id from queue q where q.tenant = p_tenant and q.name = p_queue for no key update;
  if not found then
    raise exception using errcode = 'LH002', message = format('there is no queue %s for tenant %s', p_queue, p_tenant);
  end if;
  return v_id;
end $$;
comment on function the_queue(text, text) is 'Locks a queue and returns its id.';

create or replace function pause_queue(p_tenant text, p_queue text, p_by text default null) returns boolean
language plpgsql as $$
declare
  v_id integer := the_queue(p_tenant, p_queue);
begin
  update queue q set paused_at = clock(), paused_by = actor(p_by) where q.id = v_id and q.paused_at is null;
  return found;
end $$;
comment on function pause_queue(text, text, text) is
  'Pauses a queue: once this is committed, claims that begin after that take nothing from it. What runs is let finish. False when it was paused already.';

create or replace function resume_queue(p_tenant text, p_queue text) returns boolean
language plpgsql as $$
declare
  v_id integer := the_queue(p_tenant, p_queue);
begin
  update queue q set paused_at = null, paused_by = null, open_until = null, breaker_count = 0 where q.id = v_id and (q.paused_at is not null or q.breaker_count > 0);
  if not found then
    return false;
  end if;
  perform wake(array(select l.id from lane l where l.queue_id = v_id), 8);
  return true;
end $$;
comment on function resume_queue(text, text) is 'Lets a paused queue go on, and closes its breaker. False when it was not paused.';

create or replace function limit_queue(
  p_tenant text, p_queue text, p_max_running integer default null, p_rate_limit integer default null, p_rate_per interval default null,
  p_breaker_failures integer default null, p_breaker_pause interval default null
) returns void
language plpgsql as $$
declare
  v_id integer := the_queue(p_tenant, p_queue);
begin
  if p_rate_per > interval '10000 days' or p_breaker_pause > interval '10000 days' then
    raise exception using errcode = 'LH001', message = 'the period of a rate and the pause of a breaker are at most 10000 days';
  end if;
  if p_max_running < 1 or p_rate_limit < 1 or p_breaker_failures < 1 or p_rate_per < interval '100 milliseconds' or p_breaker_pause <= interval '0'
     or (p_rate_limit is null) <> (p_rate_per is null) or (p_breaker_failures is null) <> (p_breaker_pause is null) then
    raise exception using errcode = 'LH001',
      message = 'limits are at least 1, a rate needs a period of at least 100 ms, and a breaker a number of failures and a pause';
  end if;
  update queue q
  set max_running = p_max_running, rate_limit = p_rate_limit, rate_ms = (extract(epoch from p_rate_per) * 1000)::bigint,
      breaker_failures = p_breaker_failures, breaker_ms = (extract(epoch from p_breaker_pause) * 1000)::bigint, breaker_count = 0, open_until = null
  where q.id = v_id;
  delete from rate_use u where u.queue_id = v_id;
  perform recount_queue(v_id);
  perform wake(array(select l.id from lane l where l.queue_id = v_id), 8);
end $$;
comment on function limit_queue(text, text, integer, integer, interval, integer, interval) is
  'Sets all limits of a queue; those that are not named are taken away. What is being claimed at this very moment is counted within ten seconds.';

create or replace function recount_queue(p_queue integer) returns void
language plpgsql as $$
begin
  perform count_calls(p_queue, clock());
  -- One statement, so one snapshot: a lease that is seen has not written its end yet.
  with late as (
    delete from queue_call c where c.queue_id = p_queue
  )
  update queue q set running = (select count(*) from lease l join lane n on n.id = l.lane_id where n.queue_id = q.id)
  where q.id = p_queue and q.max_running is not null;
end $$;
comment on function recount_queue(integer) is 'Counts what runs of a limited queue. The caller holds its lock.';

-- Chores ------------------------------------------------------------------------------------------------------------

create or replace function open_queues() returns bigint
language plpgsql as $$
declare
  v_lanes integer[];
begin
  v_lanes := array(
    select h.lane_id from heads(array(
      select l.id from queue q join lane l on l.queue_id = q.id
      where q.paused_at is null and (q.rate_limit is not null or q.breaker_count > 0) and coalesce(q.open_until <= clock(), true))) h);
  if cardinality(v_lanes) > 0 then
    perform wake(v_lanes, 8);
  end if;
  return 0;
end $$;
comment on function open_queues() is 'Chore: wakes workers for queues whose rate or breaker may let steps through again.';

create or replace function recount_queues() returns bigint
language plpgsql as $$
declare
  v_id integer;
begin
  for v_id in
    select q.id from queue q where q.max_running is not null or q.breaker_failures is not null order by q.id for no key update skip locked
  loop
    perform recount_queue(v_id);
  end loop;
  delete from rate_use u using queue q where q.id = u.queue_id and u.bucket < rate_bucket(q, clock()) - 40;
  return 0;
end $$;
comment on function recount_queues() is 'Chore: counts what runs of limited queues anew, and forgets claims of past periods.';

select define_chore('open_queues', 200, 'Wakes workers for queues whose rate or breaker may let steps through again.');
select define_chore('recount_queues', 10000, 'Counts what runs of limited queues anew.');
