-- What a step may wait for. Waits come from handlers in any language: what could never end, or never be stored, is refused.

create or replace function is_list_of_texts(p_list jsonb) returns boolean
language plpgsql immutable as $$
begin
  return case when jsonb_typeof(p_list) = 'array'
    then jsonb_array_length(p_list) > 0 and not exists (select from jsonb_array_elements(p_list) e where jsonb_typeof(e) <> 'string')
    else false end;
end $$;
comment on function is_list_of_texts(jsonb) is 'Whether a value is a list of texts that is not empty.';

create or replace function wrong_prompt(p_prompt jsonb) returns text
language plpgsql immutable as $$
begin
  return case
    when p_prompt is null or jsonb_typeof(p_prompt) = 'null' then null
    when jsonb_typeof(p_prompt) <> 'object' then 'a prompt is an object'
    when coalesce(jsonb_typeof(p_prompt -> 'choices'), 'null') <> 'null' and not is_list_of_texts(p_prompt -> 'choices') then
      'a question needs a list of choices, which are texts'
    when coalesce(jsonb_typeof(p_prompt -> 'by'), 'null') <> 'null' and not is_list_of_texts(p_prompt -> 'by') then
      'who may answer is a list of texts that names somebody'
    when p_prompt ->> 'default' is not null and jsonb_typeof(p_prompt -> 'choices') = 'array' and not (p_prompt -> 'choices' ? (p_prompt ->> 'default')) then
      format('%L, which counts when nobody answers, is not among the choices', p_prompt ->> 'default')
  end;
end $$;
comment on function wrong_prompt(jsonb) is 'What is wrong with a question; null when nothing is.';

create or replace function wrong_wait(p_wait jsonb) returns text
language plpgsql immutable as $$
declare
  v_kind text := p_wait ->> 'kind';
  v_ms   jsonb := p_wait -> 'wait_ms';
begin
  return case
    when jsonb_typeof(p_wait) is distinct from 'object' then 'a wait is an object'
    when v_kind is null or v_kind not in ('sleep', 'signal', 'child', 'decision', 'interrupt', 'external') then
      format('%s is not a kind of wait: it is sleep, signal, child, decision, interrupt or external', coalesce(quote_literal(v_kind), 'null'))
    when jsonb_typeof(v_ms) not in ('number', 'null') or (v_ms is not null and jsonb_typeof(v_ms) = 'number'
         and v_ms::numeric not between -864000000000 and 864000000000) then
      format('wait_ms is a number of milliseconds, at most 10000 days, not %s', left(v_ms::text, 40))
    when v_kind = 'sleep' and coalesce(jsonb_typeof(v_ms), 'null') = 'null' then 'a sleep needs wait_ms'
    when length(p_wait ->> 'path') > 500 then 'a path has at most 500 characters'
    when v_kind in ('signal', 'external') and (length(p_wait ->> 'topic') between 1 and 200) is not true then 'a topic has 1 to 200 characters'
    when v_kind = 'external' and p_wait ->> 'key' is null then 'outside work needs a key'
    when length(p_wait ->> 'key') > 500 then 'a key has at most 500 characters'
    when v_kind = 'child' and p_wait ->> 'flow' is null then 'a child needs a flow'
    when jsonb_typeof(p_wait -> 'metadata') not in ('object', 'null') then 'metadata must be an object'
    when v_kind = 'interrupt' and p_wait -> 'prompt' ->> 'pauses' <> 'run' then
      'an interrupt pauses its run, which is resumed to answer it; what pauses its step alone is a decision'
    when v_kind in ('decision', 'interrupt') then wrong_prompt(p_wait -> 'prompt')
  end;
end $$;
comment on function wrong_wait(jsonb) is 'What is wrong with something that a step wants to wait for; null when nothing is.';

create or replace function wrong_waits(p_waits jsonb) returns text
language plpgsql immutable as $$
begin
  if jsonb_typeof(p_waits) is distinct from 'array' or jsonb_array_length(p_waits) not between 1 and 10000 then
    return 'a list of what it waits for is needed';
  end if;
  if p_waits -> 0 ->> 'kind' = 'new' then
    return null;
  end if;
  return coalesce(
    (select wrong_wait(w.value) from jsonb_array_elements(p_waits) w where wrong_wait(w.value) is not null limit 1),
    (select format('two waits have the path %L', coalesce(w.value ->> 'path', '')) from jsonb_array_elements(p_waits) w
     group by coalesce(w.value ->> 'path', '') having count(*) > 1 limit 1));
end $$;
comment on function wrong_waits(jsonb) is 'What is wrong with the list of what a step waits for; null when nothing is.';
