//! What must hold after every act, and what must hold when nobody is at anything. Asked of the tables and views, in one statement.

/// All of them, by name.
pub const QUESTIONS: &[(&str, &str)] =
    &[("always", ALWAYS), ("quiet", QUIET), ("floors", FLOORS), ("runs", RUNS), ("undone", UNDONE)];

/// The rules of every moment. Each row is a breach.
const ALWAYS: &str = "
select regexp_replace(v.violation, 'run \\S+', 'run'), v.run_id::text from longhaul.room_violations v where v.violation not like '%below the floor%'
union all
select 'a step can be claimed though its run is ' || r.state, t.run_id::text
from longhaul.task t join longhaul.run r on r.id = t.run_id where r.state <> 'running'
union all
select 'more steps of a key are in task or lease than may be', g.id::text
from longhaul.gate g
where g.most < (
  select count(*) from longhaul.own_step s where s.gate_id = g.id
  and (exists (select from longhaul.lease l where l.run_id = s.run_id and l.seq = s.seq)))
union all
select 'two live runs have one unique key', min(r.id::text)
from longhaul.run r where r.name like 'unique:%' and r.forked_from is null and r.state in ('running', 'paused') group by r.name having count(*) > 1
union all
select 'a step has two live child runs', min(r.id::text)
from longhaul.run r where r.parent_path is not null and r.state in ('running', 'paused')
group by r.parent_id, r.parent_seq, r.parent_path having count(*) > 1
union all
select 'a run has begun, and its deadline is never', r.id::text
from longhaul.deadline d join longhaul.run r on r.id = d.run_id
where d.at = 'infinity' and (r.start_at is null or r.start_at <= longhaul.clock()) and r.state in ('running', 'paused') and r.compensating is not true
union all
select 'the deadline of a run lies before what its flow allows', r.id::text
from longhaul.deadline d join longhaul.run r on r.id = d.run_id join longhaul.flow f on f.id = r.flow_id
where not exists (select from longhaul.event e where e.run_id = r.id and e.kind in ('started', 'retried'))
  and d.at < r.created_at + f.timeout_ms * interval '1 ms' - interval '1 ms' and r.state in ('running', 'paused')
union all
select 'a run is paused for a question that nobody asks', r.id::text
from longhaul.run r where r.state = 'paused' and r.paused_for = 'question'
and not exists (select from longhaul.wait w where w.run_id = r.id and w.kind in ('decision', 'interrupt') and coalesce(w.prompt ->> 'pauses', 'run') = 'run')
union all
select 'a fork has taken over what was undone', r.id::text
from longhaul.run r
join longhaul.event e on e.run_id = r.id and e.kind = 'forked' and e.detail ? 'taken'
join longhaul.step d on d.run_id = r.id and d.outcome = 'completed'
join longhaul.run o on o.id = r.forked_from and o.compensating
join longhaul.flow_step f on f.flow_id = r.flow_id and f.seq = coalesce(d.def, d.seq) and f.undo is not null
join longhaul.step u on u.run_id = o.id and u.def = f.undo and u.outcome = 'completed'
where e.detail -> 'taken' @> to_jsonb(f.seq)
union all
select 'a fork undoes what it took over', r.id::text
from longhaul.run r
join longhaul.event e on e.run_id = r.id and e.kind = 'forked' and e.detail ? 'taken'
join longhaul.step u on u.run_id = r.id
join longhaul.flow_step f on f.flow_id = r.flow_id and f.undo = u.def
where e.detail -> 'taken' @> to_jsonb(f.seq)
union all
select 'a run has an id that carries no time of today', r.id::text
from longhaul.run r where r.id not between longhaul.uuid_at(clock_timestamp() - interval '2 days') and longhaul.uuid_at(clock_timestamp() + interval '2 days')
union all
select 'a tick has two runs', min(r.id::text)
from longhaul.run r where r.metadata ? 'tick' group by r.metadata -> 'schedule', r.metadata -> 'tick' having count(*) > 1
union all
select 'a tick failed: ' || regexp_replace(t.error, '[0-9]+', 'N', 'g'), t.schedule_id::text from longhaul.schedule_tick t where t.outcome = 'failed'
union all
select 'the answer of a child was lost', c.run_id::text
from longhaul.checkpoint c where c.kind = 'child' and c.answer = 'error' and c.value ->> 'message' like '% is gone'
union all
select 'a queue runs more than it may', q.name
from longhaul.queue q where q.max_running < (select count(*) from longhaul.lease l join longhaul.lane n on n.id = l.lane_id where n.queue_id = q.id)
limit 20";

/// The rules of a moment in which all chores are done, and no transaction is open. What a notice is still to tell may be untold.
const QUIET: &str = "
select 'a timer is due and does not fire', t.run_id::text from longhaul.timer t where t.fire_at <= longhaul.clock() - interval '2 seconds'
  and not exists (select from longhaul.set_aside a where a.run_id = t.run_id and a.until > longhaul.clock())
union all
select 'a wait (' || w.kind || ') is over and does not end', w.run_id::text
from longhaul.wait w where w.due_at <= longhaul.clock() - interval '2 seconds'
  and not exists (select from longhaul.set_aside a where a.run_id = w.run_id and a.until > longhaul.clock())
union all
select 'a deadline has come and nothing happens', d.run_id::text
from longhaul.deadline d join longhaul.run r on r.id = d.run_id
where d.at <= longhaul.clock() - interval '3 seconds' and r.state in ('running', 'paused') and r.compensating is not true
  and not exists (select from longhaul.set_aside a where a.run_id = r.id and a.until > longhaul.clock())
