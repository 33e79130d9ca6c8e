-- Named, expiring, fenced locks. An acquisition is one call; the row of the lock serialises those who want it. Tokens come from
-- one sequence for all locks (the identity of lock.token): an acquisition takes its number while it holds the row, so it is higher
-- than all that were given out for that lock before, also when the row was forgotten in between.

create or replace function refuse_bad_hold(p_ms bigint) returns void
language plpgsql as $$
begin
  if p_ms is null or p_ms not between 1 and 86400000 then
    raise exception using errcode = 'LH001', message = format('a lock is held for 1 ms to a day, not %s ms', coalesce(p_ms::text, 'null'));
  end if;
end $$;
comment on function refuse_bad_hold(bigint) is 'Raises an error unless a lock can be held for so many milliseconds.';

create or replace function acquire_lock(p_tenant text, p_name text, p_holder text, p_ms bigint)
returns table (acquired boolean, token bigint, holder text, expires_at timestamptz)
language plpgsql as $$
declare
  v_now  timestamptz := clock();
  v_lock lock;
begin
  perform refuse_bad_hold(p_ms);
  if not coalesce(valid_label(p_tenant), false) then
    raise exception using errcode = 'LH001', message = format('%L is not a tenant name', p_tenant);
  end if;
  -- Without a holder the lock would be free.
  if coalesce(length(p_name), 0) not between 1 and 500 or coalesce(length(p_holder), 0) not between 1 and 500 then
    raise exception using errcode = 'LH001', message = 'a lock and its holder have names of 1 to 500 characters';
  end if;
  -- Looked for first: each try to insert would take a token.
  if not exists (select from lock l where l.tenant = p_tenant and l.name = p_name) then
    return query
    insert into lock as l (tenant, name, holder, acquired_at, expires_at, acquired)
    values (p_tenant, p_name, p_holder, v_now, v_now + p_ms * interval '1 millisecond', 1)
    on conflict (tenant, name) do nothing
    returning true, l.token, l.holder, l.expires_at;
    if found then
      return;
    end if;
  end if;
  select l.* into v_lock from lock l where l.tenant = p_tenant and l.name = p_name for update;
  if not found then
    -- Forgotten at this very moment.
    return query select * from acquire_lock(p_tenant, p_name, p_holder, p_ms);
    return;
  end if;
  if v_lock.holder is not null and v_lock.expires_at > v_now then
    update lock l set blocked = l.blocked + 1 where l.tenant = p_tenant and l.name = p_name;
    return query select false, v_lock.token, v_lock.holder, v_lock.expires_at;
    return;
  end if;
  if v_lock.holder is not null then
    perform end_hold(v_lock, v_lock.expires_at, 'expired', null);
  end if;
  return query
  update lock l set token = default, holder = p_holder, acquired_at = v_now, expires_at = v_now + p_ms * interval '1 millisecond', acquired = l.acquired + 1
  where l.tenant = p_tenant and l.name = p_name
  returning true, l.token, l.holder, l.expires_at;
end $$;
comment on function acquire_lock(text, text, text, bigint) is
  'Takes a lock for so many milliseconds, or says who holds it and until when. The token grows with each acquisition: a store that has seen a higher one must refuse a lower.';

create or replace function end_hold(p_lock lock, p_at timestamptz, p_kind text, p_by text) returns void
language plpgsql as $$
begin
  update lock l
  set holder = null, expires_at = null, held_ms = l.held_ms + extract(epoch from p_at - p_lock.acquired_at) * 1000,
      expired = l.expired + (p_kind = 'expired')::int, forced = l.forced + (p_kind = 'forced')::int
  where l.tenant = p_lock.tenant and l.name = p_lock.name;
  if p_kind <> 'released' then
    insert into lock_event (at, tenant, name, kind, token, holder, actor) values (clock(), p_lock.tenant, p_lock.name, p_kind, p_lock.token, p_lock.holder, actor(p_by));
  end if;
end $$;
comment on function end_hold(lock, timestamptz, text, text) is 'Ends the hold of a lock. The caller has locked its row.';

create or replace function held_lock(p_tenant text, p_name text, p_token bigint) returns lock
language sql as $$
  select l.* from lock l where l.tenant = p_tenant and l.name = p_name and l.token = p_token and l.holder is not null and l.expires_at > clock() for update
$$;
comment on function held_lock(text, text, bigint) is 'Locks the row of a lock that is held under this token.';

