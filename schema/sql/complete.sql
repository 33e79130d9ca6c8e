-- Completing steps. Room: lease -> none; successors without further blockers: blocked -> task.
-- Locks: run (ascending), lease, step, task.

create or replace function complete(p_worker bigint, p_run_ids uuid[], p_seqs integer[], p_attempts integer[], p_outputs jsonb[], p_skip_busy boolean default false)
returns table (run_id uuid, seq integer, attempt integer, refusal text)
language plpgsql as $$
declare
  v_now      timestamptz := clock();
  v_lowest   uuid;
  v_leases   lease[];
  v_done     step_key[];
  v_many     boolean;
  v_children uuid[];
  v_gates    bigint[];
begin
  if cardinality(p_seqs) is distinct from cardinality(p_run_ids) or cardinality(p_attempts) is distinct from cardinality(p_run_ids)
     or cardinality(p_outputs) is distinct from cardinality(p_run_ids) then
    raise exception using errcode = 'LH001', message = 'run ids, sequence numbers, attempts and outputs must be equally many';
  end if;
  v_lowest := lowest_id(p_run_ids);

  perform lock_runs(p_run_ids, v_lowest);

  v_leases := close_leases(p_worker, p_run_ids, p_seqs, p_attempts);
  with written as (
    update step s
    set outcome = 'completed', started_at = h.claimed_at, ended_at = v_now, worker_id = p_worker, attempt = h.attempt, output = h.output
    from (select * from unnest(v_leases, p_outputs) x(run_id, worker_id, claimed_at, seq, attempt, failures, lane_id, output)
          limit cardinality(p_run_ids)) h
    where s.run_id = h.run_id and s.seq = h.seq and s.run_id >= v_lowest
    returning s.run_id, s.seq, s.gate_id
  )
  select array_agg((w.run_id, w.seq)::step_key), array_agg(w.gate_id) filter (where w.gate_id is not null)
  into v_done, v_gates from written w;

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
      returning r.id, r.open_steps, r.parent_path
    )
    select bool_or(c.open_steps > 0), array_agg(c.id) filter (where c.open_steps = 0 and c.parent_path is not null)
    into v_many, v_children from counted c;

    if v_many then
      perform advance(v_done);
    end if;
    if v_children is not null then
      perform tell_parents(v_children);
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
  'Completes steps that the worker holds, unblocks their successors and ends runs that have no step left. Returns only what was refused: no row means that all was done.';
