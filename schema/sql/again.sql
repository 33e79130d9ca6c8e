-- Doing things again: retrying a run from its failed steps on, forking a new run from a step on, and the dead letters.

create or replace function retry_run(
  p_tenant text, p_id uuid, p_by text default null, p_expected_state text default null, p_expected_revision integer default null, p_request uuid default null
) returns integer
language plpgsql as $$
declare
  v_run    run := begin_operation(p_tenant, p_id, 'retried', '{failed,cancelled}', p_expected_state, p_expected_revision, p_request);
  v_parent run;
begin
  if v_run.id is null then
    return revision_of(p_id);
  end if;
  v_parent := parent_to_retry(v_run);
  if v_parent.id is not null then
    raise exception using errcode = 'LH003', message = format(
      'run %s is %s, and so is run %s, which waited for it: retry that one, and it goes on with this child', p_id, v_run.state, v_parent.id);
  end if;
  perform retry_steps(p_id, p_by, p_request);
  return revision_of(p_id);
end $$;
comment on function retry_run(text, uuid, text, text, integer, uuid) is
  'Goes on with a failed or stopped run from the steps that failed or were cancelled; each has all its attempts again. Completed steps and checkpoints stay, and child runs that failed or were stopped are gone on with in the same way. A child whose parent has failed with it is refused: retry the parent.';

create or replace function parent_to_retry(p_run run) returns run
language plpgsql stable as $$
declare
  v_parent run;
begin
  if p_run.parent_path is not null then
    select r.* into v_parent from run r
    where r.id = p_run.parent_id and r.state in ('failed', 'cancelled') and r.compensating is not true
      and outcome_of(r.id, p_run.parent_seq) in ('failed', 'cancelled');
  end if;
  return v_parent;
end $$;
comment on function parent_to_retry(run) is 'The run that failed or was stopped together with this child, and goes on with it when it is retried; null when there is none.';

create or replace function take_back(p_id uuid, p_run run) returns void
language plpgsql as $$
begin
  with again as (
    delete from step s using flow_step f
    where s.run_id = p_id and f.flow_id = p_run.flow_id and f.seq = coalesce(s.def, s.seq) and f.undoes is null
      and (s.outcome = 'cancelled' or (s.outcome = 'failed' and not f.continues))
    returning s.seq, s.def, s.input, f.lane_id, f.priority, f.input is not null as templated
  )
  -- Items are what they were; and so is a function that had continued as new.
  insert into own_step (run_id, seq, lane_id, def, priority, input)
  select p_id, a.seq, case when a.def is null then own_lane(a.lane_id) else a.lane_id end, a.def, coalesce(p_run.priority, a.priority), a.input
  from again a where a.def is not null or (a.input is not null and not a.templated);
end $$;
comment on function take_back(uuid, run) is 'Takes the rows of those steps of a run away that failed or were cancelled: they live again.';

create or replace function retry_steps(p_id uuid, p_by text, p_request uuid) returns void
language plpgsql as $$
-- Rooms: step -> those of steps that begin. What was completed or skipped stays; so does what failed in a flow that went on.
-- The caller holds the run's lock.
declare
  v_run   run;
  v_other uuid;
  v_now   timestamptz := clock();
  v_live  integer[];
  v_fans  integer[];
  v_fan   integer;
