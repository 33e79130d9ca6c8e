//! Workers: registration, heartbeat, leaving.

use std::time::Duration;

use super::{AttemptKey, Calls, Columns, Executor, RefusedAttempt, StepKey, attempt_key, complete::refused, readable};
use crate::{
    Result,
    duration::{millis, seconds},
};

/// A worker process that registers.
#[derive(Clone, Debug)]
pub struct NewWorker<'a> {
    /// The tenant whose steps it does.
    pub tenant: &'a str,
    /// A name for people; need not be unique.
    pub name: &'a str,
    /// The machine.
    pub host: &'a str,
    /// The process.
    pub pid: i32,
    /// Release of the program.
    pub version: &'a str,
    /// Queues that it claims from.
    pub queues: &'a [&'a str],
    /// Handlers that it knows.
    pub handlers: &'a [&'a str],
    /// Most steps that it runs at a time.
    pub slots: i32,
    /// How long its leases live after a heartbeat.
    pub lease: Duration,
}

/// A registration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Registration {
    /// Id of the worker.
    pub worker: i64,
    /// Channel on which it is notified: `claim` says that there is work, `heartbeat` that leases were taken away.
    pub channel: String,
}

/// What a worker learns by its heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// Somebody wants it to claim no more.
    pub draining: bool,
    /// Of the attempts that it named, those that are no longer its own, each with what became of it.
    pub lost: Vec<RefusedAttempt>,
}

/// How the chores are looked after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Neglected {
    /// By how much the most overdue chore or tick is late that nobody is at.
    pub late: Duration,
    /// Workers that live.
    pub workers: u32,
    /// How often chores were done so far, by anybody.
    pub runs: i64,
}

impl<E: Executor> Calls<E> {
    /// Registers a worker. A repeated call registers another one; the first expires by itself.
    pub async fn register_worker(&self, worker: &NewWorker<'_>) -> Result<Registration> {
        let row = self
            .row(
                "select worker_id, channel from longhaul.register_worker($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                &[
                    &worker.tenant,
                    &worker.name,
                    &worker.host,
                    &worker.pid,
                    &worker.version,
                    &worker.queues,
                    &worker.handlers,
                    &worker.slots,
                    &millis(worker.lease),
                ],
            )
            .await?;
        Ok(Registration { worker: row.try_get(0)?, channel: row.try_get(1)? })
    }

    /// Renews a worker's leases; of the attempts that it names, returns those that are no longer its own.
    pub async fn heartbeat(&self, worker: i64, owned: impl Iterator<Item = AttemptKey>) -> Result<Vec<AttemptKey>> {
        let owned = Columns::of(owned);
        let rows = self
            .rows(
                "select * from longhaul.heartbeat($1, $2, $3, $4)",
                &[&worker, &owned.run_ids, &owned.seqs, &owned.attempts],
            )
            .await?;
        rows.iter().map(attempt_key).collect()
    }

    /// Renews a worker's leases and learns what is wanted of it.
    pub async fn renew_leases(&self, worker: i64, owned: impl Iterator<Item = AttemptKey>) -> Result<Renewal> {
        let owned = Columns::of(owned);
        let rows = self
            .rows(
                "select * from longhaul.renew_leases($1, $2, $3, $4)",
                &[&worker, &owned.run_ids, &owned.seqs, &owned.attempts],
            )
            .await?;
        let mut renewal = Renewal { draining: false, lost: Vec::new() };
        for row in &rows {
            renewal.draining = row.try_get::<&str>("worker_state")? == "draining";
            if let Some(run_id) = row.try_get("run_id")? {
                let step = StepKey { run_id, seq: row.try_get("seq")? };
                let key = AttemptKey { step, attempt: row.try_get("attempt")? };
                renewal.lost.push(RefusedAttempt { key, reason: row.try_get("refusal")? });
            }
        }
        Ok(renewal)
    }

    /// How attempts of a worker ended without it: see [`RefusedAttempt`].
    pub async fn what_became_of(&self, worker: i64, keys: &[AttemptKey]) -> Result<Vec<RefusedAttempt>> {
        let keys = Columns::of(keys.iter().copied());
        let sql = "select * from longhaul.what_became_of($1, $2, $3, $4)";
        let rows = self.rows(sql, &[&worker, &keys.run_ids, &keys.seqs, &keys.attempts]).await?;
        rows.iter().map(refused).collect()
    }

    /// Gives leases up whose attempts can be ended in no way. The chores find the steps.
    pub async fn let_go(&self, worker: i64, keys: &[AttemptKey]) -> Result<i64> {
        let keys = Columns::of(keys.iter().copied());
        let sql = "select longhaul.let_go($1, $2, $3, $4)";
        self.row(sql, &[&worker, &keys.run_ids, &keys.seqs, &keys.attempts]).await?.try_get(0)
    }

    /// Whether anybody does the chores.
    pub async fn neglected_chores(&self) -> Result<Neglected> {
        let row = self.row("select * from longhaul.neglected_chores()", &[]).await?;
        Ok(Neglected {
            late: Duration::from_millis(row.try_get::<i64>("late_ms")?.unsigned_abs()),
            workers: u32::try_from(row.try_get::<i64>("workers")?).unwrap_or(u32::MAX),
            runs: row.try_get("runs")?,
        })
    }

    /// Asks to be notified when these queues get work. The worker must look once more after this call, and again as
    /// [`unfinished_before`](Self::unfinished_before) says.
    pub async fn listen_for(&self, worker: i64, queues: &[&str]) -> Result<()> {
        self.run("select longhaul.listen_for($1, $2)", &[&worker, &queues]).await
    }

    /// Whether transactions are in progress that may have looked for listeners before [`listen_for`](Self::listen_for) made
    /// this worker one: `None` when there is none. Otherwise the id to ask with, again and again, until there is none; then one more look
    /// is due.
    pub async fn unfinished_before(&self, id: Option<i64>) -> Result<Option<i64>> {
        self.row("select longhaul.unfinished_before($1)", &[&id]).await?.try_get(0)
    }

    /// No notifications of new work in these queues any more.
    pub async fn stop_listening(&self, worker: i64, queues: &[&str]) -> Result<()> {
        self.run("select longhaul.stop_listening($1, $2)", &[&worker, &queues]).await
    }

    /// The worker will claim no more.
    pub async fn drain_worker(&self, worker: i64) -> Result<()> {
        self.run("select longhaul.drain_worker($1)", &[&worker]).await
    }

    /// Which of these processes of a host hang: their last registration, made within the last `since`, expired a whole lease ago
    /// or more, and they neither left nor registered again.
    pub async fn overdue_processes(&self, host: &str, pids: &[i32], since: std::time::Duration) -> Result<Vec<i32>> {
        let rows = self
            .rows(
                "select w.pid from (
                   select distinct on (pid) pid, state, expires_at, lease_ms from longhaul.worker
                   where host = $1 and pid = any ($2) and started_at > longhaul.clock() - make_interval(secs => $3) - interval '5 seconds'
                   order by pid, started_at desc, id desc) w
                 where w.state <> 'gone' and w.expires_at < longhaul.clock() - w.lease_ms * interval '1 millisecond'",
                &[&host, &pids, &seconds(since)],
            )
            .await?;
        readable(&rows, |row| row.try_get(0))
    }

    /// The worker leaves; what it still holds goes back with no attempt consumed. Returns how many steps that were.
    pub async fn deregister_worker(&self, worker: i64) -> Result<i64> {
        self.row("select longhaul.deregister_worker($1)", &[&worker]).await?.try_get(0)
    }
}
