-- Attempts that end without completing their step. Room: lease -> timer (backoff, snooze), task (at once) or none.
-- Locks: run (ascending), lease, own_step, rooms.

create or replace function backoff_ms(p_step flow_step, p_failures integer) returns bigint
language plpgsql volatile as $$
begin
  -- The delay before attempt n + 1 is backoff * factor^(n - 1), capped, then moved by up to +- jitter. At most 10,000 days.
  return (least(864000000000, p_step.cap_ms, p_step.backoff_ms * power(least(p_step.factor, 1000), least(p_failures - 1, 60)))
          * (1 + p_step.jitter * (2 * random() - 1)))::bigint;
end $$;
comment on function backoff_ms(flow_step, integer) is 'Milliseconds to wait after so many failures, by the step''s retry policy.';

create or replace function settle_attempts(p_ended ended_attempt[]) returns void
language plpgsql as $$
-- Each closed attempt is written down; then its step gets another, or fails and with it the run. The caller has locked
-- the runs and taken the leases away.
declare
  v_now      timestamptz := clock();
  v_lowest   uuid;
  v_next     timer[];
  v_position bigint;
  v_failed   ended_attempt[];
begin
  v_lowest := lowest_id(array(select x.run_id from unnest(p_ended) x));
  perform touch_run(x.run_id) from (select distinct y.run_id from unnest(p_ended) y) x;

  insert into attempt (run_id, claimed_at, ended_at, worker_id, seq, attempt, outcome, error)
  select e.run_id, e.claimed_at, v_now, e.worker_id, e.seq, e.attempt, e.outcome, e.error
  from unnest(p_ended) e;

  with judged as (
    select x.e, f, coalesce(s.lane_id, f.lane_id) as lane_id, coalesce(r.priority, f.priority) as priority,
      (x.e).failures + case when (x.e).outcome in ('released', 'snoozed', 'deferred') then 0 else 1 end as failures
    from (select e from unnest(p_ended) e limit cardinality(p_ended)) x
    cross join lateral (select y.flow_id, y.priority from run y where y.id = (x.e).run_id and y.id >= v_lowest offset 0) r
    left join lateral (select y.def, y.lane_id from own_step y where y.run_id = (x.e).run_id and y.seq = (x.e).seq offset 0) s on true
    join flow_step f on f.flow_id = r.flow_id and f.seq = coalesce(s.def, (x.e).seq)
  ), decided as (
    select j.e, j.failures, j.lane_id, j.priority,
      -- No handler's mistake reaches beyond 10,000 days.
      least(864000000000, greatest(0,
        case when (j.e).outcome in ('released', 'snoozed') then coalesce((j.e).delay_ms, 0)
             -- A deferred attempt is not counted, but the wait grows with each.
             when (j.e).outcome = 'deferred' then coalesce((j.e).delay_ms, backoff_ms(j.f, (j.e).attempt - j.failures))
             else coalesce((j.e).delay_ms, backoff_ms(j.f, j.failures)) end)) as delay_ms,
      (j.e).outcome in ('released', 'snoozed', 'deferred')
      or ((j.e).retryable and j.failures < (j.f).max_attempts and ((j.e).error ->> 'code' = any ((j.f).never_on)) is not true) as again
    from judged j
  )
  select
    array_agg(((d.e).run_id, v_now + d.delay_ms * interval '1 millisecond', (d.e).seq, (d.e).attempt, d.failures::smallint,
               case when (d.e).outcome in ('snoozed', 'deferred') then 'snooze' else 'retry' end, d.lane_id, d.priority)::timer
              order by (d.e).run_id, (d.e).seq) filter (where d.again),
    array_agg(d.e order by (d.e).run_id, (d.e).seq) filter (where not d.again)
  into v_next, v_failed
  from decided d;

  insert into timer select n.* from unnest(v_next) n where n.fire_at > v_now;
  perform note_due(0, (select min(n.fire_at) from unnest(v_next) n));

  if exists (select from unnest(v_next) n where n.fire_at <= v_now) then
    v_position := ready_position();
    perform place_ready(array(
      select (n.run_id, v_position, n.lane_id, n.seq, n.attempt, n.priority, n.failures)::task
      from unnest(v_next) n
      where n.fire_at <= v_now
      order by n.run_id, n.seq));
  end if;

  if v_failed is not null then
    perform go_on(fail_steps(v_failed));
  end if;
end $$;
comment on function settle_attempts(ended_attempt[]) is
  'Decides what follows attempts that were closed without completing: another one at once or after a delay, or the failure of the step and of what depends on it.';

create or replace function end_attempts(
  p_worker    bigint,
  p_run_ids   uuid[],
  p_seqs      integer[],
  p_attempts  integer[],
  p_outcomes  attempt_outcome[],
  p_errors    jsonb[],
  p_retryable boolean[],
  p_delays_ms bigint[],
  p_skip_busy boolean default false
) returns table (run_id uuid, seq integer, attempt integer, refusal text)
language plpgsql as $$
declare
  v_leases lease[];
  v_ended  ended_attempt[];
  v_lanes  integer[];
  v_bad    integer[];
  v_busy   uuid[];
