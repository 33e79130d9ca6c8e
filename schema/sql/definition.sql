-- The definitions of flows: each part is checked, with its place in the error, and filled in with its defaults.

create or replace function valid_handler_name(p_name text) returns boolean
language sql immutable as $$
  select p_name ~ '^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){0,9}$' and length(p_name) <= 200
$$;
comment on function valid_handler_name(text) is
  'Letters, digits, _ and -, in at most 10 parts joined by single dots, at most 200 characters.';

create or replace function valid_label(p_name text) returns boolean
language sql immutable as $$
  select p_name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$'
$$;
comment on function valid_label(text) is
  'Names of flows, steps, queues and tenants: letters, digits, ., _ and -, starting with a letter or digit, at most 100 characters.';

create or replace function duration_ms(p_text text, p_place text) returns bigint
language plpgsql immutable strict as $$
declare
  v_part text[] := regexp_match(p_text, '^([0-9]{1,12})(ms|s|m|h|d)$');
  v_ms   bigint;
begin
  if v_part is null then
    raise exception using errcode = 'LH001',
      message = format('%s: %L is not a duration; write a whole number and a unit (ms, s, m, h, d), as in "90s"', p_place, p_text);
  end if;
  v_ms := v_part[1]::bigint * case v_part[2] when 'ms' then 1 when 's' then 1000 when 'm' then 60000 when 'h' then 3600000 else 86400000 end;
  if v_ms > 864000000000 then
    raise exception using errcode = 'LH001', message = format('%s: %L is longer than 10000 days', p_place, p_text);
  end if;
  return v_ms;
end $$;
comment on function duration_ms(text, text) is 'Milliseconds of a duration such as 90s, at most 10000 days; the place is named when it is malformed.';

create or replace function refuse_unknown_keys(p_object jsonb, p_known text[], p_place text) returns void
language plpgsql immutable as $$
declare
  v_key text;
begin
  if jsonb_typeof(p_object) is distinct from 'object' then
    raise exception using errcode = 'LH001', message = format('%s must be an object', p_place);
  end if;
  select k into v_key from jsonb_object_keys(p_object) k where k <> all (p_known) order by k limit 1;
  if found then
    raise exception using errcode = 'LH001', message = format('%s has an unknown key %L', p_place, v_key);
  end if;
end $$;
comment on function refuse_unknown_keys(jsonb, text[], text) is 'Raises an error that names the place and the first key that is not known.';

create or replace function list_of_texts(p_list jsonb, p_place text) returns jsonb
language plpgsql immutable as $$
begin
  if jsonb_typeof(p_list) is distinct from 'array' or exists (select from jsonb_array_elements(p_list) a where jsonb_typeof(a) <> 'string') then
    raise exception using errcode = 'LH001', message = format('%s must be a list of texts', p_place);
  end if;
  return p_list;
end $$;
comment on function list_of_texts(jsonb, text) is 'The list, or an error that names the place.';

create or replace function normal_retry(p_retry jsonb, p_place text) returns jsonb
language plpgsql immutable as $$
declare
  v_attempts numeric := coalesce((p_retry ->> 'attempts')::numeric, 5);
  v_factor   numeric := coalesce((p_retry ->> 'factor')::numeric, 2);
  v_jitter   numeric := coalesce((p_retry ->> 'jitter')::numeric, 0.2);
