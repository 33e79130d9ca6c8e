-- What a worker in any language needs beside the calls that move steps: all about a claimed step in one answer, and calls that name what they
-- do instead of taking eight arrays. docs/protocol.md is the whole protocol.

create or replace function protocol_version() returns integer
language sql immutable as $$ select 1 $$;
comment on function protocol_version() is 'Version of the worker protocol (docs/protocol.md). It grows when a call is taken away or changes its meaning, and not when one is added.';

create or replace function described_steps(p_flow_ids integer[], p_defs integer[])
returns table (number bigint, flow text, flow_version integer, step text, handler text, parameters jsonb, timeout_ms bigint, max_attempts smallint, checkpoints boolean, asks boolean)
language plpgsql stable as $$
begin
  return query
  -- A definition may be large: each is looked into once, and not for each step.
  with flows as materialized (
    select f.id, f.name, f.version, coalesce((f.definition ->> 'checkpoints')::boolean, true) as checkpoints
    from (select distinct x.id from unnest(p_flow_ids) x(id)) i
    cross join lateral (select x.id, x.name, x.version, x.definition from flow x where x.id = i.id offset 0) f
  )
  select i.number, f.name, f.version, s.name, l.handler, s.parameters, s.timeout_ms, s.max_attempts, f.checkpoints, s.settings ?| array['approval', 'budget']
  from unnest(p_flow_ids, p_defs) with ordinality i(flow_id, def, number)
  join flows f on f.id = i.flow_id
  cross join lateral (select x.name, x.lane_id, x.parameters, x.timeout_ms, x.max_attempts, x.settings from flow_step x where x.flow_id = i.flow_id and x.seq = i.def offset 0) s
  cross join lateral (select x.handler from lane x where x.id = s.lane_id offset 0) l;
end $$;
comment on function described_steps(integer[], integer[]) is 'Definitions of steps, by flow version and number, in the order in which they were asked for.';

create or replace function short_history(p_run_id uuid, p_seq integer) returns jsonb
language plpgsql stable as $$
declare
  v_size bigint;
begin
  -- The sizes are known without reading the values.
  select coalesce(sum(pg_column_size(c.value) + 100), 0) into v_size from checkpoint c where c.run_id = p_run_id and c.seq = p_seq;
  if v_size > 262144 then
    return null;
  end if;
  return coalesce(
    (select jsonb_agg(jsonb_build_object('path', h.path, 'kind', h.kind, 'name', h.name, 'answer', h.answer, 'value', h.value)) from history(p_run_id, p_seq) h),
    '[]');
end $$;
comment on function short_history(uuid, integer) is 'The history of a step as a list; null when it is longer than 256 KiB, and is better read by history().';

create or replace function claim_steps(
  p_worker bigint, p_queues text[], p_limits integer[], p_number bigint default null, p_known_run_ids uuid[] default null, p_known_seqs integer[] default null
) returns table (
  run_id uuid, seq integer, attempt integer, failures smallint, queue text, input jsonb,
  flow text, flow_version integer, step text, handler text, parameters jsonb, timeout_ms bigint, max_attempts smallint, checkpoints boolean,
  idempotency_key text, history jsonb
)
language plpgsql as $$
-- Rooms and locks: as claim() and forgotten_leases(), which do the work.
declare
  v_run_ids  uuid[];
  v_seqs     integer[];
  v_attempts integer[];
  v_failures smallint[];
  v_flow_ids integer[];
  v_queues   text[];
  v_inputs   jsonb[];
  v_defs     integer[];
begin
  if p_known_run_ids is null then
    select array_agg(c.run_id), array_agg(c.seq), array_agg(c.attempt), array_agg(c.failures), array_agg(c.flow_id), array_agg(c.queue), array_agg(c.input), array_agg(c.def)
    into v_run_ids, v_seqs, v_attempts, v_failures, v_flow_ids, v_queues, v_inputs, v_defs
    from claim(p_worker, p_queues, p_limits, p_number) c;
  else
    select array_agg(c.run_id), array_agg(c.seq), array_agg(c.attempt), array_agg(c.failures), array_agg(c.flow_id), array_agg(c.queue), array_agg(c.input), array_agg(c.def)
    into v_run_ids, v_seqs, v_attempts, v_failures, v_flow_ids, v_queues, v_inputs, v_defs
    from forgotten_leases(p_worker, p_known_run_ids, p_known_seqs, p_number) c;
  end if;
  if v_run_ids is null then
    return;
  end if;
  -- A statement of its own: a flow that was deployed while the claim looked is not in the snapshot of that one.
  return query
  select i.run_id, i.seq, i.attempt, i.failures, i.queue, i.input, d.flow, d.flow_version, d.step, d.handler, d.parameters, d.timeout_ms, d.max_attempts, d.checkpoints,
    -- Before its first attempt a step has a history only if something was asked.
    i.run_id || '/' || i.seq, case when i.attempt > 1 or d.asks then short_history(i.run_id, i.seq) else '[]' end
  from described_steps(v_flow_ids, v_defs) d
  join unnest(v_run_ids, v_seqs, v_attempts, v_failures, v_queues, v_inputs) with ordinality i(run_id, seq, attempt, failures, queue, input, number) using (number);
end $$;
comment on function claim_steps(bigint, text[], integer[], bigint, uuid[], integer[]) is
  'claim() for workers in any language: with each step its flow, name, handler, settings, limits, idempotency key and the history of its durable calls (null when that is longer than 256 KiB: ask history()). With the steps that the worker knows of, it claims nothing and returns what it holds beside them, as forgotten_leases() does: asked after a claim whose answer was lost.';