begin
  if cardinality(p_seqs) is distinct from cardinality(p_run_ids) or cardinality(p_attempts) is distinct from cardinality(p_run_ids)
     or cardinality(p_outcomes) is distinct from cardinality(p_run_ids) then
    raise exception using errcode = 'LH001', message = 'run ids, sequence numbers, attempts and outcomes must be equally many';
  end if;
  v_busy := lock_runs_or_skip(p_run_ids, p_skip_busy);
  if v_busy is not null then
    return query select i.run_id, i.seq, i.attempt, 'busy' from unnest(p_run_ids, p_seqs, p_attempts) i(run_id, seq, attempt) where i.run_id = any (v_busy);
    select array_agg(i.run_id), array_agg(i.seq), array_agg(i.attempt), array_agg(i.outcome), array_agg(i.error), array_agg(i.retryable), array_agg(i.delay_ms)
    into p_run_ids, p_seqs, p_attempts, p_outcomes, p_errors, p_retryable, p_delays_ms
    from unnest(p_run_ids, p_seqs, p_attempts, p_outcomes, p_errors, p_retryable, p_delays_ms) i(run_id, seq, attempt, outcome, error, retryable, delay_ms)
    where (i.run_id = any (v_busy)) is not true;
  end if;
  if p_run_ids is null then
    return;
  end if;

  v_leases := close_leases(p_worker, p_run_ids, p_seqs, p_attempts);
  -- What is wrong with an item concerns that item alone: it has failed, and its error says so.
  select array_agg((l.run_id, l.seq, l.attempt, l.worker_id, l.claimed_at, l.failures,
                    case when l.outcome in ('failed', 'timed_out', 'panicked', 'released', 'snoozed', 'deferred') then l.outcome else 'failed' end,
                    checked_error(l.error), coalesce(l.retryable, true), l.delay_ms, null)::ended_attempt),
         array_agg(l.lane_id), array_agg(case when l.outcome in ('deferred', 'timed_out') then l.lane_id end)
  into v_ended, v_lanes, v_bad
  from unnest(v_leases, p_outcomes, p_errors, p_retryable, p_delays_ms)
    l(run_id, worker_id, claimed_at, seq, attempt, failures, lane_id, outcome, error, retryable, delay_ms)
  where l.run_id is not null;

  if v_ended is not null then
    perform leave_limits(array(select (e.run_id, e.seq)::step_key from unnest(v_ended) e), v_lanes, v_bad, false);
    perform settle_attempts(v_ended);
  end if;
  if coalesce(cardinality(v_ended), 0) < cardinality(v_leases) then
    return query select * from refused_items(p_worker, p_run_ids, p_seqs, p_attempts, v_leases);
  end if;
end $$;
comment on function end_attempts(bigint, uuid[], integer[], integer[], attempt_outcome[], jsonb[], boolean[], bigint[], boolean) is
  'Ends attempts that the worker holds without completing their steps: failed, timed_out, panicked, released, snoozed or deferred (any other outcome counts as failed). Released, snoozed and deferred attempts are not counted. A null delay means the step''s backoff; delays are held between 0 and 10,000 days. Retryable is true unless it is false. Returns only what was refused. busy: somebody else holds the run; the lease is still held, send it again (only when p_skip_busy is true; otherwise the call waits).';

create or replace function checked_error(p_error jsonb) returns jsonb
language plpgsql stable as $$
begin
  if pg_column_size(p_error) > 2 * setting_value('max_payload_bytes') then
    return jsonb_build_object('message', format('the error has %s bytes, more than the limit of %s (setting max_payload_bytes): %s',
      pg_column_size(p_error), setting_value('max_payload_bytes'), left(p_error ->> 'message', 1000)));
  end if;
  -- Views and policies look for a message in an object.
  return case when p_error is null or jsonb_typeof(p_error) = 'object' then p_error else jsonb_build_object('message', p_error) end;
end $$;
comment on function checked_error(jsonb) is 'An error as it is stored: an object, of a bounded size.';

create or replace function fail(p_worker bigint, p_run_ids uuid[], p_seqs integer[], p_attempts integer[], p_errors jsonb[])
returns table (run_id uuid, seq integer, attempt integer, refusal text)
language sql as $$
  select * from end_attempts(p_worker, p_run_ids, p_seqs, p_attempts,
    array_fill('failed'::attempt_outcome, array[coalesce(cardinality(p_run_ids), 0)]), p_errors,
    array_fill(true, array[coalesce(cardinality(p_run_ids), 0)]), null)
$$;
comment on function fail(bigint, uuid[], integer[], integer[], jsonb[]) is
  'Fails attempts; each is retried by its step''s policy while there are attempts left. Returns only what was refused.';

create or replace function release(p_worker bigint, p_run_ids uuid[], p_seqs integer[], p_attempts integer[], p_skip_busy boolean default false)
returns table (run_id uuid, seq integer, attempt integer, refusal text)
language sql as $$
  select * from end_attempts(p_worker, p_run_ids, p_seqs, p_attempts,
    array_fill('released'::attempt_outcome, array[coalesce(cardinality(p_run_ids), 0)]), null,
    array_fill(true, array[coalesce(cardinality(p_run_ids), 0)]), array_fill(0::bigint, array[coalesce(cardinality(p_run_ids), 0)]), p_skip_busy)
$$;
comment on function release(bigint, uuid[], integer[], integer[], boolean) is
  'Hands steps back at once, with no attempt consumed. Returns only what was refused.';
