-- What a live step is, and how it ends. Rooms: every room -> step. The caller holds the runs' locks.
--
-- A live step is known by its run and its flow. Items of fan-outs, compensations, and steps with an input or a key of their own
-- have a row in own_step beside. Nothing of a step stands in step before it has ended: in a live run that is not being undone,
-- a row there means that the step has ended, and that its successors wait for it no longer.

create or replace function live_step(p_run_id uuid, p_seq integer) returns own_step
language plpgsql stable as $$
declare
  v_step own_step;
begin
  select o.* into v_step from own_step o where o.run_id = p_run_id and o.seq = p_seq;
  if not found then
    select r.id, null, f.seq, f.lane_id, null, coalesce(r.priority, f.priority), null into v_step
    from run r join flow_step f on f.flow_id = r.flow_id and f.seq = p_seq and f.undoes is null
    where r.id = p_run_id and r.state in ('running', 'paused') and r.compensating is not true
      and not exists (select from step s where s.run_id = p_run_id and s.seq = p_seq);
  end if;
  return v_step;
end $$;
comment on function live_step(uuid, integer) is 'What is known of a step that has not ended: of its own, or by its flow. Null when there is none.';

create or replace function is_live(p_run_id uuid, p_seq integer) returns boolean
language plpgsql stable as $$
declare
  v_step own_step := live_step(p_run_id, p_seq);
begin
  return v_step.run_id is not null;
end $$;
comment on function is_live(uuid, integer) is
  'Whether a step has not ended. To be asked before a step is moved on when its run may have ended since the call began, by another item of it or by what that let go.';

create or replace function keep_own(p_step own_step) returns void
language plpgsql as $$
begin
  insert into own_step as o (run_id, gate_id, seq, lane_id, def, priority, input)
  values (p_step.run_id, p_step.gate_id, p_step.seq, p_step.lane_id, p_step.def, p_step.priority, p_step.input)
  on conflict (run_id, seq) do update set gate_id = excluded.gate_id, lane_id = excluded.lane_id, input = excluded.input;
end $$;
comment on function keep_own(own_step) is 'Keeps what a live step has of its own.';

create or replace function own_lane(p_lane integer) returns integer
language plpgsql stable as $$
begin
  return (select o.id from lane l join lane o on o.queue_id = l.queue_id and o.handler = l.handler and o.own_input where l.id = p_lane);
end $$;
comment on function own_lane(integer) is 'The lane of the same queue and handler for steps that have something of their own; null when there is none.';

create or replace function record_end(
  p_run_id uuid, p_seq integer, p_outcome step_state, p_started_at timestamptz default null, p_output jsonb default null
) returns void
language plpgsql as $$
declare
  v_own own_step;
begin
  delete from own_step o where o.run_id = p_run_id and o.seq = p_seq returning o.* into v_own;
  insert into step (run_id, started_at, ended_at, seq, def, outcome, output, input)
  values (p_run_id, p_started_at, clock(), p_seq, v_own.def, p_outcome, p_output, v_own.input);
end $$;
comment on function record_end(uuid, integer, step_state, timestamptz, jsonb) is
  'Writes the row of a step that the database does itself, or that has no attempt. It has left its room, and is still to be counted off.';

create or replace function outcome_of(p_run_id uuid, p_seq integer) returns step_state
language plpgsql stable as $$
begin
  return coalesce(
    (select s.outcome from step s where s.run_id = p_run_id and s.seq = p_seq),
    -- What was not begun when its run ended has no row.
    (select 'cancelled'::step_state from run r
     where r.id = p_run_id and (r.state in ('failed', 'cancelled') or r.compensating) and p_seq < 32768));
end $$;
comment on function outcome_of(uuid, integer) is 'How a step has ended; null while it has not.';

create or replace function def_of(p_run_id uuid, p_seq integer) returns integer
language plpgsql stable as $$
begin
  return case when p_seq >= 32768 then coalesce(
    (select o.def from own_step o where o.run_id = p_run_id and o.seq = p_seq),
    (select s.def from step s where s.run_id = p_run_id and s.seq = p_seq)) end;
end $$;
comment on function def_of(uuid, integer) is 'Number of the definition of an item or a compensation; null for the steps that the flow names.';

create or replace function block_steps(p_run_id uuid, p_flow_id integer) returns void
language plpgsql as $$
begin
  insert into blocked (run_id, seq, blockers)
  select p_run_id, f.seq, f.predecessors - d.ended
  from flow_step f
  cross join lateral (
    select count(*)::int as ended from unnest(f.predecessor_seqs) p(seq)
    cross join lateral (select from step s where s.run_id = p_run_id and s.seq = p.seq offset 0) x) d
  where f.flow_id = p_flow_id and f.undoes is null and f.predecessors > 1 and d.ended between 1 and f.predecessors - 1
    and not exists (select from step s where s.run_id = p_run_id and s.seq = f.seq);
end $$;
comment on function block_steps(uuid, integer) is 'Counts anew for what the steps of a run wait of which some predecessors have ended.';

create or replace function steps_to_begin(p_run_id uuid, p_flow_id integer) returns step_key[]
language plpgsql stable as $$
begin
  return array(
    select (p_run_id, f.seq)::step_key
    from flow_step f
    where f.flow_id = p_flow_id and f.undoes is null
      and not exists (select from step s where s.run_id = p_run_id and s.seq = f.seq)
      and not exists (
        select from unnest(f.predecessor_seqs) p(seq)
        left join lateral (select true as ended from step s where s.run_id = p_run_id and s.seq = p.seq offset 0) x on true
        where x.ended is null)
    order by f.seq);
end $$;
comment on function steps_to_begin(uuid, integer) is 'Steps of a run that have not ended, and wait for none that has not.';
