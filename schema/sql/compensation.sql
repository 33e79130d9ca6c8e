-- Compensation (a saga, Garcia-Molina and Salem 1987): when a run fails, its completed steps are undone in the reverse order
-- of their completion, one at a time. A fork undoes what it has done itself, and not what it took over. The caller holds the runs' locks.

create or replace function begin_compensation(p_run_id uuid, p_error jsonb) returns boolean
language plpgsql as $$
declare
  v_run    run;
  v_first  integer := next_dynamic_seq(p_run_id);
  v_undone step_key[];
  v_taken  integer[];
begin
  select r.* into v_run from run r join flow f on f.id = r.flow_id where r.id = p_run_id and f.compensates;
  if not found or v_run.compensating then
    return false;
  end if;
  -- What a fork took over is its source's, which stays as it is.
  v_taken := array(
    select x.seq::integer from event e cross join lateral jsonb_array_elements_text(e.detail -> 'taken') x(seq)
    where e.run_id = p_run_id and e.kind = 'forked' and e.detail ? 'taken');
  v_undone := array(
    select (s.run_id, s.seq)::step_key
    from step s join flow_step f on f.flow_id = v_run.flow_id and f.seq = coalesce(s.def, s.seq)
    where s.run_id = p_run_id and s.outcome = 'completed' and f.undo is not null and (f.each is null or s.def is not null)
      and f.seq <> all (v_taken)
    order by s.ended_at desc, s.seq desc);
  if cardinality(v_undone) = 0 then
    return false;
  end if;
  perform cancel_steps(array[p_run_id], 'the run failed');
  insert into own_step (run_id, seq, lane_id, priority, def, input)
  select s.run_id, v_first + k.place::int - 1, u.lane_id, coalesce(v_run.priority, f.priority), u.seq,
         jsonb_build_object('input', coalesce(s.input, v_run.input), 'output', s.output, 'error', p_error)
  from unnest(v_undone) with ordinality k(run_id, seq, place)
  join step s on s.run_id = k.run_id and s.seq = k.seq
  join flow_step f on f.flow_id = v_run.flow_id and f.seq = coalesce(s.def, s.seq)
  join flow_step u on u.flow_id = v_run.flow_id and u.seq = f.undo;
  -- A question that paused it is asked no more; the pause of an operator stays.
  update run r
  set compensating = true, error = p_error, open_steps = cardinality(v_undone), revision = r.revision + 1,
      state = case when r.paused_for = 'question' then 'running' else r.state end, paused_for = nullif(r.paused_for, 'question')
  where r.id = p_run_id;
  perform record_event(p_run_id, 'compensating', null, null, jsonb_build_object('error', p_error, 'steps', cardinality(v_undone)));
  perform place_step(p_run_id, v_first, ready_position());
  return true;
end $$;
comment on function begin_compensation(uuid, jsonb) is
  'Begins to undo what a failed run has completed; the run fails when that is done. False when there is nothing to undo.';

create or replace function next_compensation(p_run_id uuid, p_seq integer) returns void
language plpgsql as $$
begin
  if exists (select from own_step o where o.run_id = p_run_id and o.seq = p_seq) then
    perform place_step(p_run_id, p_seq, ready_position());
  end if;
end $$;
comment on function next_compensation(uuid, integer) is 'Makes a compensation ready, if there is one of this number.';