begin
  select r.* into v_run from run r where r.id = p_id;
  if v_run.compensating then
    raise exception using errcode = 'LH003', message = format('run %s is %s and its completed steps were undone: start a new run', p_id, v_run.state);
  end if;
  v_other := unique_key_conflict(p_id);
  if v_other is not null then
    raise exception using errcode = 'LH003', message = format('run %s is %s and its key belongs to run %s now', p_id, v_run.state, v_other);
  end if;
  perform take_back(p_id, v_run);
  v_live := array(
    select f.seq from flow_step f
    where f.flow_id = v_run.flow_id and f.undoes is null and not exists (select from step s where s.run_id = p_id and s.seq = f.seq)
    union
    select o.seq from own_step o where o.run_id = p_id
    order by 1);
  if cardinality(v_live) = 0 then
    raise exception using errcode = 'LH003', message = format('run %s is %s and has no step to retry', p_id, v_run.state);
  end if;
  perform block_steps(p_id, v_run.flow_id);

  -- What was begun but not answered is begun anew, and so is what failed; but a child that was begun is gone on with, so that
  -- its work is not done twice.
  update checkpoint c
  set answer = null, value = jsonb_build_object('child', c.value -> 'child', 'again', true)
  where c.run_id = p_id and c.seq = any (v_live) and c.kind = 'child' and c.answer is distinct from 'ok' and c.value ->> 'child' is not null;
  delete from checkpoint c
  where c.run_id = p_id and c.seq = any (v_live) and (c.answer is distinct from 'ok' or c.value ->> 'choice' = 'reject') and not (c.kind = 'child' and c.answer is null and c.value ? 'again');
  delete from dead_letter d where d.run_id = p_id and d.seq = any (v_live);
  update run r
  set state = 'running', ended_at = null, error = null, dismissed_at = null, open_steps = cardinality(v_live), revision = r.revision + 1,
      start_at = case when r.start_at > v_now then v_now else r.start_at end
  where r.id = p_id;
  perform set_deadline(p_id, v_run.flow_id, v_now);
  perform record_event(p_id, 'retried', null, p_by, jsonb_build_object('steps', cardinality(v_live)), p_request);

  -- Fan-outs that had begun go on where they were: their live items begin, and those to come fill up the window.
  v_fans := array(select f.seq from fan_out f where f.run_id = p_id and f.seq = any (v_live));
  update fan_out f set ended = (select count(*) from step s where s.run_id = p_id and s.seq >= f.first_seq and s.seq < f.first_seq + f.total)
  where f.run_id = p_id and f.seq = any (v_fans);
  insert into wait (run_id, seq, path, attempt, failures, kind, completes, since)
  select p_id, x.seq, '', 0, 0, 'items', true, v_now from unnest(v_fans) x(seq);

  perform begin_steps(array(
    select k from unnest(steps_to_begin(p_id, v_run.flow_id)) k where k.seq <> all (v_fans)
    union all
    select (p_id, x.seq)::step_key from unnest(v_live) x(seq) where x.seq >= 32768));
  -- Items may have ended in the very call in which the run did: nobody has gone on after those.
  foreach v_fan in array v_fans loop
    continue when not is_live(p_id, v_fan);
    perform go_on(fill_window(p_id, v_fan));
  end loop;
end $$;
comment on function retry_steps(uuid, text, uuid) is 'What retry_run() does once it may.';

create or replace function fork_run(
  p_tenant text, p_id uuid, p_step text, p_input jsonb default null, p_new_id uuid default null, p_by text default null,
  p_expected_state text default null, p_expected_revision integer default null
) returns uuid
language plpgsql as $$
-- Of the source only rows that do not change any more are copied; the fork's rooms are its own.
declare
  v_run   run := begin_operation(p_tenant, p_id, 'forked', enum_range(null::run_state), p_expected_state, p_expected_revision, null);
  v_known run;
  v_new   uuid := coalesce(p_new_id, new_run_id());
  v_now   timestamptz := clock();
  v_from  integer;
  v_after integer[];
  v_open  integer;
  v_undone text;
  v_taken  integer[];
begin
  select r.* into v_known from run r where r.id = v_new;
  if found then
    if v_known.forked_from = p_id and v_known.tenant = p_tenant then
      return v_new;
    end if;
    raise exception using errcode = 'LH004', message = format('run id %s is taken by another run', v_new);
  end if;
  if v_run.compensating then
    raise exception using errcode = 'LH003', message = format('run %s is %s and its completed steps were undone: start a new run', p_id, v_run.state);
  end if;
  perform checked_run_id(v_new);
  if pg_column_size(p_input) > 2 * setting_value('max_payload_bytes') then
    raise exception using errcode = 'LH001', message = format('the input has %s bytes, more than the limit of %s (setting max_payload_bytes)',
      pg_column_size(p_input), setting_value('max_payload_bytes'));
  end if;
  select f.seq into v_from from flow_step f where f.flow_id = v_run.flow_id and f.name = p_step and f.undoes is null;
  if not found then
    raise exception using errcode = 'LH002', message = format('run %s has no step %s', p_id, coalesce(p_step, 'null'));
  end if;
  with recursive after(seq) as (
    select v_from union select n.seq from after a join flow_step f on f.flow_id = v_run.flow_id and f.seq = a.seq cross join lateral unnest(f.successors) n(seq)
  )
  select array_agg(a.seq) into v_after from after a;
  if v_run.state in ('running', 'paused') then
    select f.name into v_undone
    from step s join flow_step f on f.flow_id = v_run.flow_id and f.seq = coalesce(s.def, s.seq)
    where s.run_id = p_id and f.seq <> all (v_after) and s.outcome = 'completed' and f.undo is not null order by f.seq limit 1;
    if found then
      raise exception using errcode = 'LH003', message = format(
        'run %s is %s and may still undo step %s, which the fork would take over: wait for its end, or stop it first', p_id, shown_state(v_run), v_undone);
    end if;
  end if;

  insert into run (id, created_at, flow_id, open_steps, state, tenant, name, input, metadata, forked_from, priority)
  values (v_new, v_now, v_run.flow_id, 0, 'running', p_tenant, v_run.name, coalesce(p_input, v_run.input), v_run.metadata, p_id, v_run.priority);
  -- Final steps outside of what is done again are taken over, with the items of fan-outs.
  insert into step (run_id, started_at, ended_at, worker_id, seq, attempt, def, outcome, output, error, input)
  select v_new, s.started_at, s.ended_at, s.worker_id, s.seq, s.attempt, s.def, s.outcome, s.output, s.error, s.input
  from step s
  join step own on own.run_id = p_id and own.seq = coalesce(s.def, s.seq)
  join flow_step f on f.flow_id = v_run.flow_id and f.seq = own.seq and f.undoes is null
  where s.run_id = p_id and own.seq <> all (v_after)
    and (own.outcome in ('completed', 'skipped') or (own.outcome = 'failed' and f.continues));
  v_taken := array(select distinct coalesce(s.def, s.seq) from step s where s.run_id = v_new);
  insert into fan_out (run_id, seq, first_seq, total, opened, ended, list)
  select v_new, f.seq, f.first_seq, f.total, f.opened, f.ended, f.list
  from fan_out f join step s on s.run_id = v_new and s.seq = f.seq where f.run_id = p_id;
  v_open := (
    select count(*) from flow_step f
    where f.flow_id = v_run.flow_id and f.undoes is null and not exists (select from step d where d.run_id = v_new and d.seq = f.seq));
  perform block_steps(v_new, v_run.flow_id);
  update run r set open_steps = v_open where r.id = v_new;
  perform set_deadline(v_new, v_run.flow_id, v_now);

  perform record_event(v_new, 'forked', v_from, p_by, jsonb_build_object('from', p_id, 'step', p_step, 'taken', v_taken), null);
  perform record_event(p_id, 'forked', v_from, p_by, jsonb_build_object('to', v_new, 'step', p_step), null);
  perform begin_steps(steps_to_begin(v_new, v_run.flow_id));
  return v_new;