begin
  perform refuse_unknown_keys(p_retry, array['attempts', 'backoff', 'factor', 'cap', 'jitter', 'never_on'], p_place);
  if v_attempts not between 1 and 30000 or v_attempts <> trunc(v_attempts) then
    raise exception using errcode = 'LH001', message = format('%s: attempts must be a whole number from 1 to 30000, not %s', p_place, v_attempts);
  end if;
  if v_factor not between 1 and 100 then
    raise exception using errcode = 'LH001', message = format('%s: factor must be from 1 to 100, not %s', p_place, v_factor);
  end if;
  if v_jitter not between 0 and 1 then
    raise exception using errcode = 'LH001', message = format('%s: jitter must be from 0 to 1, not %s', p_place, v_jitter);
  end if;
  return jsonb_build_object(
    'attempts', v_attempts::int,
    'backoff_ms', duration_ms(coalesce(p_retry ->> 'backoff', '1s'), p_place || '.backoff'),
    'factor', v_factor,
    'cap_ms', duration_ms(coalesce(p_retry ->> 'cap', '1h'), p_place || '.cap'),
    'jitter', v_jitter)
    || case when p_retry ? 'never_on' then jsonb_build_object('never_on', list_of_texts(p_retry -> 'never_on', p_place || '.never_on')) else '{}' end;
exception when invalid_text_representation or numeric_value_out_of_range then
  raise exception using errcode = 'LH001', message = format('%s: attempts, factor and jitter must be numbers', p_place);
end $$;
comment on function normal_retry(jsonb, text) is 'A retry policy with its defaults filled in: 5 attempts, 1s, doubling, up to 1h, jitter of a fifth.';

create or replace function boolean_of(p_value jsonb, p_default boolean, p_place text) returns boolean
language plpgsql immutable as $$
begin
  if p_value is null then
    return p_default;
  end if;
  if jsonb_typeof(p_value) <> 'boolean' then
    raise exception using errcode = 'LH001', message = format('%s must be true or false, not %s', p_place, p_value);
  end if;
  return p_value::boolean;
end $$;
comment on function boolean_of(jsonb, boolean, text) is 'A boolean or its default; an error that names the place when it is something else.';

create or replace function integer_of(p_value jsonb, p_default integer, p_least integer, p_most integer, p_place text) returns integer
language plpgsql immutable as $$
begin
  if p_value is null then
    return p_default;
  end if;
  if jsonb_typeof(p_value) <> 'number' or p_value::numeric <> trunc(p_value::numeric) or p_value::numeric not between p_least and p_most then
    raise exception using errcode = 'LH001', message = format('%s must be a whole number from %s to %s, not %s', p_place, p_least, p_most, p_value);
  end if;
  return p_value::integer;
end $$;
comment on function integer_of(jsonb, integer, integer, integer, text) is 'A whole number or its default; an error that names the place when it is something else or out of bounds.';

