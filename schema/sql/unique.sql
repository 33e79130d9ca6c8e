-- Unique starts: a key of the caller's, which counts for a time, or as long as its run lives.

create or replace function start_unique(
  p_tenant text, p_flow text, p_version integer, p_id uuid, p_input jsonb, p_key text, p_window interval default null,
  p_name text default null, p_priority integer default null, p_delay_ms bigint default null, p_metadata jsonb default null
) returns table (run_id uuid, existing boolean)
language plpgsql as $$
declare
  v_now   timestamptz := clock();
  v_known start_key;
  v_why   text;
begin
  if p_key is null or length(p_key) not between 1 and 500 then
    raise exception using errcode = 'LH001', message = 'a key of a unique start has 1 to 500 characters';
  end if;
  insert into start_key (tenant, flow, key, run_id, until) values (p_tenant, p_flow, p_key, p_id, v_now + p_window)
  on conflict do nothing;
  if not found then
    select k.* into v_known from start_key k where k.tenant = p_tenant and k.flow = p_flow and k.key = p_key for update;
    if v_known.until > v_now
       or (v_known.until is null and exists (select from run r where r.id = v_known.run_id and r.state in ('running', 'paused'))) then
      return query select v_known.run_id, true;
      return;
    end if;
    update start_key k set run_id = p_id, until = v_now + p_window where k.tenant = p_tenant and k.flow = p_flow and k.key = p_key;
  end if;
  select s.refusal into v_why
  from start_runs(p_tenant, p_flow, p_version, array[p_id], array[p_input], array[p_name], array[p_priority], null, array[p_delay_ms], array[p_metadata]) s
  where s.refusal is not null;
  if found then
    raise exception using errcode = 'LH001', message = v_why;
  end if;
  return query select p_id, false;
end $$;
comment on function start_unique(text, text, integer, uuid, jsonb, text, interval, text, integer, bigint, jsonb) is
  'Starts a run unless one was started under this key of the flow within the window, or (without a window) lives still; then that one is given. An infinite window makes it an idempotency key.';
