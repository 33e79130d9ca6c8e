-- Retention: ended runs are deleted by policies, in bounded batches. What is alive is never touched, nor what a live run can
-- still need: the children of a run that lives, and those whose end their parent has not been told yet. What a policy wants in an
-- archive is deleted by whoever has written it there, and by nobody else.
--
-- A policy goes through the history from the newest run to the oldest, a page at a time, and remembers where it is: how much a
-- call looks at does not depend on how much there is. Locks: the policy, then runs (ids ascending), of which none is waited for.

create or replace function is_needed(p_run_id uuid, p_parent_id uuid) returns boolean
language plpgsql stable as $$
begin
  return exists (select from notice n where n.child_id = p_run_id)
    or exists (select from notice n where n.run_id = p_run_id)
    or p_parent_id is not null
       and exists (select from run p where p.id = p_parent_id and (p.state not in ('completed', 'failed', 'cancelled') or p.open_steps > 0));
end $$;
comment on function is_needed(uuid, uuid) is 'Whether something is still to be told of a run that has ended, or its parent lives.';

create or replace function wants_archive(p_tenant text, p_state run_state, p_flow_id integer) returns boolean
language plpgsql stable as $$
begin
  return exists (
    select from retention_policy p
    where p.tenant = p_tenant and p.archive and (p.state is null or p.state = p_state)
      and (p.flow is null or p.flow = (select f.name from flow f where f.id = p_flow_id)));
end $$;
comment on function wants_archive(text, run_state, integer) is 'Whether a policy is about such a run that wants it in an archive before it is deleted, by whichever policy that is.';

create or replace function retention_page(
  p_tenant text, p_policy text, p_before uuid default null, p_kept jsonb default '{}', p_archive boolean default false,
  p_limit integer default 1000, p_look bigint default 100000,
  out runs uuid[], out next uuid, out kept jsonb, out looked bigint, out oldest timestamptz, out newest timestamptz
)
language plpgsql stable as $$
declare
  v_policy   retention_policy;
  v_old      timestamptz;
  v_from     uuid := coalesce(p_before, 'ffffffff-ffff-ffff-ffff-ffffffffffff');
  v_until    uuid;
  v_names    jsonb;
  v_archives boolean;
  v_run      record;
  v_name     text;
begin
  select p.* into v_policy from retention_policy p where p.tenant = p_tenant and p.name = p_policy;
  if not found then
    raise exception using errcode = 'LH002', message = format('there is no policy %s for tenant %s', p_policy, p_tenant);
  end if;
  runs := '{}';
  kept := coalesce(p_kept, '{}');
  looked := 0;
  v_old := clock() - v_policy.age;
  v_until := uuid_at(greatest(clock_timestamp() - v_policy.age, 'epoch'));
  v_archives := not p_archive and exists (select from retention_policy p where p.tenant = p_tenant and p.archive);
  if v_policy.keep_last = 0 then
    v_from := least(v_from, v_until);
  end if;
  if v_policy.flow is not null or v_policy.keep_last > 0 then
    select coalesce(jsonb_object_agg(f.id, f.name), '{}') into v_names
    from flow f where f.tenant = p_tenant and (v_policy.flow is null or f.name = v_policy.flow);
  end if;

  for v_run in
    select r.id, r.tenant, r.state, r.open_steps, r.ended_at, r.flow_id, r.parent_id from run r where r.id < v_from order by r.id desc limit p_look
  loop
    looked := looked + 1;
    next := v_run.id;
    continue when v_run.tenant <> p_tenant or v_run.state not in ('completed', 'failed', 'cancelled') or v_run.open_steps > 0 or v_run.state <> v_policy.state;
    if v_names is not null then
      v_name := v_names ->> v_run.flow_id::text;
      continue when v_name is null;
      if coalesce((kept ->> v_name)::integer, 0) < v_policy.keep_last then
        kept := kept || jsonb_build_object(v_name, coalesce((kept ->> v_name)::integer, 0) + 1);
        continue;
      end if;
    end if;
    continue when v_run.ended_at >= v_old or v_run.id >= v_until or is_needed(v_run.id, v_run.parent_id);
    continue when v_archives and wants_archive(v_run.tenant, v_run.state, v_run.flow_id);
    runs := runs || v_run.id;
    oldest := least(oldest, v_run.ended_at);
    newest := greatest(newest, v_run.ended_at);
    exit when cardinality(runs) >= p_limit;
  end loop;
  if looked < p_look and cardinality(runs) < p_limit then
    next := null;
  end if;
end $$;
comment on function retention_page(text, text, uuid, jsonb, boolean, integer, bigint) is
  'Up to so many runs that a policy would delete now, below an id; what it has looked at reaches down to next (null: to the end), and kept is given to the next page. With p_archive also those that are to stand in an archive before.';

create or replace function retention_candidates(p_tenant text, p_limit integer)
returns table (run_id uuid, policy text)
language plpgsql stable as $$
declare
  v_policy retention_policy;
  v_page   record;
  v_next   uuid;
  v_kept   jsonb;
  v_left   integer := p_limit;
