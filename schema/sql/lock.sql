-- Named, expiring, fenced locks. An acquisition is one call; the row of the lock serialises those who want it.

create or replace function acquire_lock(p_tenant text, p_name text, p_holder text, p_ms bigint)
returns table (acquired boolean, token bigint, holder text, expires_at timestamptz)
language plpgsql as $$
declare
  v_now  timestamptz := clock();
  v_lock lock;
begin
  if p_name is null or length(p_name) not between 1 and 500 or p_ms is null or p_ms not between 1 and 86400000 then
    raise exception using errcode = 'LH001', message = 'a lock has a name of 1 to 500 characters, and is held for 1 ms to a day';
  end if;
  insert into lock as l (tenant, name, token, holder, acquired_at, expires_at, acquired)
  values (p_tenant, p_name, 1, p_holder, v_now, v_now + p_ms * interval '1 millisecond', 1)
  on conflict (tenant, name) do nothing;
  if found then
    return query select true, 1::bigint, p_holder, v_now + p_ms * interval '1 millisecond';
    return;
  end if;
  select l.* into v_lock from lock l where l.tenant = p_tenant and l.name = p_name for update;
  if v_lock.holder is not null and v_lock.expires_at > v_now then
    update lock l set blocked = l.blocked + 1 where l.tenant = p_tenant and l.name = p_name;
    return query select false, v_lock.token, v_lock.holder, v_lock.expires_at;
    return;
  end if;
  if v_lock.holder is not null then
    perform end_hold(v_lock, v_lock.expires_at, 'expired', null);
  end if;
  return query
  update lock l set token = l.token + 1, holder = p_holder, acquired_at = v_now, expires_at = v_now + p_ms * interval '1 millisecond', acquired = l.acquired + 1
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
select l.tenant, l.name, l.holder, l.token, l.acquired_at, l.expires_at, l.holder is not null and l.expires_at > clock() as held,
  l.acquired, l.blocked, l.expired, l.forced, l.held_ms
from lock l;
comment on view locks is 'Named locks: who holds each, and how often it was acquired, found taken, expired and forced open.';

create or replace view lock_figures as
select l.tenant, substring(l.name from '[^/]*$') as phase, sum(l.acquired)::bigint as acquired, sum(l.blocked)::bigint as blocked, sum(l.expired)::bigint as expired,
  sum(l.forced)::bigint as forced, sum(l.held_ms) / 1000 as held_seconds
from lock l group by l.tenant, substring(l.name from '[^/]*$');
comment on view lock_figures is 'Acquisitions by outcome, and seconds held, by phase: the last part of a lock''s name, as in RUN/PHASE.';

create or replace function forget_locks() returns bigint
language plpgsql as $$
declare
  v_forgotten bigint;
begin
  -- A token must not begin anew while somebody could still carry an old one: a month is longer than any hold.
  delete from lock l where (l.tenant, l.name) in (
    select x.tenant, x.name from lock x
    where coalesce(x.expires_at, x.acquired_at) < clock() - interval '30 days' and (x.holder is null or x.expires_at < clock()) limit 1000 for update skip locked);
  get diagnostics v_forgotten = row_count;
  delete from lock_event e where e.at < clock() - interval '90 days';
  return v_forgotten;
end $$;
comment on function forget_locks() is 'Chore: deletes the rows of locks that nobody has held for a month. Returns how many.';

select define_chore('forget_locks', 3600000, 'Deletes the rows of locks that nobody has held for a month.');
