-- Retention: ended runs are deleted by policies, in bounded batches. What is alive is never touched, nor what a live run can
-- still need: a child whose end its parent has not been told yet, and runs that wait for their turn.

create or replace function retention_candidates(p_tenant text, p_limit integer)
returns table (run_id uuid, policy text)
language plpgsql stable as $$
declare
  v_now    timestamptz := clock();
  v_policy retention_policy;
  v_left   integer := p_limit;
  v_found  integer;
begin
  for v_policy in select p.* from retention_policy p where p_tenant is null or p.tenant = p_tenant order by p.id loop
    return query
    select r.id, v_policy.name
    from run r join flow f on f.id = r.flow_id
    where r.tenant = v_policy.tenant and r.id < uuid_at(clock_timestamp() - v_policy.age)
      and r.state in ('completed', 'failed', 'cancelled') and r.ended_at < v_now - v_policy.age
      and (v_policy.state is null or r.state = v_policy.state) and (v_policy.flow is null or f.name = v_policy.flow)
      and not exists (select from notice n where n.child_id = r.id or n.run_id = r.id)
      and (v_policy.keep_last = 0 or r.id < (
        select k.id from (
          select x.id from run x join flow y on y.id = x.flow_id
          where x.tenant = r.tenant and y.name = f.name and x.state in ('completed', 'failed', 'cancelled')
            and (v_policy.state is null or x.state = v_policy.state)
          order by x.id desc limit v_policy.keep_last) k
        order by k.id limit 1))
    order by r.id limit v_left;
    get diagnostics v_found = row_count;
    v_left := v_left - v_found;
    exit when v_left <= 0;
  end loop;
end $$;
comment on function retention_candidates(text, integer) is 'Up to so many runs that the policies would delete now, oldest first (of one tenant, or null: of all).';

create or replace function delete_runs(p_run_ids uuid[]) returns bigint
language plpgsql as $$
declare
  v_ids     uuid[];
  v_lowest  uuid;
  v_deleted bigint;
begin
  v_lowest := lowest_id(p_run_ids);
  -- Looked at again under the lock: somebody may have retried one.
  v_ids := array(
    select r.id from run r
    where r.id = any (p_run_ids) and r.id >= v_lowest and r.state in ('completed', 'failed', 'cancelled')
    order by r.id for update skip locked);
  delete from attempt x where x.run_id = any (v_ids) and x.run_id >= v_lowest;
  delete from checkpoint x where x.run_id = any (v_ids) and x.run_id >= v_lowest;
  delete from event x where x.run_id = any (v_ids) and x.run_id >= v_lowest;
  delete from fan_out x where x.run_id = any (v_ids) and x.run_id >= v_lowest;
  delete from step x where x.run_id = any (v_ids) and x.run_id >= v_lowest;
  delete from dead_letter x where x.run_id = any (v_ids);
  delete from deadline x where x.run_id = any (v_ids);
  delete from progress x where x.run_id = any (v_ids);
  delete from signal x where x.run_id = any (v_ids);
  delete from start_key x where x.run_id = any (v_ids) and (x.until is null or x.until <= clock());
  delete from run x where x.id = any (v_ids) and x.id >= v_lowest;
  get diagnostics v_deleted = row_count;
  return v_deleted;
end $$;
comment on function delete_runs(uuid[]) is 'Deletes ended runs with all that belongs to them; live ones, and those that somebody is at, stay. Returns how many.';

create or replace function run_retention(p_tenant text default null, p_limit integer default 1000) returns bigint
language sql as $$
  select delete_runs(array(select c.run_id from retention_candidates(p_tenant, p_limit) c))
$$;
comment on function run_retention(text, integer) is 'Deletes up to so many runs by the policies; call it again while it returns more than 0. For pg_cron: select longhaul.run_retention().';

create or replace function retention_plan(p_tenant text default null)
returns table (policy text, runs bigint, oldest timestamptz, newest timestamptz)
language sql stable as $$
  select c.policy, count(*), min(r.ended_at), max(r.ended_at)
  from retention_candidates(p_tenant, 10000000) c join run r on r.id = c.run_id group by c.policy order by c.policy
$$;
comment on function retention_plan(text) is 'What the policies would delete now.';

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

create or replace function retention_stats(p_tenant text default null)
returns table (kind text, total bigint, last_24h bigint, last_7d bigint, last_30d bigint, older bigint, oldest timestamptz, newest timestamptz)
language sql stable as $$
  with thing as (
    select 'runs' as kind, r.created_at as at from run r where p_tenant is null or r.tenant = p_tenant
    union all
    select 'signals', s.sent_at from signal s where p_tenant is null or s.tenant = p_tenant
  )
  select k.kind, count(t.at), count(*) filter (where t.at > clock() - interval '24 hours'),
    count(*) filter (where t.at > clock() - interval '7 days'), count(*) filter (where t.at > clock() - interval '30 days'),
    count(*) filter (where t.at <= clock() - interval '30 days'), min(t.at), max(t.at)
  from (values ('runs'), ('signals')) k(kind) left join thing t on t.kind = k.kind group by k.kind order by k.kind
