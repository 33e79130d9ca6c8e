//! Guarantees that a query over the database can check.

use std::collections::HashSet;

use longhaul::connect::Connection;

use crate::load::Asked;

/// Makes the view of this session that other queries read: each claim that the database knows, of attempts that completed and
/// of those that ended otherwise.
pub const CLAIMS: &str = "
    create temp view claims as
    select run_id, seq, attempt, claimed_at, ended_at from longhaul.attempt union all
    select run_id, seq, attempt, started_at, ended_at from longhaul.step where outcome = 'completed'";

/// Runs that are still live, and the workers that might have done them.
pub const STILL_LIVE: &str = "
    select format('run %s of tenant %s is %s', r.id, r.tenant, r.state) from longhaul.run r where r.open_steps > 0
    union all
    select format('worker %s of tenant %s, process %s: %s, its last heartbeat %s ago', w.id, w.tenant, w.pid, w.state, date_trunc('milliseconds', longhaul.clock() - w.heartbeat_at))
    from longhaul.worker w where w.state in ('active', 'draining')";

/// What still stands in a room.
pub const LEFTOVERS: &str = "
    select format('%s of flow %s, run %s (%s) step %s is left in %s: %s', f.name, w.name, r.id, r.state, x.seq, x.room, x.rest)
    from (select run_id, seq, 'task' as room, to_jsonb(t) - 'run_id' as rest from longhaul.task t
          union all select run_id, seq, 'lease', to_jsonb(t) - 'run_id' from longhaul.lease t
          union all select run_id, seq, 'timer', to_jsonb(t) - 'run_id' from longhaul.timer t
          union all select run_id, seq, 'wait', to_jsonb(t) - 'run_id' from longhaul.wait t
          union all select run_id, seq, 'held', to_jsonb(t) - 'run_id' from longhaul.held t
          union all select run_id, seq, 'queued', to_jsonb(t) - 'run_id' from longhaul.queued t) x
    left join longhaul.run r on r.id = x.run_id left join longhaul.flow w on w.id = r.flow_id
    left join longhaul.own_step s on s.run_id = x.run_id and s.seq = x.seq
    left join longhaul.flow_step f on f.flow_id = r.flow_id and f.seq = coalesce(s.def, x.seq)";

/// Attempts that completed and ended otherwise as well.
pub const TWO_OUTCOMES: &str = "
    select format('run %s step %s attempt %s completed, and was %s', s.run_id, s.seq, s.attempt, a.outcome)
    from longhaul.attempt a join longhaul.step s using (run_id, seq, attempt) where s.outcome = 'completed'";

/// Attempts and completions that were claimed after their run had been stopped. The event bears the time when somebody asked
/// for that; steps are claimed until the run has ended. A run that has ended and has no such time was touched after that.
pub const CLAIMED_AFTER_STOP: &str = "
    select format('run %s step %s was claimed at %s, and the run was stopped at %s and ended at %s', r.id, c.seq, c.claimed_at, e.at, r.ended_at)
    from longhaul.run r
    join longhaul.event e on e.run_id = r.id and e.kind = 'stopped'
    join pg_temp.claims c on c.run_id = r.id
    where c.claimed_at > coalesce(r.ended_at, e.at)";

/// Attempts and completions that were claimed while their run was paused. The time of a claim is read when it begins, before
/// it looks for steps.
pub const CLAIMED_WHILE_PAUSED: &str = "
    select format('run %s step %s was claimed at %s, and the run was paused from %s to %s', c.run_id, c.seq, c.claimed_at, p.at, u.at)
    from longhaul.event p
    left join lateral (
      select min(e.at) as at from longhaul.event e where e.run_id = p.run_id and e.kind = 'resumed' and e.at > p.at) u on true
    join pg_temp.claims c on c.run_id = p.run_id
    where p.kind = 'paused' and c.claimed_at > p.at and c.claimed_at < coalesce(u.at, 'infinity') - interval '10 seconds'";

/// Ticks that started no run, or several.
pub const TICKS: &str = "
    with started as materialized (
      select (r.metadata ->> 'tick')::timestamptz as tick, count(*) as runs
      from longhaul.run r where r.metadata ->> 'schedule' = 'ticks' group by 1)
    select format('tick %s: %s, %s runs', t.tick, t.outcome, coalesce(n.runs, 0))
    from longhaul.schedule_tick t left join started n on n.tick = t.tick
    where coalesce(n.runs, 0) <> (t.outcome in ('started', 'queued'))::int";

pub const FOREIGN_TENANTS: &str = "
    select format('run %s of tenant %s: step %s was done by worker %s of tenant %s', r.id, r.tenant, c.seq, w.id, w.tenant)
    from longhaul.run r
    join (select run_id, seq, worker_id from longhaul.attempt union all
          select run_id, seq, worker_id from longhaul.step) c on c.run_id = r.id
    join longhaul.worker w on w.id = c.worker_id
    where w.tenant <> r.tenant";

pub const EARLY_EXPIRY: &str = "
    select format('run %s step %s attempt %s expired at %s, but worker %s had sent a heartbeat at %s', a.run_id, a.seq, a.attempt, a.ended_at, w.id, w.heartbeat_at)
    from longhaul.attempt a join longhaul.worker w on w.id = a.worker_id
    where a.outcome = 'expired' and a.ended_at < w.heartbeat_at + w.lease_ms * interval '1 millisecond'";

