-- Signals: to a run, or to a topic and key, and completions of outside work. How they meet those that wait: signal_match.sql.

create or replace function kept_until(p_now timestamptz, p_keep interval) returns timestamptz
language sql stable as $$
  select p_now + coalesce(p_keep, setting_value('keep_signals_days') * interval '1 day')
$$;
comment on function kept_until(timestamptz, interval) is 'When a signal expires that is kept so long; as the setting says when that is null.';

create or replace function check_signal(p_topic text, p_key text, p_payload jsonb, p_keep interval default null) returns void
language plpgsql as $$
begin
  if p_keep is not null and p_keep not between interval '0' and interval '10000 days' then
    raise exception using errcode = 'LH001', message = format('a signal is kept for at most 10000 days, not %s', p_keep);
  end if;
  if p_topic is null or length(p_topic) not between 1 and 200 or length(p_key) > 500 then
    raise exception using errcode = 'LH001', message = 'a topic has 1 to 200 characters, and a key at most 500';
  end if;
  if pg_column_size(p_payload) > 2 * setting_value('max_payload_bytes') then
    raise exception using errcode = 'LH001', message = format('the payload has %s bytes, more than the limit of %s (setting max_payload_bytes)',
      pg_column_size(p_payload), setting_value('max_payload_bytes'));
  end if;
end $$;
comment on function check_signal(text, text, jsonb, interval) is 'Raises an error when a signal is malformed.';

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
  perform check_signal(p_topic, null, p_payload, p_keep);
  if p_if_finished is null or p_if_finished not in ('refuse', 'keep') then
    raise exception using errcode = 'LH001', message = format('p_if_finished is refuse or keep, not %s', coalesce(p_if_finished, 'null'));
  end if;
  perform lock_runs(array[p_run_id]);
  select r.state into v_state from run r where r.id = p_run_id and r.tenant = p_tenant;
  if not found then
    raise exception using errcode = 'LH002', message = format('there is no run %s for tenant %s', p_run_id, p_tenant);
  end if;
  -- A signal that was accepted before the run ended was accepted.
  select s.id into v_id from signal s where s.run_id = p_run_id and s.topic = p_topic and s.idempotency_key = p_idempotency_key
    and not forget_expired(s.id, v_now);
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
  perform match_run_or_later(p_run_id);
  return v_id;
end $$;
comment on function signal_run(text, uuid, text, jsonb, text, interval, text, text) is
  'Sends a signal to a run; it is kept until the run waits for its topic. Twice with one idempotency key is once. A finished run refuses it (LH003) or, if asked, keeps it. Returns the signal''s id.';

create or replace function forget_expired(p_id bigint, p_now timestamptz) returns boolean
language plpgsql as $$
begin
  -- What has expired is as good as deleted, also before the chore comes by.
  delete from signal s where s.id = p_id and s.expires_at <= p_now;
  return found;
end $$;
comment on function forget_expired(bigint, timestamptz) is 'Deletes a signal whose time is over. True when it was.';

create or replace function is_replaced(p_known signal, p_scope signal_scope, p_payload jsonb, p_failed boolean, p_idempotency_key text) returns boolean
language plpgsql stable as $$
begin
  -- A success stands. A failure is one attempt's: a success replaces it, and so does the failure of the next attempt.
  if p_scope <> 'all' or not p_known.failed or p_known.idempotency_key = p_idempotency_key then
    return false;
  end if;
  return not p_failed or (p_known.consumed_at is not null
    -- The same report once more, while nobody waits, is a repetition.
    and (p_known.payload is distinct from coalesce(p_payload, 'null') or exists (
      select from wait w where w.tenant = p_known.tenant and w.topic = p_known.topic and w.key = p_known.key)));
end $$;
comment on function is_replaced(signal, signal_scope, jsonb, boolean, text) is 'Whether a report of outside work counts beside the one that came before.';

create or replace function send_to_topic(
  p_tenant text, p_topic text, p_key text, p_payload jsonb, p_scope signal_scope, p_failed boolean, p_idempotency_key text, p_keep interval, p_by text
) returns bigint
language plpgsql as $$
declare
  v_now   timestamptz := clock();
  v_known signal;
  v_id    bigint;
begin
  perform check_signal(p_topic, p_key, p_payload, p_keep);
  if p_key is null then
    raise exception using errcode = 'LH001', message = 'a signal to a topic needs a key';
  end if;
  if p_scope = 'all' or p_idempotency_key is not null then
    perform lock_senders(p_tenant, p_topic, p_key);
  end if;
  select s.* into v_known from signal s
  where s.tenant = p_tenant and s.topic = p_topic and s.key = p_key
    and ((p_scope = 'all' and s.scope = 'all') or s.idempotency_key = p_idempotency_key) and not forget_expired(s.id, v_now)
  order by s.id limit 1;
  if found and not is_replaced(v_known, p_scope, p_payload, p_failed, p_idempotency_key) then
    return v_known.id;
  end if;
  delete from signal s where s.id = v_known.id;
  insert into signal (tenant, topic, key, scope, failed, payload, idempotency_key, sent_at, sent_by, expires_at)
  values (p_tenant, p_topic, p_key, p_scope, p_failed, coalesce(p_payload, 'null'), p_idempotency_key, v_now, actor(p_by),
          kept_until(v_now, p_keep))
  -- Others that send wait for each other; one that an older snapshot does not show is a serialization failure.
  on conflict do nothing
  returning id into v_id;
  if v_id is null then
    raise exception using errcode = '40001', message = format('somebody else has sent to topic %s and key %s at the same moment; try again', p_topic, p_key);
  end if;
  perform match_topic_or_later(p_tenant, p_topic, p_key);
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
  p_tenant text, p_topic text, p_key text, p_payload jsonb default 'null', p_failed boolean default false, p_keep interval default null, p_by text default null,
  p_idempotency_key text default null
) returns bigint
language sql as $$
  select send_to_topic(p_tenant, p_topic, p_key, p_payload, 'all', coalesce(p_failed, false), p_idempotency_key, p_keep, p_by)