begin
  for v_policy in select p.* from retention_policy p where p_tenant is null or p.tenant = p_tenant order by p.id loop
    v_next := null;
    v_kept := '{}';
    loop
      v_page := retention_page(v_policy.tenant, v_policy.name, v_next, v_kept, true, v_left);
      v_next := v_page.next;
      v_kept := v_page.kept;
      return query select x, v_policy.name from unnest(v_page.runs) x;
      v_left := v_left - cardinality(v_page.runs);
      exit when v_next is null or v_left <= 0;
    end loop;
    exit when v_left <= 0;
  end loop;
end $$;
comment on function retention_candidates(text, integer) is
  'Up to so many runs that the policies would delete now (of one tenant, or null: of all). Looks through all of the history, if need be: for looking, not for a chore.';

create or replace function delete_runs(p_run_ids uuid[], p_revisions integer[] default null) returns bigint
language plpgsql as $$
-- Rooms: step -> none; ended runs stand in no other. All is looked at again under the runs' locks: somebody may have retried one.
declare
  v_now     timestamptz := clock();
  v_ids     uuid[];
  v_lowest  uuid := lowest_id(p_run_ids);
  v_parents uuid[];
  v_deleted bigint;
begin
  v_ids := array(
    select r.id from run r
    where r.id = any (p_run_ids) and r.id >= v_lowest and r.state in ('completed', 'failed', 'cancelled') and r.open_steps = 0
    order by r.id for update skip locked);
  if p_revisions is not null then
    v_ids := array(
      select r.id from (select * from unnest(p_run_ids, p_revisions) i(id, revision) where i.id = any (v_ids)) i
      cross join lateral (select x.id, x.revision from run x where x.id = i.id offset 0) r
      where r.revision = i.revision);
  else
    v_ids := array(
      select r.id from unnest(v_ids) i(id)
      cross join lateral (select x.id, x.tenant, x.state, x.flow_id from run x where x.id = i.id offset 0) r
      where not wants_archive(r.tenant, r.state, r.flow_id));
  end if;
  -- A parent that is being retried needs its children again: it must stand still while they go.
  v_parents := array(
    select p.id from run p
    where p.id = any (array(
      select distinct r.parent_id from unnest(v_ids) i(id) cross join lateral (select x.parent_id from run x where x.id = i.id offset 0) r
      where r.parent_id is not null))
    order by p.id for share skip locked);
  -- A statement of its own: what the locks were waiting for is seen.
  v_ids := array(
    select r.id from unnest(v_ids) i(id)
    cross join lateral (select x.id, x.parent_id from run x where x.id = i.id offset 0) r
    where not is_needed(r.id, r.parent_id)
      and (r.parent_id is null or r.parent_id = any (v_parents) or not exists (select from run p where p.id = r.parent_id)));
  if cardinality(v_ids) = 0 then
    return 0;
  end if;
  v_lowest := lowest_id(v_ids);
  delete from attempt x where x.run_id = any (v_ids) and x.run_id >= v_lowest;
  delete from checkpoint x where x.run_id = any (v_ids) and x.run_id >= v_lowest;
  delete from event x where x.run_id = any (v_ids) and x.run_id >= v_lowest;
  delete from fan_out x where x.run_id = any (v_ids) and x.run_id >= v_lowest;
  delete from step x where x.run_id = any (v_ids) and x.run_id >= v_lowest;
  delete from dead_letter x where x.run_id = any (v_ids);
  delete from deadline x where x.run_id = any (v_ids);
  delete from progress x where x.run_id = any (v_ids);
  delete from signal x where x.run_id = any (v_ids);
  delete from start_key x where x.run_id = any (v_ids) and (x.until is null or x.until <= v_now);
  delete from run x where x.id = any (v_ids) and x.id >= v_lowest;
  get diagnostics v_deleted = row_count;
  return v_deleted;
end $$;
comment on function delete_runs(uuid[], integer[]) is
  'Deletes ended runs with all that belongs to them. Live ones, those that a live run can need, those that somebody is at, and those that are to stand in an archive before stay. Who has archived them names the revisions that it has written: a run that has changed since stays. Returns how many.';

create or replace function run_retention(p_tenant text default null, p_limit integer default 1000) returns bigint
language plpgsql as $$
declare
  v_policy  retention_policy;
  v_id      integer;
  v_page    record;
  v_left    integer := p_limit;
  v_look    bigint := 100000;
  v_deleted bigint := 0;
begin
  for v_id in
    select p.id from retention_policy p where (p_tenant is null or p.tenant = p_tenant) and not p.archive order by p.looked_at nulls first, p.id
  loop
    exit when v_left <= 0 or v_look <= 0;
    select p.* into v_policy from retention_policy p where p.id = v_id for no key update skip locked;
    continue when not found;
    v_page := retention_page(v_policy.tenant, v_policy.name, v_policy.looked_to, v_policy.kept, false, v_left, v_look);
    v_left := v_left - cardinality(v_page.runs);
    v_look := v_look - v_page.looked;
    v_deleted := v_deleted + delete_runs(v_page.runs);
    continue when v_page.looked = 0 and v_policy.looked_to is null;
    update retention_policy p
    set looked_to = v_page.next, kept = case when v_page.next is null then '{}' else v_page.kept end, looked_at = clock()
    where p.id = v_id;
  end loop;
  return v_deleted;
