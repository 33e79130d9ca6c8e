-- Child runs. The caller holds the parent's lock; the child is new, and nobody else sees it yet.

create or replace function start_child(
  p_parent run, p_seq integer, p_path text, p_flow text, p_version integer, p_input jsonb
) returns uuid
language plpgsql as $$
-- A null path starts it detached: nobody waits for it, and it outlives its parent.
declare
  -- Children are looked for behind their parent, whose id may come from a clock that is ahead.
  v_id    uuid := new_run_id(p_parent.id);
  v_depth smallint := coalesce(p_parent.depth, 0) + 1;
  v_why   text;
begin
  if v_depth > 32 then
    raise exception using errcode = 'LH003', message = 'child runs are nested more than 32 deep';
  end if;
  select s.refusal into v_why
  from start_runs(p_parent.tenant, p_flow, p_version, array[v_id], array[p_input],
                  p_delays_ms => case when deep(v_depth) then array[1::bigint] end,
                  p_parent => (p_parent.id, p_seq, p_path, v_depth)::parent_step) s
  where s.refusal is not null;
  if found then
    raise exception using errcode = 'LH001', message = v_why;
  end if;
  return v_id;
end $$;
comment on function start_child(run, integer, text, text, integer, jsonb) is 'Starts a child of a run and returns its id.';

create or replace function child_of(p_run_id uuid, p_seq integer, p_path text) returns run
language plpgsql stable as $$
declare
  v_child run;
begin
  -- A child is younger than its parent: older partitions are left out.
  select r.* into v_child from run r
  where r.parent_id = p_run_id and r.parent_seq = p_seq and r.parent_path = p_path and r.id >= p_run_id
  order by r.id desc limit 1;
  return v_child;
end $$;
comment on function child_of(uuid, integer, text) is 'The last child that a step has started at a place; null when there is none.';

create or replace function take_up_child(p_child run) returns uuid
language plpgsql as $$
-- A step that is done again goes on with the child it had: what the child has done is not done twice.
begin
  if p_child.id is null or p_child.state in ('running', 'paused', 'completed') then
    return p_child.id;
  end if;
  if p_child.compensating then
    -- What it had done was undone.
    return null;
  end if;
  if not lock_if_free(p_child.id) then
    -- Somebody is at it: it is retried a moment later, and waited for until then. A second child would do its work twice.
    insert into notice (kind, run_id, due_at) values ('retry', p_child.id, clock());
    return p_child.id;
  end if;
  perform retry_steps(p_child.id, 'the parent run was retried', null);
  return p_child.id;
exception when sqlstate 'LH003' then
  return null;
end $$;
comment on function take_up_child(run) is
  'Goes on with a child of a step that is done again: a failed or stopped one is retried. Null when there is nothing to go on with.';

create or replace function is_to_be_retried(p_child uuid) returns boolean
language plpgsql stable as $$
begin
  return exists (select from notice n where n.run_id = p_child and n.kind = 'retry');
end $$;
comment on function is_to_be_retried(uuid) is 'Whether a child that has failed is retried a moment later: its failure is no answer then.';

create or replace function begin_child(p_run run, p_step own_step, p_flow_step flow_step, p_input jsonb) returns boolean
language plpgsql as $$
declare
  v_detached boolean := coalesce((p_flow_step.settings ->> 'detached')::boolean, false);
  v_child    uuid;
  v_answer   answer;
  v_value    jsonb;
begin
  if not v_detached then
    v_child := take_up_child(child_of(p_run.id, p_step.seq, ''));
  end if;
  if v_child is null then
    begin
      v_child := start_child(p_run, p_step.seq, case when not v_detached then '' end, p_flow_step.settings ->> 'flow',
                             (p_flow_step.settings ->> 'flow_version')::integer, p_input);
    exception when sqlstate 'LH001' or sqlstate 'LH002' or sqlstate 'LH003' then
      return fail_step(p_run.id, p_step.seq, sqlerrm);
    end;
  end if;
  if v_detached then
    perform record_end(p_run.id, p_step.seq, 'completed', clock(), jsonb_build_object('run_id', v_child));
    return true;
  end if;
  -- A child whose steps all ended at once: no wait, and no call within a call.
  select a.answer, a.value into v_answer, v_value from answer_of_child(v_child) a where not is_to_be_retried(v_child);
  if v_answer = 'ok' then
    perform record_end(p_run.id, p_step.seq, 'completed', clock(), v_value);
    return true;
  elsif v_answer = 'error' then
    return fail_step_with(p_run.id, p_step.seq, v_value);
  end if;
  insert into wait (run_id, seq, path, attempt, failures, kind, completes, since, child_id)
  values (p_run.id, p_step.seq, '', 0, 0, 'child', true, clock(), v_child);
  return false;
end $$;
comment on function begin_child(run, own_step, flow_step, jsonb) is 'Starts the child run of a step. True when the step has ended by that.';

create or replace function answer_of_child(p_child uuid) returns table (answer answer, value jsonb)
language plpgsql stable as $$
declare
  v_child run;
begin
  select r.* into v_child from run r where r.id = p_child;
  if not found then
    return query select 'error'::answer, jsonb_build_object('message', format('child run %s is gone', p_child), 'child', p_child);
  elsif v_child.state = 'completed' then
    begin
      value := coalesce(run_output(p_child), 'null');
    exception when others then
      if not bad_data(sqlstate) then
        raise;
      end if;
      return query select 'error'::answer,
        jsonb_build_object('message', format('child run %s has no output: %s', p_child, sqlerrm), 'child', p_child);
      return;
    end;
    return query select 'ok'::answer, value;
  elsif v_child.state in ('failed', 'cancelled') then
    return query select 'error'::answer, coalesce(v_child.error, '{}') || jsonb_build_object(
      'message', format('child run %s is %s: %s', p_child, v_child.state, coalesce(v_child.error ->> 'message', 'no reason given')),
      'child', p_child);
  end if;
end $$;
comment on function answer_of_child(uuid) is 'What a child run that has ended tells its parent; no row while it lives.';
