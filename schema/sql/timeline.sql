-- The record of a run, put together from what its row, its steps, its attempts, its checkpoints and its events say.

create or replace function timeline(p_run_id uuid)
returns table (at timestamptz, kind text, step text, attempt integer, actor text, detail jsonb)
language sql stable as $$
  with own as (
    select n.seq, n.name as label, s.started_at, coalesce(s.ended_at, case when o.outcome is not null then r.ended_at end) as ended_at, s.worker_id, s.attempt,
      o.outcome, s.error
    from step_names n
    join run r on r.id = n.run_id
    cross join lateral (select outcome_of(n.run_id, n.seq) as outcome offset 0) o
    left join step s on s.run_id = n.run_id and s.seq = n.seq
    where n.run_id = p_run_id
  ), entry as (
    select r.created_at as at, 0 as rank, 'created' as kind, null::text as step, null::integer as attempt, null::text as actor,
           jsonb_strip_nulls(jsonb_build_object('parent', r.parent_id, 'forked_from', r.forked_from, 'start_at', nullif(r.start_at, 'infinity'))) as detail
    from run r where r.id = p_run_id
    union all
    select a.claimed_at, 2, 'attempt began', o.label, a.attempt, 'worker ' || a.worker_id, null from attempt a join own o on o.seq = a.seq where a.run_id = p_run_id
    union all
    select a.ended_at, 3, 'attempt ' || a.outcome, o.label, a.attempt, 'worker ' || a.worker_id, a.error from attempt a join own o on o.seq = a.seq where a.run_id = p_run_id
    union all
    select o.started_at, 2, 'attempt began', o.label, o.attempt, 'worker ' || o.worker_id, null from own o
    where o.outcome = 'completed' and o.attempt is not null
    union all
    select l.claimed_at, 2, 'attempt began', o.label, l.attempt, 'worker ' || l.worker_id, null from lease l join own o on o.seq = l.seq where l.run_id = p_run_id
    union all
    select o.ended_at, 4, 'step ' || o.outcome, o.label, o.attempt, 'worker ' || o.worker_id, o.error from own o where o.outcome is not null
    union all
    select c.at, 3, 'checkpoint ' || c.kind || case c.answer when 'ok' then '' else coalesce(' ' || c.answer, ' begun') end, o.label, c.attempt, null,
           jsonb_build_object('path', c.path, 'name', c.name)
    from checkpoint c join own o on o.seq = c.seq where c.run_id = p_run_id
    union all
    select e.at, 1, e.kind, o.label, null, e.actor, e.detail from event e left join own o on o.seq = e.seq where e.run_id = p_run_id
    union all
    select r.ended_at, 5, r.state::text, null, null, null, r.error from run r where r.id = p_run_id and r.ended_at is not null
  )
  select e.at, e.kind, e.step, e.attempt, e.actor, nullif(e.detail, '{}') from entry e where e.at is not null order by e.at, e.rank, e.step, e.attempt
$$;
comment on function timeline(uuid) is 'What happened to a run, when, and by whom, in order.';

create or replace function happened_since(p_tenant text, p_flow text, p_since timestamptz, p_look integer default 500)
returns table (run_id uuid, at timestamptz, kind text, step text, attempt integer, actor text, detail jsonb)
language plpgsql stable as $$
begin
  return query
  with looked_at as materialized (
    (select r.id from run r order by r.id desc limit p_look)
    union
    (select l.run_id from lease l limit p_look)
  ), touched as materialized (
    select r.id
    from looked_at i
    cross join lateral (select x.id, x.tenant, x.flow_id, x.created_at, x.ended_at from run x where x.id = i.id offset 0) r
    where r.tenant = p_tenant and (p_flow is null or r.flow_id in (select f.id from flow f where f.tenant = p_tenant and f.name = p_flow))
      and (r.created_at >= p_since or r.ended_at >= p_since
        or exists (select from lease l where l.run_id = r.id and l.claimed_at >= p_since)
        or exists (select from event e where e.run_id = r.id and e.at >= p_since)
        or exists (select from step s where s.run_id = r.id and s.ended_at >= p_since)
        or exists (select from attempt a where a.run_id = r.id and a.ended_at >= p_since))
  )
  select i.id, t.at, t.kind, t.step, t.attempt, t.actor, t.detail
  from touched i cross join lateral timeline(i.id) with ordinality t(at, kind, step, attempt, actor, detail, place)
  where t.at >= p_since
  order by t.at, i.id, t.place;
end $$;
comment on function happened_since(text, text, timestamptz, integer) is
  'What has happened since a time to the newest p_look runs, and to p_look of those that have steps in flight: what longhaul tail shows.';
