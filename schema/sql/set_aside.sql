-- One bad item never stops the others. A chore hands its items to a function, all at once; when that fails for a reason that is
-- not the connection's or the moment's, in halves, until the bad item stands alone. It is set aside with the reason, and tried
-- again later; operators see it in the view set_aside_items.
--
-- A lock that somebody holds is an item's trouble as well: a row that a caller keeps locked in an open transaction, as a claim or
-- a checkpoint does, without holding the run. That item is tried again within seconds.

create or replace function is_passing(p_sqlstate text) returns boolean
language sql immutable as $$
  -- Transaction rollback, resources, object in use, operator intervention, system errors: the same call may succeed later.
  select left(p_sqlstate, 2) in ('08', '40', '53', '55', '57', '58')
$$;
comment on function is_passing(text) is 'Whether an error is the moment''s and no item''s: a deadlock, a full disk, a lock that somebody holds, a shutdown.';

create or replace function is_set_aside(p_kind text, p_item text, p_now timestamptz) returns boolean
language plpgsql stable as $$
begin
  return exists (select from set_aside a where a.kind = p_kind and a.item = p_item and a.until > p_now);
end $$;
comment on function is_set_aside(text, text, timestamptz) is 'Whether an item is not to be tried before a later time.';

create or replace function put_aside(
  p_kind text, p_item text, p_run_id uuid, p_seq integer, p_error text, p_first_s integer default 10, p_most_s integer default 600
) returns void
language plpgsql as $$
declare
  v_now timestamptz := clock();
begin
  insert into set_aside as a (kind, item, run_id, seq, error, tries, since, until)
  values (p_kind, p_item, p_run_id, p_seq, p_error, 1, v_now, v_now + p_first_s * interval '1 second')
  on conflict (kind, item) do update
    set error = excluded.error, tries = a.tries + 1, until = v_now + least(p_most_s, p_first_s * 2 ^ least(a.tries, 10)) * interval '1 second';
end $$;
comment on function put_aside(text, text, uuid, integer, text, integer, integer) is
  'Sets an item aside, with the reason: for 10 seconds, and longer each time up to ten minutes, unless other times are named.';

create or replace function in_parts(p_function text, p_items text[]) returns bigint
language plpgsql as $$
declare
  v_done    bigint;
  v_half    integer := cardinality(p_items) / 2;
  v_error   text;
  v_locked  boolean;
  v_timeout text := current_setting('lock_timeout');
begin
  if coalesce(cardinality(p_items), 0) = 0 then
    return 0;
  end if;
  -- A lock that was waited for once is not waited for again.
  if exists (select from set_aside a where a.kind = p_function and a.item = any (p_items)) then
    perform set_config('lock_timeout', '50ms', true);
  end if;
  begin
    execute format('select %I($1)', p_function) using p_items into v_done;
    if exists (select from set_aside) then
      delete from set_aside a where a.kind = p_function and a.item = any (p_items);
    end if;
    perform set_config('lock_timeout', v_timeout, true);
    return v_done;
  exception when others then
    v_locked := sqlstate = '55P03';
    if is_passing(sqlstate) and not v_locked then
      raise;
    end if;
    v_error := case when v_locked then 'somebody else holds what it needs, in an open transaction' else format('%s (SQLSTATE %s)', sqlerrm, sqlstate) end;
  end;
  if v_half = 0 then
    perform put_aside(p_function, p_items[1], run_of_item(p_function, p_items[1]), null, v_error,
                      case when v_locked then 1 else 10 end, case when v_locked then 10 else 600 end);
    v_done := 0;
  else
    if v_locked then
      perform set_config('lock_timeout', '50ms', true);
    end if;
    v_done := in_parts(p_function, p_items[1 : v_half]) + in_parts(p_function, p_items[v_half + 1 : ]);
  end if;
  perform set_config('lock_timeout', v_timeout, true);
  return v_done;
end $$;
comment on function in_parts(text, text[]) is
  'Has a function handle items: all at once or, when that fails, in halves; the one that fails alone is set aside, and so is the one that needs what somebody else holds. Returns what the function returned, added up.';

create or replace function run_of_item(p_function text, p_item text) returns uuid
language plpgsql stable as $$
begin
  -- Runs stand under their ids; of notices it is the run that they are for.
  return case when p_function = 'deliver_these' then (select n.run_id from notice n where n.id = p_item::bigint) else p_item::uuid end;
exception when data_exception then
  return null;
end $$;
comment on function run_of_item(text, text) is 'The run that an item belongs to; null when it belongs to none.';

create or replace function forget_set_aside() returns bigint
language plpgsql as $$
declare
  v_forgotten bigint;
begin
  -- Whatever is still wrong was tried since, and would have a later time.
  delete from set_aside a where a.until < clock() - interval '1 hour';
  get diagnostics v_forgotten = row_count;
  return v_forgotten;
end $$;
comment on function forget_set_aside() is 'Chore: forgets items that nobody has tried for an hour, as when their run was stopped. Returns how many.';

create or replace view set_aside_items as
select a.kind, a.item, a.run_id, a.seq, a.error, a.tries, a.since, a.until from set_aside a;
comment on view set_aside_items is 'What a chore could not do, with the reason, and when it tries again. Nothing else waits for it. Empty unless something is wrong.';

select define_chore('forget_set_aside', 600000, 'Forgets items that were set aside and are gone.');