end $$;
comment on function fork_run(text, uuid, text, jsonb, uuid, text, text, integer) is
  'Starts a new run of the same flow version that takes over what was done before a step, and does that step and all that follows it again. Returns its id; asked for twice with one new id, it forks once.';

-- Dead letters --------------------------------------------------------------------------------------------------------

create or replace view dead_letters as
select d.run_id, d.seq, r.tenant, fl.name as flow, fl.version, f.name as step, l.handler, q.name as queue, d.died_at, s.attempt, s.error, r.state as run_state, r.name as run_name
from dead_letter d
join run r on r.id = d.run_id and r.dismissed_at is null
join flow fl on fl.id = r.flow_id
join step s on s.run_id = d.run_id and s.seq = d.seq
join flow_step f on f.flow_id = r.flow_id and f.seq = coalesce(s.def, s.seq)
left join lane l on l.id = f.lane_id
left join queue q on q.id = l.queue_id;
comment on view dead_letters is 'Steps that used up their attempts, until somebody retries or discards them.';

create or replace function chosen_dead_letters(p_tenant text, p_flow text, p_step text, p_handler text, p_run_id uuid, p_message text, p_since timestamptz, p_limit integer)
returns setof dead_letters
language sql stable as $$
  select d.* from dead_letters d
  where d.tenant = p_tenant and (p_flow is null or d.flow = p_flow) and (p_step is null or d.step = p_step) and (p_handler is null or d.handler = p_handler)
    and (p_run_id is null or d.run_id = p_run_id) and (p_message is null or d.error ->> 'message' like p_message) and (p_since is null or d.died_at >= p_since)
  order by d.died_at, d.run_id, d.seq limit p_limit
$$;
comment on function chosen_dead_letters(text, text, text, text, uuid, text, timestamptz, integer) is
  'Dead letters by flow, step, handler, run, message (a LIKE pattern) and time; oldest first.';

create or replace function run_to_retry(p_run_id uuid) returns uuid
language plpgsql stable as $$
-- A child that took its parents with it is gone on with by the highest of them.
declare
  v_run    run;
  v_parent run;
begin
  select r.* into v_run from run r where r.id = p_run_id;
  loop
    v_parent := parent_to_retry(v_run);
    exit when v_parent.id is null;
    v_run := v_parent;
  end loop;
  return case when v_run.state in ('failed', 'cancelled') and v_run.compensating is not true then v_run.id end;
end $$;
comment on function run_to_retry(uuid) is 'The run that is to be retried so that this one goes on: itself, or one above it; null when none can be.';

