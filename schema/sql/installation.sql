-- Last of all: what every function of this schema gets.
--
-- search_path (all but immutable ones, which read no table): names mean this installation's tables, whoever calls and whatever their own path is.
-- The hot functions besides keep their plans: with generic plans that only know nested loops over indexes, there is
-- nothing that missing, stale or fresh statistics could flip.
do $$
declare
  v_function regprocedure;
  v_schema   text := current_schema();
  v_hot      constant text[] := array[
    'claim', 'claim_lane', 'claimed_steps', 'complete', 'end_attempts', 'end_runs', 'expire_leases', 'fire_timers',
    'forgotten_leases', 'heartbeat', 'lock_runs', 'refused_items', 'settle_attempts', 'start_runs', 'stop_run', 'unblock_successors'];
begin
  for v_function in
    select p.oid::regprocedure from pg_proc p where p.pronamespace = v_schema::regnamespace and p.prokind = 'f' and p.provolatile <> 'i'
  loop
    execute format('alter function %s set search_path = %I, pg_catalog, pg_temp', v_function, v_schema);
    if (select p.proname::text = any (v_hot) and p.prolang <> (select oid from pg_language where lanname = 'sql')
        from pg_proc p where p.oid = v_function) then
      execute format('alter function %s set plan_cache_mode = force_generic_plan', v_function);
      execute format('alter function %s set enable_hashjoin = off', v_function);
      execute format('alter function %s set enable_mergejoin = off', v_function);
      execute format('alter function %s set enable_seqscan = off', v_function);
      execute format('alter function %s set jit = off', v_function);
    end if;
  end loop;
end $$;