create or replace function text_of(p_value jsonb, p_place text) returns text
language plpgsql immutable as $$
begin
  if p_value is not null and (jsonb_typeof(p_value) <> 'string' or p_value #>> '{}' = '') then
    raise exception using errcode = 'LH001', message = format('%s must be a text, not %s', p_place, p_value);
  end if;
  return p_value #>> '{}';
end $$;
comment on function text_of(jsonb, text) is 'A text that is not empty, or null; an error that names the place when it is something else.';

create or replace function duration_of(p_value jsonb, p_place text) returns bigint
language sql immutable as $$ select duration_ms(text_of(p_value, p_place), p_place) $$;
comment on function duration_of(jsonb, text) is 'Milliseconds of a duration, or null.';

create or replace function timeout_of(p_value jsonb, p_place text) returns bigint
language plpgsql immutable as $$
declare
  v_ms bigint := duration_of(p_value, p_place);
begin
  if v_ms < 1 then
    raise exception using errcode = 'LH001', message = format('%s must be longer than 0; without a timeout there is no limit', p_place);
  end if;
  return v_ms;
end $$;
comment on function timeout_of(jsonb, text) is 'Milliseconds of a timeout, or null; an error that names the place when nothing could end within it.';

create or replace function refuse_bad_path(p_path text, p_place text) returns void
language plpgsql immutable as $body$
declare
  v_path text;
begin
  begin
    v_path := p_path::jsonpath;
  exception when others then
    raise exception using errcode = 'LH001', message = format('%s: %L is not a path: %s', p_place, p_path, sqlerrm);
  end;
  -- Written out, a variable is $"name"; texts and names of members are quoted as well.
  if regexp_replace(v_path, '([^$])"([^"\\]|\\.)*"', '\1', 'g') like '%$"%' then
    raise exception using errcode = 'LH001', message = format(
      '%s: %L names a variable, and there are none: a path begins with $.input, $.run, $.steps or $.states, or in a fan-out with $.item or $.index', p_place, p_path);
  end if;
end $body$;
comment on function refuse_bad_path(text, text) is 'Raises an error that names the place when a text is no SQL/JSON path, or one with variables.';

create or replace function paths_in(p_template jsonb) returns setof text
language sql immutable strict as $body$
  select v #>> '{}' from jsonb_path_query(p_template, 'strict $.**') v
  where jsonb_typeof(v) = 'string' and v #>> '{}' like '$%' and v #>> '{}' not like '$$%'
$body$;
comment on function paths_in(jsonb) is 'The paths in a template.';

create or replace function refuse_bad_template(p_template jsonb, p_place text) returns void
language sql immutable strict as $$ select refuse_bad_path(p, p_place) from paths_in(p_template) p $$;
comment on function refuse_bad_template(jsonb, text) is 'Raises an error that names the place when one of a template''s paths is malformed.';

create or replace function steps_read(p_paths text[]) returns text[]
language sql immutable as $$
  select coalesce(array_agg(distinct coalesce(m[1], m[2])), '{}')
  from unnest(p_paths) p cross join lateral regexp_matches(p, '\$\.(?:steps|states)\.(?:"([^"\\]+)"|([A-Za-z_][A-Za-z0-9_]*))', 'g') m
$$;
comment on function steps_read(text[]) is 'The names of the steps that paths look at.';

create or replace function normal_wait(p_wait jsonb, p_place text) returns jsonb
language plpgsql immutable as $$
declare
  v_wait jsonb := case when jsonb_typeof(p_wait) = 'string' then jsonb_build_object('topic', p_wait) else p_wait end;
  v_end  text;
begin
  perform refuse_unknown_keys(v_wait, array['topic', 'key', 'timeout', 'on_timeout'], p_place);
  if text_of(v_wait -> 'topic', p_place || '.topic') is null then
    raise exception using errcode = 'LH001', message = format('%s: a topic is needed', p_place);
  end if;
  v_end := coalesce(text_of(v_wait -> 'on_timeout', p_place || '.on_timeout'), 'fail');
  if v_end not in ('fail', 'continue') then
    raise exception using errcode = 'LH001', message = format('%s.on_timeout is fail or continue, not %L', p_place, v_end);
  end if;
  perform refuse_bad_template(v_wait -> 'key', p_place || '.key');
  return jsonb_strip_nulls(jsonb_build_object('topic', v_wait -> 'topic', 'key', v_wait -> 'key',
    'timeout_ms', duration_of(v_wait -> 'timeout', p_place || '.timeout'), 'on_timeout', v_end));
end $$;
comment on function normal_wait(jsonb, text) is 'What a step waits for, checked and with its defaults filled in.';

create or replace function normal_approval(p_approval jsonb, p_step text, p_place text) returns jsonb
language plpgsql immutable as $$
declare
  v_approval jsonb := case when p_approval = 'true' then '{}' else p_approval end;
  v_choices  jsonb;
  v_pauses   text;
  v_default  text;
begin
  perform refuse_unknown_keys(v_approval, array['question', 'choices', 'by', 'expires', 'default', 'pauses'], p_place);
  v_choices := list_of_texts(coalesce(v_approval -> 'choices', '["approve", "reject"]'), p_place || '.choices');
  if jsonb_array_length(v_choices) = 0 then
    raise exception using errcode = 'LH001', message = format('%s.choices is empty', p_place);
  end if;
  if v_approval ? 'by' and jsonb_array_length(list_of_texts(v_approval -> 'by', p_place || '.by')) = 0 then
    raise exception using errcode = 'LH001', message = format('%s.by is empty, so that nobody could decide; leave it out to let everybody', p_place);
  end if;
  v_pauses := coalesce(text_of(v_approval -> 'pauses', p_place || '.pauses'), 'run');
  if v_pauses not in ('run', 'step') then
    raise exception using errcode = 'LH001', message = format('%s.pauses is run or step, not %L', p_place, v_pauses);
  end if;
  v_default := text_of(v_approval -> 'default', p_place || '.default');
  if v_default is not null and not v_choices ? v_default then
    raise exception using errcode = 'LH001', message = format('%s.default %L is not among the choices %s', p_place, v_default, v_choices);
  end if;
  return jsonb_strip_nulls(jsonb_build_object(
    'question', coalesce(text_of(v_approval -> 'question', p_place || '.question'), format('May step %s begin?', p_step)),
    'choices', v_choices, 'by', case when v_approval ? 'by' then list_of_texts(v_approval -> 'by', p_place || '.by') end,
    'expires_ms', duration_of(v_approval -> 'expires', p_place || '.expires'), 'default', v_default, 'pauses', v_pauses));
end $$;
comment on function normal_approval(jsonb, text, text) is 'The approval that a step needs, checked and with its defaults filled in.';

create or replace function normal_budget(p_budget jsonb, p_place text) returns jsonb
language plpgsql immutable as $$
declare
  v_exceeded text;
  v_per      bigint;
begin
  perform refuse_unknown_keys(p_budget, array['name', 'limit', 'per', 'amount', 'exceeded'], p_place);
  if not coalesce(valid_label(text_of(p_budget -> 'name', p_place || '.name')), false) then
    raise exception using errcode = 'LH001', message = format('%s: a name of letters, digits, ., _ and - is needed', p_place);
  end if;
  if jsonb_typeof(p_budget -> 'limit') is distinct from 'number' or (p_budget -> 'limit')::numeric <= 0 then
    raise exception using errcode = 'LH001', message = format('%s.limit must be a number above 0', p_place);
  end if;
  v_per := duration_of(p_budget -> 'per', p_place || '.per');
  if coalesce(v_per, 0) < 1000 then
    raise exception using errcode = 'LH001', message = format('%s.per must be a duration of at least 1s', p_place);
  end if;
  v_exceeded := coalesce(text_of(p_budget -> 'exceeded', p_place || '.exceeded'), 'defer');
  if v_exceeded not in ('defer', 'ask', 'fail') then
    raise exception using errcode = 'LH001', message = format('%s.exceeded is defer, ask or fail, not %L', p_place, v_exceeded);
  end if;
  perform refuse_bad_template(p_budget -> 'amount', p_place || '.amount');
  return jsonb_strip_nulls(jsonb_build_object('name', p_budget -> 'name', 'limit', p_budget -> 'limit', 'per_ms', v_per,
    'amount', p_budget -> 'amount', 'exceeded', v_exceeded));
end $$;
comment on function normal_budget(jsonb, text) is 'A budget, checked and with its defaults filled in.';

create or replace function normal_concurrency(p_limit jsonb, p_step text, p_place text) returns jsonb
language plpgsql immutable as $$
declare
  v_limit integer;
begin
  perform refuse_unknown_keys(p_limit, array['name', 'key', 'limit'], p_place);
  v_limit := integer_of(p_limit -> 'limit', 1, 1, 1000000, p_place || '.limit');
  perform refuse_bad_template(p_limit -> 'key', p_place || '.key');
  if length(p_limit ->> 'name') > 200 then
    raise exception using errcode = 'LH001', message = format('%s.name has more than 200 characters', p_place);
  end if;
  return jsonb_strip_nulls(jsonb_build_object('name', coalesce(text_of(p_limit -> 'name', p_place || '.name'), p_step), 'key', p_limit -> 'key', 'limit', v_limit));
end $$;
comment on function normal_concurrency(jsonb, text, text) is 'A bounded concurrency, checked and with its defaults filled in: one at a time, under the name of its handler.';

create or replace function normal_fair(p_fair jsonb, p_place text) returns jsonb
language plpgsql immutable as $$
begin
  perform refuse_unknown_keys(p_fair, array['key', 'weight'], p_place);
  if not p_fair ? 'key' then
    raise exception using errcode = 'LH001', message = format('%s: a key is needed', p_place);
  end if;
  perform refuse_bad_template(p_fair -> 'key', p_place || '.key');
  if p_fair ? 'weight' and (jsonb_typeof(p_fair -> 'weight') <> 'number' or (p_fair -> 'weight')::numeric not between 0.001 and 1000) then
    raise exception using errcode = 'LH001', message = format('%s.weight must be a number from 0.001 to 1000', p_place);
  end if;
  return jsonb_build_object('key', p_fair -> 'key', 'weight', coalesce(p_fair -> 'weight', '1'));
end $$;
comment on function normal_fair(jsonb, text) is 'Fair turns, checked and with their default weight filled in.';

create or replace function refuse_misfits(p_step jsonb, p_place text) returns void
language plpgsql immutable as $$
-- Settings that say nothing about a step of this kind would be silently ignored: they are refused instead.
declare
  v_kind text[] := array(select k from unnest(array['handler', 'flow', 'sleep', 'wait_signal']) k where p_step ? k);
  v_only jsonb := '{"retry": ["handler"], "timeout": ["handler"], "queue": ["handler"], "concurrency": ["handler"], "fair": ["handler"], "with": ["handler"], "compensate": ["handler", "flow"],
                    "detached": ["flow"], "flow_version": ["flow"], "for_each": ["handler", "flow"], "input": ["handler", "flow"]}';
  v_key  text;
