-- What the debounced writers of workers store: the last value of each key, one statement per flush, keys in sorted order.

create or replace function save_progress(
  p_run_ids uuid[], p_seqs integer[], p_keys text[], p_values jsonb[], p_attempts integer[] default null, p_number bigint default 0
) returns void
language plpgsql as $$
declare
  v_now timestamptz := clock();
begin
  insert into progress as p (run_id, seq, key, value, at, attempt, number)
  select i.run_id, i.seq, i.key, i.value, v_now, coalesce(i.attempt, 0), p_number
  from unnest(p_run_ids, p_seqs, p_keys, p_values, p_attempts) i(run_id, seq, key, value, attempt)
  order by i.run_id, i.seq, i.key
  on conflict (run_id, seq, key) do update
    set value = excluded.value, at = excluded.at, attempt = excluded.attempt, number = excluded.number
    where (p.attempt, p.number) <= (excluded.attempt, excluded.number);
end $$;
comment on function save_progress(uuid[], integer[], text[], jsonb[], integer[], bigint) is
  'Stores the last values that handlers reported. What a later attempt, or a later call of the same worker, has stored is not replaced: calls may arrive late.';

create or replace function save_figures(
  p_worker bigint, p_queues text[], p_running integer[], p_slots integer[], p_claimed bigint[], p_completed bigint[], p_failed bigint[]
) returns void
language sql as $$
  insert into queue_figure as f (queue_id, worker_id, running, slots, claimed, completed, failed, at)
  select q.id, p_worker, i.running, i.slots, i.claimed, i.completed, i.failed, clock()
  from unnest(p_queues, p_running, p_slots, p_claimed, p_completed, p_failed) i(name, running, slots, claimed, completed, failed)
  join worker w on w.id = p_worker
  join queue q on q.tenant = w.tenant and q.name = i.name
  order by q.id
  on conflict (queue_id, worker_id) do update
    set running = excluded.running, slots = excluded.slots, claimed = excluded.claimed, completed = excluded.completed, failed = excluded.failed, at = excluded.at
    -- Counters only grow: what says less is late.
    where (f.claimed, f.completed, f.failed) <= (excluded.claimed, excluded.completed, excluded.failed)
$$;
comment on function save_figures(bigint, text[], integer[], integer[], bigint[], bigint[], bigint[]) is 'Stores what a worker says of its queues.';

create or replace view queue_figures as
select q.tenant, q.name, count(w.id) filter (where w.state in ('active', 'draining')) as workers,
  coalesce(sum(f.running) filter (where w.state in ('active', 'draining')), 0)::bigint as running,
  coalesce(sum(f.slots) filter (where w.state in ('active', 'draining')), 0)::bigint as slots,
  coalesce(sum(f.claimed), 0)::bigint as claimed, coalesce(sum(f.completed), 0)::bigint as completed, coalesce(sum(f.failed), 0)::bigint as failed, max(f.at) as at, q.name as queue
from queue q left join queue_figure f on f.queue_id = q.id left join worker w on w.id = f.worker_id
group by q.tenant, q.name;
comment on view queue_figures is 'Live figures of queues, from what workers last said: nothing is counted.';
