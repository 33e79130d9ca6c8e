-- What operators and programs do with a run: each operation is one atomic transition under the run's lock, refused with the
-- present state when that does not allow it. Each can name the state or the revision that it expects, who asks, and a
-- request id: asked for twice under one request, it is carried out once. All return the run's revision.

create or replace function actor(p_by text) returns text
language sql stable as $$
  select coalesce(p_by, nullif(current_setting('longhaul.actor', true), ''), session_user)
$$;
comment on function actor(text) is 'Who does something: as given, or as set in longhaul.actor, or the user of the session.';

create or replace function record_event(
  p_run_id uuid, p_kind text, p_seq integer, p_by text, p_detail jsonb, p_request uuid default null
) returns void
language sql as $$
  insert into event (run_id, at, seq, kind, actor, detail, request)
  values (p_run_id, clock(), p_seq, p_kind, actor(p_by), nullif(p_detail, '{}'), p_request)
$$;
comment on function record_event(uuid, text, integer, text, jsonb, uuid) is 'Writes down what was done to a run.';

create or replace function shown_state(p_run run) returns run_state
language sql stable as $$
  select case when p_run.state = 'running' and p_run.start_at > clock() then 'pending' else p_run.state end
$$;
comment on function shown_state(run) is 'The state of a run: one whose start has not come yet is pending.';

create or replace function begin_operation(
  p_tenant text, p_id uuid, p_done text, p_allowed run_state[], p_expected_state text, p_expected_revision integer, p_request uuid
) returns run
language plpgsql as $$
-- Locks the run and checks that the operation may be done. Null: it was, under this request.
declare
  v_run   run;
  v_state run_state;
begin
  perform lock_runs(array[p_id]);
  select r.* into v_run from run r where r.id = p_id and r.tenant = p_tenant;
  if not found then
    raise exception using errcode = 'LH002', message = format('there is no run %s for tenant %s', p_id, p_tenant);
  end if;
  if p_request is not null and exists (select from event e where e.run_id = p_id and e.request = p_request) then
    return null;
  end if;
  v_state := shown_state(v_run);
  if p_expected_state is not null and p_expected_state <> all (enum_range(null::run_state)::text[]) then
    raise exception using errcode = 'LH001', message = format('%L is not a state of a run', p_expected_state);
  end if;
  if p_expected_state <> v_state::text or p_expected_revision <> v_run.revision then
    raise exception using errcode = 'LH004',
      message = format('run %s is %s at revision %s, not %s', p_id, v_state, v_run.revision,
                       concat_ws(' at ', p_expected_state, 'revision ' || p_expected_revision));
  end if;
  if v_state <> all (p_allowed) then
    raise exception using errcode = 'LH003', message = format('run %s is %s and cannot be %s', p_id, v_state, p_done);
  end if;
  return v_run;
end $$;
comment on function begin_operation(text, uuid, text, run_state[], text, integer, uuid) is 'What every operation on a run begins with.';

create or replace function revision_of(p_id uuid) returns integer
language sql stable as $$ select r.revision from run r where r.id = p_id $$;
comment on function revision_of(uuid) is 'The revision of a run.';

-- Stopping, pausing, going on -----------------------------------------------------------------------------------------

create or replace function stop_run(
  p_tenant text, p_id uuid, p_by text default null, p_expected_state text default null, p_expected_revision integer default null, p_request uuid default null
) returns integer
language plpgsql as $$
declare
  v_run run := begin_operation(p_tenant, p_id, 'stopped', '{pending,running,paused}', p_expected_state, p_expected_revision, p_request);
begin
  if v_run.id is not null then
    perform record_event(p_id, 'stopped', null, p_by, null, p_request);
    perform end_runs(array[p_id], 'cancelled', array[jsonb_build_object('message', 'the run was stopped')]);
  end if;
  return revision_of(p_id);
end $$;
comment on function stop_run(text, uuid, text, text, integer, uuid) is
  'Stops a live run, and its children: once this has returned and is committed, no step of it is claimed, and workers that run some are told to stop them.';

create or replace function hold_steps(p_id uuid) returns void
language plpgsql as $$
-- Timers are locked though they stay: one that is firing right now is waited for, and its step found in task.
declare
  v_left step_key[];
begin
  perform from timer t where t.run_id = p_id order by t.seq for update;
  with taken as (
    delete from queued q where q.run_id = p_id returning q
  )
  insert into held (run_id, position, lane_id, seq, attempt, priority, failures)
  select (x.q).run_id, (x.q).position, (x.q).lane_id, (x.q).seq, (x.q).attempt, (x.q).priority, (x.q).failures from taken x;
  with taken as (
    delete from task t where t.run_id = p_id returning t
  ), kept as (
    insert into held (run_id, position, lane_id, seq, attempt, priority, failures)
    select (x.t).run_id, (x.t).position, (x.t).lane_id, (x.t).seq, (x.t).attempt, (x.t).priority, (x.t).failures from taken x
    returning run_id, seq
  )
  select array_agg((k.run_id, k.seq)::step_key) into v_left from kept k;
  perform leave_gates(gates_of(v_left));
