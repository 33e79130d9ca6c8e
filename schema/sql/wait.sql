-- Waiting. Rooms: lease -> wait (a handler suspends), wait -> task, held or none (an answer, or the time is over).
-- The caller holds the run's lock, except in suspend() and fire_waits(), which take it.
--
-- A suspension lists all that its step waits for. Whatever came before, while nobody waited, counts.

create or replace function begin_wait(p_lease lease, p_run run, p_wait jsonb) returns boolean
language plpgsql as $$
-- One of the things that a suspended step waits for. What was begun before (a sleep's end, a child's id) stands in its
-- checkpoint, so that waiting anew begins nothing anew. True when the answer is there already.
declare
  v_now    timestamptz := clock();
  v_kind   wait_kind := (p_wait ->> 'kind')::wait_kind;
  v_path   text := coalesce(p_wait ->> 'path', '');
  v_known  checkpoint;
  v_due    timestamptz;
  v_child  uuid;
  v_prompt jsonb := p_wait -> 'prompt';
begin
  select c.* into v_known from checkpoint c where c.run_id = p_lease.run_id and c.seq = p_lease.seq and c.path = v_path;
  if v_known.answer is not null then
    -- It came while nobody waited.
    return true;
  end if;
  if v_known.run_id is not null and not coalesce(v_known.value ? 'again', false) then
    v_due := (v_known.value ->> 'due')::timestamptz;
  else
    if jsonb_typeof(p_wait -> 'wait_ms') = 'number' then
      v_due := v_now + greatest((p_wait ->> 'wait_ms')::numeric, 0)::bigint * interval '1 millisecond';
    end if;
    -- Of a child that is gone on with, the time counts anew.
    insert into checkpoint as c (run_id, at, seq, attempt, path, kind, name, value)
    values (p_lease.run_id, v_now, p_lease.seq, p_lease.attempt, v_path, v_kind::text, coalesce(p_wait ->> 'name', ''),
            jsonb_strip_nulls(jsonb_build_object('due', v_due)))
    on conflict (run_id, seq, path) do update set value = c.value || excluded.value;
  end if;
  if v_kind = 'child' then
    v_child := child_at(p_lease, p_run, p_wait, v_path, v_known.value);
    if v_child is null then
      return true;
    end if;
  end if;

  insert into wait (run_id, seq, path, attempt, failures, kind, completes, since, due_at, tenant, topic, key, child_id, prompt)
  values (p_lease.run_id, p_lease.seq, v_path, p_lease.attempt, p_lease.failures, v_kind, v_kind = 'external', v_now, v_due,
          p_run.tenant, p_wait ->> 'topic', p_wait ->> 'key', v_child, v_prompt);
  perform note_due(-1, v_due);
  if v_kind in ('decision', 'interrupt') then
    perform record_event(p_lease.run_id, 'asked', p_lease.seq, null, v_prompt);
    if jsonb_typeof(p_wait -> 'metadata') = 'object' then
      update run r set metadata = coalesce(r.metadata, '{}') || (p_wait -> 'metadata') where r.id = p_lease.run_id;
    end if;
    if coalesce(v_prompt ->> 'pauses', 'run') = 'run' then
      perform pause_for_question(p_lease.run_id);
    end if;
  end if;
  return false;
end $$;
comment on function begin_wait(lease, run, jsonb) is 'Enters one thing that a suspended step waits for. True when its answer is there already.';

create or replace function child_at(p_lease lease, p_run run, p_wait jsonb, p_path text, p_begun jsonb) returns uuid
language plpgsql as $$
declare
  v_child  uuid := (p_begun ->> 'child')::uuid;
  v_answer answer;
  v_value  jsonb;
