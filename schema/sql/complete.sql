-- Completing steps. Room: lease -> step; successors that wait for nothing more -> task.
-- Locks: run (ascending), lease, own_step, blocked, task.

create or replace function complete(
  p_worker bigint, p_run_ids uuid[], p_seqs integer[], p_attempts integer[], p_outputs jsonb[], p_skip_busy boolean default false
) returns table (run_id uuid, seq integer, attempt integer, refusal text)
language plpgsql as $$
declare
  v_now      timestamptz := clock();
  v_lowest   uuid;
  v_leases   lease[];
  v_done     step_key[];
  v_many     boolean;
  v_owned    boolean;
  v_children uuid[];
  v_gates    bigint[];
  v_parents  uuid[];
  v_busy     uuid[];
  v_max      bigint := 2 * setting_value('max_payload_bytes');
begin
  if cardinality(p_seqs) is distinct from cardinality(p_run_ids) or cardinality(p_attempts) is distinct from cardinality(p_run_ids)
     or cardinality(p_outputs) is distinct from cardinality(p_run_ids) then
    raise exception using errcode = 'LH001', message = 'run ids, sequence numbers, attempts and outputs must be equally many';
  end if;
  if (select max(pg_column_size(o)) from unnest(p_outputs) o) > v_max then
    return query select * from fail_oversized(p_worker, p_run_ids, p_seqs, p_attempts, p_outputs, v_max, p_skip_busy);
    select array_agg(i.run_id), array_agg(i.seq), array_agg(i.attempt), array_agg(i.output) into p_run_ids, p_seqs, p_attempts, p_outputs
    from unnest(p_run_ids, p_seqs, p_attempts, p_outputs) i(run_id, seq, attempt, output) where (pg_column_size(i.output) > v_max) is not true;
  end if;
  v_lowest := lowest_id(p_run_ids);
  v_busy := lock_runs_or_skip(p_run_ids, p_skip_busy, v_lowest);
  if v_busy is not null then
    return query select i.run_id, i.seq, i.attempt, 'busy' from unnest(p_run_ids, p_seqs, p_attempts) i(run_id, seq, attempt) where i.run_id = any (v_busy);
    select array_agg(i.run_id), array_agg(i.seq), array_agg(i.attempt), array_agg(i.output) into p_run_ids, p_seqs, p_attempts, p_outputs
    from unnest(p_run_ids, p_seqs, p_attempts, p_outputs) i(run_id, seq, attempt, output) where (i.run_id = any (v_busy)) is not true;
  end if;
  if p_run_ids is null then
    return;
  end if;

  v_leases := close_leases(p_worker, p_run_ids, p_seqs, p_attempts);
  -- Most steps have nothing of their own, and their lanes say so.
  v_owned := exists (select from lane n where n.id = any (array(select l.lane_id from unnest(v_leases) l)) and n.own_input);
  with done as materialized (
    select h.run_id, h.claimed_at, h.seq, h.attempt, h.output, o.tid, o.def, o.gate_id, o.input
    from unnest(v_leases, p_outputs) h(run_id, worker_id, claimed_at, seq, attempt, failures, lane_id, output)
    left join lateral (
      select x.ctid as tid, x.def, x.gate_id, x.input from own_step x where v_owned and x.run_id = h.run_id and x.seq = h.seq offset 0) o on true
    where h.run_id is not null
  ), gone as (
    delete from own_step o where o.ctid = any (array(select d.tid from done d where d.tid is not null))
  ), written as (
    insert into step (run_id, started_at, ended_at, worker_id, seq, attempt, def, outcome, output, input)
    select d.run_id, d.claimed_at, v_now, p_worker, d.seq, d.attempt, d.def, 'completed', d.output, d.input from done d
  )
  select array_agg((d.run_id, d.seq)::step_key), array_agg(d.gate_id) filter (where d.gate_id is not null)
  into v_done, v_gates from done d;

  if v_done is not null then
    with ended as (
      select d.run_id, count(*)::int as steps from (select * from unnest(v_done) limit cardinality(v_done)) d group by d.run_id
    ), counted as (
      update run r
      set open_steps = r.open_steps - e.steps,
          state = case when r.open_steps > e.steps then r.state when r.compensating then 'failed' else 'completed' end,
          ended_at = case when r.open_steps = e.steps then v_now end,
          revision = r.revision + 1
      from ended e
      where r.id = e.run_id and r.id >= v_lowest
      returning r.id, r.open_steps, r.parent_path, r.has_children
    )
    select bool_or(c.open_steps > 0), array_agg(c.id) filter (where c.open_steps = 0 and c.parent_path is not null),
           array_agg(c.id) filter (where c.has_children)
    into v_many, v_children, v_parents from counted c;

    if v_many then
      perform advance(v_done);
    end if;
    if v_children is not null then
      perform tell_parents(v_children);
    end if;
    if v_parents is not null then
      perform stop_children_of_steps(array(select k from unnest(v_done) k where k.run_id = any (v_parents)));
    end if;
    if v_gates is not null then
      perform leave_gates(v_gates);
    end if;
    if limits_in_use() then
      perform count_ended(array(select l.lane_id from unnest(v_leases) l where l.lane_id is not null), null, true);
    end if;
  end if;

  if coalesce(cardinality(v_done), 0) < cardinality(v_leases) then
    return query select * from refused_items(p_worker, p_run_ids, p_seqs, p_attempts, v_leases);
  end if;
end $$;
comment on function complete(bigint, uuid[], integer[], integer[], jsonb[], boolean) is
  'Completes steps that the worker holds, unblocks their successors and ends runs that have no step left. Returns only what was refused: no row means that all was done. busy: somebody else holds the run; the lease is still held, send it again (only when p_skip_busy is true; otherwise the call waits). invalid: …: the attempt has failed with this reason.';

create or replace function fail_oversized(
  p_worker bigint, p_run_ids uuid[], p_seqs integer[], p_attempts integer[], p_outputs jsonb[], p_max bigint, p_skip_busy boolean
) returns table (run_id uuid, seq integer, attempt integer, refusal text)
language plpgsql as $$
declare
  v_run_ids  uuid[];
  v_seqs     integer[];
  v_attempts integer[];
  v_errors   jsonb[];
begin
  select array_agg(i.run_id), array_agg(i.seq), array_agg(i.attempt),
         array_agg(jsonb_build_object('message', format('the output has %s bytes, more than the limit of %s (setting max_payload_bytes)', pg_column_size(i.output), p_max)))
  into v_run_ids, v_seqs, v_attempts, v_errors
  from unnest(p_run_ids, p_seqs, p_attempts, p_outputs) i(run_id, seq, attempt, output) where pg_column_size(i.output) > p_max;
  return query
  select i.run_id, i.seq, i.attempt, coalesce(e.refusal, 'invalid: ' || (i.error ->> 'message'))
  from unnest(v_run_ids, v_seqs, v_attempts, v_errors) i(run_id, seq, attempt, error)
  left join end_attempts(p_worker, v_run_ids, v_seqs, v_attempts, array_fill('failed'::attempt_outcome, array[cardinality(v_run_ids)]), v_errors,
                         array_fill(false, array[cardinality(v_run_ids)]), null, p_skip_busy) e
    on e.run_id = i.run_id and e.seq = i.seq and e.attempt = i.attempt;
end $$;
comment on function fail_oversized(bigint, uuid[], integer[], integer[], jsonb[], bigint, boolean) is
  'Fails the attempts whose outputs are larger than the database takes.';