create or replace function retry_dead_letters(
  p_tenant text, p_flow text default null, p_step text default null, p_handler text default null, p_run_id uuid default null,
  p_message text default null, p_since timestamptz default null, p_limit integer default 1000, p_by text default null
) returns bigint
language plpgsql as $$
-- Each run for itself: one that somebody holds, or that cannot be retried, stays where it is.
declare
  v_ids     uuid[];
  v_id      uuid;
  v_retried bigint := 0;
begin
  v_ids := array(
    select distinct t.id
    from (
      -- The limit counts those that can be retried: others in front of them hide nobody.
      select x.id
      from chosen_dead_letters(p_tenant, p_flow, p_step, p_handler, p_run_id, p_message, p_since, null) d
      cross join lateral (select run_to_retry(d.run_id) as id offset 0) x
      where d.run_state in ('failed', 'cancelled') and x.id is not null
      limit p_limit) t
    order by t.id);
  foreach v_id in array v_ids loop
    continue when not lock_if_free(v_id);
    -- Somebody may have retried it meanwhile.
    continue when not exists (select from run r where r.id = v_id and r.state in ('failed', 'cancelled') and r.compensating is not true);
    begin
      perform retry_steps(v_id, p_by, null);
      v_retried := v_retried + 1;
    exception when sqlstate 'LH003' then
      continue;
    end;
  end loop;
  return v_retried;
end $$;
comment on function retry_dead_letters(text, text, text, text, uuid, text, timestamptz, integer, text) is
  'Retries the failed runs of up to so many dead letters. Returns how many runs. A child that took its parent with it is gone on with by that parent, once. Runs that went on without the step, were undone, or that somebody holds right now are not retried.';

create or replace function discard_dead_letters(
  p_tenant text, p_flow text default null, p_step text default null, p_handler text default null, p_run_id uuid default null,
  p_message text default null, p_since timestamptz default null, p_limit integer default 1000, p_by text default null
) returns bigint
language plpgsql as $$
declare
  v_discarded bigint;
begin
  with chosen as (
    select d.run_id, d.seq from chosen_dead_letters(p_tenant, p_flow, p_step, p_handler, p_run_id, p_message, p_since, p_limit) d
  ), discarded as (
    delete from dead_letter x using chosen c where x.run_id = c.run_id and x.seq = c.seq returning x.run_id, x.seq
  )
  insert into event (run_id, at, seq, kind, actor) select d.run_id, clock(), d.seq, 'discarded', actor(p_by) from discarded d;
  get diagnostics v_discarded = row_count;
  return v_discarded;
end $$;
comment on function discard_dead_letters(text, text, text, text, uuid, text, timestamptz, integer, text) is
  'Takes up to so many dead letters off the list; their runs stay as they are. Returns how many.';

-- Chore: runs that take longer than their flow allows -------------------------------------------------------------------

create or replace function end_overdue(p_items text[]) returns bigint
language plpgsql as $$
-- The caller holds the runs' locks.
declare
  v_due uuid[] := p_items::uuid[];
  v_ids uuid[];
begin
  v_ids := array(select r.id from run r where r.id = any (v_due) and r.state in ('running', 'paused') and r.compensating is not true order by r.id);
  -- One of the run's own is remembered: a retry gives it to the run once more.
  delete from deadline d where d.run_id = any (v_due) and (d.ms is null or not exists (
    select from run r where r.id = d.run_id and r.state <> 'completed'));
  update deadline d set at = 'infinity' where d.run_id = any (v_due);
  if cardinality(v_ids) > 0 then
    perform fail_runs(v_ids, array_fill('{"message": "the run did not end in time: within the timeout of its flow, or the deadline that it was started with", "code": "timeout"}'::jsonb, array[cardinality(v_ids)]));
  end if;
  return cardinality(v_due);
end $$;
comment on function end_overdue(text[]) is 'Fails runs whose deadline has passed. Returns at how many it looked.';

create or replace function end_overdue_runs() returns bigint
language plpgsql as $$
-- Runs that somebody else holds are left for the next time, and hide nobody.
declare
  v_now timestamptz := clock();
  v_id  uuid;
  v_ids uuid[] := '{}';
begin
  for v_id in select d.run_id from deadline d where d.at <= v_now order by d.at loop
    continue when is_set_aside('end_overdue', v_id::text, v_now);
    continue when not lock_if_free(v_id) and exists (select from run r where r.id = v_id);
    v_ids := v_ids || v_id;
    exit when cardinality(v_ids) >= 500;
  end loop;
  return in_parts('end_overdue', array(select x::text from unnest(v_ids) x order by x));
end $$;
comment on function end_overdue_runs() is 'Chore: fails runs that take longer than their flow''s timeout. Returns how many deadlines it looked at.';

select define_chore('end_overdue_runs', 1000, 'Fails runs that take longer than their flow allows.');
