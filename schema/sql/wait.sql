-- Waiting. Rooms: lease -> wait (a handler suspends), wait -> task, held or none (an answer, or the time is over).
-- The caller holds the run's lock, except in suspend() and fire_waits(), which take it.

create or replace function begin_wait(p_lease lease, p_run run, p_wait jsonb) returns void
language plpgsql as $$
-- One of the things that a suspended step waits for. What was begun before (a sleep's end, a child's id) stands in its
-- checkpoint, so that waiting anew begins nothing anew.
declare
  v_now    timestamptz := clock();
  v_kind   wait_kind := (p_wait ->> 'kind')::wait_kind;
  v_path   text := coalesce(p_wait ->> 'path', '');
  v_begun  jsonb;
  v_due    timestamptz;
  v_child  uuid;
  v_prompt jsonb := p_wait -> 'prompt';
begin
  select c.value into v_begun from checkpoint c where c.run_id = p_lease.run_id and c.seq = p_lease.seq and c.path = v_path;
  if not found then
    v_due := v_now + (p_wait ->> 'wait_ms')::bigint * interval '1 millisecond';
    if v_kind = 'child' then
      begin
        v_child := start_child(p_run, p_lease.seq, v_path, p_wait ->> 'flow', (p_wait ->> 'version')::integer, p_wait -> 'input');
      exception when sqlstate 'LH001' or sqlstate 'LH002' or sqlstate 'LH003' then
        v_begun := jsonb_build_object('message', sqlerrm);
      end;
    end if;
    insert into checkpoint (run_id, at, seq, attempt, path, kind, name, answer, value)
    values (p_lease.run_id, v_now, p_lease.seq, p_lease.attempt, v_path, v_kind::text, coalesce(p_wait ->> 'name', ''),
            case when v_begun is not null then 'error'::answer end,
            coalesce(v_begun, jsonb_strip_nulls(jsonb_build_object('due', v_due, 'child', v_child))));
    if v_begun is not null then
      -- It goes on at once, with the error.
      v_kind := 'sleep';
      v_due := v_now;
    end if;
  else
    v_due := (v_begun ->> 'due')::timestamptz;
    v_child := (v_begun ->> 'child')::uuid;
  end if;

  insert into wait (run_id, seq, path, attempt, failures, kind, completes, since, due_at, tenant, topic, key, child_id, prompt)
  values (p_lease.run_id, p_lease.seq, v_path, p_lease.attempt, p_lease.failures, v_kind, v_kind = 'external', v_now, v_due,
          p_run.tenant, p_wait ->> 'topic', p_wait ->> 'key', v_child, v_prompt);
  if v_kind in ('decision', 'interrupt') then
    perform record_event(p_lease.run_id, 'asked', p_lease.seq, null, v_prompt);
    if p_wait ? 'metadata' then
      update run r set metadata = coalesce(r.metadata, '{}') || (p_wait -> 'metadata') where r.id = p_lease.run_id;
    end if;
    if coalesce(v_prompt ->> 'pauses', 'run') = 'run' then
      perform pause_for_question(p_lease.run_id);
    end if;
  end if;
end $$;
comment on function begin_wait(lease, run, jsonb) is 'Enters one thing that a suspended step waits for.';

create or replace function suspend(p_worker bigint, p_run_ids uuid[], p_seqs integer[], p_attempts integer[], p_waits jsonb[], p_skip_busy boolean default false)
returns table (run_id uuid, seq integer, attempt integer, refusal text)
language plpgsql as $$
declare
  v_now    timestamptz := clock();
  v_leases lease[];
  v_closed lease[];
  v_lease  lease;
  v_run    run;
  v_wait   record;
begin
  if cardinality(p_waits) is distinct from cardinality(p_run_ids)
     or exists (select from unnest(p_waits) w where jsonb_typeof(w) is distinct from 'array' or jsonb_array_length(w) = 0) then
    raise exception using errcode = 'LH001', message = 'for each step a list of what it waits for is needed';
  end if;
  perform lock_runs(p_run_ids);
  v_leases := close_leases(p_worker, p_run_ids, p_seqs, p_attempts);
  v_closed := array(select l from unnest(v_leases) l where l.run_id is not null);

  if cardinality(v_closed) > 0 then
    insert into attempt (run_id, claimed_at, ended_at, worker_id, seq, attempt, outcome)
    select l.run_id, l.claimed_at, v_now, l.worker_id, l.seq, l.attempt, 'suspended' from unnest(v_closed) l;
    perform leave_limits(
      array(select (l.run_id, l.seq)::step_key from unnest(v_closed) l), array(select l.lane_id from unnest(v_closed) l), null, true);
    for i in 1 .. cardinality(v_leases) loop
      v_lease := v_leases[i];
      continue when v_lease.run_id is null;
      if p_waits[i] -> 0 ->> 'kind' = 'new' then
        perform continue_as_new(v_lease, p_waits[i] -> 0 -> 'input');
        continue;
      end if;
      for v_wait in select w.value from jsonb_array_elements(p_waits[i]) w loop
        -- Read anew for each: one that asks a question pauses the run.
        select r.* into v_run from run r where r.id = v_lease.run_id;
        perform begin_wait(v_lease, v_run, v_wait.value);
      end loop;
      perform answer_at_once(v_lease.run_id, v_lease.seq);
    end loop;
  end if;
  if cardinality(v_closed) < cardinality(v_leases) then
    return query select * from refused_items(p_worker, p_run_ids, p_seqs, p_attempts, v_leases);
  end if;
