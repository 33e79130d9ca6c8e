-- Signals: to a run, or to a topic and key. One that is sent to a run is matched under the run's lock. One that is sent to
-- a topic is matched under a lock of topic and key, so that a signal and a wait that come at the same moment meet; a waiter
-- holds its run's lock then and must not wait for the topic's: if that is taken it leaves a notice.

create or replace function topic_lock(p_tenant text, p_topic text, p_key text) returns bigint
language sql stable as $$
  select hashtextextended(format('longhaul %s %L %L %L', 'signal'::regclass::oid, p_tenant, p_topic, p_key), 0)
$$;
comment on function topic_lock(text, text, text) is 'The number of the advisory lock of a topic and key.';

create or replace function kept_until(p_now timestamptz, p_keep interval) returns timestamptz
language sql stable as $$
  select p_now + coalesce(p_keep, setting_value('keep_signals_days') * interval '1 day')
$$;
comment on function kept_until(timestamptz, interval) is 'When a signal expires that is kept so long; as the setting says when that is null.';

create or replace function lock_topic(p_tenant text, p_topic text, p_key text) returns void
language sql as $$
  select pg_advisory_xact_lock(topic_lock(p_tenant, p_topic, p_key))
$$;
comment on function lock_topic(text, text, text) is 'Waits for the lock of a topic and key; only for callers that hold no run''s lock.';

create or replace function match_topic_if_free(p_tenant text, p_topic text, p_key text) returns boolean
language plpgsql as $$
begin
  if not pg_try_advisory_xact_lock(topic_lock(p_tenant, p_topic, p_key)) then
    return false;
  end if;
  perform match_topic(p_tenant, p_topic, p_key);
  return true;
end $$;
comment on function match_topic_if_free(text, text, text) is 'Brings signals and waits of a topic and key together, unless somebody else is at it.';

create or replace function consume(p_signal signal, p_wait wait) returns void
language plpgsql as $$
begin
  if p_signal.scope = 'one' then
    update signal s set consumed_at = clock(), consumed_by = p_wait.run_id, consumed_seq = p_wait.seq where s.id = p_signal.id;
  end if;
  perform record_event(p_wait.run_id, 'signal', p_wait.seq, p_signal.sent_by,
    jsonb_strip_nulls(jsonb_build_object('topic', p_signal.topic, 'key', p_signal.key, 'signal', p_signal.id)));
  perform answer_wait(p_wait, case when p_signal.failed then 'error'::answer else 'ok' end, p_signal.payload);
end $$;
comment on function consume(signal, wait) is 'Gives a signal to a wait.';

create or replace function match_topic(p_tenant text, p_topic text, p_key text) returns integer
language plpgsql as $$
-- The caller holds the topic's lock. Oldest signal first, longest wait first.
declare
  v_now    timestamptz := clock();
  v_signal signal;
  v_wait   wait;
  v_met    integer := 0;
  v_busy   boolean := false;
  v_taken  boolean;
begin
  for v_signal in
    select s.* from signal s
    where s.tenant = p_tenant and s.topic = p_topic and s.key = p_key and s.consumed_at is null and s.expires_at > v_now
    order by s.id
  loop
    v_taken := false;
    for v_wait in select w.* from wait w where w.tenant = p_tenant and w.topic = p_topic and w.key = p_key order by w.since, w.run_id, w.seq loop
      if not lock_if_free(v_wait.run_id) then
        v_busy := true;
        continue;
      end if;
      -- It may have been answered before the lock was ours.
      select w.* into v_wait from wait w where w.run_id = v_wait.run_id and w.seq = v_wait.seq and w.path = v_wait.path and w.topic = p_topic and w.key = p_key;
      continue when not found;
      perform consume(v_signal, v_wait);
      v_met := v_met + 1;
      v_taken := true;
      exit when v_signal.scope = 'one';
    end loop;
    exit when not v_taken and v_signal.scope = 'one';
  end loop;
  if v_busy then
    insert into notice (kind, tenant, topic, key) values ('match', p_tenant, p_topic, p_key);
  end if;
  return v_met;
end $$;
comment on function match_topic(text, text, text) is 'Brings signals and waits of a topic and key together. Returns how many met.';

create or replace function match_run(p_run_id uuid) returns integer
language plpgsql as $$
-- The caller holds the run's lock.
declare
  v_now    timestamptz := clock();
  v_signal signal;
  v_wait   wait;
  v_met    integer := 0;