begin
  if p_begun ? 'again' then
    select take_up_child(r) into v_child from run r where r.id = v_child;
  end if;
  begin
    v_child := coalesce(v_child, start_child(p_run, p_lease.seq, p_path, p_wait ->> 'flow', (p_wait ->> 'version')::integer, p_wait -> 'input'));
    update run r set has_children = true where r.id = p_lease.run_id and r.has_children is null;
    select a.answer, a.value into v_answer, v_value from answer_of_child(v_child) a where not is_to_be_retried(v_child);
  exception when sqlstate 'LH001' or sqlstate 'LH002' or sqlstate 'LH003' or data_exception then
    v_answer := 'error';
    v_value := jsonb_build_object('message', sqlerrm);
  end;
  update checkpoint c
  set answer = v_answer,
      value = case when v_answer is null then coalesce(c.value, '{}') - 'again' || jsonb_build_object('child', v_child) else v_value end
  where c.run_id = p_lease.run_id and c.seq = p_lease.seq and c.path = p_path;
  return case when v_answer is null then v_child end;
end $$;
comment on function child_at(lease, run, jsonb, text, jsonb) is
  'The child that a function waits for at a place: the one it has begun there, or a new one. Null when its answer stands in the history already.';

create or replace function suspend(
  p_worker bigint, p_run_ids uuid[], p_seqs integer[], p_attempts integer[], p_waits jsonb[], p_skip_busy boolean default false
) returns table (run_id uuid, seq integer, attempt integer, refusal text)
language plpgsql as $$
declare
  v_now    timestamptz := clock();
  v_busy   uuid[];
  v_leases lease[];
  v_closed lease[];
  v_lease  lease;
  v_wrong  text;
begin
  if cardinality(p_seqs) is distinct from cardinality(p_run_ids) or cardinality(p_attempts) is distinct from cardinality(p_run_ids)
     or cardinality(p_waits) is distinct from cardinality(p_run_ids) then
    raise exception using errcode = 'LH001', message = 'run ids, sequence numbers, attempts and waits must be equally many';
  end if;
  v_busy := lock_runs_or_skip(p_run_ids, p_skip_busy);
  if v_busy is not null then
    return query select i.run_id, i.seq, i.attempt, 'busy' from unnest(p_run_ids, p_seqs, p_attempts) i(run_id, seq, attempt) where i.run_id = any (v_busy);
    select array_agg(i.run_id), array_agg(i.seq), array_agg(i.attempt), array_agg(i.waits) into p_run_ids, p_seqs, p_attempts, p_waits
    from unnest(p_run_ids, p_seqs, p_attempts, p_waits) i(run_id, seq, attempt, waits) where (i.run_id = any (v_busy)) is not true;
  end if;
  if p_run_ids is null then
    return;
  end if;
  v_leases := close_leases(p_worker, p_run_ids, p_seqs, p_attempts);
  v_closed := array(select l from unnest(v_leases) l where l.run_id is not null);

  if cardinality(v_closed) > 0 then
    perform leave_limits(
      array(select (l.run_id, l.seq)::step_key from unnest(v_closed) l), array(select l.lane_id from unnest(v_closed) l), null, true);
    for i in 1 .. cardinality(v_leases) loop
      v_lease := v_leases[i];
      continue when v_lease.run_id is null;
      if not is_live(v_lease.run_id, v_lease.seq) then
        -- Another item of this call has ended its run.
        insert into attempt (run_id, claimed_at, ended_at, worker_id, seq, attempt, outcome, error)
        values (v_lease.run_id, v_lease.claimed_at, v_now, v_lease.worker_id, v_lease.seq, v_lease.attempt, 'cancelled', '{"message": "the run ended"}');
        return query select v_lease.run_id, v_lease.seq, v_lease.attempt, 'lease_lost';
        continue;
      end if;
      v_wrong := wrong_waits(p_waits[i]);
      if v_wrong is not null then
        -- A wrong outcome is one: the attempt has failed, and whoever asked is told.
        perform settle_attempts(array[(
          v_lease.run_id, v_lease.seq, v_lease.attempt, v_lease.worker_id, v_lease.claimed_at, v_lease.failures, 'failed',
          jsonb_build_object('message', 'the step cannot wait for this: ' || v_wrong), false, null, null)::ended_attempt]);
        return query select v_lease.run_id, v_lease.seq, v_lease.attempt, 'invalid: ' || v_wrong;
        continue;
      end if;
      insert into attempt (run_id, claimed_at, ended_at, worker_id, seq, attempt, outcome)
      values (v_lease.run_id, v_lease.claimed_at, v_now, v_lease.worker_id, v_lease.seq, v_lease.attempt, 'suspended');
      perform suspend_step(v_lease, p_waits[i]);
    end loop;
  end if;
  if cardinality(v_closed) < cardinality(v_leases) then
    return query select * from refused_items(p_worker, p_run_ids, p_seqs, p_attempts, v_leases);
  end if;
