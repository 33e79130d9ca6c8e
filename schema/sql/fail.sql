-- Attempts that end without completing their step. Room: lease -> timer (backoff, snooze), task (at once) or none.
-- Locks: run (ascending), lease, step, rooms.

create or replace function backoff_ms(p_step flow_step, p_failures integer) returns bigint
language sql volatile as $$
  -- The delay before attempt n + 1 is backoff * factor^(n - 1), capped, then moved by up to +- jitter.
  select (least(p_step.cap_ms, p_step.backoff_ms * power(p_step.factor, least(p_failures - 1, 60)))
          * (1 + p_step.jitter * (2 * random() - 1)))::bigint
$$;
comment on function backoff_ms(flow_step, integer) is 'Milliseconds to wait after so many failures, by the step''s retry policy.';

create or replace function settle_attempts(p_ended ended_attempt[]) returns void
language plpgsql as $$
-- Each closed attempt is written down; then its step gets another, or fails and with it the run. The caller has locked
-- the runs and taken the leases away.
declare
  v_now     timestamptz := clock();
  v_lo      uuid;
  v_hi      uuid;
  v_next    timer[];
  v_lanes   integer[];
  v_failed  ended_attempt[];
  v_run_ids uuid[];
  v_errors  jsonb[];
begin
  select b.lo, b.hi into v_lo, v_hi from id_bounds(array(select x.run_id from unnest(p_ended) x)) b;

  insert into attempt (run_id, claimed_at, ended_at, worker_id, seq, attempt, outcome, error)
  select e.run_id, e.claimed_at, v_now, e.worker_id, e.seq, e.attempt, e.outcome, e.error
  from unnest(p_ended) e;

  with judged as (
    select e, f,
      e.failures + case when e.outcome in ('released', 'snoozed') then 0 else 1 end as failures
    from unnest(p_ended) e
    join run r on r.id = e.run_id and r.id between v_lo and v_hi
    join flow_step f on f.flow_id = r.flow_id and f.seq = e.seq
  ), decided as (
    select j.e, j.failures,
      case when (j.e).outcome in ('released', 'snoozed') then coalesce((j.e).delay_ms, 0)
           when (j.e).retryable and j.failures < (j.f).max_attempts then coalesce((j.e).delay_ms, backoff_ms(j.f, j.failures))
      end as delay_ms
    from judged j
  )
  select
    array_agg(((d.e).run_id, v_now + d.delay_ms * interval '1 millisecond', (d.e).seq, (d.e).attempt, d.failures::smallint,
               case when (d.e).outcome = 'snoozed' then 'snooze' else 'retry' end)::timer
              order by (d.e).run_id, (d.e).seq) filter (where d.delay_ms is not null),
    array_agg(d.e order by (d.e).run_id, (d.e).seq) filter (where d.delay_ms is null)
  into v_next, v_failed
  from decided d;

  insert into timer select n.* from unnest(v_next) n where n.fire_at > v_now;

  with ready as (
    insert into task (run_id, position, lane_id, seq, attempt, priority, failures)
    select n.run_id, task_position(v_now), s.lane_id, n.seq, n.attempt, s.priority, n.failures
    from unnest(v_next) n
    join step s on s.run_id = n.run_id and s.seq = n.seq and s.run_id between v_lo and v_hi
    where n.fire_at <= v_now
    returning lane_id
  )
  select array_agg(r.lane_id) into v_lanes from ready r;
  if v_lanes is not null then
    perform wake(v_lanes, cardinality(v_lanes));
  end if;

  if v_failed is not null then
    update step s
    set outcome = 'failed', started_at = e.claimed_at, ended_at = v_now, worker_id = e.worker_id, attempt = e.attempt, error = e.error
    from unnest(v_failed) e
    where s.run_id = e.run_id and s.seq = e.seq and s.run_id between v_lo and v_hi;

    select array_agg(x.run_id), array_agg(x.error) into v_run_ids, v_errors
    from (
      select distinct on (e.run_id) e.run_id, coalesce(e.error, '{}') || jsonb_build_object('step', f.name) as error
      from unnest(v_failed) e
      join run r on r.id = e.run_id and r.id between v_lo and v_hi
      join flow_step f on f.flow_id = r.flow_id and f.seq = e.seq
      order by e.run_id, e.seq
    ) x;
    perform end_runs(v_run_ids, 'failed', v_errors);
  end if;