begin
  loop
    select s.* into v_signal
    from signal s
    where s.run_id = p_run_id and s.consumed_at is null and s.expires_at > v_now
      and exists (select from wait w where w.run_id = p_run_id and w.kind = 'signal' and w.key is null and w.topic = s.topic)
    order by s.id limit 1 for update skip locked;
    exit when not found;
    select w.* into v_wait from wait w
    where w.run_id = p_run_id and w.kind = 'signal' and w.key is null and w.topic = v_signal.topic order by w.since, w.seq, w.path limit 1;
    perform consume(v_signal, v_wait);
    v_met := v_met + 1;
  end loop;
  return v_met;
end $$;
comment on function match_run(uuid) is 'Brings a run''s signals and waits together. Returns how many met.';

create or replace function check_signal(p_topic text, p_key text, p_payload jsonb) returns void
language plpgsql as $$
begin
  if p_topic is null or length(p_topic) not between 1 and 200 or length(p_key) > 500 then
    raise exception using errcode = 'LH001', message = 'a topic has 1 to 200 characters, and a key at most 500';
  end if;
  if pg_column_size(p_payload) > 2 * setting_value('max_payload_bytes') then
    raise exception using errcode = 'LH001', message = format('the payload has %s bytes, more than the limit of %s (setting max_payload_bytes)',
      pg_column_size(p_payload), setting_value('max_payload_bytes'));
  end if;
end $$;
comment on function check_signal(text, text, jsonb) is 'Raises an error when a signal is malformed.';

create or replace function signal_run(
  p_tenant          text,
  p_run_id          uuid,
  p_topic           text,
  p_payload         jsonb default 'null',
  p_idempotency_key text default null,
  p_keep            interval default null,
  p_if_finished     text default 'refuse',
  p_by              text default null
) returns bigint
language plpgsql as $$
declare
  v_now   timestamptz := clock();
  v_state run_state;
  v_id    bigint;
begin
  perform check_signal(p_topic, null, p_payload);
  if p_if_finished is null or p_if_finished not in ('refuse', 'keep') then
    raise exception using errcode = 'LH001', message = format('p_if_finished is refuse or keep, not %s', coalesce(p_if_finished, 'null'));
  end if;
  perform lock_runs(array[p_run_id]);
  select r.state into v_state from run r where r.id = p_run_id and r.tenant = p_tenant;
  if not found then
    raise exception using errcode = 'LH002', message = format('there is no run %s for tenant %s', p_run_id, p_tenant);
  end if;
  -- A signal that was accepted before the run ended was accepted.
  select s.id into v_id from signal s where s.run_id = p_run_id and s.topic = p_topic and s.idempotency_key = p_idempotency_key;
  if found then
    return v_id;
  end if;
  if v_state in ('completed', 'failed', 'cancelled') and p_if_finished = 'refuse' then
    raise exception using errcode = 'LH003', message = format('run %s is %s and takes no signals', p_run_id, v_state);
  end if;
  insert into signal (tenant, run_id, topic, scope, payload, idempotency_key, sent_at, sent_by, expires_at)
  values (p_tenant, p_run_id, p_topic, 'one', coalesce(p_payload, 'null'), p_idempotency_key, v_now, actor(p_by),
          kept_until(v_now, p_keep))
  returning id into v_id;
  perform match_run(p_run_id);
  return v_id;
end $$;
comment on function signal_run(text, uuid, text, jsonb, text, interval, text, text) is
  'Sends a signal to a run; it is kept until the run waits for its topic. Twice with one idempotency key is once. A finished run refuses it (LH003) or, if asked, keeps it. Returns the signal''s id.';

create or replace function send_to_topic(
  p_tenant text, p_topic text, p_key text, p_payload jsonb, p_scope signal_scope, p_failed boolean, p_idempotency_key text, p_keep interval, p_by text
) returns bigint
language plpgsql as $$
declare
  v_now timestamptz := clock();
  v_id  bigint;
begin
  perform check_signal(p_topic, p_key, p_payload);
  if p_key is null then
    raise exception using errcode = 'LH001', message = 'a signal to a topic needs a key';
  end if;
  perform lock_topic(p_tenant, p_topic, p_key);
  insert into signal (tenant, topic, key, scope, failed, payload, idempotency_key, sent_at, sent_by, expires_at)
  values (p_tenant, p_topic, p_key, p_scope, p_failed, coalesce(p_payload, 'null'), p_idempotency_key, v_now, actor(p_by),
          kept_until(v_now, p_keep))
  on conflict do nothing returning id into v_id;
  if v_id is null then
    select s.id into v_id from signal s
    where s.tenant = p_tenant and s.topic = p_topic and s.key = p_key
      and ((p_scope = 'all' and s.scope = 'all') or s.idempotency_key = p_idempotency_key)
    order by s.id limit 1;
    return v_id;
  end if;
  perform match_topic(p_tenant, p_topic, p_key);
  return v_id;