end $$;
comment on function hold_steps(uuid) is 'Keeps the ready steps of a run back.';

create or replace function let_steps_go(p_id uuid) returns void
language plpgsql as $$
declare
  v_ready task[];
  v_begin step_key[];
begin
  perform from timer t where t.run_id = p_id order by t.seq for update;
  with gone as (
    delete from held h where h.run_id = p_id returning h
  )
  select array_agg(((x.h).run_id, (x.h).position, (x.h).lane_id, (x.h).seq, (x.h).attempt, (x.h).priority, (x.h).failures)::task order by (x.h).seq)
           filter (where (x.h).lane_id is not null),
         array_agg(((x.h).run_id, (x.h).seq)::step_key order by (x.h).seq) filter (where (x.h).lane_id is null)
  into v_ready, v_begin from gone x;
  if v_ready is not null then
    perform lower_floors(v_ready);
    perform place_ready(v_ready);
  end if;
  perform begin_steps(v_begin);
end $$;
comment on function let_steps_go(uuid) is 'Makes those steps of a run ready that were kept back.';

create or replace function pause_run(
  p_tenant text, p_id uuid, p_by text default null, p_expected_state text default null, p_expected_revision integer default null, p_request uuid default null
) returns integer
language plpgsql as $$
declare
  v_run run := begin_operation(p_tenant, p_id, 'paused', '{pending,running}', p_expected_state, p_expected_revision, p_request);
begin
  if v_run.id is not null then
    update run r set state = 'paused', paused_for = 'operator', revision = r.revision + 1 where r.id = p_id;
    perform hold_steps(p_id);
    perform record_event(p_id, 'paused', null, p_by, null, p_request);
  end if;
  return revision_of(p_id);
end $$;
comment on function pause_run(text, uuid, text, text, integer, uuid) is
  'Pauses a run: once this has returned and is committed, no step of it is claimed. Steps that run are let finish. Child runs go on: pause them as well, or stop the run.';

create or replace function resume_run(
  p_tenant text, p_id uuid, p_data jsonb default null, p_by text default null,
  p_expected_state text default null, p_expected_revision integer default null, p_request uuid default null
) returns integer
language plpgsql as $$
declare
  v_run  run := begin_operation(p_tenant, p_id, 'resumed', '{paused}', p_expected_state, p_expected_revision, p_request);
  v_wait wait;
begin
  if v_run.id is not null then
    if exists (select from wait w where w.run_id = p_id and w.kind = 'decision' and coalesce(w.prompt ->> 'pauses', 'run') = 'run') then
      raise exception using errcode = 'LH003', message = format('run %s waits for a decision: decide it', p_id);
    end if;
    update run r set state = 'running', paused_for = null, revision = r.revision + 1 where r.id = p_id;
    perform record_event(p_id, 'resumed', null, p_by, jsonb_strip_nulls(jsonb_build_object('data', p_data)), p_request);
    for v_wait in select w.* from wait w where w.run_id = p_id and w.kind = 'interrupt' order by w.seq, w.path loop
      -- One answer may end others of the same step.
      continue when not exists (select from wait w where w.run_id = p_id and w.seq = v_wait.seq and w.path = v_wait.path);
      perform answer_wait(v_wait, 'ok', coalesce(p_data, 'null'));
    end loop;
    perform let_steps_go(p_id);
  end if;
  return revision_of(p_id);
end $$;
comment on function resume_run(text, uuid, jsonb, text, text, integer, uuid) is
  'Lets a paused run go on. A step that interrupted it goes on right after that point, with this data.';

create or replace function set_deadline(p_id uuid, p_flow_id integer, p_from timestamptz) returns void
language plpgsql as $$
begin
  insert into deadline as d (run_id, at)
  select p_id, p_from + least(f.timeout_ms, k.ms) * interval '1 millisecond'
  from flow f left join deadline k on k.run_id = p_id where f.id = p_flow_id and least(f.timeout_ms, k.ms) is not null
  on conflict (run_id) do update set at = excluded.at;
end $$;
comment on function set_deadline(uuid, integer, timestamptz) is
  'Counts anew how long a run may take: as its flow says, or less when it was started with a deadline of its own.';

create or replace function start_pending_run(
  p_tenant text, p_id uuid, p_by text default null, p_expected_state text default null, p_expected_revision integer default null, p_request uuid default null
) returns integer
language plpgsql as $$
declare
  v_run   run := begin_operation(p_tenant, p_id, 'started', '{pending}', p_expected_state, p_expected_revision, p_request);
  v_now   timestamptz := clock();
  v_keys  step_key[];