begin
  if cardinality(v_kind) <> 1 then
    raise exception using errcode = 'LH001', message = format('%s: one of handler, flow, sleep and wait_signal is needed%s', p_place,
      case when cardinality(v_kind) > 1 then ', not ' || array_to_string(v_kind, ' and ') else '' end);
  end if;
  for v_key in select k from jsonb_object_keys(p_step) k order by k loop
    if v_only ? v_key and not v_only -> v_key ? v_kind[1] then
      raise exception using errcode = 'LH001', message = format('%s: %s has no meaning for a step that is a %s', p_place, v_key, v_kind[1]);
    end if;
  end loop;
  if p_step ? 'window' and not p_step ? 'for_each' then
    raise exception using errcode = 'LH001', message = format('%s: window has no meaning without for_each', p_place);
  end if;
end $$;
comment on function refuse_misfits(jsonb, text) is 'Raises an error unless a step is of one kind, with settings that belong to it.';

create or replace function normal_step(p_step jsonb, p_index integer) returns jsonb
language plpgsql immutable as $$
-- What a definition does not say is left out (but for the keys that every step has), so that a definition that was
-- deployed before a setting existed is still equal to itself.
declare
  v_name    text := p_step ->> 'name';
  v_place   text := format('step %s', coalesce(quote_literal(v_name), 'number ' || p_index));
  v_failure text;
  v_kind    jsonb;
