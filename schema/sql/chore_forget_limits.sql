-- Chores: keys of bounded concurrency, fair turns and closed windows of budgets are forgotten when nobody needs them any more. A
-- chore goes through its table bit by bit, in the order of its key, and remembers where it is: a call costs the same however many
-- keys there are, and no index is kept for it on what every step changes.

create or replace function place_of(p_chore text) returns jsonb
language plpgsql stable as $$
begin
  return (select c.place from chore_place c where c.chore = p_chore);
end $$;
comment on function place_of(text) is 'The key behind which a chore goes on; null: it begins anew.';

create or replace function set_place(p_chore text, p_place jsonb) returns void
language plpgsql as $$
begin
  if p_place is null then
    delete from chore_place c where c.chore = p_chore;
  else
    insert into chore_place as c (chore, place) values (p_chore, p_place) on conflict (chore) do update set place = excluded.place;
  end if;
end $$;
comment on function set_place(text, jsonb) is 'Remembers the key behind which a chore goes on. Tables that it goes through at once leave no row.';

create or replace function idle_gates(p_ids bigint[]) returns bigint[]
language plpgsql stable as $$
declare
  -- Few: the next claim works them off.
  v_told    bigint[] := array(select distinct c.gate_id from gate_call c);
  v_arrived bigint[] := array(select distinct q.gate_id from queued q where not q.waits);
begin
  return array(
    select g.id from unnest(p_ids) i(id)
    cross join lateral (select x.id, x.used from gate x where x.id = i.id offset 0) g
    where g.used = 0 and g.id <> all (v_told) and g.id <> all (v_arrived)
      and not exists (select from queued q where q.gate_id = g.id and q.waits));
end $$;
comment on function idle_gates(bigint[]) is 'Of these keys of bounded concurrency, those that count nothing, for which nobody waits, and which nobody is to look at.';

create or replace function forget_gates() returns bigint
language plpgsql as $$
-- A row of gate is a count, no more: the next step of its key makes it anew. So one that counts nothing can go; it is looked at
-- once more under its lock, and one that somebody is at is left alone.
declare
  v_place     bigint := coalesce((place_of('forget_gates'))::bigint, (-9223372036854775808)::bigint);
  v_batch     constant integer := 10000;
  v_ids       bigint[];
  v_forgotten bigint;
begin
  v_ids := array(select g.id from gate g where g.id > v_place order by g.id limit v_batch);
  perform set_place('forget_gates', case when cardinality(v_ids) = v_batch then to_jsonb(v_ids[v_batch]) end);
  v_ids := array(select g.id from gate g where g.id = any (idle_gates(v_ids)) order by g.id for update skip locked);
  delete from gate g where g.id = any (idle_gates(v_ids));
  get diagnostics v_forgotten = row_count;
  return v_forgotten;
end $$;
comment on function forget_gates() is 'Chore: deletes rows of gate that count nothing and for which nobody waits. Returns how many.';

create or replace function line_begins(p_lane integer, p_now bigint) returns bigint
language plpgsql stable as $$
declare
  v_first bigint := p_now;
  v_above smallint := -32768;
  v_head  record;
begin
  loop
    select h.priority, h.position into v_head from heads(array[p_lane], v_above) h;
    exit when not found;
    v_first := least(v_first, v_head.position);
    v_above := v_head.priority;
  end loop;
  return v_first;
end $$;
comment on function line_begins(integer, bigint) is 'The place of the first ready step of a lane over all priorities, or the present moment.';

create or replace function forget_shares() returns bigint
language plpgsql as $$
-- A turn behind the head of the line counts no more: the next one of its key is taken from the head (next_turn).
declare
  v_now       bigint := task_position(clock());
  v_place     jsonb := coalesce(place_of('forget_shares'), '[-1, ""]');
  v_batch     constant integer := 10000;
  v_looked    bigint;
  v_last      jsonb;
  v_forgotten bigint;
begin
  with looked as (
    select f.lane_id, f.key from fair_share f
    where (f.lane_id, f.key) > ((v_place ->> 0)::integer, v_place ->> 1) order by f.lane_id, f.key limit v_batch
  )
  select count(*), (select jsonb_build_array(l.lane_id, l.key) from looked l order by l.lane_id desc, l.key desc limit 1) into v_looked, v_last from looked;
  with line as (
    select l.lane_id, line_begins(l.lane_id, v_now) - 3600000000 as begins
    from (
      select distinct f.lane_id from fair_share f
      where (f.lane_id, f.key) > ((v_place ->> 0)::integer, v_place ->> 1) and (f.lane_id, f.key) <= ((v_last ->> 0)::integer, v_last ->> 1)) l
  )
  delete from fair_share f
  where f.ctid = any (array(
    select x.ctid from line l join fair_share x on x.lane_id = l.lane_id
    where (x.lane_id, x.key) > ((v_place ->> 0)::integer, v_place ->> 1) and (x.lane_id, x.key) <= ((v_last ->> 0)::integer, v_last ->> 1)
      and x.last < l.begins
    for update of x skip locked));
  get diagnostics v_forgotten = row_count;
  perform set_place('forget_shares', case when v_looked = v_batch then v_last end);
  return v_forgotten;
end $$;
comment on function forget_shares() is 'Chore: deletes fair turns that lie an hour behind the head of their line. Returns how many.';

create or replace function forget_budgets() returns bigint
language plpgsql as $$
-- How long a window is stands in the steps that name the budget: the longest of them counts.
declare
  v_now       timestamptz := clock();
  v_budget    record;
  v_deleted   bigint;
  v_forgotten bigint := 0;
begin
  for v_budget in
    select f.tenant, s.settings -> 'budget' ->> 'name' as name, max((s.settings -> 'budget' ->> 'per_ms')::bigint) as per_ms
    from flow_step s cross join lateral (select x.tenant from flow x where x.id = s.flow_id offset 0) f
    where s.settings ? 'budget' group by f.tenant, s.settings -> 'budget' ->> 'name'
  loop
    delete from budget b
    where b.ctid = any (array(
      select x.ctid from budget x
      where x.tenant = v_budget.tenant and x.name = v_budget.name
        and x.window_at < v_now - v_budget.per_ms * interval '1 millisecond' - interval '1 hour'
      order by x.window_at limit 10000 - v_forgotten for update skip locked));
    get diagnostics v_deleted = row_count;
    v_forgotten := v_forgotten + v_deleted;
    exit when v_forgotten >= 10000;
  end loop;
  return v_forgotten;
end $$;
comment on function forget_budgets() is 'Chore: deletes what was spent in windows that have been over for an hour. Returns how many windows.';

select define_chore('forget_gates', 60000, 'Deletes keys of bounded concurrency that nobody uses.');
select define_chore('forget_shares', 60000, 'Deletes fair turns that count no more.');
select define_chore('forget_budgets', 600000, 'Deletes what was spent in windows that are over.');
