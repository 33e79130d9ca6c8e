-- Questions: approvals that a flow asks for, decisions that a policy or a function asks for, and what answers them.
-- The caller of what is not an operation holds the run's lock.

create or replace function pause_for_question(p_id uuid) returns void
language plpgsql as $$
begin
  update run r set state = 'paused', paused_for = 'question', revision = r.revision + 1 where r.id = p_id and r.state = 'running';
  if found then
    perform hold_steps(p_id);
  end if;
end $$;
comment on function pause_for_question(uuid) is 'Pauses a run until a question is answered. A pause of an operator stays one.';

create or replace function end_question_pause(p_id uuid) returns void
language plpgsql as $$
begin
  perform from run r where r.id = p_id and r.state = 'paused' and r.paused_for = 'question'
    and not exists (select from wait w where w.run_id = r.id and w.kind in ('decision', 'interrupt') and coalesce(w.prompt ->> 'pauses', 'run') = 'run');
  if found then
    update run r set state = 'running', paused_for = null, revision = r.revision + 1 where r.id = p_id;
    perform let_steps_go(p_id);
  end if;
end $$;
comment on function end_question_pause(uuid) is 'Lets a run go on that was paused for a question, when no question is left that pauses it.';

create or replace function ask(p_run run, p_step own_step, p_path text, p_prompt jsonb) returns void
language plpgsql as $$
begin
  insert into wait (run_id, seq, path, attempt, failures, kind, completes, since, due_at, prompt)
  values (p_run.id, p_step.seq, p_path, last_attempt(p_run.id, p_step.seq), 0, 'decision', false, clock(),
          clock() + (p_prompt ->> 'expires_ms')::bigint * interval '1 millisecond', p_prompt);
  perform record_event(p_run.id, 'asked', p_step.seq, null, p_prompt);
  if p_prompt ->> 'pauses' = 'run' then
    perform pause_for_question(p_run.id);
  end if;
end $$;
comment on function ask(run, own_step, text, jsonb) is 'Asks a question before a step begins.';

create or replace function ask_approval(p_run run, p_step own_step, p_flow_step flow_step) returns boolean
language plpgsql as $$
begin
  if exists (select from checkpoint c where c.run_id = p_run.id and c.seq = p_step.seq and c.path = 'approval') then
    return false;
  end if;
  perform ask(p_run, p_step, 'approval', p_flow_step.settings -> 'approval');
  return true;
end $$;
comment on function ask_approval(run, own_step, flow_step) is 'Asks for the approval that a step needs. False when it was given before.';

create or replace function failed_without(p_goes_on boolean) returns boolean
language sql immutable as $$ select case when p_goes_on then null else false end $$;
comment on function failed_without(boolean) is 'What spend() says of a step that has failed: null when its run goes on without it.';

create or replace function spend(p_run run, p_step own_step, p_flow_step flow_step, p_context jsonb) returns boolean
language plpgsql as $$
declare
  v_now    timestamptz := clock();
  v_budget jsonb := p_flow_step.settings -> 'budget';
  v_per    bigint := (v_budget ->> 'per_ms')::bigint;
  v_limit  numeric := (v_budget ->> 'limit')::numeric;
  v_window timestamptz := to_timestamp(floor(extract(epoch from v_now) * 1000 / v_per) * v_per / 1000);
  v_amount jsonb := filled_in(coalesce(v_budget -> 'amount', '1'), p_context || jsonb_build_object('item', p_step.input));
begin
  if exists (select from checkpoint c where c.run_id = p_run.id and c.seq = p_step.seq and c.path = 'budget') then
    return true;
  end if;
  if jsonb_typeof(v_amount) <> 'number' or v_amount::numeric < 0 then
    return failed_without(fail_step(p_run.id, p_step.seq, format('the amount %s of budget %s is not a number', v_budget -> 'amount', v_budget ->> 'name')));
  end if;
  if v_amount::numeric <= v_limit then
    if not coalesce(current_setting('longhaul.own', true) = 'on', false) then
      -- Many runs share a budget, and this may be the transaction of a caller who keeps it open: a chore spends.
      insert into wait (run_id, seq, path, attempt, failures, kind, completes, since, due_at)
      values (p_run.id, p_step.seq, 'budget', 0, 0, 'retry', false, v_now, v_now);
      perform note_due(-1, v_now);
      return false;
    end if;
    insert into budget as b (tenant, name, window_at, used) values (p_run.tenant, v_budget ->> 'name', v_window, v_amount::numeric)
    on conflict (tenant, name, window_at) do update set used = b.used + excluded.used where b.used + excluded.used <= v_limit;
    if found then
      return true;
    end if;
  end if;
  case v_budget ->> 'exceeded'
    when 'ask' then
      perform ask(p_run, p_step, 'budget', jsonb_build_object(
        'question', format('Budget %s (%s in %s ms) is spent; step %s asks for %s. Spend it all the same?', v_budget ->> 'name', v_limit, v_per, p_flow_step.name, v_amount),
        'choices', '["approve", "reject"]'::jsonb, 'pauses', 'run'));
    when 'defer' then
      if v_amount::numeric > v_limit then
        return failed_without(fail_step(p_run.id, p_step.seq,
          format('step %s asks for %s, more than the whole of budget %s (%s)', p_flow_step.name, v_amount, v_budget ->> 'name', v_limit)));
      end if;
      insert into wait (run_id, seq, path, attempt, failures, kind, completes, since, due_at)
      values (p_run.id, p_step.seq, 'budget', 0, 0, 'retry', false, v_now, v_window + v_per * interval '1 millisecond');
    else
      return failed_without(fail_step(p_run.id, p_step.seq, format('budget %s (%s) is spent', v_budget ->> 'name', v_limit)));
  end case;
  return false;