end $$;
comment on function suspend(bigint, uuid[], integer[], integer[], jsonb[], boolean) is
  'Ends attempts whose steps now wait, each for the first of a list: {"kind": "sleep", "path": "3", "name": "…", "wait_ms": 1000}, {"kind": "signal", "topic": …, "key": …, "wait_ms": …}, {"kind": "child", "flow": …, "input": …}, {"kind": "decision" or "interrupt", "prompt": {…}}, {"kind": "external", "topic": …, "key": …, "wait_ms": …}. Returns only what was refused. busy: somebody else holds the run, send it again (only when p_skip_busy is true; otherwise the call waits). invalid: …: the attempt has failed with this reason.';

create or replace function suspend_step(p_lease lease, p_waits jsonb) returns void
language plpgsql as $$
declare
  v_run   run;
  v_wait  jsonb;
  v_there boolean := false;
begin
  if p_waits -> 0 ->> 'kind' = 'new' then
    perform continue_as_new(p_lease, p_waits -> 0 -> 'input');
    return;
  end if;
  for v_wait in select w.value from jsonb_array_elements(p_waits) w loop
    -- Read anew for each: one that asks a question pauses the run.
    select r.* into v_run from run r where r.id = p_lease.run_id;
    v_there := begin_wait(p_lease, v_run, v_wait) or v_there;
  end loop;
  if v_there then
    perform drop_waits(p_lease.run_id, p_lease.seq);
    perform place_step(p_lease.run_id, p_lease.seq, ready_position(), p_lease.attempt, p_lease.failures);
  else
    perform answer_at_once(p_lease.run_id, p_lease.seq);
  end if;
  perform touch_run(p_lease.run_id);
end $$;
comment on function suspend_step(lease, jsonb) is 'Has a step wait for the first of a list, or goes on at once when an answer is there.';

create or replace function touch_run(p_run_id uuid) returns void
language plpgsql as $$
begin
  update run r set revision = r.revision + 1 where r.id = p_run_id;
end $$;
comment on function touch_run(uuid) is
  'Marks a run whose steps went to other rooms: a caller in REPEATABLE READ or SERIALIZABLE who does not see that gets a serialization failure, instead of overlooking it.';

create or replace function drop_waits(p_run_id uuid, p_seq integer) returns void
language plpgsql as $$
declare
  v_asked boolean;
begin
  with gone as (
    delete from wait w where w.run_id = p_run_id and w.seq = p_seq returning w.kind
  )
  select bool_or(g.kind in ('decision', 'interrupt')) into v_asked from gone g;
  if v_asked then
    perform end_question_pause(p_run_id);
  end if;
end $$;
comment on function drop_waits(uuid, integer) is 'Ends all that a step waits for, and the pause of its run when that was for a question that nobody asks any more.';

create or replace function continue_as_new(p_lease lease, p_input jsonb) returns void
language plpgsql as $$
declare
  v_key  step_key := (p_lease.run_id, p_lease.seq);
  v_step own_step := live_step(p_lease.run_id, p_lease.seq);
begin
  delete from checkpoint c where c.run_id = p_lease.run_id and c.seq = p_lease.seq;
  -- Nobody can wait any more for the children that it has begun.
  perform stop_children_of_steps(array[v_key]);
  -- From now on it has an input of its own, and stands in the lane of such steps.
  insert into lane (queue_id, handler, own_input) select l.queue_id, l.handler, true from lane l where l.id = v_step.lane_id
  on conflict do nothing;
  v_step.lane_id := own_lane(v_step.lane_id);
  v_step.input := coalesce(p_input, 'null');
  perform keep_own(v_step);
  perform record_event(p_lease.run_id, 'continued as new', p_lease.seq, null, null);
  perform place_step(p_lease.run_id, p_lease.seq, ready_position(), p_lease.attempt);
