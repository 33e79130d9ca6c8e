-- Expressions of flows: SQL/JSON paths (ISO/IEC 9075-2:2016), which PostgreSQL evaluates itself, over
--   {"input": the run's input, "run": {id, name, metadata}, "steps": {name: output}, "states": {name: state}}
-- and, within a fan-out, "item" and "index".

create or replace function step_output(p_run_id uuid, p_seq integer) returns jsonb
language plpgsql stable as $$
declare
  v_fan    fan_out;
  v_output jsonb;
begin
  select s.output into v_output from step s where s.run_id = p_run_id and s.seq = p_seq;
  if v_output is null then
    select f.* into v_fan from fan_out f where f.run_id = p_run_id and f.seq = p_seq;
    if found and v_fan.ended = v_fan.total then
      select coalesce(jsonb_agg(s.output order by s.seq), '[]') into v_output
      from step s where s.run_id = p_run_id and s.seq >= v_fan.first_seq and s.seq < v_fan.first_seq + v_fan.total;
    end if;
  end if;
  return v_output;
end $$;
comment on function step_output(uuid, integer) is
  'The output of a step; of a fan-out, the list of its items'' outputs in the order of the items (null for those that failed).';

create or replace function item_outputs(p_run_id uuid, p_seq integer, p_from integer, p_limit integer)
returns table (index integer, outcome step_state, output jsonb, error jsonb)
language sql stable as $$
  select i.index, s.outcome, s.output, s.error
  from fan_out f
  cross join lateral generate_series(p_from, least(f.opened, p_from + p_limit) - 1) i(index)
  left join step s on s.run_id = f.run_id and s.seq = f.first_seq + i.index
  where f.run_id = p_run_id and f.seq = p_seq
  order by i.index
$$;
comment on function item_outputs(uuid, integer, integer, integer) is 'A page of what the items of a fan-out gave.';

create or replace function step_context(p_run run, p_flow_step flow_step) returns jsonb
language sql stable as $$
  select jsonb_build_object(
    'input', p_run.input,
    'run', jsonb_build_object('id', p_run.id, 'name', p_run.name, 'metadata', p_run.metadata),
    'steps', coalesce(jsonb_object_agg(f.name, step_output(p_run.id, n.seq)) filter (where f.name is not null), '{}'),
    'states', coalesce(jsonb_object_agg(f.name, s.outcome) filter (where f.name is not null), '{}'))
  from unnest(p_flow_step.reads) n(seq)
  join flow_step f on f.flow_id = p_run.flow_id and f.seq = n.seq
  left join step s on s.run_id = p_run.id and s.seq = n.seq
$$;
comment on function step_context(run, flow_step) is 'What the expressions of a step look at.';

create or replace function path_value(p_path text, p_context jsonb) returns jsonb
language plpgsql immutable as $$
begin
  -- A path that can find several values gives the list of them.
  return case when p_path ~ '[*?]' then jsonb_path_query_array(p_context, p_path::jsonpath, '{}', true)
              else jsonb_path_query_first(p_context, p_path::jsonpath, '{}', true) end;
end $$;
comment on function path_value(text, jsonb) is 'What a path finds: a value (null when there is none); a list when the path has * or ?.';

create or replace function filled_in(p_template jsonb, p_context jsonb) returns jsonb
language plpgsql immutable as $body$
declare
  v_text text;
begin
  case jsonb_typeof(p_template)
    when 'string' then
      v_text := p_template #>> '{}';
      return case when v_text like '$$%' then to_jsonb(substr(v_text, 2))
                  when v_text like '$%' then coalesce(path_value(v_text, p_context), 'null')
                  else p_template end;
    when 'object' then
      return coalesce((select jsonb_object_agg(e.key, filled_in(e.value, p_context)) from jsonb_each(p_template) e), '{}');
    when 'array' then
      return coalesce((select jsonb_agg(filled_in(e.value, p_context) order by e.place)
                       from jsonb_array_elements(p_template) with ordinality e(value, place)), '[]');
    else
      return p_template;
  end case;
end $body$;
comment on function filled_in(jsonb, jsonb) is
  'A template with its paths replaced by what they find. Texts that begin with $ are paths; $$ stands for a text that begins with $.';

create or replace function key_from(p_what text, p_template jsonb, p_context jsonb) returns text
language plpgsql immutable as $$
declare
  v_key text := filled_in(p_template, p_context) #>> '{}';
begin
  if length(v_key) > 500 then
    raise exception using errcode = '22001', message = format('the key of %s has %s characters, more than 500', p_what, length(v_key));
  end if;
  return v_key;
end $$;
comment on function key_from(text, jsonb, jsonb) is
  'The key that a template gives, of at most 500 characters as keys are everywhere; null when the data have none.';

create or replace function step_label(p_run_id uuid, p_name text, p_seq integer, p_def integer) returns text
language sql stable as $$
  select case when p_def is null then p_name
              else coalesce((select format('%s[%s]', p_name, p_seq - f.first_seq) from fan_out f where f.run_id = p_run_id and f.seq = p_def), p_name) end
$$;
comment on function step_label(uuid, text, integer, integer) is 'The name of a step; items of a fan-out are numbered, as in convert[17].';
