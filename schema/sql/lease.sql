-- Leases: closed by the fencing tokens that a call names. The caller holds the locks of the runs, so that nobody else closes them.

create or replace function close_leases(p_worker bigint, p_run_ids uuid[], p_seqs integer[], p_attempts integer[]) returns lease[]
language plpgsql as $$
-- Looked up by their keys, one by one, and deleted by what was found. A join with lease, found empty by the last vacuum, began
-- with all of it, dead entries included: 600 ms a call until the next one.
--
declare
  v_leases lease[];
begin
  with held as materialized (
    select i.number, l.tid, l.lease
    from unnest(p_run_ids, p_seqs, p_attempts) with ordinality i(run_id, seq, attempt, number)
    left join lateral (
      select x.ctid as tid, x as lease from lease x
      where x.run_id = i.run_id and x.seq = i.seq and x.attempt = i.attempt and x.worker_id = p_worker offset 0) l on true
  ), closed as (
    delete from lease l where l.ctid = any (array(select h.tid from held h))
  )
  select array_agg(o.lease order by o.number) into v_leases
  from (select h.number, case when row_number() over (partition by h.tid order by h.number) = 1 then h.lease end as lease from held h) o;
  return v_leases;
end $$;
comment on function close_leases(bigint, uuid[], integer[], integer[]) is
  'Closes leases of a worker. For each item, in their order, the lease that was closed; null where the worker does not hold it, or an item before named it.';

create or replace function refused_items(p_worker bigint, p_run_ids uuid[], p_seqs integer[], p_attempts integer[], p_leases lease[])
returns table (run_id uuid, seq integer, attempt integer, refusal text)
language plpgsql stable as $$
begin
  return query
  select i.run_id, i.seq, i.attempt,
    case when s.run_id is null and f.there is null and not is_live(i.run_id, i.seq) then 'not_found'
         when s.outcome = 'completed' and s.attempt = i.attempt and s.worker_id = p_worker then 'already_completed'
         when a.outcome is not null and a.worker_id = p_worker and a.outcome not in ('expired', 'cancelled') then 'already_' || a.outcome
         else 'lease_lost' end
  from unnest(p_run_ids, p_seqs, p_attempts, p_leases)
    i(run_id, seq, attempt, held_run_id, worker_id, claimed_at, held_seq, held_attempt, failures, lane_id)
  left join lateral (
    select x.run_id, x.outcome, x.attempt, x.worker_id from step x where x.run_id = i.run_id and x.seq = i.seq offset 0) s on true
  left join lateral (
    select x.outcome, x.worker_id from attempt x where x.run_id = i.run_id and x.seq = i.seq and x.attempt = i.attempt offset 0) a on true
  left join lateral (
    select true as there from run r join flow_step x on x.flow_id = r.flow_id and x.seq = i.seq and x.undoes is null where r.id = i.run_id offset 0) f on true
  where i.held_run_id is null;
end $$;
comment on function refused_items(bigint, uuid[], integer[], integer[], lease[]) is
  'Why items of a call were refused: those without a lease. already_…: this very attempt of this worker has ended so before, as when a call is repeated after a lost answer.';