end $$;
comment on function continue_as_new(lease, jsonb) is 'Begins a durable function anew with another input and an empty history. The children that it has not waited for end.';

create or replace function answer_at_once(p_run_id uuid, p_seq integer) returns void
language plpgsql as $$
-- What came before the wait: signals that are kept.
declare
  v_wait wait;
begin
  for v_wait in
    select w.* from wait w where w.run_id = p_run_id and w.seq = p_seq and w.kind in ('signal', 'external') order by w.path
  loop
    -- The first that is answered ends them all.
    exit when not exists (select from wait w where w.run_id = p_run_id and w.seq = p_seq);
    if v_wait.key is null then
      perform match_run_or_later(p_run_id);
    else
      perform match_topic_or_later(v_wait.tenant, v_wait.topic, v_wait.key);
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
  -- Whatever else it waited for has lost.
  perform drop_waits(p_wait.run_id, p_wait.seq);
  if not p_wait.completes and p_wait.kind <> 'retry' then
    insert into checkpoint (run_id, at, seq, attempt, path, kind, name, answer, value)
    values (p_wait.run_id, v_now, p_wait.seq, p_wait.attempt, p_wait.path, p_wait.kind::text, coalesce(p_wait.topic, ''), p_answer, p_value)
    on conflict (run_id, seq, path) do update
      set answer = coalesce(checkpoint.answer, excluded.answer),
          value = case when checkpoint.answer is null then excluded.value else checkpoint.value end, at = v_now;
  end if;
  if not is_live(p_wait.run_id, p_wait.seq) then
    -- A question had kept other steps back. They went on, and one of them has ended the run.
    return;
  end if;
  perform touch_run(p_wait.run_id);

  if p_wait.kind = 'retry' then
    perform begin_steps(array[v_key]);
  elsif not p_wait.completes then
    if p_wait.kind = 'decision' and p_wait.path in ('approval', 'budget', 'policy') and p_value ->> 'choice' = 'reject' then
      perform end_failed(v_key, p_wait, jsonb_build_object('message', format('rejected by %s', p_value ->> 'by'), 'code', 'rejected'));
    elsif p_wait.path in ('approval', 'budget') then
      perform begin_steps(array[v_key]);
    else
      perform place_step(p_wait.run_id, p_wait.seq, ready_position(), p_wait.attempt, p_wait.failures);
    end if;
  elsif p_answer = 'ok' then
    perform end_step(p_wait.run_id, p_wait.seq, p_value, p_wait.since);
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
  perform go_on(fail_steps(array[(p_key.run_id, p_key.seq, null, null, p_wait.since, p_wait.failures, 'failed', checked_error(p_error), false, null, null)::ended_attempt]));
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
    coalesce(checked_error(p_value), jsonb_build_object('message', format('no completion came on %s %s in time', p_wait.topic, p_wait.key))),
    true, null, null)::ended_attempt]);
end $$;
comment on function settle_external(wait, answer, jsonb) is 'Work that was handed to an outside provider has failed, or its completion is overdue.';

-- Chore: waits whose time is over ------------------------------------------------------------------------------------

create or replace function end_others_in_time(p_wait wait) returns void
language plpgsql as $$
-- Branches that sleep side by side wake together: the step goes on once, and not once for each of them. What ends later than the precision
-- of sleeps waits its turn, so that the first of a race is still the first.
begin
  update checkpoint c
  set answer = case when w.kind = 'sleep' then 'ok' else 'timeout' end::answer, value = case when w.kind = 'sleep' then 'null'::jsonb end, at = clock()
  from (
    select x.run_id, x.seq, x.path, x.kind from wait x
    where x.run_id = p_wait.run_id and x.seq = p_wait.seq and x.path <> p_wait.path and x.kind in ('sleep', 'signal') and not x.completes
      and x.due_at <= least(clock(), p_wait.due_at + interval '200 milliseconds')
    order by x.path) w
  where c.run_id = w.run_id and c.seq = w.seq and c.path = w.path and c.answer is null;
