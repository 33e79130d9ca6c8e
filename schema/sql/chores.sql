-- Chores: recurring duties. Each is a function without arguments that returns how many items it handled, and a row in
-- chore. Any scheduler does whichever is due; SKIP LOCKED on the row makes it one scheduler at a time, with no leader.

create or replace function chore_pause(p_interval_ms bigint, p_took_ms double precision) returns interval
language sql immutable as $$
  -- A twentieth of the time, for a chore that looks long; yet a slow machine or somebody's lock never puts it off by more than
  -- ten seconds, or by as long as it took.
  select greatest(p_interval_ms, least(20 * coalesce(p_took_ms, 0), greatest(10000, p_took_ms))) * interval '1 millisecond'
$$;
comment on function chore_pause(bigint, double precision) is 'How long a chore with this interval rests after a turn that took so many milliseconds.';

create or replace function run_chore()
returns table (chore_name text, items bigint, failure text, milliseconds double precision, due_in_ms bigint)
language plpgsql as $$
declare
  v_now     timestamptz := clock();
  v_chore   chore;
  v_started timestamptz;
  v_items   bigint;
  v_failure text;
  v_passing boolean := false;
begin
  -- Nobody's lock is waited for long.
  perform set_config('lock_timeout', '2s', true);
  -- One that lies further ahead than it ever would is left from a clock that was set back since.
  select c.* into v_chore from chore c
  where c.next_at <= v_now or c.next_at > v_now + 2 * chore_pause(c.interval_ms, c.duration_ms) + interval '1 second'
  order by c.next_at limit 1 for update skip locked;
  if found then
    v_started := clock_timestamp();
    begin
      execute format('select %I()', v_chore.name) into v_items;
    exception when others then
      v_failure := format('%s (SQLSTATE %s)', sqlerrm, sqlstate);
      v_passing := is_passing(sqlstate);
    end;
    milliseconds := extract(epoch from clock_timestamp() - v_started) * 1000;
    -- A chore that found something is due again at once: batches are bounded, and there may be more. One that failed for a
    -- reason that passes is tried again soon.
    update chore c
    set started_at = v_started, duration_ms = milliseconds, runs = c.runs + 1, last_error = coalesce(v_failure, c.last_error),
        failures = c.failures + (v_failure is not null)::int, done = c.done + coalesce(v_items, 0), last_done = v_items,
        next_at = clock() + case when v_items > 0 and v_failure is null then interval '0'
                                 else chore_pause(case when v_passing then least(c.interval_ms, 1000) else c.interval_ms end, milliseconds) end
    where c.name = v_chore.name;
    chore_name := v_chore.name;
    items := v_items;
    failure := v_failure;
  end if;
  select greatest(0, (extract(epoch from min(c.next_at) - clock()) * 1000)::bigint) into due_in_ms from chore c;
  return next;
end $$;
comment on function run_chore() is
  'Does one chore that is due and says what came of it, and in how many milliseconds the next one is due. Each call is one transaction; pg_cron can call it as well.';

create or replace function define_chore(p_name text, p_interval_ms bigint, p_description text) returns void
language sql as $$
  insert into chore (name, interval_ms, next_at, description) values (p_name, p_interval_ms, clock(), p_description)
  on conflict (name) do update set description = excluded.description
$$;
comment on function define_chore(text, bigint, text) is
  'Enters a chore when it is not there yet; an interval that an operator has changed stays.';

create or replace function set_chore_interval(p_name text, p_interval_ms bigint) returns void
language plpgsql as $$
begin
  if p_interval_ms is null or p_interval_ms not between 1 and 864000000000 then
    raise exception using errcode = 'LH001', message = format('a chore is done every 1 ms to 10000 days, not %s ms', coalesce(p_interval_ms::text, 'null'));
  end if;
  update chore c set interval_ms = p_interval_ms, next_at = least(c.next_at, clock() + p_interval_ms * interval '1 millisecond')
  where c.name = p_name;
  if not found then
    raise exception using errcode = 'LH002', message = format('there is no chore named %s', p_name);
  end if;
end $$;
comment on function set_chore_interval(text, bigint) is 'Changes how often a chore is done.';
