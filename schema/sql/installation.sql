-- Last of all: whom this schema serves, and what every function of it gets.

create or replace function serves_from() returns integer
language sql immutable as $$ select 5 $$;
comment on function serves_from() is
  'The oldest schema version whose programs find all their calls here: while a fleet is upgraded, they go on beside the new ones.';

-- Only ours: whatever else is in the schema is left as it is.
-- search_path (all but immutable ones, which read no table): names mean this installation's tables, whoever calls and whatever their own path is.
-- standard_conforming_strings where a text has a backslash: a function's texts are read anew by each session, by that session's rule.
-- All but the few that handle whole tables or documents keep their plans besides: with generic plans that only know nested
-- loops over indexes, there is nothing that missing, stale or fresh statistics could flip.
do $$
declare
  v_function regprocedure;
  v_name     text;
  v_schema   text := current_schema();
  v_cold     constant text[] := array[
    'broadcast_signal', 'deploy', 'drop_partition', 'drop_partitions', 'droppable', 'flow_difference', 'make_partition', 'make_partitions', 'store_steps', 'wanted_run', 'why'];
  -- These join long lists, of which no statistics know: by loops, each entry would be compared with each.
  v_lists    constant text[] := array['let_in'];
  -- The planner takes these into the statements that ask, which it does not with functions that have settings. What they name was
  -- settled when they were made.
  v_inlined  constant text[] := array['new_run_id'];
begin
  for v_function in
    select p.oid::regprocedure from pg_proc p
    where p.pronamespace = v_schema::regnamespace
      and 'function ' || p.proname || '(' || oidvectortypes(p.proargtypes) || ')' = any (installed_objects())
      and position(chr(92) in p.prosrc) > 0
  loop
    execute format('alter function %s set standard_conforming_strings = on', v_function);
  end loop;
  for v_function, v_name in
    select p.oid::regprocedure, p.proname from pg_proc p
    where p.pronamespace = v_schema::regnamespace
      and 'function ' || p.proname || '(' || oidvectortypes(p.proargtypes) || ')' = any (installed_objects()) and p.provolatile <> 'i'
      and p.proname <> all (v_inlined)
  loop
    execute format('alter function %s set search_path = %I, pg_catalog, pg_temp', v_function, v_schema);
    if v_name <> all (v_cold) and (select p.prolang <> (select oid from pg_language where lanname = 'sql')
        from pg_proc p where p.oid = v_function) then
      execute format('alter function %s set plan_cache_mode = force_generic_plan', v_function);
      execute format('alter function %s set %I = off', v_function, case when v_name = any (v_lists) then 'enable_nestloop' else 'enable_hashjoin' end);
      execute format('alter function %s set enable_mergejoin = off', v_function);
      execute format('alter function %s set enable_seqscan = off', v_function);
      execute format('alter function %s set enable_material = off', v_function);
      execute format('alter function %s set enable_bitmapscan = off', v_function);
      execute format('alter function %s set jit = off', v_function);
    end if;
  end loop;
end $$;