create or replace function output_of(p_run_id uuid, p_step text)
returns table (outcome text, output jsonb)
language sql stable as $$
  select outcome_of(r.id, f.seq)::text, step_output(r.id, f.seq)
  from run r
  join flow_step f on f.flow_id = r.flow_id and f.name = p_step
  where r.id = p_run_id
$$;
comment on function output_of(uuid, text) is
  'How a step of a run ended, by its name, and its output. The outcome is null while it has not ended; no row: the run has no such step.';

create or replace function fail_for_good(p_worker bigint, p_run_ids uuid[], p_seqs integer[], p_attempts integer[], p_errors jsonb[], p_skip_busy boolean default false)
returns table (run_id uuid, seq integer, attempt integer, refusal text)
language sql as $$
  select * from end_attempts(p_worker, p_run_ids, p_seqs, p_attempts,
    array_fill('failed'::attempt_outcome, array[coalesce(cardinality(p_run_ids), 0)]), p_errors,
    array_fill(false, array[coalesce(cardinality(p_run_ids), 0)]), null, p_skip_busy)
$$;
comment on function fail_for_good(bigint, uuid[], integer[], integer[], jsonb[], boolean) is
  'Fails attempts whose steps cannot succeed: there is no further attempt. Returns only what was refused.';

create or replace function snooze(p_worker bigint, p_run_ids uuid[], p_seqs integer[], p_attempts integer[], p_delays_ms bigint[], p_skip_busy boolean default false)
returns table (run_id uuid, seq integer, attempt integer, refusal text)
language sql as $$
  select * from end_attempts(p_worker, p_run_ids, p_seqs, p_attempts,
    array_fill('snoozed'::attempt_outcome, array[coalesce(cardinality(p_run_ids), 0)]), null,
    array_fill(true, array[coalesce(cardinality(p_run_ids), 0)]), p_delays_ms, p_skip_busy)
$$;
comment on function snooze(bigint, uuid[], integer[], integer[], bigint[], boolean) is
  'Puts steps off for so many milliseconds, with no attempt consumed. Returns only what was refused.';

create or replace function defer(p_worker bigint, p_run_ids uuid[], p_seqs integer[], p_attempts integer[], p_errors jsonb[], p_delays_ms bigint[] default null, p_skip_busy boolean default false)
returns table (run_id uuid, seq integer, attempt integer, refusal text)
language sql as $$
  select * from end_attempts(p_worker, p_run_ids, p_seqs, p_attempts,
    array_fill('deferred'::attempt_outcome, array[coalesce(cardinality(p_run_ids), 0)]), p_errors,
    array_fill(true, array[coalesce(cardinality(p_run_ids), 0)]), p_delays_ms, p_skip_busy)
$$;
comment on function defer(bigint, uuid[], integer[], integer[], jsonb[], bigint[], boolean) is
  'Puts steps off whose provider is busy or down, with no attempt consumed: for so many milliseconds, or, where that is null, for the step''s backoff, which grows with each time. Returns only what was refused.';

create or replace function report_progress(p_worker bigint, p_run_ids uuid[], p_seqs integer[], p_attempts integer[], p_keys text[], p_values jsonb[], p_number bigint default 0)
returns table (run_id uuid, seq integer, attempt integer, refusal text)
language plpgsql as $$
declare
  v_max      bigint := 2 * setting_value('max_payload_bytes');
  v_refusals text[];
begin
  if cardinality(p_seqs) is distinct from cardinality(p_run_ids) or cardinality(p_attempts) is distinct from cardinality(p_run_ids)
     or cardinality(p_keys) is distinct from cardinality(p_run_ids) or cardinality(p_values) is distinct from cardinality(p_run_ids) then
    raise exception using errcode = 'LH001', message = 'run ids, sequence numbers, attempts, keys and values must be equally many';
  end if;
  select array_agg(
    case when i.key is null or length(i.key) > 500 then 'invalid: a key has at most 500 characters'
         when i.value is null then 'invalid: a value is needed'
         when pg_column_size(i.value) > v_max then
           format('invalid: the value has %s bytes, more than the limit of %s (setting max_payload_bytes)', pg_column_size(i.value), v_max / 2)
         when l.there is null then 'lease_lost' end order by i.number)
  into v_refusals
  from unnest(p_run_ids, p_seqs, p_attempts, p_keys, p_values) with ordinality i(run_id, seq, attempt, key, value, number)
  left join lateral (
    select true as there from lease x
    where x.run_id = i.run_id and x.seq = i.seq and x.attempt = i.attempt and x.worker_id is not distinct from p_worker offset 0) l on true;

  -- Of several values for one key, the last.
  perform save_progress(array_agg(k.run_id), array_agg(k.seq), array_agg(k.key), array_agg(k.value), array_agg(k.attempt), coalesce(p_number, 0))
  from (
    select distinct on (i.run_id, i.seq, i.key) i.run_id, i.seq, i.key, i.value, i.attempt
    from unnest(p_run_ids, p_seqs, p_attempts, p_keys, p_values, v_refusals) with ordinality i(run_id, seq, attempt, key, value, refusal, number)
    where i.refusal is null
    order by i.run_id, i.seq, i.key, i.number desc) k
  having count(*) > 0;

  return query
  select i.run_id, i.seq, i.attempt, i.refusal from unnest(p_run_ids, p_seqs, p_attempts, v_refusals) i(run_id, seq, attempt, refusal)
  where i.refusal is not null;
end $$;
comment on function report_progress(bigint, uuid[], integer[], integer[], text[], jsonb[], bigint) is
  'Stores how far steps are, for people who look on: the last value of each key. Fenced: only for leases of the worker. A worker numbers its calls, so that late ones replace nothing. Returns only what was refused.';
