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
      insert into notice (kind, run_id, child_id) values ('child_ended', v_child.parent_id, v_child.id);
    end if;
  end loop;
end $$;
comment on function tell_parents(uuid[]) is 'Answers the waits of the runs whose children have ended.';

create or replace function child_ended(p_child uuid) returns void
language plpgsql as $$
declare
  v_child run;
  v_wait  wait;
begin
  select r.* into v_child from run r where r.id = p_child;
  select w.* into v_wait from wait w
  where w.run_id = v_child.parent_id and w.seq = v_child.parent_seq and w.path = v_child.parent_path and w.child_id = p_child;
  if not found or v_child.state not in ('completed', 'failed', 'cancelled') then
    return;
  end if;
  if v_child.state = 'completed' then
    perform answer_wait(v_wait, 'ok', coalesce(run_output(p_child), 'null'));
  else
    perform answer_wait(v_wait, 'error', coalesce(v_child.error, '{}') || jsonb_build_object(
      'message', format('child run %s is %s: %s', p_child, v_child.state, coalesce(v_child.error ->> 'message', 'no reason given')),
      'child', p_child));
  end if;
end $$;
comment on function child_ended(uuid) is 'Answers the parent''s wait with what the child gave. The caller holds the parent''s lock.';

create or replace function tell_child(p_child uuid) returns void
language plpgsql as $$
begin
  if not coalesce((select deep(r.depth) from run r where r.id = p_child), false) and lock_if_free(p_child) then
    perform stop_child(p_child);
  else
    insert into notice (kind, run_id) values ('stop', p_child);
  end if;
end $$;
comment on function tell_child(uuid) is 'Stops a child run whose parent waits for it no longer.';

create or replace function stop_child(p_child uuid) returns void
language plpgsql as $$
begin
  perform from run r where r.id = p_child and r.state in ('running', 'paused');
  if found then
    perform record_event(p_child, 'stopped', null, 'the parent run ended', null);
    perform end_runs(array[p_child], 'cancelled', array[jsonb_build_object('message', 'the parent run ended')]);
  end if;
end $$;
comment on function stop_child(uuid) is 'Stops a child run if it is live. The caller holds its lock.';

create or replace function deliver_notices(p_limit integer) returns bigint
language plpgsql as $$
declare
  v_notice    notice;
  v_delivered bigint := 0;
begin
  for v_notice in select n.* from notice n order by n.id limit p_limit for update skip locked loop
    if v_notice.kind = 'match' then
      continue when not match_topic_if_free(v_notice.tenant, v_notice.topic, v_notice.key);
    elsif exists (select from run r where r.id = v_notice.run_id) then
      continue when not lock_if_free(v_notice.run_id);
      if v_notice.kind = 'stop' then
        perform stop_child(v_notice.run_id);
      else
        perform child_ended(v_notice.child_id);
      end if;
    end if;
    delete from notice n where n.id = v_notice.id;
    v_delivered := v_delivered + 1;
  end loop;
  return v_delivered;
end $$;
comment on function deliver_notices(integer) is 'Does what could not be done at once because another run was busy. Returns how many notices.';

create or replace function deliver_notices() returns bigint
language sql as $$ select deliver_notices(1000) $$;
comment on function deliver_notices() is 'Chore: deliver_notices(1000).';

select define_chore('deliver_notices', 200, 'Does what could not be done at once because another run was busy.');
