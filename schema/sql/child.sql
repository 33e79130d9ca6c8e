-- Child runs. The caller holds the parent's lock; the child is new, and nobody else sees it yet.

create or replace function start_child(
  p_parent run, p_seq integer, p_path text, p_flow text, p_version integer, p_input jsonb
) returns uuid
language plpgsql as $$
-- A null path starts it detached: nobody waits for it, and it outlives its parent.
declare
  v_id    uuid := new_run_id();
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

create or replace function begin_child(p_run run, p_step step, p_flow_step flow_step, p_input jsonb) returns boolean
language plpgsql as $$
declare
  v_detached boolean := coalesce((p_flow_step.settings ->> 'detached')::boolean, false);
  v_child    uuid;
begin
  begin
    v_child := start_child(p_run, p_step.seq, case when not v_detached then '' end, p_flow_step.settings ->> 'flow',
                           (p_flow_step.settings ->> 'flow_version')::integer, p_input);
  exception when sqlstate 'LH001' or sqlstate 'LH002' or sqlstate 'LH003' then
    return fail_step(p_run.id, p_step.seq, sqlerrm);
  end;
  if v_detached then
    update step s set outcome = 'completed', started_at = clock(), ended_at = clock(), output = jsonb_build_object('run_id', v_child)
    where s.run_id = p_run.id and s.seq = p_step.seq;
    return true;
  end if;
  insert into wait (run_id, seq, path, attempt, failures, kind, completes, since, child_id)
  values (p_run.id, p_step.seq, '', 0, 0, 'child', true, clock(), v_child);
  -- A child whose steps all ended at once has nobody to tell yet.
  perform child_ended(v_child);
  return false;
end $$;
comment on function begin_child(run, step, flow_step, jsonb) is 'Starts the child run of a step. True when the step does not wait for it.';