end $$;
comment on function suspend(bigint, uuid[], integer[], integer[], jsonb[], boolean) is
  'Ends attempts whose steps now wait, each for the first of a list: {"kind": "sleep", "path": "3", "name": "…", "wait_ms": 1000}, {"kind": "signal", "topic": …, "key": …, "wait_ms": …}, {"kind": "child", "flow": …, "input": …}, {"kind": "decision" or "interrupt", "prompt": {…}}, {"kind": "external", "topic": …, "key": …, "wait_ms": …}. Returns only what was refused.';

create or replace function continue_as_new(p_lease lease, p_input jsonb) returns void
language plpgsql as $$
begin
  delete from checkpoint c where c.run_id = p_lease.run_id and c.seq = p_lease.seq;
  -- From now on it has an input of its own, and stands in the lane of such steps.
  insert into lane (queue_id, handler, own_input)
  select l.queue_id, l.handler, true from step s join lane l on l.id = s.lane_id where s.run_id = p_lease.run_id and s.seq = p_lease.seq
  on conflict do nothing;
  update step s set input = coalesce(p_input, 'null'), lane_id = o.id
  from lane l join lane o on o.queue_id = l.queue_id and o.handler = l.handler and o.own_input
  where s.run_id = p_lease.run_id and s.seq = p_lease.seq and l.id = s.lane_id;
  perform record_event(p_lease.run_id, 'continued as new', p_lease.seq, null, null);
  perform place_step(p_lease.run_id, p_lease.seq, ready_position(), p_lease.attempt);
end $$;
comment on function continue_as_new(lease, jsonb) is 'Begins a durable function anew with another input and an empty history.';

create or replace function answer_at_once(p_run_id uuid, p_seq integer) returns void
language plpgsql as $$
-- What came before the wait: signals that are kept, children that have ended.
declare
  v_wait wait;
begin
  for v_wait in
    select w.* from wait w where w.run_id = p_run_id and w.seq = p_seq and w.kind in ('signal', 'external', 'child') order by w.path
  loop
    -- The first that is answered ends them all.
    exit when not exists (select from wait w where w.run_id = p_run_id and w.seq = p_seq);
    if v_wait.kind = 'child' then
      perform child_ended(v_wait.child_id);
    elsif v_wait.key is null then
      perform match_run(p_run_id);
    elsif not match_topic_if_free(v_wait.tenant, v_wait.topic, v_wait.key) then
      insert into notice (kind, tenant, topic, key) values ('match', v_wait.tenant, v_wait.topic, v_wait.key);
    end if;
  end loop;
end $$;
comment on function answer_at_once(uuid, integer) is 'Answers waits of a step with what came before them.';

create or replace function answer_wait(p_wait wait, p_answer answer, p_value jsonb) returns void
language plpgsql as $$
declare
  v_now timestamptz := clock();
  v_key step_key := (p_wait.run_id, p_wait.seq);
