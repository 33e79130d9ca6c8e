-- What a transition of one run has to do for another: a child's end answers its parent, a parent's end stops its children,
-- a signal meets its waiter. The other run's lock is taken only when it is free; otherwise a notice is left, and the chore
-- does it a moment later. So no operation on one run waits for another run, and locks are never taken in a circle.

create or replace function lock_if_free(p_run_id uuid) returns boolean
language plpgsql as $$
begin
  perform from run r where r.id = p_run_id for no key update skip locked;
  return found;
end $$;
comment on function lock_if_free(uuid) is 'Locks a run unless somebody else holds it.';

create or replace function deep(p_depth smallint) returns boolean
language sql immutable as $$ select p_depth % 4 = 0 $$;
comment on function deep(smallint) is
  'Whether what a run has to tell a run above or below is left as a notice anyway: a long chain of runs must not become one deep call.';

create or replace function tell_parents(p_children uuid[]) returns void
language plpgsql as $$
declare
  v_child record;
begin
  for v_child in select r.id, r.parent_id, r.depth from run r where r.id = any (p_children) order by r.id loop
    if not deep(v_child.depth) and lock_if_free(v_child.parent_id) then
      perform child_ended(v_child.id);
    else
      insert into notice (kind, run_id, child_id, due_at) values ('child_ended', v_child.parent_id, v_child.id, clock());
    end if;
  end loop;
end $$;
comment on function tell_parents(uuid[]) is 'Answers the waits of the runs whose children have ended.';

create or replace function child_ended(p_child uuid) returns void
language plpgsql as $$
declare
  v_child  run;
  v_wait   wait;
  v_answer answer;
  v_value  jsonb;
begin
  select r.* into v_child from run r where r.id = p_child;
  select a.answer, a.value into v_answer, v_value from answer_of_child(p_child) a;
  -- One that is to be retried has not said its last word.
  if v_answer is null or v_child.id is null or is_to_be_retried(p_child) then
    return;
  end if;
  select w.* into v_wait from wait w
  where w.run_id = v_child.parent_id and w.seq = v_child.parent_seq and w.path = v_child.parent_path and w.child_id = p_child;
  if found then
    perform answer_wait(v_wait, v_answer, v_value);
    return;
  end if;
  -- Nobody waits right now: the answer is kept for who waits next.
  update checkpoint c set answer = v_answer, value = v_value, at = clock()
  where c.run_id = v_child.parent_id and c.seq = v_child.parent_seq and c.path = v_child.parent_path
    and c.answer is null and c.value ->> 'child' = p_child::text
    -- Told late, after the parent was retried: the child is gone on with when it is asked for.
    and (v_answer = 'ok' or not c.value ? 'again');
end $$;
comment on function child_ended(uuid) is
  'Gives the parent what the child gave: to the step that waits, or to its history while it works. The caller holds the parent''s lock.';

create or replace function stop_child(p_child uuid) returns void
language plpgsql as $$
begin
  -- One that has failed and is being undone ends by that, and by nobody's end: half of it would stay done.
  perform from run r where r.id = p_child and r.state in ('running', 'paused') and r.compensating is not true;
  if found then
    perform record_event(p_child, 'stopped', null, 'the parent run ended', null);
    perform end_runs(array[p_child], 'cancelled', array[jsonb_build_object('message', 'the parent run ended')]);
  end if;
end $$;
comment on function stop_child(uuid) is 'Stops a child run if it is live, unless it is being undone. The caller holds its lock.';

create or replace function tell_child(p_child uuid) returns void
language plpgsql as $$
begin
  if not coalesce((select deep(r.depth) from run r where r.id = p_child), false) and lock_if_free(p_child) then
    perform stop_child(p_child);
  else
    insert into notice (kind, run_id, due_at) values ('stop', p_child, clock());
  end if;
end $$;
comment on function tell_child(uuid) is 'Stops a child run whose parent waits for it no longer.';

create or replace function tell_children(p_children uuid[]) returns void
language plpgsql as $$
-- A hundred at once; thousands would take longer than a call may. The rest is told by the chore.
begin
  perform tell_child(c.id) from unnest(p_children[1:100]) c(id);
  insert into notice (kind, run_id, due_at) select 'stop', c.id, clock() from unnest(p_children[101:]) c(id);
end $$;
comment on function tell_children(uuid[]) is 'tell_child() for children in the order of their ids, of which there may be many.';

create or replace function stop_children(p_run_ids uuid[], p_lowest uuid) returns void
language plpgsql as $$
begin
  perform tell_children(array(
    select c.id from unnest(p_run_ids) i(id)
    cross join lateral (
      select x.id, x.state from run x
      where x.parent_id = i.id and x.id >= p_lowest and x.parent_path is not null and x.state in ('running', 'paused') offset 0) c
    order by c.id));