end $$;
comment on function end_others_in_time(wait) is
  'Writes down what else of a step is over with a wait whose time has come: sleeps, and signals that did not come.';

create or replace function end_wait_in_time(p_wait wait) returns void
language plpgsql as $$
begin
  if p_wait.kind in ('sleep', 'signal') and not p_wait.completes then
    perform end_others_in_time(p_wait);
  end if;
  case
    when p_wait.kind = 'sleep' then perform answer_wait(p_wait, 'ok', 'null');
    when p_wait.kind = 'decision' then perform answer_question(p_wait, coalesce(p_wait.prompt ->> 'default', 'reject'), null, 'expiry');
    when p_wait.kind = 'signal' and p_wait.completes and (p_wait.prompt ->> 'on_timeout') = 'continue' then perform answer_wait(p_wait, 'ok', 'null');
    -- Which child it was stands in the history on: a retry goes on with it.
    else perform answer_wait(p_wait, 'timeout', case when p_wait.kind = 'child' then jsonb_build_object('child', p_wait.child_id) end);
  end case;
end $$;
comment on function end_wait_in_time(wait) is 'Ends a sleep that is over, or a wait whose answer did not come in time.';

create or replace function fire_wait_runs(p_items text[]) returns bigint
language plpgsql as $$
-- The caller holds the runs' locks.
declare
  v_now   timestamptz := clock();
  v_run   uuid;
  v_wait  wait;
  v_fired bigint := 0;
begin
  foreach v_run in array p_items::uuid[] loop
    for v_wait in select w.* from wait w where w.run_id = v_run and w.due_at <= v_now order by w.due_at, w.seq, w.path loop
      continue when not exists (select from wait w where w.run_id = v_run and w.seq = v_wait.seq and w.path = v_wait.path);
      perform end_wait_in_time(v_wait);
      v_fired := v_fired + 1;
    end loop;
  end loop;
  return v_fired;
end $$;
comment on function fire_wait_runs(text[]) is 'Ends the waits of runs whose time is over. Returns how many.';

create or replace function fire_waits(p_limit integer) returns bigint
language plpgsql as $$
-- Runs that somebody else holds are left for the next time, and hide nobody.
declare
  v_now   timestamptz := clock();
  v_from  timestamptz := time_of(floor_of(-1));
  v_begun timestamptz := clock_timestamp();
  v_run   uuid;
  v_runs  uuid[] := '{}';
  v_long  boolean;
begin
  -- This one alone spends budgets, which runs share: so nobody locks them in another order.
  perform set_config('longhaul.own', 'on', true);
  for v_run in select w.run_id from wait w where w.due_at between v_from and v_now order by w.due_at loop
    continue when v_run = any (v_runs) or is_set_aside('fire_wait_runs', v_run::text, v_now) or not lock_if_free(v_run);
    v_runs := v_runs || v_run;
    exit when cardinality(v_runs) >= p_limit;
  end loop;
  -- A look that found next to nothing, and took long: dead entries.
  v_long := is_long(v_begun) and cardinality(v_runs) < 100;
  if v_long then
    perform raise_floors('{-1}');
  end if;
  return in_parts('fire_wait_runs', array(select x::text from unnest(v_runs) x order by x));
end $$;
comment on function fire_waits(integer) is 'Ends the sleeps that are over, and the waits whose answer did not come in time, of up to so many runs. Returns how many.';

create or replace function fire_waits() returns bigint
language sql as $$ select fire_waits(1000) $$;
comment on function fire_waits() is 'Chore: fire_waits(1000).';

select define_chore('fire_waits', 200, 'Ends durable sleeps that are over, and waits whose answer did not come in time.');