create or replace function renew_lock(p_tenant text, p_name text, p_token bigint, p_ms bigint) returns boolean
language plpgsql as $$
begin
  perform refuse_bad_hold(p_ms);
  perform from held_lock(p_tenant, p_name, p_token) h where h.name is not null;
  if not found then
    return false;
  end if;
  update lock l set expires_at = clock() + p_ms * interval '1 millisecond' where l.tenant = p_tenant and l.name = p_name;
  return true;
end $$;
comment on function renew_lock(text, text, bigint, bigint) is 'Holds a lock for longer. False when it is not held under this token any more.';

create or replace function release_lock(p_tenant text, p_name text, p_token bigint) returns boolean
language plpgsql as $$
declare
  v_lock lock;
begin
  select h.* into v_lock from held_lock(p_tenant, p_name, p_token) h;
  if v_lock.name is null then
    return false;
  end if;
  perform end_hold(v_lock, clock(), 'released', null);
  return true;
end $$;
comment on function release_lock(text, text, bigint) is 'Gives a lock back. False when it is not held under this token any more: a former holder changes nothing.';

create or replace function force_release_lock(p_tenant text, p_name text, p_by text default null, p_token bigint default null) returns boolean
language plpgsql as $$
declare
  v_lock lock;
begin
  select l.* into v_lock from lock l where l.tenant = p_tenant and l.name = p_name for update;
  if not found then
    raise exception using errcode = 'LH002', message = format('there is no lock %s for tenant %s', p_name, p_tenant);
  end if;
  if v_lock.holder is null or v_lock.token <> p_token then
    -- Asked again after a lost answer: what was done then is the answer, and whoever took the lock since keeps it.
    return exists (select from lock_event e where e.tenant = p_tenant and e.name = p_name and e.token = p_token and e.kind = 'forced');
  end if;
  perform end_hold(v_lock, clock(), 'forced', p_by);
  return true;
end $$;
comment on function force_release_lock(text, text, text, bigint) is
  'Takes a lock from its holder, which is recorded with who did it. False when nobody held it. With a token only from the hold with that token, so that the call may be repeated after a lost answer.';

create or replace view locks as
select l.tenant, l.name, l.holder, l.token, l.acquired_at, l.expires_at, l.holder is not null and l.expires_at > (select present()) as held,
  l.acquired, l.blocked, l.expired, l.forced, l.held_ms, l.name as lock
from lock l;
comment on view locks is 'Named locks: who holds each, and how often it was acquired, found taken, expired and forced open.';

create or replace view lock_figures as
select l.tenant, substring(l.name from '[^/]*$') as phase, sum(l.acquired)::bigint as acquired, sum(l.blocked)::bigint as blocked, sum(l.expired)::bigint as expired,
  sum(l.forced)::bigint as forced, sum(l.held_ms) / 1000 as held_seconds
from lock l group by l.tenant, substring(l.name from '[^/]*$');
comment on view lock_figures is 'Acquisitions by outcome, and seconds held, by phase: the last part of a lock''s name, as in RUN/PHASE.';

create or replace function forget_locks() returns bigint
language plpgsql as $$
-- Ten thousand locks a call, in the order of their keys, from where the last one ended: holding a lock changes no index.
declare
  v_now       timestamptz := clock();
  v_batch     constant integer := 10000;
  v_place     jsonb := place_of('forget_locks');
  v_looked    bigint;
  v_last      jsonb;
  v_forgotten bigint;
begin
  select count(*), jsonb_build_array(max(array[s.tenant, s.name]))
  into v_looked, v_last
  from (
    select l.tenant, l.name from lock l where (l.tenant, l.name) > (coalesce(v_place -> 0 ->> 0, ''), coalesce(v_place -> 0 ->> 1, ''))
    order by l.tenant, l.name limit v_batch) s;
  delete from lock l
  where l.ctid = any (array(
    select x.ctid from lock x
    where (x.tenant, x.name) > (coalesce(v_place -> 0 ->> 0, ''), coalesce(v_place -> 0 ->> 1, ''))
      and (x.tenant, x.name) <= (v_last -> 0 ->> 0, v_last -> 0 ->> 1)
      and coalesce(x.expires_at, x.acquired_at) < v_now - interval '30 days' for update skip locked));
  get diagnostics v_forgotten = row_count;
  perform set_place('forget_locks', case when v_looked = v_batch then v_last end);
  delete from lock_event e
  where e.ctid = any (array(select x.ctid from lock_event x where x.at < v_now - interval '90 days' order by x.at limit 10000));
  return v_forgotten;
end $$;
comment on function forget_locks() is
  'Chore: deletes the rows of locks that nobody has held for a month, and what was recorded of locks more than 90 days ago. Returns how many locks.';

select define_chore('forget_locks', 60000, 'Deletes the rows of locks that nobody has held for a month.');