begin
  perform refuse_unknown_keys(
    p_step, array['name', 'phase', 'handler', 'flow', 'flow_version', 'detached', 'sleep', 'wait_signal', 'after', 'when', 'input', 'for_each', 'window',
                  'queue', 'priority', 'timeout', 'retry', 'with', 'on_failure', 'compensate', 'approval', 'budget', 'concurrency', 'fair'], v_place);
  if v_name is null or jsonb_typeof(p_step -> 'name') <> 'string' or not valid_label(v_name) then
    raise exception using errcode = 'LH001',
      message = format('%s: a name of letters, digits, ., _ and - (at most 100) is needed', v_place);
  end if;
  perform refuse_misfits(p_step, v_place);
  if p_step ? 'handler' and not coalesce(valid_handler_name(p_step ->> 'handler'), false) then
    raise exception using errcode = 'LH001',
      message = format('%s: %s is not a handler name; it has letters, digits, _ and -, in at most 10 parts joined by dots',
                       v_place, coalesce(quote_literal(p_step ->> 'handler'), 'nothing'));
  end if;
  if p_step ? 'compensate' and not coalesce(valid_handler_name(p_step ->> 'compensate'), false) then
    raise exception using errcode = 'LH001', message = format('%s: compensate: %L is not a handler name', v_place, p_step ->> 'compensate');
  end if;
  if p_step ? 'flow' and not coalesce(valid_label(p_step ->> 'flow'), false) then
    raise exception using errcode = 'LH001', message = format('%s: %L is not a flow name', v_place, p_step ->> 'flow');
  end if;
  if not valid_label(coalesce(p_step ->> 'queue', 'default')) then
    raise exception using errcode = 'LH001', message = format('%s: %L is not a queue name', v_place, p_step ->> 'queue');
  end if;
  perform list_of_texts(coalesce(p_step -> 'after', '[]'), v_place || ': after');
  if p_step ? 'with' and jsonb_typeof(p_step -> 'with') <> 'object' then
    raise exception using errcode = 'LH001', message = format('%s: with must be an object', v_place);
  end if;
  v_failure := text_of(p_step -> 'on_failure', v_place || ': on_failure');
  if v_failure not in ('fail', 'continue') then
    raise exception using errcode = 'LH001', message = format('%s: on_failure is fail or continue, not %L', v_place, v_failure);
  end if;
  perform refuse_bad_path(text_of(p_step -> 'when', v_place || ': when'), v_place || ': when');
  perform refuse_bad_path(text_of(p_step -> 'for_each', v_place || ': for_each'), v_place || ': for_each');
  perform refuse_bad_template(p_step -> 'input', v_place || ': input');

  v_kind := case
    when p_step ? 'flow' then jsonb_build_object('flow', p_step -> 'flow',
      'flow_version', integer_of(p_step -> 'flow_version', null, 1, 2147483647, v_place || ': flow_version'),
      'detached', boolean_of(p_step -> 'detached', false, v_place || ': detached'))
    when p_step ? 'sleep' then jsonb_build_object('sleep_ms', duration_of(p_step -> 'sleep', v_place || ': sleep'))
    when p_step ? 'wait_signal' then jsonb_build_object('wait_signal', normal_wait(p_step -> 'wait_signal', v_place || ': wait_signal'))
    else '{}' end;
  return jsonb_build_object(
    'name', v_name,
    'handler', p_step ->> 'handler',
    'queue', coalesce(p_step ->> 'queue', 'default'),
    'priority', integer_of(p_step -> 'priority', 0, -1000, 1000, v_place || ': priority'),
    'after', coalesce((select jsonb_agg(distinct a order by a) from jsonb_array_elements_text(p_step -> 'after') a), '[]'),
    'retry', normal_retry(coalesce(p_step -> 'retry', '{}'), v_place || '.retry'),
    'timeout_ms', timeout_of(p_step -> 'timeout', v_place || '.timeout'),
    'with', p_step -> 'with')
    || jsonb_strip_nulls(v_kind || jsonb_build_object(
    'phase', p_step -> 'phase',
    'when', p_step -> 'when',
    'for_each', p_step -> 'for_each',
    'window', case when p_step ? 'for_each' then integer_of(p_step -> 'window', 100, 1, 10000, v_place || ': window') end,
    'on_failure', nullif(v_failure, 'fail'),
    'compensate', p_step -> 'compensate',
    'approval', case when p_step ? 'approval' and p_step -> 'approval' <> 'false' then normal_approval(p_step -> 'approval', v_name, v_place || ': approval') end,
    'concurrency', case when p_step ? 'concurrency' then normal_concurrency(p_step -> 'concurrency', p_step ->> 'handler', v_place || ': concurrency') end,
    'fair', case when p_step ? 'fair' then normal_fair(p_step -> 'fair', v_place || ': fair') end,
    'budget', case when p_step ? 'budget' then normal_budget(p_step -> 'budget', v_place || ': budget') end))
    || case when p_step ? 'input' then jsonb_build_object('input', p_step -> 'input') else '{}' end;