$$;
comment on function complete_external(text, text, text, jsonb, boolean, interval, text, text) is
  'Reports the completion of outside work: it answers every wait for its topic and key, now and later, and a second report changes nothing. A failure ends the attempts that wait for it (or the next one, when none waits yet); the success or failure of a later attempt is a new report. The same idempotency key is the same report; without one, an equal failure that comes again while nobody waits is taken for a repetition. Returns its id.';

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
  perform check_signal(p_topic, null, p_payload, p_keep);
  -- The signals are written first: they wait for nobody. A run that somebody else holds meets its own a moment later.
  with sent as (
    insert into signal (tenant, run_id, topic, scope, payload, idempotency_key, sent_at, sent_by, expires_at)
    select p_tenant, r.id, p_topic, 'one', coalesce(p_payload, 'null'), p_idempotency_key, v_now, actor(p_by), kept_until(v_now, p_keep)
    from run r join flow f on f.id = r.flow_id
    where r.tenant = p_tenant and r.state in ('running', 'paused') and (p_flow is null or f.name = p_flow)
      and (p_metadata is null or r.metadata @> p_metadata)
      and (p_idempotency_key is null or not exists (
        select from signal s where s.run_id = r.id and s.topic = p_topic and s.idempotency_key = p_idempotency_key))
    order by r.id
    on conflict do nothing
    returning run_id
  )
  select array_agg(s.run_id order by s.run_id) into v_ids from sent s;
  foreach v_id in array coalesce(v_ids, '{}') loop
    if lock_if_free(v_id) then
      perform match_run_or_later(v_id);
    else
      insert into notice (kind, run_id, due_at) values ('match_run', v_id, v_now);
    end if;
  end loop;
  return coalesce(cardinality(v_ids), 0);
end $$;
comment on function broadcast_signal(text, text, jsonb, text, jsonb, text, interval, text) is
  'Sends a signal to every live run, of a flow or with certain metadata if asked; with an idempotency key, to those that have not got it. Waits for no run. Returns to how many.';

create or replace function begin_signal_wait(p_run run, p_step own_step, p_flow_step flow_step, p_context jsonb) returns boolean
language plpgsql as $$
declare
  v_settings jsonb := p_flow_step.settings;
  v_key      text := key_from('its signal', v_settings -> 'key', p_context);
  v_signal   signal;
begin
  if v_settings ? 'key' and jsonb_typeof(filled_in(v_settings -> 'key', p_context)) not in ('string', 'number') then
    return fail_step(p_run.id, p_step.seq, format('the key %s of its signal is neither a text nor a number', v_settings -> 'key'));
  end if;
  -- One that was sent before: no wait, and no call within a call, however many there are.
  select t.* into v_signal from kept_signal(p_run, v_settings ->> 'topic', v_key) t;
  if v_signal.id is not null then
    update signal s set consumed_at = clock(), consumed_by = p_run.id, consumed_seq = p_step.seq where s.id = v_signal.id;
    perform record_event(p_run.id, 'signal', p_step.seq, v_signal.sent_by,
      jsonb_strip_nulls(jsonb_build_object('topic', v_signal.topic, 'key', v_signal.key, 'signal', v_signal.id)));
    perform record_end(p_run.id, p_step.seq, 'completed', clock(), v_signal.payload);
    return true;
  end if;
  insert into wait (run_id, seq, path, attempt, failures, kind, completes, since, due_at, tenant, topic, key, prompt)
  values (p_run.id, p_step.seq, '', 0, 0, 'signal', true, clock(), clock() + (v_settings ->> 'timeout_ms')::bigint * interval '1 millisecond',
          p_run.tenant, v_settings ->> 'topic', v_key, jsonb_build_object('on_timeout', v_settings -> 'on_timeout'));
  if v_key is not null then
    -- A completion; or a topic that somebody else is at.
    perform match_topic_or_later(p_run.tenant, v_settings ->> 'topic', v_key);
  elsif not sees_the_present() then
    insert into notice (kind, run_id, due_at) values ('match_run', p_run.id, clock());
  end if;
  return false;
end $$;
comment on function begin_signal_wait(run, own_step, flow_step, jsonb) is 'Begins a step that waits for a signal. True when one was there and it has ended.';

-- Chore: signals that nobody needs any more ---------------------------------------------------------------------------

create or replace function forget_signals() returns bigint
language plpgsql as $$
declare
  v_now       timestamptz := clock();
  v_before    timestamptz := v_now - setting_value('keep_signals_days') * interval '1 day';
  v_forgotten bigint;
begin
  delete from signal s where s.ctid = any (array(
    select x.ctid from signal x
    where x.expires_at <= v_now and (x.consumed_at is null or x.consumed_at < v_before)
    order by x.expires_at limit 1000 for update skip locked));
  get diagnostics v_forgotten = row_count;
  return v_forgotten;
end $$;
comment on function forget_signals() is 'Chore: deletes signals whose time is over. Returns how many.';

select define_chore('forget_signals', 3600000, 'Deletes signals whose time is over.');