end $$;
comment on function send_to_topic(text, text, text, jsonb, signal_scope, boolean, text, interval, text) is 'What send_signal() and complete_external() share.';

create or replace function send_signal(
  p_tenant text, p_topic text, p_key text, p_payload jsonb default 'null', p_idempotency_key text default null, p_keep interval default null, p_by text default null
) returns bigint
language sql as $$
  select send_to_topic(p_tenant, p_topic, p_key, p_payload, 'one', false, p_idempotency_key, p_keep, p_by)
$$;
comment on function send_signal(text, text, text, jsonb, text, interval, text) is
  'Sends a signal to a topic and key: one waiter consumes it, the one that has waited longest, now or later. Twice with one idempotency key is once. Returns its id.';

create or replace function complete_external(
  p_tenant text, p_topic text, p_key text, p_payload jsonb default 'null', p_failed boolean default false, p_keep interval default null, p_by text default null
) returns bigint
language sql as $$
  select send_to_topic(p_tenant, p_topic, p_key, p_payload, 'all', p_failed, null, p_keep, p_by)
$$;
comment on function complete_external(text, text, text, jsonb, boolean, interval, text) is
  'Reports the completion (or the failure) of outside work: it answers every wait for its topic and key, now and later. The first report counts; a second changes nothing. Returns its id.';

create or replace function broadcast_signal(
  p_tenant text, p_topic text, p_payload jsonb default 'null', p_flow text default null, p_metadata jsonb default null,
  p_idempotency_key text default null, p_keep interval default null, p_by text default null
) returns bigint
language plpgsql as $$
declare
  v_now timestamptz := clock();
  v_ids uuid[];
  v_id  uuid;
begin
  perform check_signal(p_topic, null, p_payload);
  v_ids := array(
    select r.id from run r join flow f on f.id = r.flow_id
    where r.tenant = p_tenant and r.state in ('running', 'paused') and (p_flow is null or f.name = p_flow)
      and (p_metadata is null or r.metadata @> p_metadata)
    order by r.id);
  perform lock_runs(v_ids);
  insert into signal (tenant, run_id, topic, scope, payload, idempotency_key, sent_at, sent_by, expires_at)
  select p_tenant, r.id, p_topic, 'one', coalesce(p_payload, 'null'), p_idempotency_key, v_now, actor(p_by),
         kept_until(v_now, p_keep)
  from run r where r.id = any (v_ids) and r.state in ('running', 'paused') order by r.id
  on conflict do nothing;
  foreach v_id in array v_ids loop
    perform match_run(v_id);
  end loop;
  return cardinality(v_ids);
end $$;
comment on function broadcast_signal(text, text, jsonb, text, jsonb, text, interval, text) is
  'Sends a signal to every live run, of a flow or with certain metadata if asked. Returns to how many.';

create or replace function begin_signal_wait(p_run run, p_step step, p_flow_step flow_step, p_context jsonb) returns boolean
language plpgsql as $$
declare
  v_settings jsonb := p_flow_step.settings;
  v_key      jsonb := filled_in(v_settings -> 'key', p_context);
begin
  if v_settings ? 'key' and coalesce(jsonb_typeof(v_key), 'null') not in ('string', 'number') then
    return fail_step(p_run.id, p_step.seq, format('the key %s of its signal is neither a text nor a number', v_settings -> 'key'));
  end if;
  insert into wait (run_id, seq, path, attempt, failures, kind, completes, since, due_at, tenant, topic, key, prompt)
  values (p_run.id, p_step.seq, '', 0, 0, 'signal', true, clock(), clock() + (v_settings ->> 'timeout_ms')::bigint * interval '1 millisecond',
          p_run.tenant, v_settings ->> 'topic', v_key #>> '{}', jsonb_build_object('on_timeout', v_settings -> 'on_timeout'));
  perform answer_at_once(p_run.id, p_step.seq);
  return false;
end $$;
comment on function begin_signal_wait(run, step, flow_step, jsonb) is 'Begins a step that waits for a signal. Never true: what came before ends it as any signal does.';

-- Chore: signals that nobody needs any more ---------------------------------------------------------------------------

create or replace function forget_signals() returns bigint
language plpgsql as $$
declare
  v_forgotten bigint;
begin
  delete from signal s where s.id = any (array(
    select x.id from signal x
    where x.expires_at <= clock() and (x.consumed_at is null or x.consumed_at < clock() - setting_value('keep_signals_days') * interval '1 day')
    order by x.expires_at limit 1000));
  get diagnostics v_forgotten = row_count;
  return v_forgotten;
end $$;
comment on function forget_signals() is 'Chore: deletes signals whose time is over. Returns how many.';

select define_chore('forget_signals', 3600000, 'Deletes signals whose time is over.');
