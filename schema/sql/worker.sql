-- Workers: registration, heartbeat, leaving.

create or replace function new_worker_id() returns bigint
language sql volatile as $$
  -- The server's real time, whatever offset tests give to clock(): what was set back must not come again.
  select (((extract(epoch from clock_timestamp() - timestamptz '2020-01-01 00:00:00+00'))::bigint & 2147483647) << 22)
       | (('x' || right(gen_random_uuid()::text, 6))::bit(24)::integer & 4194303)
$$;
comment on function new_worker_id() is
  'The seconds since 2020, then 22 random bits. A serial number would be given again after a restore or a failover, to a second living process.';

create or replace function make_queues(p_tenant text, p_queues text[], p_now timestamptz) returns void
language plpgsql as $$
declare
  v_timeout text := current_setting('lock_timeout');
  v_name    text;
begin
  for v_name in
    select q.name from unnest(p_queues) q(name)
    where not exists (select from queue x where x.tenant = p_tenant and x.name = q.name) order by q.name
  loop
    begin
      perform set_config('lock_timeout', '500ms', true);
      insert into queue (tenant, name, created_at) values (p_tenant, v_name, p_now) on conflict (tenant, name) do nothing;
    exception when lock_not_available then
      -- Somebody makes it in an open transaction, as by a deployment: until that has ended there is no work in it.
      continue;
    end;
  end loop;
  perform set_config('lock_timeout', v_timeout, true);
end $$;
comment on function make_queues(text, text[], timestamptz) is 'Makes those queues that are not there. One that somebody makes in an open transaction is not waited for.';

create or replace function register_worker(
  p_tenant text, p_name text, p_host text, p_pid integer, p_version text,
  p_queues text[], p_handlers text[], p_slots integer, p_lease_ms bigint
) returns table (worker_id bigint, channel text)
language plpgsql as $$
declare
  v_now timestamptz := clock();
  v_bad text;
  v_id  bigint;
begin
  select h into v_bad from unnest(p_handlers) h where not valid_handler_name(h) limit 1;
  if found then
    raise exception using errcode = 'LH001', message = format('%L is not a handler name', v_bad);
  end if;
  if p_lease_ms not between 100 and 86400000 then
    raise exception using errcode = 'LH001', message = format('a lease lasts from 100 ms to a day, not %s ms', p_lease_ms);
  end if;
  -- A queue is there as soon as somebody serves it: otherwise the worker could not ask to be notified of its first step.
  perform make_queues(p_tenant, p_queues, v_now);
  loop
    insert into worker (id, tenant, name, host, pid, version, state, lease_ms, started_at, heartbeat_at, expires_at, slots, queues, handlers)
    values (new_worker_id(), p_tenant, p_name, p_host, p_pid, p_version, 'active', p_lease_ms, v_now, v_now,
            v_now + p_lease_ms * interval '1 millisecond', p_slots, p_queues, p_handlers)
    on conflict (id) do nothing
    returning id into v_id;
    exit when found;
  end loop;
  return query select v_id, wake_channel(v_id);
end $$;
comment on function register_worker(text, text, text, integer, text, text[], text[], integer, bigint) is
  'Registers a worker process; returns its id and the channel on which it is notified (claim: there is work; heartbeat: look at your leases).';

create or replace function what_became_of(p_worker bigint, p_run_id uuid, p_seq integer, p_attempt integer) returns text
language plpgsql stable as $$
begin
  return coalesce(
    (select case when a.outcome = 'cancelled' then 'cancelled' when a.outcome = 'expired' then 'lease_lost' else 'already_' || a.outcome end
     from attempt a where a.run_id = p_run_id and a.seq = p_seq and a.attempt = p_attempt and a.worker_id = p_worker),
    (select 'already_completed' from step s
     where s.run_id = p_run_id and s.seq = p_seq and s.outcome = 'completed' and s.attempt = p_attempt and s.worker_id = p_worker),
    'lease_lost');
end $$;
comment on function what_became_of(bigint, uuid, integer, integer) is
  'How an attempt of a worker ended without it: cancelled, because its run ended; already_…, by a call of this worker; or lease_lost.';

create or replace function what_became_of(p_worker bigint, p_run_ids uuid[], p_seqs integer[], p_attempts integer[])
returns table (run_id uuid, seq integer, attempt integer, refusal text)
language plpgsql stable as $$
begin
  return query
  select i.run_id, i.seq, i.attempt, what_became_of(p_worker, i.run_id, i.seq, i.attempt)
  from unnest(p_run_ids, p_seqs, p_attempts) i(run_id, seq, attempt);
end $$;
comment on function what_became_of(bigint, uuid[], integer[], integer[]) is
  'what_became_of() of several attempts. Asked by a worker when something was refused.';

create or replace function renew_leases(p_worker bigint, p_run_ids uuid[], p_seqs integer[], p_attempts integer[])
returns table (worker_state text, run_id uuid, seq integer, attempt integer, refusal text)
language plpgsql as $$
-- Locks: the worker's row. The first row of the answer has the state; it has no step when nothing was lost.
declare
  v_now   timestamptz := clock();
  v_state text;
