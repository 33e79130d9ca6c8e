-- Operators: tokens of the HTTP API, the record of what was done with them, and requests that are carried out once.

create or replace function make_token(p_id text, p_name text, p_hash bytea, p_scope text, p_tenants text[], p_expires_at timestamptz, p_by text default null) returns void
language plpgsql as $$
begin
  if p_scope not in ('read', 'operate', 'admin') then
    raise exception using errcode = 'LH001', message = format('a scope is read, operate or admin, not %L', p_scope);
  end if;
  if p_name !~ '^[A-Za-z0-9][A-Za-z0-9 ._@-]{0,99}$' then
    raise exception using errcode = 'LH001', message = format('%L is not a name of a token: letters, digits, blanks and ._@-, at most 100, beginning with a letter or digit', p_name);
  end if;
  -- The name of a token that counts no more may be given again.
  delete from token t where t.name = p_name and (t.revoked_at is not null or t.expires_at < clock());
  insert into token (id, name, hash, scope, tenants, created_at, created_by, expires_at)
  values (p_id, p_name, p_hash, p_scope, p_tenants, clock(), actor(p_by), p_expires_at) on conflict (name) do nothing;
  if not found then
    raise exception using errcode = 'LH004', message = format('there is a token %s already: revoke it first', p_name);
  end if;
end $$;
comment on function make_token(text, text, bytea, text, text[], timestamptz, text) is 'Stores a token of the HTTP API by the SHA-256 of its secret.';

create or replace function revoke_token(p_name text) returns boolean
language plpgsql as $$
declare
  v_revoked timestamptz;
begin
  select t.revoked_at into v_revoked from token t where t.name = p_name for update;
  if not found then
    raise exception using errcode = 'LH002', message = format('there is no token %s', p_name);
  end if;
  update token t set revoked_at = clock() where t.name = p_name and t.revoked_at is null;
  return found;
end $$;
comment on function revoke_token(text) is 'Lets a token count no more. False when it was revoked already.';

create or replace function find_token(p_id text) returns token
language plpgsql as $$
declare
  v_now   timestamptz := clock();
  v_token token;
begin
  select t.* into v_token from token t where t.id = p_id and t.revoked_at is null and coalesce(t.expires_at > v_now, true);
  return v_token;
end $$;
comment on function find_token(text) is 'The token that begins so, if it counts; its secret is still to be compared.';

create or replace function token_used(p_id text) returns void
language sql as $$
  -- To the minute: a token in use is not written down with every request.
  update token t set last_used_at = clock() where t.id = p_id and coalesce(t.last_used_at < clock() - interval '1 minute', true)
$$;
comment on function token_used(text) is 'Notes that a token was used.';

create or replace function begin_act(p_id uuid, p_tenant text, p_by text, p_act text, p_target text, p_reason text, p_detail jsonb, p_before jsonb) returns void
language sql as $$
  insert into operator_act (id, at, tenant, actor, act, target, reason, detail, before)
  values (p_id, clock(), p_tenant, actor(p_by), p_act, p_target, p_reason, p_detail, p_before)
  -- The same request again.
  on conflict (id) do nothing
$$;
comment on function begin_act(uuid, text, text, text, text, text, jsonb, jsonb) is 'Writes down that an operator begins to do something: who, what, to what, why.';

create or replace function end_act(p_id uuid, p_outcome text, p_after jsonb, p_error text) returns void
language sql as $$
  update operator_act a set outcome = p_outcome, after = p_after, error = p_error where a.id = p_id
$$;
comment on function end_act(uuid, text, jsonb, text) is 'Writes down what came of an act.';

create or replace view operator_acts as
select a.id, a.at, a.tenant, a.actor, a.act, a.target, a.reason, a.detail, a.before, a.outcome, a.after, a.error
from operator_act a;
comment on view operator_acts is 'What operators did through the HTTP API: who, what, to what, why, before and after. Kept for keep_audit_days days.';
comment on column operator_acts.id is 'A UUIDv7: ordered by time.';
comment on column operator_acts.at is 'When it began.';
comment on column operator_acts.tenant is 'For which tenant.';
comment on column operator_acts.actor is 'By whom.';
comment on column operator_acts.act is 'What, as in stop run.';
comment on column operator_acts.target is 'To what: an id or a name.';
comment on column operator_acts.reason is 'Why, as the operator said.';
comment on column operator_acts.detail is 'With what: the choice, the filter, the limits.';
comment on column operator_acts.before is 'The state before.';
comment on column operator_acts.outcome is 'done, refused, or failed; null: it is being done, or nobody knows.';
comment on column operator_acts.after is 'The state after.';
comment on column operator_acts.error is 'Why it was refused or failed.';

create or replace function claim_request(p_tenant text, p_key text, p_digest bytea, p_request uuid)
returns table (request uuid, same boolean, mine boolean, status integer, answer text)
language plpgsql as $$
-- Whoever writes the row carries the request out. When no answer has come for a minute, he is gone, and the next one takes over, under
-- the same id.
declare
  v_now timestamptz := clock();
  v_row api_request;
begin
  insert into api_request (tenant, key, digest, request, at, begun_at) values (p_tenant, p_key, p_digest, p_request, v_now, v_now)
  on conflict do nothing;
  mine := found;
  select r.* into v_row from api_request r where r.tenant = p_tenant and r.key = p_key for update;
  if not mine and v_row.digest = p_digest and v_row.status is null and v_row.begun_at < v_now - interval '1 minute' then
    update api_request r set begun_at = v_now where r.tenant = p_tenant and r.key = p_key;
    mine := true;
  end if;
  request := v_row.request;
  same := v_row.digest = p_digest;
  status := v_row.status;
  answer := v_row.answer;
  return next;
end $$;
comment on function claim_request(text, text, bytea, uuid) is
  'What is known of an idempotency key: the id of its request, whether it was the same request, whether the caller is to carry it out, and the answer if there is one.';

create or replace function answer_request(p_tenant text, p_key text, p_request uuid, p_status integer, p_answer text) returns void
language sql as $$
  update api_request r set status = p_status, answer = p_answer where r.tenant = p_tenant and r.key = p_key and r.request = p_request
$$;
comment on function answer_request(text, text, uuid, integer, text) is 'Keeps the answer to a request for whoever asks again.';

create or replace function give_up_request(p_tenant text, p_key text, p_request uuid) returns void
language sql as $$
  update api_request r set begun_at = '-infinity' where r.tenant = p_tenant and r.key = p_key and r.request = p_request and r.status is null
$$;
comment on function give_up_request(text, text, uuid) is 'Lets the next one who asks carry a request out at once: this one could not.';

create or replace function forget_requests() returns bigint
language plpgsql as $$
declare
  v_requests bigint;
  v_acts     bigint;
begin
  delete from api_request r
  where r.ctid = any (array(select x.ctid from api_request x where x.at < clock() - interval '1 day' order by x.at limit 1000));
  get diagnostics v_requests = row_count;
  delete from operator_act a
  where a.id = any (array(
    select x.id from operator_act x where x.id < uuid_at(clock() - setting_value('keep_audit_days') * interval '1 day') order by x.id limit 1000));
  get diagnostics v_acts = row_count;
  return v_requests + v_acts;
end $$;
comment on function forget_requests() is
  'Chore: forgets idempotency keys of the HTTP API after a day, and acts of operators after keep_audit_days. Returns how many.';

select define_chore('forget_requests', 600000, 'Forgets old requests and acts of the HTTP API.');