$$;
comment on function retention_stats(text) is 'How many runs and signals there are, by age.';

create or replace function put_retention_policy(p_tenant text, p_name text, p_age interval, p_state text default null, p_flow text default null, p_keep_last integer default 0) returns void
language plpgsql as $$
begin
  if not coalesce(valid_label(p_name), false) or p_age is null or p_age < interval '0' or p_keep_last < 0 or p_state not in ('completed', 'failed', 'cancelled') then
    raise exception using errcode = 'LH001',
      message = 'a policy has a name of letters, digits, ., _ and -, an age, a final state (completed, failed, cancelled) or none, and keeps 0 or more runs';
  end if;
  insert into retention_policy (tenant, name, state, flow, age, keep_last) values (p_tenant, p_name, p_state::run_state, p_flow, p_age, coalesce(p_keep_last, 0))
  on conflict (tenant, name) do update set state = excluded.state, flow = excluded.flow, age = excluded.age, keep_last = excluded.keep_last;
end $$;
comment on function put_retention_policy(text, text, interval, text, text, integer) is 'Makes or changes a policy.';

create or replace function delete_retention_policy(p_tenant text, p_name text) returns void
language plpgsql as $$
begin
  delete from retention_policy p where p.tenant = p_tenant and p.name = p_name;
  if not found then
    raise exception using errcode = 'LH002', message = format('there is no policy %s for tenant %s', p_name, p_tenant);
  end if;
end $$;
comment on function delete_retention_policy(text, text) is 'Deletes a policy.';

create or replace function droppable(p_partition regclass) returns boolean
language plpgsql stable as $$
-- Whether no run of a partition is alive, younger than its tenant's policy for all runs, or wanted by a notice. Empty ones are.
declare
  v_wanted boolean;
begin
  execute format($query$
    with policy as materialized (
      select p.tenant, clock() - min(p.age) as before from retention_policy p
      where p.state is null and p.flow is null and p.keep_last = 0 group by p.tenant
    )
    select exists (
      select from %1$s r left join policy p on p.tenant = r.tenant
      where r.state not in ('completed', 'failed', 'cancelled') or p.before is null or r.ended_at >= p.before)
    or exists (select from notice n join %1$s r on r.id in (n.child_id, n.run_id))$query$, p_partition) into v_wanted;
  return not v_wanted;
end $$;
comment on function droppable(regclass) is 'Whether the policies want nothing of a partition of run any more.';

create or replace function drop_partitions() returns bigint
language plpgsql as $$
-- Of the past only. The partition of run is locked against changes while it is looked through; nobody writes there but who
-- retries an old run. The drop itself takes milliseconds, and gives up when it would have to wait for somebody.
declare
  v_suffix  text;
  v_table   text;
  v_from    uuid;
  v_to      uuid;
  v_dropped bigint := 0;
begin
  for v_suffix in
    select substr(c.relname, 5) from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'run'::regclass and c.relname ~ '^run_[0-9]{8}$'
      and to_date(substr(c.relname, 5), 'YYYYMMDD') < current_date - (2 * setting_value('partition_days'))::int
    order by 1
  loop
    continue when not droppable(format('run_%s', v_suffix)::regclass);
    perform set_config('lock_timeout', '500ms', true);
    execute format('lock table %I in share row exclusive mode', 'run_' || v_suffix);
    continue when not droppable(format('run_%s', v_suffix)::regclass);
    -- What belongs to its runs elsewhere.
    execute format('select (select id from %1$I order by id limit 1), (select id from %1$I order by id desc limit 1)', 'run_' || v_suffix)
      into v_from, v_to;
    delete from dead_letter x where x.run_id between v_from and v_to;
    delete from deadline x where x.run_id between v_from and v_to;
    delete from progress x where x.run_id between v_from and v_to;
    delete from signal x where x.run_id between v_from and v_to;
    delete from start_key x where x.run_id between v_from and v_to and (x.until is null or x.until <= clock());
    foreach v_table in array history_tables() loop
      execute format('drop table if exists %I', format('%s_%s', v_table, v_suffix));
    end loop;
    v_dropped := v_dropped + 1;
  end loop;
  return v_dropped;
end $$;
comment on function drop_partitions() is
  'Chore: drops partitions of the past of whose runs the policies want none any more, instead of deleting them one by one. Returns how many.';

create or replace function retention() returns bigint
language sql as $$ select run_retention(null, 1000) $$;
comment on function retention() is 'Chore: deletes up to 1000 runs by the policies.';

select define_chore('retention', 60000, 'Deletes ended runs by the policies in retention_policy.');
select define_chore('drop_partitions', 600000, 'Drops partitions of the past that nobody wants any more.');