begin
  update worker w set heartbeat_at = v_now, expires_at = v_now + w.lease_ms * interval '1 millisecond'
  where w.id = p_worker and w.state in ('active', 'draining')
  returning w.state::text into v_state;
  if not found then
    perform living_worker(p_worker);
  end if;
  return query
  select v_state, lost.run_id, lost.seq, lost.attempt, what_became_of(p_worker, lost.run_id, lost.seq, lost.attempt)
  from (select i.run_id, i.seq, i.attempt
        from unnest(p_run_ids, p_seqs, p_attempts) i(run_id, seq, attempt)
        -- As in close_leases(): by the key, one by one.
        left join lateral (
          select true as there from lease l
          where l.run_id = i.run_id and l.seq = i.seq and l.attempt = i.attempt and l.worker_id is not distinct from p_worker offset 0) l on true
        where l.there is null) lost;
  if not found then
    return query select v_state, null::uuid, null::integer, null::integer, null::text;
  end if;
end $$;
comment on function renew_leases(bigint, uuid[], integer[], integer[]) is
  'Renews all leases of a worker by one update, and says whether it is to claim more (active) or not (draining). Of the steps that it names, returns those that are no longer its own, with what became of them; an error (LH005) when it was given up altogether.';

create or replace function heartbeat(p_worker bigint, p_run_ids uuid[], p_seqs integer[], p_attempts integer[])
returns table (run_id uuid, seq integer, attempt integer)
language plpgsql as $$
begin
  return query
  select r.run_id, r.seq, r.attempt from renew_leases(p_worker, p_run_ids, p_seqs, p_attempts) r where r.run_id is not null;
end $$;
comment on function heartbeat(bigint, uuid[], integer[], integer[]) is
  'renew_leases() without the worker''s state: of the steps that it names, returns those that are no longer its own.';

create or replace function let_go(p_worker bigint, p_run_ids uuid[], p_seqs integer[], p_attempts integer[]) returns bigint
language plpgsql as $$
-- Room: stays lease. Locks: run (ascending), lease.
declare
  v_gone bigint;
begin
  perform lock_runs(p_run_ids);
  update lease l set worker_id = 0
  from unnest(p_run_ids, p_seqs, p_attempts) i(run_id, seq, attempt)
  where l.run_id = i.run_id and l.seq = i.seq and l.attempt = i.attempt and l.worker_id = p_worker;
  get diagnostics v_gone = row_count;
  return v_gone;
end $$;
comment on function let_go(bigint, uuid[], integer[], integer[]) is
  'A worker that can end an attempt in no way gives its lease up: no worker has the number 0, and the chore free_orphans finds the step. Returns how many leases those were.';

create or replace function drain_worker(p_worker bigint) returns void
language plpgsql as $$
begin
  update worker w set state = 'draining' where w.id = p_worker and w.state = 'active';
  if found then
    perform pg_notify(wake_channel(p_worker), 'heartbeat');
  end if;
  delete from listener l where l.worker_id = p_worker;
end $$;
comment on function drain_worker(bigint) is 'The worker claims no more; what it has it may finish, and then its process ends. It learns of it by its heartbeat, which it is told to make.';

create or replace function lock_worker(p_worker bigint) returns void
language plpgsql as $$
begin
  perform pg_advisory_xact_lock(lock_class('worker'), (p_worker & 2147483647)::integer);
end $$;
comment on function lock_worker(bigint) is 'Waits for the claims of a worker that are being carried out, and keeps others from beginning until the transaction ends.';

create or replace function deregister_worker(p_worker bigint) returns bigint
language plpgsql as $$
declare
  v_run_ids  uuid[];
  v_seqs     integer[];
  v_attempts integer[];
begin
  perform lock_worker(p_worker);
  perform from worker w where w.id = p_worker for update;
  select array_agg(l.run_id), array_agg(l.seq), array_agg(l.attempt) into v_run_ids, v_seqs, v_attempts
  from lease l where l.worker_id = p_worker;
  if v_run_ids is not null then
    -- Whoever leaves waits for nobody: steps of runs that somebody holds are handed on by free_orphans().
    perform release(p_worker, v_run_ids, v_seqs, v_attempts, true);
  end if;
  update worker w set state = 'gone', stopped_at = clock() where w.id = p_worker and w.state in ('active', 'draining');
  delete from listener l where l.worker_id = p_worker;
  return coalesce(cardinality(v_run_ids), 0);
end $$;
comment on function deregister_worker(bigint) is
  'The worker leaves; what it still holds goes back to its queues with no attempt consumed. Returns how many steps that were.';

create or replace function neglected_chores() returns table (late_ms bigint, workers bigint, runs bigint)
language plpgsql as $$
declare
  v_now  timestamptz := clock();
  v_late timestamptz := v_now - interval '500 milliseconds';
  v_next timestamptz;
begin
  select min(x.next_at) into v_next
  from (select c.next_at from chore c union all select s.next_at from schedule s where s.paused_at is null) x;
  late_ms := 0;
  if v_next < v_late then
    -- Not those that somebody is at right now: some take long.
    select least(
      (select min(x.next_at) from (select c.next_at from chore c where c.next_at < v_late for key share skip locked) x),
      (select min(x.next_at) from (select s.next_at from schedule s where s.paused_at is null and s.next_at < v_late for key share skip locked) x))
    into v_next;
    late_ms := coalesce(extract(epoch from v_now - v_next) * 1000, 0)::bigint;
  end if;
  select count(*) into workers from worker w where w.state in ('active', 'draining');
  select coalesce(sum(c.runs), 0)::bigint into runs from chore c;
  return next;
end $$;
comment on function neglected_chores() is
  'By how many milliseconds the most overdue chore or tick is late, from half a second on and unless somebody is at it, how many workers live, and how often chores were done so far. Workers ask it, and do the chores when nobody else does.';