end $$;
comment on function stop_children(uuid[], uuid) is 'Stops the live children of runs that have ended, whether somebody waits for them right now or not. Detached ones go on.';

create or replace function stop_children_of_steps(p_steps step_key[]) returns void
language plpgsql as $$
begin
  perform tell_children(array(
    select c.id from unnest(p_steps) k
    cross join lateral (
      select x.id from run x
      where x.parent_id = k.run_id and x.parent_seq = k.seq and x.id >= k.run_id and x.parent_path is not null and x.state in ('running', 'paused') offset 0) c
    order by c.id));
end $$;
comment on function stop_children_of_steps(step_key[]) is
  'Stops the children that steps have left behind which have ended: those that lost a race.';

-- Delivery ------------------------------------------------------------------------------------------------------------

create or replace function is_waited_for(p_child uuid) returns boolean
language plpgsql stable as $$
begin
  return exists (
    select from run r join wait w on w.run_id = r.parent_id and w.seq = r.parent_seq and w.path = r.parent_path
    where r.id = p_child and w.child_id = p_child);
end $$;
comment on function is_waited_for(uuid) is 'Whether the parent of a child run waits for it right now.';

create or replace function retry_child(p_child uuid) returns void
language plpgsql as $$
begin
  if not is_waited_for(p_child) or not exists (select from run r where r.id = p_child and r.state in ('failed', 'cancelled')) then
    return;
  end if;
  perform retry_steps(p_child, 'the parent run was retried', null);
exception when sqlstate 'LH003' then
  -- It cannot be: its failure is the answer after all.
  insert into notice (kind, run_id, child_id, due_at) select 'child_ended', r.parent_id, r.id, clock() from run r where r.id = p_child;
end $$;
comment on function retry_child(uuid) is 'Retries a child that its parent waits for again. The caller holds its lock.';

create or replace function deliver(p_notice notice) returns boolean
language plpgsql as $$
-- False: the other run, or the topic, is still busy.
begin
  if p_notice.kind = 'match' then
    return match_topic_if_free(p_notice.tenant, p_notice.topic, p_notice.key);
  end if;
  if not lock_if_free(p_notice.run_id) then
    return not exists (select from run r where r.id = p_notice.run_id);
  end if;
  case p_notice.kind
    when 'stop' then
      -- A parent that was retried since waits for it again.
      if not is_waited_for(p_notice.run_id) then
        perform stop_child(p_notice.run_id);
      end if;
    when 'child_ended' then perform child_ended(p_notice.child_id);
    when 'retry' then perform retry_child(p_notice.run_id);
    when 'match_run' then perform match_run(p_notice.run_id);
    when 'go_on' then
      perform advance(array(
        select (p_notice.run_id, x.seq)::step_key
        from unnest(p_notice.seqs) x(seq) join run r on r.id = p_notice.run_id and r.state in ('running', 'paused') and r.compensating is not true
        order by x.seq));
  end case;
  return true;
end $$;
comment on function deliver(notice) is 'Does what a notice asks for, unless the run that it is for is busy. True when it is done, or the run is gone.';

create or replace function deliver_these(p_items text[]) returns bigint
language plpgsql as $$
declare
  v_notice notice;
  v_seen   bigint := 0;
begin
  for v_notice in
    select n.* from unnest(p_items) i(id) join notice n on n.id = i.id::bigint order by n.id for update of n skip locked
  loop
    if deliver(v_notice) then
      delete from notice n where n.id = v_notice.id;
    else
      -- Behind the others: a run that is held for a day keeps nobody waiting.
      update notice n set tries = n.tries + 1, due_at = clock() + least(5000, 100 * 2 ^ least(n.tries, 10)) * interval '1 millisecond'
      where n.id = v_notice.id;
    end if;
    v_seen := v_seen + 1;
  end loop;
  return v_seen;
end $$;
comment on function deliver_these(text[]) is 'Delivers notices of these ids, or puts them off. Returns how many.';

create or replace function deliver_notices(p_limit integer) returns bigint
language plpgsql as $$
declare
  v_now timestamptz := clock();
begin
  return in_parts('deliver_these', array(
    select n.id::text from notice n where n.due_at <= v_now and not is_set_aside('deliver_these', n.id::text, v_now) order by n.due_at, n.id limit p_limit));
end $$;
comment on function deliver_notices(integer) is 'Does what could not be done at once because another run was busy. Returns at how many notices it looked.';

create or replace function deliver_notices() returns bigint
language sql as $$ select deliver_notices(1000) $$;
comment on function deliver_notices() is 'Chore: deliver_notices(1000).';

select define_chore('deliver_notices', 200, 'Does what could not be done at once because another run was busy.');
