-- Finding runs, the newest first, at a bounded cost: a call looks at so many runs at most, whatever the history holds, and says
-- where the next one goes on. Nothing that a run changes is indexed (its updates stay HOT), so there is no index on states or
-- names; live runs are found by the rooms instead, children by their parent, and all else by walking down the primary key.

create or replace function live_run_before(p_before uuid) returns uuid
language plpgsql stable as $$
begin
  return greatest(
    (select t.run_id from task t where t.run_id < p_before order by t.run_id desc limit 1),
    (select l.run_id from lease l where l.run_id < p_before order by l.run_id desc limit 1),
    (select i.run_id from timer i where i.run_id < p_before order by i.run_id desc limit 1),
    (select w.run_id from wait w where w.run_id < p_before order by w.run_id desc limit 1),
    (select h.run_id from held h where h.run_id < p_before order by h.run_id desc limit 1),
    (select q.run_id from queued q where q.run_id < p_before order by q.run_id desc limit 1));
end $$;
comment on function live_run_before(uuid) is 'The newest run below an id that has a step in a room: each probe is one entry of an index, however many steps the runs have.';

create or replace function runs_before(p_before uuid, p_from uuid, p_parent uuid, p_live boolean, p_limit bigint) returns uuid[]
language plpgsql stable as $$
declare
  v_ids uuid[] := '{}';
  v_id  uuid := p_before;
begin
  if p_parent is not null then
    -- By the index on parents, and not by walking down the ids until some are found.
    return array(
      select c.id from (select r.id from run r where r.parent_id = p_parent offset 0) c
      where c.id < p_before and c.id >= p_from order by c.id desc limit p_limit);
  elsif not p_live then
    return array(select r.id from run r where r.id < p_before and r.id >= p_from order by r.id desc limit p_limit);
  end if;
  while cardinality(v_ids) < p_limit loop
    v_id := live_run_before(v_id);
    exit when v_id is null or v_id < p_from;
    v_ids := v_ids || v_id;
  end loop;
  return v_ids;
end $$;
comment on function runs_before(uuid, uuid, uuid, boolean, bigint) is 'The next runs to look at, the newest first: children of a run, live ones, or all.';

create or replace function runs_of_key(p_tenant text, p_flow text, p_key text, p_before uuid, p_from uuid) returns uuid[]
language plpgsql stable as $$
begin
  return array(
    select k.run_id
    from (select distinct f.name from flow f where f.tenant = p_tenant and (p_flow is null or f.name = p_flow)) f
    join start_key k on k.tenant = p_tenant and k.flow = f.name and k.key = p_key
    where k.run_id < p_before and k.run_id >= p_from order by k.run_id desc);
end $$;
comment on function runs_of_key(text, text, text, uuid, uuid) is 'The runs that have a key of unique starts, of one flow or of all; the newest first.';

create or replace function find_runs(
  p_tenant    text default 'default',
  p_flow      text default null,
  p_version   integer default null,
  p_state     text default null,
  p_name      text default null,
  p_metadata  jsonb default null,
  p_since     timestamptz default null,
  p_until     timestamptz default null,
  p_parent    uuid default null,
  p_dismissed boolean default false,
  p_before    uuid default null,
  p_limit     bigint default 50,
  p_look      bigint default 100000,
  p_queue     text default null,
  p_key       text default null,
  p_error     text default null,
  p_from_id   uuid default null,
  p_below_id  uuid default null
) returns table (id uuid, looked_to uuid)
language plpgsql stable rows 50 as $$
declare
  v_now    timestamptz := present();
  v_from   uuid := greatest(
    case when p_since > 'epoch' then uuid_at(least(p_since, '9999-01-01')) end, p_from_id, '00000000-0000-0000-0000-000000000000');
  v_before uuid := least(
    p_before, p_below_id, case when p_until < '9999-01-01' then uuid_at(greatest(p_until, 'epoch')) end, 'ffffffff-ffff-ffff-ffff-ffffffffffff');
  v_live   boolean := coalesce(p_state in ('pending', 'running', 'paused', 'live'), false);
  v_flows  integer[];
  v_ids    uuid[];
  v_batch  bigint := case when p_parent is not null then p_look else least(greatest(p_limit, 1), 1000, p_look) end;
  v_found  bigint := 0;
  v_looked bigint := 0;
begin
  if p_flow is not null or p_version is not null or p_queue is not null then
    -- Which queues a run's steps go to is said by its flow.
    v_flows := array(
      select f.id from flow f
      where f.tenant = p_tenant and (p_flow is null or f.name = p_flow) and (p_version is null or f.version = p_version)
        and (p_queue is null or exists (
          select from flow_step s join lane l on l.id = s.lane_id join queue q on q.id = l.queue_id where s.flow_id = f.id and q.name = p_queue)));
  end if;
  while v_found < p_limit and (v_flows is null or cardinality(v_flows) > 0) loop
    if v_looked >= p_look then
      id := null;
      looked_to := v_before;
      return next;
      return;
    end if;
    v_ids := case when p_key is null then runs_before(v_before, v_from, p_parent, v_live, v_batch)
                  else runs_of_key(p_tenant, p_flow, p_key, v_before, v_from) end;
    exit when cardinality(v_ids) = 0;
    for id in
      select r.id
      from unnest(v_ids) with ordinality i(id, place)
      cross join lateral (select x.* from run x where x.id = i.id offset 0) r
      where r.tenant = p_tenant and (v_flows is null or r.flow_id = any (v_flows))
        and (p_state is null or p_state = 'live' and r.state in ('pending', 'running', 'paused') or (case when r.state = 'running' and r.start_at > v_now then 'pending' else r.state end)::text = p_state)
        and (p_name is null or r.name like p_name) and (p_metadata is null or r.metadata @> p_metadata)
        and (p_dismissed or r.dismissed_at is null) and (p_parent is null or r.parent_id = p_parent)
        and (p_error is null or strpos(lower(r.error::text), lower(p_error)) > 0)
      order by i.place limit p_limit - v_found
    loop
      v_found := v_found + 1;
      return next;
    end loop;
    v_looked := v_looked + cardinality(v_ids);
    v_before := v_ids[cardinality(v_ids)];
    v_batch := least(1000, greatest(p_look - v_looked, 1));
  end loop;
end $$;
comment on function find_runs(text, text, integer, text, text, jsonb, timestamptz, timestamptz, uuid, boolean, uuid, bigint, bigint, text, text, text, uuid, uuid) is
  'Ids of runs, the newest first: of a flow, a version, a state (or live: pending, running or paused), with a name (% stands for any text), with this in their metadata, created in a time, children of a run, with steps in a queue, with a key, with a text in their error, from an id on and below one. Looks at p_look runs at most; when it stops before the end of the history, a last row without an id says in looked_to where to go on (as p_before).';
