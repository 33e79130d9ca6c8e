-- Workers: registration, heartbeat, leaving.

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
  insert into queue (tenant, name, created_at)
  select p_tenant, q.name, v_now from unnest(p_queues) q(name) order by q.name
  on conflict (tenant, name) do nothing;
  insert into worker (tenant, name, host, pid, version, state, lease_ms, started_at, heartbeat_at, expires_at, slots, queues, handlers)
  values (p_tenant, p_name, p_host, p_pid, p_version, 'active', p_lease_ms, v_now, v_now,
          v_now + p_lease_ms * interval '1 millisecond', p_slots, p_queues, p_handlers)
  returning id into v_id;
  return query select v_id, wake_channel(v_id);
end $$;
comment on function register_worker(text, text, text, integer, text, text[], text[], integer, bigint) is
  'Registers a worker process; returns its id and the channel on which it is notified (claim: there is work; heartbeat: look at your leases).';

create or replace function heartbeat(p_worker bigint, p_run_ids uuid[], p_seqs integer[], p_attempts integer[])
returns table (run_id uuid, seq integer, attempt integer)
language plpgsql as $$
declare
  v_now timestamptz := clock();
begin
  update worker w set heartbeat_at = v_now, expires_at = v_now + w.lease_ms * interval '1 millisecond'
  where w.id = p_worker and w.state in ('active', 'draining');
  if not found then
    perform living_worker(p_worker);
  end if;
  return query
  select i.run_id, i.seq, i.attempt
  from unnest(p_run_ids, p_seqs, p_attempts) i(run_id, seq, attempt)
  -- As in close_leases(): by the key, one by one, and never by the index on the owner.
  left join lateral (
    select true as there from lease l
    where l.run_id = i.run_id and l.seq = i.seq and l.attempt = i.attempt and l.worker_id is not distinct from p_worker offset 0) l on true
  where l.there is null;
end $$;
comment on function heartbeat(bigint, uuid[], integer[], integer[]) is
  'Renews all leases of a worker by one update. Of the steps that it names, returns those that are no longer its own; an error (LH005) when it was given up altogether.';

create or replace function drain_worker(p_worker bigint) returns void
language plpgsql as $$
begin
  update worker w set state = 'draining' where w.id = p_worker and w.state = 'active';
  delete from listener l where l.worker_id = p_worker;
end $$;
comment on function drain_worker(bigint) is 'The worker claims no more; what it has it may finish.';

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
    perform release(p_worker, v_run_ids, v_seqs, v_attempts);
  end if;
  update worker w set state = 'gone', stopped_at = clock() where w.id = p_worker and w.state in ('active', 'draining');
  delete from listener l where l.worker_id = p_worker;
  return coalesce(cardinality(v_run_ids), 0);
end $$;
comment on function deregister_worker(bigint) is
  'The worker leaves; what it still holds goes back to its queues with no attempt consumed. Returns how many steps that were.';