end $$;
comment on function settle_attempts(ended_attempt[]) is
  'Decides what follows attempts that were closed without completing: another one at once or after a delay, or the failure of step and run.';

create or replace function end_attempts(
  p_worker    bigint,
  p_run_ids   uuid[],
  p_seqs      integer[],
  p_attempts  integer[],
  p_outcomes  attempt_outcome[],
  p_errors    jsonb[],
  p_retryable boolean[],
  p_delays_ms bigint[]
) returns table (run_id uuid, seq integer, attempt integer, refusal text)
language plpgsql as $$
declare
  v_ended ended_attempt[];
begin
  if exists (select from unnest(p_run_ids, p_seqs, p_attempts, p_outcomes, p_retryable) i(run_id, seq, attempt, outcome, retryable)
             where i.run_id is null or i.seq is null or i.attempt is null or i.retryable is null
                or i.outcome is null or i.outcome in ('expired', 'cancelled')) then
    raise exception using errcode = 'LH001',
      message = 'each item needs a run id, a sequence number, an attempt, whether it may be retried, and one of the outcomes failed, timed_out, panicked, released, snoozed';
  end if;

  perform lock_runs(p_run_ids);

  with closed as (
    delete from lease l
    using unnest(p_run_ids, p_seqs, p_attempts, p_outcomes, p_errors, p_retryable, p_delays_ms)
      i(run_id, seq, attempt, outcome, error, retryable, delay_ms)
    where l.run_id = i.run_id and l.seq = i.seq and l.attempt = i.attempt and l.worker_id is not distinct from p_worker
    returning l.run_id, l.seq, l.attempt, l.worker_id, l.claimed_at, l.failures, i.outcome, i.error, i.retryable, i.delay_ms
  )
  select array_agg((c.*)::ended_attempt) into v_ended from closed c;

  if v_ended is not null then
    perform settle_attempts(v_ended);
  end if;
  if coalesce(cardinality(v_ended), 0) < coalesce(cardinality(p_run_ids), 0) then
    return query select * from refused_items(p_worker, p_run_ids, p_seqs, p_attempts, v_ended);
  end if;
end $$;
comment on function end_attempts(bigint, uuid[], integer[], integer[], attempt_outcome[], jsonb[], boolean[], bigint[]) is
  'Ends attempts that the worker holds without completing their steps. Released and snoozed attempts are not counted. A null delay means the step''s backoff. Returns only what was refused.';

create or replace function fail(p_worker bigint, p_run_ids uuid[], p_seqs integer[], p_attempts integer[], p_errors jsonb[])
returns table (run_id uuid, seq integer, attempt integer, refusal text)
language sql as $$
  select * from end_attempts(p_worker, p_run_ids, p_seqs, p_attempts,
    array_fill('failed'::attempt_outcome, array[coalesce(cardinality(p_run_ids), 0)]), p_errors,
    array_fill(true, array[coalesce(cardinality(p_run_ids), 0)]), null)
$$;
comment on function fail(bigint, uuid[], integer[], integer[], jsonb[]) is
  'Fails attempts; each is retried by its step''s policy while there are attempts left. Returns only what was refused.';

create or replace function release(p_worker bigint, p_run_ids uuid[], p_seqs integer[], p_attempts integer[])
returns table (run_id uuid, seq integer, attempt integer, refusal text)
language sql as $$
  select * from end_attempts(p_worker, p_run_ids, p_seqs, p_attempts,
    array_fill('released'::attempt_outcome, array[coalesce(cardinality(p_run_ids), 0)]), null,
    array_fill(true, array[coalesce(cardinality(p_run_ids), 0)]), array_fill(0::bigint, array[coalesce(cardinality(p_run_ids), 0)]))
$$;
comment on function release(bigint, uuid[], integer[], integer[]) is
  'Hands steps back at once, with no attempt consumed. Returns only what was refused.';
