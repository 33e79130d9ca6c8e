-- Signals: to a run, or to a topic and key. One that is sent to a run is matched under the run's lock. One that is sent to
-- a topic is matched under a lock of topic and key, so that a signal and a wait that come at the same moment meet; a waiter
-- holds its run's lock then and must not wait for the topic's: if that is taken it leaves a notice. So does whoever sends.

create or replace function topic_lock(p_tenant text, p_topic text, p_key text) returns bigint
language sql stable as $$
  select hashtextextended(format('longhaul %s %L %L %L', 'signal'::regclass::oid, p_tenant, p_topic, p_key), 0)
$$;
comment on function topic_lock(text, text, text) is 'The number of the advisory lock of a topic and key.';

create or replace function try_topic(p_tenant text, p_topic text, p_key text) returns boolean
language plpgsql as $$
-- All sessions share one table of locks, which a bulk start of 100,000 runs with a key each would fill. So a transaction counts
-- its topics, and takes no more than a thousand: the rest is left to notices.
declare
  v_number bigint := topic_lock(p_tenant, p_topic, p_key);
  v_taken  bigint[] := string_to_array(nullif(current_setting('longhaul.topics', true), ''), ' ');
begin
  if v_taken[2] = v_number then
    return true;
  end if;
  if v_taken[1] >= 1000 or not pg_try_advisory_xact_lock(v_number) then
    return false;
  end if;
  perform set_config('longhaul.topics', format('%s %s', coalesce(v_taken[1], 0) + 1, v_number), true);
  return true;
end $$;
comment on function try_topic(text, text, text) is
  'Takes the lock of a topic and key, if it is free and this transaction has not taken a thousand such locks.';

create or replace function lock_senders(p_tenant text, p_topic text, p_key text) returns void
language sql as $$
  select pg_advisory_xact_lock(hashtextextended(format('longhaul senders %s %L %L %L', 'signal'::regclass::oid, p_tenant, p_topic, p_key), 0))
$$;
comment on function lock_senders(text, text, text) is
  'Waits for others that send to a topic and key; only for callers that hold no run''s lock. Those that wait for a signal take another lock: a run that is started or goes on in somebody''s open transaction keeps no sender waiting.';

create or replace function match_topic_if_free(p_tenant text, p_topic text, p_key text) returns boolean
language plpgsql as $$
begin
  if not try_topic(p_tenant, p_topic, p_key) then
    return false;
  end if;
  return match_topic(p_tenant, p_topic, p_key);
end $$;
comment on function match_topic_if_free(text, text, text) is
  'Brings signals and waits of a topic and key together. False when there is more to do: somebody else is at it, runs were busy, or there are many.';

create or replace function sees_the_present() returns boolean
language plpgsql stable as $$
begin
  -- In REPEATABLE READ and SERIALIZABLE a transaction sees what was there when it began, also under locks that it took later.
  return current_setting('transaction_isolation') in ('read committed', 'read uncommitted');
end $$;
comment on function sees_the_present() is 'Whether this transaction sees what others have committed since it began.';

create or replace function match_topic_or_later(p_tenant text, p_topic text, p_key text) returns void
language plpgsql as $$
begin
  if not match_topic_if_free(p_tenant, p_topic, p_key) or not sees_the_present() then
    insert into notice (kind, tenant, topic, key, due_at) values ('match', p_tenant, p_topic, p_key, clock());
  end if;
end $$;
comment on function match_topic_or_later(text, text, text) is 'Brings signals and waits of a topic and key together, now or by a notice.';

create or replace function match_run_or_later(p_run_id uuid) returns void
language plpgsql as $$
begin
  perform match_run(p_run_id);
  if not sees_the_present() then
    insert into notice (kind, run_id, due_at) values ('match_run', p_run_id, clock());
  end if;
end $$;
comment on function match_run_or_later(uuid) is 'Brings a run''s signals and waits together, now or by a notice. The caller holds the run''s lock.';

create or replace function consume(p_signal signal, p_wait wait) returns void
language plpgsql as $$
begin
  if p_signal.scope = 'one' or p_signal.failed then
    update signal s
    set consumed_at = case when p_signal.scope = 'one' then clock() end, consumed_by = p_wait.run_id, consumed_seq = p_wait.seq
    where s.id = p_signal.id;
  end if;
  perform record_event(p_wait.run_id, 'signal', p_wait.seq, p_signal.sent_by,
    jsonb_strip_nulls(jsonb_build_object('topic', p_signal.topic, 'key', p_signal.key, 'signal', p_signal.id)));
  perform answer_wait(p_wait, case when p_signal.failed then 'error'::answer else 'ok' end, p_signal.payload);
end $$;
comment on function consume(signal, wait) is 'Gives a signal to a wait.';

create or replace function match_topic(p_tenant text, p_topic text, p_key text) returns boolean
language plpgsql as $$
-- The caller holds the topic's lock. Oldest signal first, longest wait first. A reported failure is the failure of those that
-- wait now: their next attempts do not meet it again.
declare
  v_now    timestamptz := clock();
  v_signal signal;
  v_met    integer := 0;
  v_one    integer;
  v_busy   boolean := false;
