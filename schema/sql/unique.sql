-- Unique starts: a key of the caller's, which counts for a time, or as long as its run lives. A key is one row, so that a
-- transaction that holds it delays starts with that key alone.

create or replace function key_counts(p_key start_key, p_now timestamptz) returns boolean
language plpgsql stable as $$
begin
  return p_key.until > p_now
    or (p_key.until is null and exists (select from run r where r.id = p_key.run_id and r.state in ('running', 'paused')));
end $$;
comment on function key_counts(start_key, timestamptz) is 'Whether a key belongs to its run still. Pending and paused runs live.';

create or replace function hand_key_over(p_key start_key, p_run_id uuid, p_until timestamptz) returns void
language plpgsql as $$
begin
  -- The run before may be retried one day.
  insert into run_key (run_id, tenant, flow, key, while_live)
  select p_key.run_id, p_key.tenant, p_key.flow, p_key.key, p_key.until is null
  where exists (select from run r where r.id = p_key.run_id)
  on conflict (run_id) do nothing;
  update start_key k set run_id = p_run_id, until = p_until
  where k.tenant = p_key.tenant and k.flow = p_key.flow and k.key = p_key.key;
end $$;
comment on function hand_key_over(start_key, uuid, timestamptz) is 'Gives a key, whose row the caller has locked, to another run, and remembers whose it was.';

create or replace function take_key(p_tenant text, p_flow text, p_key text, p_run_id uuid, p_until timestamptz, p_now timestamptz) returns uuid
language plpgsql as $$
declare
  v_known start_key;
begin
  loop
    insert into start_key (tenant, flow, key, run_id, until) values (p_tenant, p_flow, p_key, p_run_id, p_until) on conflict do nothing;
    if found then
      return p_run_id;
    end if;
    select k.* into v_known from start_key k where k.tenant = p_tenant and k.flow = p_flow and k.key = p_key for update;
    -- Its row may have been forgotten in between.
    continue when not found;
    if v_known.run_id <> p_run_id and key_counts(v_known, p_now) then
      return v_known.run_id;
    end if;
    perform hand_key_over(v_known, p_run_id, p_until);
    return p_run_id;
  end loop;
end $$;
comment on function take_key(text, text, text, uuid, timestamptz, timestamptz) is 'Takes a key for a run, and returns the run that has it then: this one, or the one for which it counts.';

create or replace function held_keys(p_tenant text, p_flow text, p_version integer, p_items new_run[], p_now timestamptz)
returns table (id uuid, holder uuid, difference text)
language plpgsql as $$
-- Keys are taken in their order, so that two calls cannot wait for each other.
declare
  v_item new_run;
  v_mine new_run;
  v_what text;
begin
  for v_item in select i.* from unnest(p_items) with ordinality i where i.key is not null order by i.key, i.ordinality loop
    id := v_item.id;
    if v_mine.key = v_item.key then
      holder := v_mine.id;
      v_what := case when v_mine.input <> v_item.input then 'input' end;
    elsif exists (select from run r where r.id = v_item.id) then
      -- The same start again: the id decides.
      continue;
    else
      holder := take_key(p_tenant, p_flow, v_item.key, v_item.id,
        case when v_item.window_ms >= 3153600000000 then 'infinity' else p_now + v_item.window_ms * interval '1 millisecond' end, p_now);
      if holder = v_item.id then
        v_mine := v_item;
      end if;
      v_what := differing_start(holder, p_tenant, p_flow, p_version, v_item.input);
    end if;
    continue when holder = v_item.id;
    difference := case when v_what is not null then format(
      'key %L of flow %s belongs to run %s, which has another %s: run %s is not started', v_item.key, p_flow, holder, v_what, v_item.id) end;
    return next;
  end loop;
end $$;
comment on function held_keys(text, text, integer, new_run[], timestamptz) is
  'Takes the keys of starts. Returns those starts whose keys belong to other runs, each with that run and with what contradicts it.';

create or replace function unique_key_conflict(p_run_id uuid) returns uuid
language plpgsql as $$
-- The caller has locked the run. Nobody waits for a run while having a key, so that nothing waits in a circle.
declare
  v_now timestamptz := clock();
  v_own run_key;
  v_key start_key;
