-- How much history there is. Beyond 20,000 pages it is estimated from that many: the answer comes in the same time at any size.

create or replace function sampled_share(p_table regclass) returns real
language plpgsql stable as $$
declare
  v_pages bigint;
begin
  select sum(pg_relation_size(t.relid) / current_setting('block_size')::bigint) into v_pages from pg_partition_tree(p_table) t where t.isleaf;
  return least(100.0, 100.0 * 20000 / greatest(v_pages, 1));
end $$;
comment on function sampled_share(regclass) is 'The percentage of the pages of a table that 20,000 of them are.';

create or replace function retention_stats(p_tenant text default null)
returns table (kind text, total bigint, last_24h bigint, last_7d bigint, last_30d bigint, older bigint, oldest timestamptz, newest timestamptz, estimated boolean)
language plpgsql stable as $$
declare
  v_now     timestamptz := clock();
  v_day     timestamptz := v_now - interval '24 hours';
  v_week    timestamptz := v_now - interval '7 days';
  v_month   timestamptz := v_now - interval '30 days';
  v_runs    real := sampled_share('run');
  v_signals real := sampled_share('signal');
begin
  return query
  select f.kind, round(f.total * 100 / f.share)::bigint, round(f.day * 100 / f.share)::bigint, round(f.week * 100 / f.share)::bigint,
    round(f.month * 100 / f.share)::bigint, round((f.total - f.month) * 100 / f.share)::bigint, f.oldest, f.newest, f.share < 100
  from (
    select 'runs' as kind, v_runs as share, count(*) as total, count(*) filter (where r.created_at > v_day) as day,
      count(*) filter (where r.created_at > v_week) as week, count(*) filter (where r.created_at > v_month) as month,
      min(r.created_at) as oldest, max(r.created_at) as newest
    from run r tablesample system (v_runs) where p_tenant is null or r.tenant = p_tenant
    union all
    select 'signals', v_signals, count(*), count(*) filter (where s.sent_at > v_day), count(*) filter (where s.sent_at > v_week),
      count(*) filter (where s.sent_at > v_month), min(s.sent_at), max(s.sent_at)
    from signal s tablesample system (v_signals) where p_tenant is null or s.tenant = p_tenant) f
  order by f.kind;
end $$;
comment on function retention_stats(text) is
  'How many runs and signals there are, by age. Large histories are sampled: estimated says so, and oldest and newest are then those of the sample.';