begin
  for v_signal in
    select s.* from signal s
    where s.tenant = p_tenant and s.topic = p_topic and s.key = p_key and s.consumed_at is null and s.expires_at > v_now
    -- One that somebody is replacing right now is his: he leaves a notice.
    order by s.id for no key update skip locked
  loop
    select m.met, m.busy or v_busy into v_one, v_busy from match_signal(v_signal, 500 - v_met) m;
    v_met := v_met + v_one;
    if v_signal.failed and v_one > 0 and not v_busy and v_met < 500 then
      update signal s set consumed_at = v_now where s.id = v_signal.id;
    end if;
    -- The next signal finds nobody either; or enough for one call.
    exit when (v_one = 0 and v_signal.scope = 'one') or v_met >= 500;
  end loop;
  if v_met >= 500 then
    -- More at once; as a notice of its own, which nobody puts off.
    insert into notice (kind, tenant, topic, key, due_at) values ('match', p_tenant, p_topic, p_key, v_now);
  end if;
  return v_met >= 500 or not v_busy;
end $$;
comment on function match_topic(text, text, text) is
  'Brings up to 500 signals and waits of a topic and key together; a notice goes on with more. False when runs were busy that wait.';

create or replace function match_signal(p_signal signal, p_limit integer, out met integer, out busy boolean)
language plpgsql as $$
declare
  v_wait wait;
begin
  met := 0;
  busy := false;
  for v_wait in
    select w.* from wait w
    where w.tenant = p_signal.tenant and w.topic = p_signal.topic and w.key = p_signal.key and w.kind in ('signal', 'external')
      -- A failure that has met somebody is not met by those who began to wait after it.
      and (not p_signal.failed or p_signal.consumed_by is null or w.since <= p_signal.sent_at)
    order by w.since, w.run_id, w.seq
  loop
    if not lock_if_free(v_wait.run_id) then
      busy := true;
      continue;
    end if;
    -- It may have been answered before the lock was ours.
    select w.* into v_wait from wait w where w.run_id = v_wait.run_id and w.seq = v_wait.seq and w.path = v_wait.path
      and w.topic = p_signal.topic and w.key = p_signal.key;
    continue when not found;
    perform consume(p_signal, v_wait);
    met := met + 1;
    exit when p_signal.scope = 'one' or met >= p_limit;
  end loop;
end $$;
comment on function match_signal(signal, integer) is 'Gives a signal to the longest wait for it, a completion to all. Says how many it met, and whether runs were busy.';

create or replace function match_run(p_run_id uuid) returns integer
language plpgsql as $$
-- The caller holds the run's lock. The oldest signal is looked up topic by topic: a run may have consumed a hundred thousand, and may
-- have been sent as many of which it has not asked for one.
declare
  v_now    timestamptz := clock();
  v_oldest bigint;
  v_signal signal;
  v_wait   wait;
  v_met    integer := 0;
begin
  loop
    select min(o.id) into v_oldest
    from (select distinct w.topic from wait w where w.run_id = p_run_id and w.kind = 'signal' and w.key is null) t
    cross join lateral (
      select s.id from signal s
      where s.run_id = p_run_id and s.topic = t.topic and s.consumed_at is null and s.expires_at > v_now
      order by s.id limit 1 for update skip locked) o;
    exit when v_oldest is null;
    select s.* into v_signal from signal s where s.id = v_oldest;
    select w.* into v_wait from wait w
    where w.run_id = p_run_id and w.kind = 'signal' and w.key is null and w.topic = v_signal.topic order by w.since, w.seq, w.path limit 1;
    perform consume(v_signal, v_wait);
    v_met := v_met + 1;
  end loop;
  return v_met;
end $$;
comment on function match_run(uuid) is 'Brings a run''s signals and waits together. Returns how many met.';

create or replace function kept_signal(p_run run, p_topic text, p_key text) returns signal
language plpgsql as $$
declare
  v_signal signal;
begin
  if p_key is null then
    select s.* into v_signal from signal s
    where s.run_id = p_run.id and s.topic = p_topic and s.consumed_at is null and s.expires_at > clock()
    order by s.id limit 1 for update skip locked;
  elsif try_topic(p_run.tenant, p_topic, p_key)
      -- Whoever waits already comes first.
      and not exists (select from wait w where w.tenant = p_run.tenant and w.topic = p_topic and w.key = p_key) then
    select s.* into v_signal from signal s
    where s.tenant = p_run.tenant and s.topic = p_topic and s.key = p_key and s.scope = 'one' and s.consumed_at is null and s.expires_at > clock()
    order by s.id limit 1 for update skip locked;
  end if;
  return v_signal;
end $$;
comment on function kept_signal(run, text, text) is 'The oldest signal that a step would get that begins to wait now; null when there is none.';
