-- The order of a flow's steps. Steps are numbered from 1; edge i leads from p_from[i] to p_to[i], and edges are sorted by p_from.
-- All of it takes time in proportion to steps and edges: flows may have 20,000 and a million.

create or replace function steps_in_order(p_names text[], p_from integer[], p_to integer[]) returns integer[]
language plpgsql immutable as $$
-- Kahn (1962): take away steps without predecessors until none is left; what remains holds a cycle.
declare
  v_steps  integer := cardinality(p_names);
  v_edges  integer := coalesce(cardinality(p_from), 0);
  v_left   integer[] := array_fill(0, array[v_steps]);
  v_first  integer[] := array_fill(0, array[v_steps]);
  v_ready  integer[] := '{}';
  v_head   integer := 1;
  v_step   integer;
  v_edge   integer;
  v_path   integer[];
begin
  for i in 1 .. v_edges loop
    v_left[p_to[i]] := v_left[p_to[i]] + 1;
    if v_first[p_from[i]] = 0 then
      v_first[p_from[i]] := i;
    end if;
  end loop;
  for i in 1 .. v_steps loop
    if v_left[i] = 0 then
      v_ready := v_ready || i;
    end if;
  end loop;
  while v_head <= cardinality(v_ready) loop
    v_step := v_ready[v_head];
    v_head := v_head + 1;
    v_edge := v_first[v_step];
    while v_edge > 0 and v_edge <= v_edges and p_from[v_edge] = v_step loop
      v_left[p_to[v_edge]] := v_left[p_to[v_edge]] - 1;
      if v_left[p_to[v_edge]] = 0 then
        v_ready := v_ready || p_to[v_edge];
      end if;
      v_edge := v_edge + 1;
    end loop;
  end loop;
  if cardinality(v_ready) = v_steps then
    return v_ready;
  end if;
  -- Every step that is left has a predecessor that is left: going backwards from any of them ends in the cycle.
  for i in 1 .. v_edges loop
    if v_left[p_from[i]] > 0 and v_left[p_to[i]] > 0 then
      v_first[p_to[i]] := -p_from[i];
    end if;
  end loop;
  v_step := array_position(v_left, (select x from unnest(v_left) x where x > 0 limit 1));
  while v_left[v_step] > 0 loop
    v_left[v_step] := -1;
    v_path := v_path || v_step;
    v_step := -v_first[v_step];
  end loop;
  v_path := v_path[array_position(v_path, v_step) :] || v_step;
  raise exception using errcode = 'LH001',
    message = format('the steps wait for each other in a cycle: %s',
                     (select string_agg(p_names[s], ' -> ' order by o desc) from unnest(v_path) with ordinality p(s, o)));
end $$;
comment on function steps_in_order(text[], integer[], integer[]) is 'The steps, each behind all that it waits for; an error that names a cycle, if there is one.';

create or replace function refuse_forward_reads(p_names text[], p_readers integer[], p_reads text[], p_order integer[], p_from integer[], p_to integer[]) returns void
language plpgsql immutable set enable_nestloop = off set jit = off as $$
-- What stands above each step, as a string of bits with one for each step that is read somewhere.
declare
  v_read  record;
  v_steps integer[];
  v_reads integer[];
  v_bit   integer[];
  v_none  varbit;
  v_above varbit[];
  v_first integer[];
  v_step  integer;
  v_edge  integer;
  v_bits  varbit;
begin
  select p_names[r.step] as name, r.read into v_read
  from unnest(p_readers, p_reads) r(step, read)
  where not exists (select from unnest(p_names) n(name) where n.name = r.read)
  order by r.step limit 1;
  if found then
    raise exception using errcode = 'LH001', message = format('step %L looks at %L, which is no step of the flow', v_read.name, v_read.read);
  end if;
  -- What a step waits for itself needs no search.
  select array_agg(r.step order by r.step), array_agg(r.read order by r.step) into v_steps, v_reads
  from (
    select x.step, n.place::int as read from unnest(p_readers, p_reads) x(step, name) join unnest(p_names) with ordinality n(name, place) on n.name = x.name) r
  where not exists (select from unnest(p_from, p_to) e(step, next) where e.step = r.read and e.next = r.step);
  if v_steps is null then
    return;
  end if;

  v_bit := array_fill(null::integer, array[cardinality(p_names)]);
  v_step := 0;
  foreach v_edge in array v_reads loop
    if v_bit[v_edge] is null then
      v_bit[v_edge] := v_step;
      v_step := v_step + 1;
    end if;
  end loop;
  v_none := repeat('0', v_step)::varbit;
  v_above := array_fill(v_none, array[cardinality(p_names)]);
  v_first := array_fill(0, array[cardinality(p_names)]);
  for i in reverse coalesce(cardinality(p_from), 0) .. 1 loop
    v_first[p_from[i]] := i;
  end loop;
  foreach v_step in array p_order loop
    v_bits := v_above[v_step];
    if v_bit[v_step] is not null then
      v_bits := set_bit(v_bits, v_bit[v_step], 1);
    end if;
    v_edge := v_first[v_step];
    while v_edge > 0 and v_edge <= cardinality(p_from) and p_from[v_edge] = v_step loop
      v_above[p_to[v_edge]] := v_above[p_to[v_edge]] | v_bits;
      v_edge := v_edge + 1;
    end loop;
  end loop;
  for i in 1 .. cardinality(v_steps) loop
    if get_bit(v_above[v_steps[i]], v_bit[v_reads[i]]) = 0 then
      raise exception using errcode = 'LH001', message = format('step %L looks at step %s, which need not have ended by then; name it in after',
                                                                p_names[v_steps[i]], p_names[v_reads[i]]);
    end if;
  end loop;
end $$;
comment on function refuse_forward_reads(text[], integer[], text[], integer[], integer[], integer[]) is
  'Raises an error when an expression looks at a step that is not there, or that need not have ended by then: step p_readers[i] looks at the one named p_reads[i].';