/// Times of steps that are not between the start and the end of their run, or in a wrong order: some clock but the database's
/// was asked.
pub const FOREIGN_CLOCKS: &str = "
    select format('run %s (%s to %s): step %s was claimed at %s and ended at %s', r.id, r.created_at, r.ended_at, c.seq, c.claimed_at, c.ended_at)
    from longhaul.run r
    join pg_temp.claims c on c.run_id = r.id
    where not (r.created_at <= c.claimed_at + interval '1 minute' and c.claimed_at <= c.ended_at
               and c.ended_at <= coalesce(r.ended_at, longhaul.clock()) + interval '1 minute')";

/// Failed sagas whose completed steps were not all undone, once and from the last to the first, and others with undone steps.
pub const COMPENSATIONS: &str = "
    select format('run %s is %s, and undone were, in this order: %s', r.id, r.state, u.names)
    from longhaul.run r join longhaul.flow w on w.id = r.flow_id and w.name = 'saga'
    cross join lateral (
      select coalesce(array_agg(f.name order by s.ended_at), '{}') as names
      from longhaul.step s join longhaul.flow_step f on f.flow_id = r.flow_id and f.seq = s.def
      where s.run_id = r.id and s.outcome = 'completed' and f.name like '%.undo') u
    where (r.state = 'failed' and u.names <> '{b.undo,a.undo}') or (r.state = 'completed' and u.names <> '{}')";

/// Steps that began without the approval that they need. The time of a claim is read when it begins, before it looks for steps.
pub const UNAPPROVED: &str = "
    select format('run %s step %s was claimed at %s; approved: %s', s.run_id, s.seq, c.claimed_at, coalesce(k.at::text, 'never'))
    from longhaul.step s join longhaul.run r on r.id = s.run_id
    join longhaul.flow_step f on f.flow_id = r.flow_id and f.seq = s.seq and f.settings ? 'approval'
    join pg_temp.claims c on c.run_id = s.run_id and c.seq = s.seq
    left join longhaul.checkpoint k on k.run_id = s.run_id and k.seq = s.seq and k.path = 'approval' and k.value ->> 'choice' = 'approve'
    where c.claimed_at < k.at - interval '10 seconds' or k.at is null";

/// Last values of progress that a worker took from handlers, completed, and never stored although it left in good order.
pub const LOST_PROGRESS: &str = "
    select format('run %s step %s: worker %s completed it and left, and the last progress stored is %s', s.run_id, s.seq, w.id, coalesce(p.value::text, 'none'))
    from longhaul.step s join longhaul.run r on r.id = s.run_id
    join longhaul.flow_step f on f.flow_id = r.flow_id and f.seq = coalesce(s.def, s.seq)
    join longhaul.lane n on n.id = f.lane_id and n.handler = 'work'
    join longhaul.worker w on w.id = s.worker_id and w.state = 'gone'
    left join longhaul.progress p on p.run_id = s.run_id and p.seq = s.seq and p.key = ''
    where s.outcome = 'completed' and f.each is null and (p.value -> 'done' = '2') is not true";

pub async fn rows(connection: &Connection, sql: &str) -> Result<Vec<String>, longhaul::Error> {
    Ok(connection.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect())
}

/// A budget that was overdrawn, or out of which more or less was taken than its steps cost.
pub async fn budgets(connection: &Connection) -> Result<Vec<String>, longhaul::Error> {
    let mut violations = rows(
        connection,
        "select format('of purse %s was spent in the second from %s, which has %s', b.used, b.window_at, f.settings -> 'budget' -> 'limit')
         from longhaul.budget b join longhaul.flow_step f on f.settings -> 'budget' ->> 'name' = b.name
         where b.used > (f.settings -> 'budget' -> 'limit')::numeric",
    )
    .await?;
    violations.extend(
        rows(
            connection,
            "select format('%s steps that cost 1 have completed, of %s; out of purse was taken %s', n.completed, n.steps, b.used)
             from (select count(*) filter (where s.outcome = 'completed') as completed, count(*) as steps
                   from longhaul.step s join longhaul.run r on r.id = s.run_id
                   join longhaul.flow_step f on f.flow_id = r.flow_id and f.seq = s.seq and f.settings ? 'budget') n,
                  (select coalesce(sum(used), 0) as used from longhaul.budget) b
             where b.used not between n.completed and n.steps",
        )
        .await?,
    );
    Ok(violations)
}

/// Signals that several have consumed, and accepted ones that are neither consumed nor kept.
pub async fn signals(connection: &Connection, asked: &Asked) -> Result<Vec<String>, longhaul::Error> {
    let mut violations = rows(
        connection,
        "select format('signal %s was consumed %s times', c.number, count(*))
         from (select s.output as number from longhaul.step s
               join longhaul.run r on r.id = s.run_id join longhaul.flow_step f on f.flow_id = r.flow_id and f.seq = s.seq
               where f.kind = 'signal' and s.outcome = 'completed'
               union all
               select k.value from longhaul.checkpoint k where k.kind = 'signal' and k.answer = 'ok') c
         group by c.number having count(*) > 1",
    )
    .await?;
    let there: HashSet<u64> = connection
        .query("select (payload #>> '{}')::bigint from longhaul.signal where topic = 'go'", &[])
        .await?
        .iter()
        .map(|row| row.get::<_, i64>(0).unsigned_abs())
        .collect();
    violations.extend(asked.signals.difference(&there).map(|n| format!("signal {n} was accepted and is not there")));
    Ok(violations)
}
