-- Completing steps. Room: lease -> none; successors without further blockers: blocked -> task.
-- Locks: run (ascending), lease, step, task.

create or replace function refused_items(p_worker bigint, p_run_ids uuid[], p_seqs integer[], p_attempts integer[], p_accepted ended_attempt[])
returns table (run_id uuid, seq integer, attempt integer, refusal text)
language plpgsql stable as $$
begin
  return query
  select i.run_id, i.seq, i.attempt,
    case when s.run_id is null then 'not_found'
         when s.outcome = 'completed' and s.attempt = i.attempt and s.worker_id = p_worker then 'already_completed'
         when a.outcome is not null and a.worker_id = p_worker and a.outcome not in ('expired', 'cancelled') then 'already_' || a.outcome
         else 'lease_lost' end
  from unnest(p_run_ids, p_seqs, p_attempts) i(run_id, seq, attempt)
  left join lateral (
    select x.run_id, x.outcome, x.attempt, x.worker_id from step x where x.run_id = i.run_id and x.seq = i.seq offset 0) s on true
  left join lateral (
    select x.outcome, x.worker_id from attempt x where x.run_id = i.run_id and x.seq = i.seq and x.attempt = i.attempt offset 0) a on true
  where not exists (
    select from unnest(p_accepted) c where c.run_id = i.run_id and c.seq = i.seq and c.attempt = i.attempt);
end $$;
comment on function refused_items(bigint, uuid[], integer[], integer[], ended_attempt[]) is
  'Why items of a call were refused. already_…: this very attempt of this worker has ended so before, as when a call is repeated after a lost answer.';

create or replace function complete(p_worker bigint, p_run_ids uuid[], p_seqs integer[], p_attempts integer[], p_outputs jsonb[])
returns table (run_id uuid, seq integer, attempt integer, refusal text)
language plpgsql as $$
declare
  v_now      timestamptz := clock();
  v_lowest   uuid;
  v_done     ended_attempt[];
  v_many     boolean;
  v_children uuid[];
  v_gates    bigint[];
  v_lanes    integer[];
begin
  if cardinality(p_seqs) is distinct from cardinality(p_run_ids) or cardinality(p_attempts) is distinct from cardinality(p_run_ids)
     or cardinality(p_outputs) is distinct from cardinality(p_run_ids) then
    raise exception using errcode = 'LH001', message = 'run ids, sequence numbers, attempts and outputs must be equally many';
  end if;
  v_lowest := lowest_id(p_run_ids);

  perform lock_runs(p_run_ids, v_lowest);

  -- Leases are looked up by their keys and deleted by what was found, as wherever they are closed. A join with lease, found
  -- empty by the last vacuum, began with all of it: 600 ms a call until the next one. What was found stays until it is
  -- deleted: nobody else closes a lease of a run whose lock is ours.
  --
  -- IS NOT DISTINCT FROM cannot use an index: with = the planner takes the index on the owner.
  with held as materialized (
    select l.tid, l.claimed_at, l.lane_id, i.run_id, i.seq, i.attempt, i.output
    from (select * from unnest(p_run_ids, p_seqs, p_attempts, p_outputs) x(run_id, seq, attempt, output) limit cardinality(p_run_ids)) i
    cross join lateral (
      select x.ctid as tid, x.claimed_at, x.lane_id from lease x
      where x.run_id = i.run_id and x.seq = i.seq and x.attempt = i.attempt and x.worker_id is not distinct from p_worker offset 0) l
  ), closed as (
    delete from lease l where l.ctid = any (array(select h.tid from held h))
  ), written as (
    update step s
    set outcome = 'completed', started_at = h.claimed_at, ended_at = v_now, worker_id = p_worker, attempt = h.attempt, output = h.output
    from held h
    where s.run_id = h.run_id and s.seq = h.seq and s.run_id >= v_lowest
    returning s.run_id, s.seq, s.attempt, s.gate_id, h.lane_id
  )
  select array_agg((w.run_id, w.seq, w.attempt, null, null, null, null, null, null, null, null)::ended_attempt),
         array_agg(w.gate_id) filter (where w.gate_id is not null), array_agg(w.lane_id)
  into v_done, v_gates, v_lanes from written w;

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
      perform advance(array(select (d.run_id, d.seq)::step_key from unnest(v_done) d));
    end if;
    if v_children is not null then
      perform tell_parents(v_children);
    end if;
    if v_gates is not null then
      perform leave_gates(v_gates);
    end if;
    if limits_in_use() then
      perform count_ended(v_lanes, null, true);
    end if;
  end if;

  if coalesce(cardinality(v_done), 0) < coalesce(cardinality(p_run_ids), 0) then
    return query select * from refused_items(p_worker, p_run_ids, p_seqs, p_attempts, v_done);
  end if;
end $$;
comment on function complete(bigint, uuid[], integer[], integer[], jsonb[]) is
  'Completes steps that the worker holds, unblocks their successors and ends runs that have no step left. Returns only what was refused: no row means that all was done.';