union all
select 'nobody delivers a notice: ' || n.kind, n.id::text from longhaul.notice n where n.due_at < longhaul.clock() - interval '10 seconds'
union all
select 'a chore sleeps for longer than it ever would', c.name
from longhaul.chore c where c.next_at > longhaul.clock() + 2.2 * longhaul.chore_pause(c.interval_ms, c.duration_ms) + interval '2 seconds'
union all
select 'a live run has a parent that is ' || p.state, r.id::text
from longhaul.run r join longhaul.run p on p.id = r.parent_id
where r.parent_path is not null and r.state in ('running', 'paused') and p.state in ('failed', 'cancelled') and r.compensating is not true
  and not exists (select from longhaul.notice n where n.run_id = r.id)
union all
select 'a child has ended and its parent waits on', w.run_id::text
from longhaul.wait w join longhaul.run c on c.id = w.child_id
where c.state in ('completed', 'failed', 'cancelled')
  and not exists (select from longhaul.notice n where n.child_id = c.id)
union all
select 'a run waits for a child that is gone', w.run_id::text
from longhaul.wait w where w.child_id is not null and not exists (select from longhaul.run c where c.id = w.child_id)
union all
select 'a signal was sent to a run that waits for it', w.run_id::text
from longhaul.wait w join longhaul.signal s on s.run_id = w.run_id and s.topic = w.topic
where w.key is null and w.kind = 'signal' and s.consumed_at is null and s.expires_at > longhaul.clock()
  and not exists (select from longhaul.notice n where n.run_id = w.run_id)
union all
select 'a signal was sent to a topic and key that a run waits for', w.run_id::text
from longhaul.wait w join longhaul.signal s on s.tenant = w.tenant and s.topic = w.topic and s.key = w.key
where s.consumed_at is null and s.expires_at > longhaul.clock() and s.failed is not true
  and not exists (select from longhaul.notice n where n.topic = w.topic and n.key = w.key)
union all
select 'a key has room, and steps wait for it', g.id::text
from longhaul.gate g
where exists (select from longhaul.queued q where q.gate_id = g.id)
  and g.most > (select count(*) from longhaul.own_step s where s.gate_id = g.id
    and (exists (select from longhaul.lease l where l.run_id = s.run_id and l.seq = s.seq) or exists (select from longhaul.task t where t.run_id = s.run_id and t.seq = s.seq)))
limit 20";

/// Beside QUIET.
pub const SET_ASIDE: &str = "
select 'set aside by ' || a.kind || ': ' || regexp_replace(a.error, '[0-9]+', 'N', 'g'), a.item from longhaul.set_aside a where a.error not like 'somebody else holds%'
union all";

/// At quiet moments as well: ready steps that no claim sees.
const FLOORS: &str = "
select 'a ready step stands below the floor of its lane', v.run_id::text from longhaul.room_violations v where v.violation like '%below the floor%' limit 1";

/// Rows per run for the last judgement.
const RUNS: &str = "
select r.id::text, f.name, r.state::text, coalesce(r.start_at = 'infinity', false)::text, r.input::text,
  coalesce(r.error ->> 'code', ''), coalesce(r.error ->> 'message', ''),
  coalesce(extract(epoch from r.ended_at - greatest(r.created_at, coalesce(nullif(r.start_at, 'infinity'), r.created_at))) * 1000, 0)::bigint::text,
  coalesce(f.timeout_ms, 0)::text,
  (select count(*) from longhaul.event e where e.run_id = r.id and e.kind = 'stopped')::text,
  ((select count(*) from longhaul.attempt a where a.run_id = r.id and a.outcome = 'expired')
   + (select count(*) from longhaul.event e where e.run_id = r.id and e.kind = 'decided' and e.detail ->> 'choice' = 'reject')
   + (select count(*) from longhaul.event e where e.run_id = r.id and e.kind = 'retried'))::text,
  coalesce((select string_agg(distinct x.room, ' ') from (
    select 'task' as room from longhaul.task t where t.run_id = r.id union all select 'lease' from longhaul.lease l where l.run_id = r.id
    union all select 'timer' from longhaul.timer i where i.run_id = r.id union all select 'held' from longhaul.held h where h.run_id = r.id
    union all select 'queued' from longhaul.queued q where q.run_id = r.id union all select 'wait-' || w.kind from longhaul.wait w where w.run_id = r.id) x), ''),
  coalesce(r.paused_for::text, ''), (r.parent_id is not null)::text,
  (exists (with recursive family(id, parent) as (
      select r.id, r.parent_id union all select p.id, p.parent_id from family c join longhaul.run p on p.id = c.parent)
    select from family c join longhaul.run p on p.id = c.id where p.start_at = 'infinity'))::text
from longhaul.run r join longhaul.flow f on f.id = r.flow_id order by r.id";

/// In the end: undo steps against what is to be undone, in failed runs.
const UNDONE: &str = "
select 'what a failed run had completed was not undone once', r.id::text
from longhaul.run r join longhaul.flow f on f.id = r.flow_id and f.compensates
join longhaul.step s on s.run_id = r.id and s.outcome = 'completed'
join longhaul.flow_step d on d.flow_id = f.id and d.seq = coalesce(s.def, s.seq) and d.undo is not null and (d.each is null or s.def is not null)
where r.state = 'failed'
  and not exists (
    select from longhaul.event e
    where e.run_id = r.id and e.kind = 'forked' and e.detail -> 'taken' @> to_jsonb(coalesce(s.def, s.seq)))
group by r.id, d.seq, d.undo
having count(*) <> (select count(*) from longhaul.step u where u.run_id = r.id and u.def = d.undo and u.outcome <> 'cancelled')
limit 1";