end $$;
comment on function normal_step(jsonb, integer) is 'A step''s definition, checked and with its defaults filled in.';

create or replace function paths_of_step(p_step jsonb) returns text[]
language sql immutable as $$
  select array_remove(array[p_step ->> 'when', p_step ->> 'for_each']
    || array(select paths_in(p_step -> 'input')) || array(select paths_in(p_step -> 'wait_signal' -> 'key')) || array(select paths_in(p_step -> 'budget' -> 'amount')) || array(select paths_in(p_step -> 'concurrency' -> 'key'))
    || array(select paths_in(p_step -> 'fair' -> 'key')), null)
$$;
comment on function paths_of_step(jsonb) is 'All paths in the definition of a step.';

create or replace function steps_of_phases(p_phases jsonb) returns jsonb
language plpgsql immutable as $$
-- A phase begins when the one before has ended: its first steps wait for the last steps of that.
declare
  v_phase record;
  v_step  record;
  v_names text[];
  v_first text[];
  v_known jsonb;
  v_last  text[] := '{}';
  v_all   jsonb[] := '{}';
  v_after jsonb;
begin
  if jsonb_typeof(p_phases) is distinct from 'array' or jsonb_array_length(p_phases) = 0 then
    raise exception using errcode = 'LH001', message = 'phases must be a list of phases, each with a name and steps';
  end if;
  for v_phase in select p.phase, p.place from jsonb_array_elements(p_phases) with ordinality p(phase, place) order by p.place loop
    perform refuse_unknown_keys(v_phase.phase, array['name', 'steps'], format('phase number %s', v_phase.place));
    if not coalesce(valid_label(v_phase.phase ->> 'name'), false) then
      raise exception using errcode = 'LH001', message = format('phase number %s: a name of letters, digits, ., _ and - is needed', v_phase.place);
    end if;
    if jsonb_typeof(v_phase.phase -> 'steps') is distinct from 'array' or jsonb_array_length(v_phase.phase -> 'steps') = 0 then
      raise exception using errcode = 'LH001', message = format('phase %s: steps must be a list of at least one step', v_phase.phase ->> 'name');
    end if;
    v_names := array(select s ->> 'name' from jsonb_array_elements(v_phase.phase -> 'steps') s);
    v_known := coalesce((select jsonb_object_agg(n, true) from unnest(v_names) n where n is not null), '{}');
    v_first := v_last;
    v_last := array(
      select n from unnest(v_names) n where n not in (
        select a from jsonb_array_elements(v_phase.phase -> 'steps') s cross join lateral jsonb_array_elements_text(s -> 'after') a
        where jsonb_typeof(s -> 'after') = 'array' and a is not null));
    for v_step in select s.step from jsonb_array_elements(v_phase.phase -> 'steps') with ordinality s(step, place) order by s.place loop
      if jsonb_typeof(v_step.step) <> 'object' then
        raise exception using errcode = 'LH001', message = format('phase %s: each step must be an object', v_phase.phase ->> 'name');
      end if;
      v_after := coalesce(v_step.step -> 'after', '[]');
      if jsonb_typeof(v_after) = 'array' and not exists (select from jsonb_array_elements_text(v_after) a where v_known ? a) then
        v_after := v_after || to_jsonb(v_first);
      end if;
      v_all := v_all || (v_step.step || jsonb_build_object('phase', v_phase.phase ->> 'name', 'after', v_after));
    end loop;
  end loop;
  return to_jsonb(v_all);
end $$;
comment on function steps_of_phases(jsonb) is 'The steps of phases, with the order that the phases give them.';