begin
  perform from start_key k where k.run_id = p_run_id for update;
  if found then
    return null;
  end if;
  select o.* into v_own from run_key o where o.run_id = p_run_id;
  if not found then
    return null;
  end if;
  loop
    select k.* into v_key from start_key k where k.tenant = v_own.tenant and k.flow = v_own.flow and k.key = v_own.key for update;
    if found and key_counts(v_key, v_now) then
      return v_key.run_id;
    elsif not v_own.while_live then
      return null;
    elsif found then
      perform hand_key_over(v_key, p_run_id, null);
      exit;
    end if;
    insert into start_key (tenant, flow, key, run_id) values (v_own.tenant, v_own.flow, v_own.key, p_run_id) on conflict do nothing;
    exit when found;
  end loop;
  delete from run_key o where o.run_id = p_run_id;
  return null;
end $$;
comment on function unique_key_conflict(uuid) is
  'The other run to which the key of this run belongs now, or null: then the run has its key again, if that counts as long as it lives.';

drop function if exists start_unique(text, text, integer, uuid, jsonb, text, interval, text, integer, bigint, jsonb);

create or replace function start_unique(
  p_tenant text, p_flow text, p_version integer, p_id uuid, p_input jsonb, p_key text, p_window interval default null,
  p_name text default null, p_priority integer default null, p_delay_ms bigint default null, p_metadata jsonb default null,
  p_start_at timestamptz default null, p_deadline interval default null, p_create_only boolean default false
) returns table (run_id uuid, existing boolean)
language plpgsql as $$
declare
  v_id     uuid := coalesce(p_id, new_run_id());
  v_answer record;
begin
  if p_key is null then
    raise exception using errcode = 'LH001', message = 'a key of a unique start has 1 to 500 characters';
  end if;
  select s.* into v_answer
  from start_runs(p_tenant, p_flow, p_version, array[v_id], array[p_input], array[p_name], array[p_priority], array[p_start_at],
                  array[p_delay_ms], array[p_metadata], null, case when p_deadline is not null then array[interval_ms(p_deadline)] end,
                  array[p_key], array[interval_ms(p_window)], array[coalesce(p_create_only, false)]) s;
  if v_answer.refusal is not null then
    raise exception using errcode = case when v_answer.conflict then 'LH004' else 'LH001' end, message = v_answer.refusal;
  end if;
  return query select coalesce(v_answer.run_id, v_id), v_answer.run_id is not null;
end $$;
comment on function start_unique(text, text, integer, uuid, jsonb, text, interval, text, integer, bigint, jsonb, timestamptz, interval, boolean) is
  'As start_run() with a key, and says whether the run was there already: one that was started under this key of the flow within the window, or (without a window) lives still. A window of a hundred years makes it an idempotency key.';

-- Chore: keys whose time is over and whose run is gone --------------------------------------------------------------------

create or replace function forget_keys() returns bigint
language plpgsql as $$
-- Goes through the keys from the oldest run to the newest, a bounded stretch a call, and then begins again an interval later.
declare
  v_now  timestamptz := clock();
  v_last uuid;
  v_ids  uuid[];
  v_gone uuid[];
begin
  select s.last into v_last from key_sweep s for update skip locked;
  if not found then
    return 0;
  end if;
  v_ids := array(
    select x.run_id
    from (
      (select k.run_id from start_key k where k.run_id > v_last order by k.run_id limit 1000)
      union
      (select o.run_id from run_key o where o.run_id > v_last order by o.run_id limit 1000)
    ) x
    order by x.run_id limit 1000);
  update key_sweep set last = coalesce(v_ids[cardinality(v_ids)], '00000000-0000-0000-0000-000000000000');
  v_gone := array(select i from unnest(v_ids) i where not exists (select from run r where r.id = i));
  -- A key that somebody holds is met again the next time round.
  delete from run_key o
  where o.ctid = any (array(select x.ctid from run_key x where x.run_id = any (v_gone) for update skip locked));
  delete from start_key k
  where k.ctid = any (array(
    select x.ctid from start_key x where x.run_id = any (v_gone) and (x.until is null or x.until <= v_now) for update skip locked));
  return cardinality(v_ids);
end $$;
comment on function forget_keys() is 'Chore: forgets keys of unique starts whose time is over and whose run is gone. Returns at how many it looked.';

select define_chore('forget_keys', 3600000, 'Forgets keys of unique starts that count no more.');