begin
  delete from wait w where w.run_id = p_wait.run_id and w.seq = p_wait.seq;

  if p_wait.kind = 'retry' then
    perform begin_steps(array[v_key]);
    return;
  end if;

  if not p_wait.completes then
    insert into checkpoint (run_id, at, seq, attempt, path, kind, name, answer, value)
    values (p_wait.run_id, v_now, p_wait.seq, p_wait.attempt, p_wait.path, p_wait.kind::text, coalesce(p_wait.topic, ''), p_answer, p_value)
    on conflict (run_id, seq, path) do update
      set answer = coalesce(checkpoint.answer, excluded.answer),
          value = case when checkpoint.answer is null then excluded.value else checkpoint.value end, at = v_now;
    if p_wait.kind = 'decision' and p_wait.path in ('approval', 'budget', 'policy') and p_value ->> 'choice' = 'reject' then
      perform end_failed(v_key, p_wait, jsonb_build_object('message', format('rejected by %s', p_value ->> 'by'), 'code', 'rejected'));
    elsif p_wait.path in ('approval', 'budget') then
      perform begin_steps(array[v_key]);
    else
      perform place_step(p_wait.run_id, p_wait.seq, ready_position(), p_wait.attempt, p_wait.failures);
    end if;
  elsif p_answer = 'ok' then
    update step s set started_at = p_wait.since where s.run_id = p_wait.run_id and s.seq = p_wait.seq;
    perform end_step(p_wait.run_id, p_wait.seq, p_value);
  elsif p_wait.kind = 'external' then
    -- The attempt that handed the work out has failed, and the step's policy says what follows.
    perform settle_external(p_wait, p_answer, p_value);
  else
    perform end_failed(v_key, p_wait, coalesce(p_value, jsonb_build_object('message', format('no signal came on %s in time', p_wait.topic))));
  end if;
end $$;
comment on function answer_wait(wait, answer, jsonb) is
  'Ends the wait of a step: the step completes or fails with the answer, begins, or goes back to its lane with the answer in its history.';

create or replace function end_failed(p_key step_key, p_wait wait, p_error jsonb) returns void
language plpgsql as $$
begin
  perform go_on(fail_steps(array[(p_key.run_id, p_key.seq, null, null, p_wait.since, p_wait.failures, 'failed', p_error, false, null, null)::ended_attempt]));
end $$;
comment on function end_failed(step_key, wait, jsonb) is 'Fails a step that waited.';

create or replace function settle_external(p_wait wait, p_answer answer, p_value jsonb) returns void
language plpgsql as $$
declare
  v_attempt attempt;
begin
  delete from checkpoint c where c.run_id = p_wait.run_id and c.seq = p_wait.seq and c.path = p_wait.path;
  delete from attempt a where a.run_id = p_wait.run_id and a.seq = p_wait.seq and a.attempt = p_wait.attempt returning * into v_attempt;
  perform settle_attempts(array[(
    p_wait.run_id, p_wait.seq, p_wait.attempt, v_attempt.worker_id, v_attempt.claimed_at, p_wait.failures,
    case when p_answer = 'timeout' then 'timed_out' else 'failed' end,
    coalesce(p_value, jsonb_build_object('message', format('no completion came on %s %s in time', p_wait.topic, p_wait.key))),
    true, null, null)::ended_attempt]);
end $$;
comment on function settle_external(wait, answer, jsonb) is 'Work that was handed to an outside provider has failed, or its completion is overdue.';

-- Chore: waits whose time is over ------------------------------------------------------------------------------------

create or replace function fire_waits(p_limit integer) returns bigint
language plpgsql as $$
-- Runs that somebody else holds are left for the next time.
declare
  v_now   timestamptz := clock();
  v_from  timestamptz := time_of(floor_of(-1));
  v_begun timestamptz := clock_timestamp();
  v_run   uuid;
  v_wait  wait;
  v_fired bigint := 0;
begin
  for v_run in
    select d.run_id from (select w.run_id, w.due_at from wait w where w.due_at between v_from and v_now order by w.due_at limit p_limit) d
    group by d.run_id order by d.run_id
  loop
    continue when not lock_if_free(v_run);
    for v_wait in select w.* from wait w where w.run_id = v_run and w.due_at <= v_now order by w.due_at, w.seq, w.path loop
      continue when not exists (select from wait w where w.run_id = v_run and w.seq = v_wait.seq and w.path = v_wait.path);
      case
        when v_wait.kind = 'sleep' then perform answer_wait(v_wait, 'ok', 'null');
        when v_wait.kind = 'decision' then perform answer_question(v_wait, coalesce(v_wait.prompt ->> 'default', 'reject'), null, 'expiry');
        when v_wait.kind = 'signal' and v_wait.completes and (v_wait.prompt ->> 'on_timeout') = 'continue' then perform answer_wait(v_wait, 'ok', 'null');
        else perform answer_wait(v_wait, 'timeout', null);
      end case;
      v_fired := v_fired + 1;
    end loop;
  end loop;
  if is_long(v_begun) then
    perform raise_floors('{-1}');
  end if;
  return v_fired;
end $$;
comment on function fire_waits(integer) is 'Ends up to so many sleeps that are over, and waits whose answer did not come in time. Returns how many.';

create or replace function fire_waits() returns bigint
language sql as $$ select fire_waits(1000) $$;
comment on function fire_waits() is 'Chore: fire_waits(1000).';

select define_chore('fire_waits', 200, 'Ends durable sleeps that are over, and waits whose answer did not come in time.');