begin
  if v_run.id is not null then
    update run r set start_at = v_now, revision = r.revision + 1 where r.id = p_id;
    with due as (
      delete from timer t where t.run_id = p_id and t.kind = 'start' returning t.seq
    ), special as (
      delete from wait w where w.run_id = p_id and w.path = 'start' returning w.seq
    )
    select array_agg((p_id, d.seq)::step_key order by d.seq) into v_keys from (table due union all table special) d;
    -- How long it may take counts from its real start.
    perform set_deadline(p_id, v_run.flow_id, v_now);
    perform record_event(p_id, 'started', null, p_by, null, p_request);
    perform begin_steps(v_keys);
  end if;
  return revision_of(p_id);
end $$;
comment on function start_pending_run(text, uuid, text, text, integer, uuid) is 'Starts a run now that was created without a start, or whose start is delayed.';

-- Names and lists -----------------------------------------------------------------------------------------------------

create or replace function rename_run(
  p_tenant text, p_id uuid, p_name text, p_by text default null, p_expected_state text default null, p_expected_revision integer default null, p_request uuid default null
) returns integer
language plpgsql as $$
declare
  v_run run := begin_operation(p_tenant, p_id, 'renamed', enum_range(null::run_state), p_expected_state, p_expected_revision, p_request);
begin
  if length(p_name) > 200 then
    raise exception using errcode = 'LH001', message = 'the name has more than 200 characters';
  end if;
  if v_run.id is not null then
    update run r set name = p_name, revision = r.revision + 1 where r.id = p_id;
    perform record_event(p_id, 'renamed', null, p_by, jsonb_build_object('from', v_run.name, 'to', p_name), p_request);
  end if;
  return revision_of(p_id);
end $$;
comment on function rename_run(text, uuid, text, text, text, integer, uuid) is 'Gives a run a name, or takes it away (null).';

create or replace function annotate_run(
  p_tenant text, p_id uuid, p_metadata jsonb, p_by text default null, p_expected_state text default null, p_expected_revision integer default null, p_request uuid default null
) returns integer
language plpgsql as $$
declare
  v_run run := begin_operation(p_tenant, p_id, 'annotated', enum_range(null::run_state), p_expected_state, p_expected_revision, p_request);
begin
  if jsonb_typeof(p_metadata) is distinct from 'object' then
    raise exception using errcode = 'LH001', message = 'metadata must be an object';
  end if;
  if v_run.id is not null then
    update run r set metadata = jsonb_strip_nulls(coalesce(r.metadata, '{}') || p_metadata), revision = r.revision + 1 where r.id = p_id;
    perform record_event(p_id, 'annotated', null, p_by, p_metadata, p_request);
  end if;
  return revision_of(p_id);
end $$;
comment on function annotate_run(text, uuid, jsonb, text, text, integer, uuid) is 'Sets keys of a run''s metadata; null takes a key away.';

create or replace function dismiss_run(
  p_tenant text, p_id uuid, p_by text default null, p_expected_state text default null, p_expected_revision integer default null, p_request uuid default null
) returns integer
language plpgsql as $$
declare
  v_run run := begin_operation(p_tenant, p_id, 'dismissed', '{completed,failed,cancelled}', p_expected_state, p_expected_revision, p_request);
begin
  if v_run.id is not null then
    if v_run.dismissed_at is not null then
      raise exception using errcode = 'LH003', message = format('run %s is %s and dismissed already', p_id, v_run.state);
    end if;
    update run r set dismissed_at = clock(), revision = r.revision + 1 where r.id = p_id;
    perform record_event(p_id, 'dismissed', null, p_by, null, p_request);
  end if;
  return revision_of(p_id);
end $$;
comment on function dismiss_run(text, uuid, text, text, integer, uuid) is 'Leaves an ended run out of lists and of the dead letters.';

create or replace function undismiss_run(
  p_tenant text, p_id uuid, p_by text default null, p_expected_state text default null, p_expected_revision integer default null, p_request uuid default null
) returns integer
language plpgsql as $$
declare
  v_run run := begin_operation(p_tenant, p_id, 'undismissed', '{completed,failed,cancelled}', p_expected_state, p_expected_revision, p_request);
begin
  if v_run.id is not null then
    if v_run.dismissed_at is null then
      raise exception using errcode = 'LH003', message = format('run %s is %s and not dismissed', p_id, v_run.state);
    end if;
    update run r set dismissed_at = null, revision = r.revision + 1 where r.id = p_id;
    perform record_event(p_id, 'undismissed', null, p_by, null, p_request);
  end if;
  return revision_of(p_id);
end $$;
comment on function undismiss_run(text, uuid, text, text, integer, uuid) is 'Puts a dismissed run back into lists.';