end $$;
comment on function spend(run, own_step, flow_step, jsonb) is
  'Takes what a step costs out of its budget for the present window of time. False when it waits, asks or fails because too little is left; null when it failed and its run goes on without it.';

create or replace function answer_question(p_wait wait, p_choice text, p_data jsonb, p_by text) returns void
language plpgsql as $$
begin
  perform record_event(p_wait.run_id, 'decided', p_wait.seq, p_by, jsonb_strip_nulls(jsonb_build_object('choice', p_choice, 'data', p_data)));
  perform answer_wait(p_wait, 'ok', jsonb_build_object('choice', p_choice, 'data', p_data, 'by', p_by, 'at', clock()));
end $$;
comment on function answer_question(wait, text, jsonb, text) is 'Gives a decision its answer.';

create or replace function choices_of(p_prompt jsonb) returns jsonb
language sql immutable as $$ select coalesce(nullif(p_prompt -> 'choices', 'null'), '["approve", "reject"]') $$;
comment on function choices_of(jsonb) is 'What a question can be answered with: as it says, or approve and reject.';

create or replace function decide(
  p_tenant text, p_id uuid, p_step text, p_choice text, p_data jsonb default null, p_by text default null, p_request uuid default null
) returns boolean
language plpgsql as $$
declare
  v_run  run := begin_operation(p_tenant, p_id, 'decided', enum_range(null::run_state), null, null, p_request);
  v_by   text := actor(p_by);
  v_wait wait;
  v_made jsonb;
begin
  if v_run.id is null then
    return false;
  end if;
  select w.* into v_wait
  from wait w cross join lateral (select def_of(w.run_id, w.seq) as def offset 0) s join flow_step f on f.flow_id = v_run.flow_id and f.seq = coalesce(s.def, w.seq)
  where w.run_id = p_id and w.kind = 'decision' and step_label(p_id, f.name, w.seq, s.def) = p_step
  order by w.since, w.path limit 1;
  if not found then
    select c.value into v_made from checkpoint c cross join lateral (select def_of(c.run_id, c.seq) as def offset 0) s
    join flow_step f on f.flow_id = v_run.flow_id and f.seq = coalesce(s.def, c.seq)
    where c.run_id = p_id and c.kind = 'decision' and c.answer = 'ok' and step_label(p_id, f.name, c.seq, s.def) = p_step order by c.at desc limit 1;
    if v_made ->> 'choice' = p_choice then
      return false;
    end if;
    raise exception using errcode = 'LH003',
      message = format('step %s of run %s (%s) waits for no decision%s', p_step, p_id, shown_state(v_run),
                       case when v_made is not null then format('; %s chose %s', v_made ->> 'by', v_made ->> 'choice') else '' end);
  end if;
  if not choices_of(v_wait.prompt) ? p_choice then
    raise exception using errcode = 'LH001', message = format('%L is not among the choices %s', p_choice, choices_of(v_wait.prompt));
  end if;
  if jsonb_typeof(v_wait.prompt -> 'by') = 'array' and not v_wait.prompt -> 'by' ? v_by then
    raise exception using errcode = 'LH003', message = format('%s may not decide this; %s may', v_by, v_wait.prompt -> 'by');
  end if;
  if p_request is not null then
    perform record_event(p_id, 'request', v_wait.seq, v_by, null, p_request);
  end if;
  perform answer_question(v_wait, p_choice, p_data, v_by);
  return true;
end $$;
comment on function decide(text, uuid, text, text, jsonb, text, uuid) is
  'Answers the question that a step asks. True: this call decided. False: the same choice was made before. Another choice after that is refused (LH003).';

create or replace view questions as
select w.run_id, step_label(w.run_id, f.name, w.seq, s.def) as step, r.tenant, fl.name as flow, r.name as run_name, w.kind, w.prompt ->> 'question' as question,
  choices_of(w.prompt) as choices, nullif(w.prompt -> 'by', 'null') as may_answer, w.prompt -> 'value' as value, w.since, w.due_at as expires_at,
  w.prompt ->> 'default' as at_expiry, w.seq
from wait w
join run r on r.id = w.run_id
join flow fl on fl.id = r.flow_id
cross join lateral (select def_of(w.run_id, w.seq) as def offset 0) s
join flow_step f on f.flow_id = r.flow_id and f.seq = coalesce(s.def, w.seq)
where w.kind in ('decision', 'interrupt');
comment on view questions is 'Open questions: what is asked, what can be answered, and by whom. Decisions are answered with decide(), interrupts with resume_run().';