end $$;
comment on function run_retention(text, integer) is
  'Deletes up to so many runs by the policies, but for those that want an archive; looks at 100,000 runs at most and goes on there at the next call. Call it again while it returns more than 0. For pg_cron: select longhaul.run_retention().';

create or replace function retention_plan(p_tenant text default null)
returns table (policy text, runs bigint, oldest timestamptz, newest timestamptz, archive boolean, complete boolean)
language plpgsql stable as $$
declare
  v_policy retention_policy;
  v_page   record;
  v_next   uuid;
  v_kept   jsonb;
  v_look   bigint;
begin
  for v_policy in select p.* from retention_policy p where p_tenant is null or p.tenant = p_tenant order by p.name, p.id loop
    policy := v_policy.name;
    archive := v_policy.archive;
    runs := 0;
    oldest := null;
    newest := null;
    v_look := 1000000;
    v_next := null;
    v_kept := '{}';
    loop
      v_page := retention_page(v_policy.tenant, v_policy.name, v_next, v_kept, v_policy.archive, 100000, v_look);
      v_next := v_page.next;
      v_kept := v_page.kept;
      runs := runs + cardinality(v_page.runs);
      oldest := least(oldest, v_page.oldest);
      newest := greatest(newest, v_page.newest);
      v_look := v_look - v_page.looked;
      exit when v_next is null or v_look <= 0;
    end loop;
    complete := v_next is null;
    if runs > 0 or not complete then
      return next;
    end if;
  end loop;
end $$;
comment on function retention_plan(text) is
  'What the policies would delete now, and which of them want an archive before. Looks at the newest million runs: complete is false when there are more.';

create or replace function archived_run(p_run_id uuid) returns jsonb
language sql stable as $$
  select to_jsonb(r) || jsonb_build_object(
    'flow', f.name, 'version', f.version, 'output', run_output(r.id),
    'steps', (select coalesce(jsonb_agg(to_jsonb(s) order by s.seq), '[]') from steps s where s.run_id = r.id),
    'attempts', (select coalesce(jsonb_agg(to_jsonb(a) order by a.seq, a.attempt), '[]') from attempt a where a.run_id = r.id),
    'events', (select coalesce(jsonb_agg(to_jsonb(e) order by e.at), '[]') from event e where e.run_id = r.id),
    'checkpoints', (select coalesce(jsonb_agg(to_jsonb(c) order by c.seq, c.path), '[]') from checkpoint c where c.run_id = r.id))
  from run r join flow f on f.id = r.flow_id where r.id = p_run_id
$$;
comment on function archived_run(uuid) is 'All that is known of a run, as one JSON object.';

create or replace function put_retention_policy(
  p_tenant text, p_name text, p_age interval, p_state text default null, p_flow text default null, p_keep_last integer default 0,
  p_archive boolean default null
) returns void
language plpgsql as $$
begin
  if not coalesce(valid_label(p_tenant), false) then
    raise exception using errcode = 'LH001', message = format('%L is not a tenant name', p_tenant);
  end if;
  if not coalesce(valid_label(p_name), false) or p_age is null or p_keep_last < 0 or p_state not in ('completed', 'failed', 'cancelled') then
    raise exception using errcode = 'LH001',
      message = 'a policy has a name of letters, digits, ., _ and -, an age, a final state (completed, failed, cancelled) or none, and keeps 0 or more runs';
  end if;
  if p_age not between interval '0' and interval '36500 days' then
    raise exception using errcode = 'LH001', message = format('the age of a policy is from 0 to 36500 days, not %s', p_age);
  end if;
  insert into retention_policy as o (tenant, name, state, flow, age, keep_last, archive)
  values (p_tenant, p_name, p_state::run_state, p_flow, p_age, coalesce(p_keep_last, 0), coalesce(p_archive, false))
  on conflict (tenant, name) do update
    set state = excluded.state, flow = excluded.flow, age = excluded.age, keep_last = excluded.keep_last,
        archive = coalesce(p_archive, o.archive), looked_to = null, kept = '{}';
end $$;
comment on function put_retention_policy(text, text, interval, text, text, integer, boolean) is
  'Makes or changes a policy. With p_archive, what it is about is deleted only by longhaul retention run --archive; null leaves that as it is.';

create or replace function delete_retention_policy(p_tenant text, p_name text) returns void
language plpgsql as $$
begin
  delete from retention_policy p where p.tenant = p_tenant and p.name = p_name;
  if not found then
    raise exception using errcode = 'LH002', message = format('there is no policy %s for tenant %s', p_name, p_tenant);
  end if;
end $$;
comment on function delete_retention_policy(text, text) is 'Deletes a policy.';

create or replace function retention() returns bigint
language sql as $$ select run_retention(null, 1000) $$;
comment on function retention() is 'Chore: deletes up to 1000 runs by the policies that want no archive.';

select define_chore('retention', 60000, 'Deletes ended runs by the policies in retention_policy.');
