-- Stopping runs. Rooms: whatever the run has there is cancelled. Locks: run, then as end_runs().

create or replace function stop_run(p_tenant text, p_id uuid) returns void
language plpgsql as $$
declare
  v_state run_state;
begin
  perform lock_runs(array[p_id]);
  select r.state into v_state from run r where r.id = p_id and r.tenant = p_tenant;
  if not found then
    raise exception using errcode = 'LH002', message = format('there is no run %s for tenant %s', p_id, p_tenant);
  end if;
  if v_state in ('completed', 'failed', 'cancelled') then
    raise exception using errcode = 'LH003', message = format('run %s is %s and cannot be stopped', p_id, v_state);
  end if;
  perform end_runs(array[p_id], 'cancelled', array[jsonb_build_object('message', 'the run was stopped')]);
end $$;
comment on function stop_run(text, uuid) is
  'Stops a live run: once this has returned and is committed, no step of it is claimed, and workers that run some are told to stop them. Refused when the run has ended.';
