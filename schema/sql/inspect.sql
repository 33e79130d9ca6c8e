-- What holds an installation up: what is overdue, and why; who keeps dead rows from being removed; who waits for whom.

create or replace function late_because(p_chore text, p_run_id uuid) returns text
language plpgsql stable as $$
declare
  v_now   timestamptz := present();
  v_aside record;
  v_chore chore;
begin
  select a.tries, a.until, a.error into v_aside from set_aside a where a.run_id = p_run_id order by a.since limit 1;
  if found then
    return format('it was set aside after %s tries, and is tried again at %s: %s', v_aside.tries, v_aside.until, v_aside.error);
  end if;
  select c.* into v_chore from chore c where c.name = p_chore;
  return case
    when v_chore.name is null then format('there is no chore %s', p_chore)
    when v_chore.next_at < v_now - interval '10 seconds' then 'nobody does the chores: is a scheduler running?'
    when v_chore.last_done is null and v_chore.failures > 0 then format('the chore %s fails: %s', p_chore, v_chore.last_error)
    else format('the chore %s has not come to it: others stand before it, or another transaction holds its run', p_chore) end;
end $$;
comment on function late_because(text, uuid) is 'Why something that a chore should have done to a run is not done.';

create or replace view overdue as
with late as (
  select (select present()) - interval '10 seconds' as at
)
select o.kind, o.run_id, o.seq, o.item, o.since, late_because(o.chore, o.run_id) as reason
from (
  select 'timer' as kind, 'fire_timers' as chore, t.run_id, t.seq, t.kind::text as item, t.fire_at as since
  from timer t where t.fire_at < (select l.at from late l)
  union all
  select 'wait', 'fire_waits', w.run_id, w.seq, w.kind::text, w.due_at from wait w where w.due_at < (select l.at from late l)
  union all
  select 'deadline', 'end_overdue_runs', d.run_id, null, null, d.at
  from deadline d cross join lateral (select x.state from run x where x.id = d.run_id offset 0) r
  where d.at < (select l.at from late l) and r.state not in ('completed', 'failed', 'cancelled')
  union all
  select 'lease', 'expire_leases', e.run_id, e.seq, format('worker %s (%s)', w.id, w.name), w.expires_at
  from worker w join lease e on e.worker_id = w.id
  where w.expires_at < (select l.at from late l) and (w.state in ('active', 'draining') or w.state = 'lost' and not w.swept)
) o
union all
select 'schedule', null, null, format('%s of tenant %s', s.name, s.tenant), s.next_at, 'no scheduler fires it: is one running?'
from schedule s where s.paused_at is null and s.next_at < (select l.at from late l) - interval '50 seconds'
union all
select 'chore', null, null, c.name, c.next_at, coalesce('it failed last with: ' || case when c.last_done is null then c.last_error end, 'nobody does it: is a scheduler running?')
from chore c where c.next_at < (select l.at from late l) - interval '50 seconds' or c.last_done is null and c.failures > 0;
comment on view overdue is 'What should have happened by now and has not: since when, and why. Empty while a scheduler does its work.';

create or replace view horizon_pins as
select 'session' as kind, a.pid, format('%s of user %s (%s)', a.pid, a.usename, coalesce(nullif(a.application_name, ''), 'no application name')) as name,
  a.state, a.xact_start as since, greatest(age(a.backend_xmin), age(a.backend_xid))::bigint as transactions, left(a.query, 200) as query,
  a.usename::text as username, a.application_name, format('select pg_terminate_backend(%s)', a.pid) as remedy
from pg_stat_activity a
where a.datname = current_database() and (a.backend_xmin is not null or a.backend_xid is not null)
  and a.pid <> pg_backend_pid() and a.backend_type not in ('autovacuum worker', 'walsender')
union all
select 'prepared transaction', null, format('%L of user %s', p.gid, p.owner), 'prepared', p.prepared, age(p.transaction)::bigint, null,
  p.owner::text, null, format('rollback prepared %L', p.gid)
from pg_prepared_xacts p where p.database = current_database()
union all
select 'replication slot', s.active_pid, s.slot_name::text, case when s.active then 'active' else 'inactive' end, null, age(s.xmin)::bigint, null,
  null, null, format('select pg_drop_replication_slot(%L)', s.slot_name)
from pg_replication_slots s where s.xmin is not null
union all
select 'standby', r.pid, format('%s at %s', coalesce(nullif(r.application_name, ''), r.usename::text), coalesce(r.client_addr::text, 'a local socket')), r.state,
  null, age(r.backend_xmin)::bigint, null,
  r.usename::text, r.application_name, 'set hot_standby_feedback = off there, or end its long queries'
from pg_stat_replication r where r.backend_xmin is not null;
comment on view horizon_pins is
  'Who keeps the server from removing dead rows of this database: sessions, prepared transactions, replication slots, standbys with feedback. What other users do is seen only by members of pg_read_all_stats.';
comment on column horizon_pins.since is 'Since when its transaction is open; null where the server does not say.';

create or replace view blocked_calls as
select a.pid, a.usename::text as username, a.application_name, a.wait_event as waits_for, a.query_start as since, left(a.query, 200) as query,
  coalesce((
    select string_agg(coalesce(
      format('%s of user %s (%s), %s since %s', h.pid, h.usename, coalesce(nullif(h.application_name, ''), 'no application name'), h.state, date_trunc('second', coalesce(h.state_change, h.xact_start))),
      'a prepared transaction'), '; ' order by h.pid)
    from unnest(b.pids) p(pid) left join pg_stat_activity h on h.pid = p.pid and p.pid <> 0), 'nobody any more') as held_by
from pg_stat_activity a cross join lateral (select pg_blocking_pids(a.pid) as pids) b
where a.datname = current_database() and a.wait_event_type = 'Lock';
comment on view blocked_calls is 'Calls in this database that wait for a lock, and who holds it. What other users do is seen only by members of pg_read_all_stats.';
