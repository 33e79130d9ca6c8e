-- Checkpoints: what a step has computed and will not compute again. Fenced by the lease, which is locked against its end
-- until the checkpoint is committed. A lease that somebody else is ending, as a caller whose transaction has stopped the run and
-- is still open, keeps that step's checkpoints only.

drop function if exists save_checkpoints(bigint, uuid[], integer[], integer[], text[], text[], text[], jsonb[]);

create or replace function save_checkpoints(
  p_worker bigint, p_run_ids uuid[], p_seqs integer[], p_attempts integer[], p_paths text[], p_kinds text[], p_names text[], p_values jsonb[],
  p_skip_busy boolean default false
) returns table (run_id uuid, seq integer, attempt integer, refusal text)
language plpgsql as $$
declare
  v_now  timestamptz := clock();
  v_max  bigint := setting_value('max_payload_bytes');
  v_held lease[];
  v_size bigint;
begin
  select max(pg_column_size(v)) into v_size from unnest(p_values) v;
  if v_size > 2 * v_max then
    raise exception using errcode = 'LH001', message = format('a checkpoint has %s bytes, more than the limit of %s (setting max_payload_bytes)', v_size, v_max);
  end if;
  v_held := share_leases(p_worker, p_run_ids, p_seqs, p_attempts, p_skip_busy);

  insert into checkpoint (run_id, at, seq, attempt, path, kind, name, answer, value)
  select h.run_id, v_now, h.seq, h.attempt, h.path, h.kind, h.name, 'ok', coalesce(h.value, 'null')
  from unnest(v_held, p_paths, p_kinds, p_names, p_values)
    h(run_id, worker_id, claimed_at, seq, attempt, failures, lane_id, path, kind, name, value)
  where h.run_id is not null
  order by h.run_id, h.seq, h.path
  on conflict do nothing;

  if exists (select from unnest(v_held) h where h.run_id is null) then
    return query
    select r.run_id, r.seq, r.attempt,
      case when p_skip_busy and exists (
             select from lease l
             where l.run_id = r.run_id and l.seq = r.seq and l.attempt = r.attempt and l.worker_id is not distinct from p_worker)
           then 'busy' else r.refusal end
    from (select distinct * from refused_items(p_worker, p_run_ids, p_seqs, p_attempts, v_held)) r;
  end if;
end $$;
comment on function save_checkpoints(bigint, uuid[], integer[], integer[], text[], text[], text[], jsonb[], boolean) is
  'Saves what steps have computed, under a place in each step. The first value of a place stays. Returns only what was refused, because the lease is lost. busy: somebody else is at the lease; nothing is saved for that step, send it again (only when p_skip_busy is true; otherwise the call waits).';

create or replace function share_leases(p_worker bigint, p_run_ids uuid[], p_seqs integer[], p_attempts integer[], p_skip_busy boolean) returns lease[]
language plpgsql as $$
-- Locked in the order of their keys, as by whoever locks several; given in the order of the items.
begin
  if p_skip_busy then
    return array(
      select l.lease
      from (select * from unnest(p_run_ids, p_seqs, p_attempts) with ordinality x(run_id, seq, attempt, number)
            order by x.run_id, x.seq, x.attempt) i
      left join lateral (
        select x as lease from lease x
        where x.run_id = i.run_id and x.seq = i.seq and x.attempt = i.attempt and x.worker_id is not distinct from p_worker
        for share skip locked) l on true
      order by i.number);
  end if;
  return array(
    select l.lease
    from (select * from unnest(p_run_ids, p_seqs, p_attempts) with ordinality x(run_id, seq, attempt, number)
          order by x.run_id, x.seq, x.attempt) i
    left join lateral (
      select x as lease from lease x
      where x.run_id = i.run_id and x.seq = i.seq and x.attempt = i.attempt and x.worker_id is not distinct from p_worker
      for share) l on true
    order by i.number);
end $$;
comment on function share_leases(bigint, uuid[], integer[], integer[], boolean) is
  'Locks leases of a worker against their end. For each item, in their order, the lease; null where the worker does not hold it or, when asked to skip, somebody else is ending it.';

create or replace function history(p_run_id uuid, p_seq integer)
returns table (path text, kind text, name text, answer answer, value jsonb)
language sql stable as $$
  select c.path, c.kind, c.name, c.answer, c.value from checkpoint c where c.run_id = p_run_id and c.seq = p_seq order by c.at, c.path
$$;
comment on function history(uuid, integer) is 'What a step has computed and begun so far.';

create or replace function save_detached_child(p_worker bigint, p_run_id uuid, p_seq integer, p_attempt integer, p_path text, p_flow text, p_version integer, p_input jsonb, p_skip_busy boolean default false)
returns uuid
language plpgsql as $$
declare
  v_run   run;
  v_child uuid;
begin
  if lock_runs_or_skip(array[p_run_id], p_skip_busy) is not null then
    return null;
  end if;
  perform from lease l where l.run_id = p_run_id and l.seq = p_seq and l.attempt = p_attempt and l.worker_id is not distinct from p_worker;
  if not found then
    raise exception using errcode = 'LH003', message = format('the lease of run %s step %s attempt %s is lost', p_run_id, p_seq, p_attempt);
  end if;
  select (c.value #>> '{}')::uuid into v_child from checkpoint c where c.run_id = p_run_id and c.seq = p_seq and c.path = p_path;
  if v_child is null then
    select r.* into v_run from run r where r.id = p_run_id;
    v_child := start_child(v_run, p_seq, null, p_flow, p_version, p_input);
    insert into checkpoint (run_id, at, seq, attempt, path, kind, name, answer, value)
    values (p_run_id, clock(), p_seq, p_attempt, p_path, 'detached', p_flow, 'ok', to_jsonb(v_child));
  end if;
  return v_child;
end $$;
comment on function save_detached_child(bigint, uuid, integer, integer, text, text, integer, jsonb, boolean) is
  'Starts a child run that nobody waits for, once for each place in a step. Null: somebody else holds the run, ask again (only when p_skip_busy is true; otherwise the call waits).';
