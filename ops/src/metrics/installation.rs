//! Metrics of the installation, from its database. Every number is counted up to a bound, and there are never more than some hundreds of
//! values: tenants, queues and phases beyond the first ones are put together under `other`.

use std::collections::BTreeMap;

use longhaul_schema::{
    Database, Error,
    calls::{Calls, Counted, QueueFigure},
    connect::Connection,
};

use super::{Labels, Metrics, Value, pool};

/// So many tenants are told apart.
const MOST_TENANTS: usize = 20;

/// So many queues of all tenants are told apart.
const MOST_QUEUES: usize = 200;

/// So many phases of locks are told apart.
const MOST_PHASES: i64 = 50;

/// The name of what is not told apart.
const OTHER: &str = "other";

/// Everything that the database says.
pub(crate) async fn installation(database: &Database) -> Result<Metrics, Error> {
    database
        .retrying(|calls| async move {
            let mut metrics = Metrics::default();
            let mut told_apart = 0;
            for tenant in calls.tenants().await?.iter().take(MOST_TENANTS) {
                let queues = queues(&calls, tenant).await?;
                for (name, queue) in bounded(queues, MOST_QUEUES.saturating_sub(told_apart)) {
                    told_apart += 1;
                    queue.put(&mut metrics, tenant, &name);
                }
                steps(&calls, tenant, &mut metrics).await?;
            }
            fleet(&calls, &mut metrics).await?;
            chores(&calls, &mut metrics).await?;
            locks(&calls, &mut metrics).await?;
            Ok(metrics)
        })
        .await
        .map(|mut metrics| {
            pool(&mut metrics, database.pool_status());
            metrics
        })
}

/// What is known of a queue.
#[derive(Default)]
struct QueueNow {
    ready: i64,
    unserved: i64,
    oldest_seconds: f64,
    workers: i64,
    paused: bool,
    figure: QueueFigure,
}

async fn queues(calls: &Calls<Connection>, tenant: &str) -> Result<BTreeMap<String, QueueNow>, Error> {
    let now = calls.clock().await?;
    let mut queues: BTreeMap<String, QueueNow> = BTreeMap::new();
    for set in calls.queue_settings(tenant).await? {
        queues.entry(set.name).or_default().paused = set.paused_at.is_some();
    }
    for line in calls.queue_lines(tenant).await? {
        let queue = queues.entry(line.queue).or_default();
        queue.ready += line.ready.count;
        if line.workers == 0 {
            queue.unserved += line.ready.count;
        }
        let waited = line.oldest.map_or(0.0, |oldest| (now - oldest.since).as_seconds_f64());
        queue.oldest_seconds = queue.oldest_seconds.max(waited);
    }
    for (name, workers, figure) in calls.queue_figures(tenant).await? {
        let queue = queues.entry(name).or_default();
        (queue.workers, queue.figure) = (workers, figure);
    }
    Ok(queues)
}

/// The first so many, and all others as one.
fn bounded(queues: BTreeMap<String, QueueNow>, most: usize) -> Vec<(String, QueueNow)> {
    let mut all: Vec<_> = queues.into_iter().collect();
    if all.len() <= most {
        return all;
    }
    let rest = all.split_off(most.saturating_sub(1));
    let mut other = QueueNow::default();
    for (_, queue) in rest {
        other.ready += queue.ready;
        other.unserved += queue.unserved;
        other.oldest_seconds = other.oldest_seconds.max(queue.oldest_seconds);
        other.workers = other.workers.max(queue.workers);
        other.paused |= queue.paused;
        other.figure.running = other.figure.running.saturating_add(queue.figure.running);
        other.figure.slots = other.figure.slots.saturating_add(queue.figure.slots);
        other.figure.claimed += queue.figure.claimed;
        other.figure.completed += queue.figure.completed;
        other.figure.failed += queue.figure.failed;
    }
    all.push((OTHER.into(), other));
    all
}

impl QueueNow {
    fn put(&self, metrics: &mut Metrics, tenant: &str, name: &str) {
        let queue = || -> Labels { vec![("tenant", tenant.to_owned()), ("queue", name.to_owned())] };
        metrics.gauge(
            "longhaul_queue_ready",
            "Ready steps, counted up to 10,000 for each handler.",
            queue(),
            self.ready as f64,
        );
        let help = "Ready steps that no living worker takes.";
        metrics.gauge("longhaul_queue_unserved", help, queue(), self.unserved as f64);
        let help = "For how long the step that has waited longest is ready.";
        metrics.gauge("longhaul_queue_oldest_ready_seconds", help, queue(), self.oldest_seconds);
        metrics.gauge("longhaul_queue_workers", "Living workers that serve it.", queue(), self.workers as f64);
        metrics.gauge("longhaul_queue_paused", "1 when it is paused.", queue(), f64::from(u8::from(self.paused)));
        metrics.gauge("longhaul_queue_running", "Steps of it that run.", queue(), self.figure.running.into());
        metrics.gauge(
            "longhaul_queue_slots",
            "Steps of it that workers may run at once.",
            queue(),
            self.figure.slots.into(),
        );
        metrics.counter("longhaul_queue_claimed", "Attempts that were claimed.", queue(), self.figure.claimed);
        metrics.counter(
            "longhaul_queue_completed",
            "Attempts that completed their steps.",
            queue(),
            self.figure.completed,
        );
        metrics.counter("longhaul_queue_failed", "Attempts that failed.", queue(), self.figure.failed);
    }
}

async fn steps(calls: &Calls<Connection>, tenant: &str, metrics: &mut Metrics) -> Result<(), Error> {
    let rooms = calls.room_counts(tenant).await?;
    let states = [
        ("running", rooms.running),
        ("sleeping", rooms.sleeping),
        ("waiting", rooms.waiting),
        ("paused", rooms.paused),
        ("queued", rooms.queued),
    ];
    for (state, counted) in states {
        let labels = vec![("tenant", tenant.to_owned()), ("state", state.to_owned())];
        let help = "Steps by state, counted up to 10,000; ready ones are in longhaul_queue_ready.";
        metrics.gauge("longhaul_steps", help, labels, counted.count as f64);
    }
    let (dead, questions, _): (Counted, Counted, i64) = calls.attention_counts(tenant).await?;
    let of = || vec![("tenant", tenant.to_owned())];
    let help = "Steps that used up their attempts, counted up to 10,000.";
    metrics.gauge("longhaul_dead_letters", help, of(), dead.count as f64);
    let help = "Questions that wait for an answer, counted up to 10,000.";
    metrics.gauge("longhaul_questions", help, of(), questions.count as f64);
    Ok(())
}

async fn fleet(calls: &Calls<Connection>, metrics: &mut Metrics) -> Result<(), Error> {
    let counts = calls.worker_counts().await?;
    for state in ["active", "draining", "lost"] {
        // Told also when there is none, so that an alert has something to look at.
        let count: i64 = counts.iter().filter(|(_, known, _)| known == state).map(|(_, _, count)| count).sum();
        let help = "Workers by state; lost ones are remembered for a week.";
        metrics.gauge("longhaul_workers", help, vec![("state", state.into())], count as f64);
    }
    let overdue = calls.overdue_counts().await?;
    for kind in ["timer", "wait", "deadline", "lease", "schedule", "chore"] {
        let (count, seconds) =
            overdue.iter().find(|(known, ..)| known == kind).map_or((0, 0.0), |(_, count, seconds)| (*count, *seconds));
        let labels = || vec![("kind", kind.to_owned())];
        let help = "What should have happened by now and has not, by kind.";
        metrics.gauge("longhaul_overdue", help, labels(), count as f64);
        let help = "For how long the oldest of it is overdue.";
        metrics.gauge("longhaul_overdue_seconds", help, labels(), seconds);
    }
    let seconds = calls.oldest_transaction().await?;
    let help = "For how long the oldest transaction in this database is open: it keeps dead rows from being removed.";
    metrics.gauge("longhaul_oldest_transaction_seconds", help, vec![], seconds);
    Ok(())
}

async fn chores(calls: &Calls<Connection>, metrics: &mut Metrics) -> Result<(), Error> {
    for chore in calls.chore_figures().await? {
        let labels = || vec![("chore", chore.name.clone())];
        metrics.counter("longhaul_chore_runs", "How often a chore was done.", labels(), chore.runs);
        metrics.counter("longhaul_chore_failures", "How often a chore failed.", labels(), chore.failures);
        let help = "Items that a chore handled: expire_leases counts leases that expired.";
        metrics.counter("longhaul_chore_items", help, labels(), chore.done);
        metrics.gauge("longhaul_chore_last_seconds", "How long a chore took last.", labels(), chore.seconds);
        metrics.gauge("longhaul_chore_late_seconds", "By how much a chore is late.", labels(), chore.late_seconds);
    }
    let aside = calls.set_aside_counts().await?;
    let help = "Items that chores have set aside because they fail again and again.";
    metrics.gauge("longhaul_set_aside", help, vec![], aside.iter().map(|(_, count)| *count as f64).sum());
    Ok(())
}

async fn locks(calls: &Calls<Connection>, metrics: &mut Metrics) -> Result<(), Error> {
    for lock in calls.lock_figures(MOST_PHASES).await? {
        let labels = || vec![("tenant", lock.tenant.clone()), ("phase", lock.phase.clone())];
        let outcomes = [
            ("acquired", lock.acquired),
            ("blocked", lock.blocked),
            ("expired", lock.expired),
            ("forced", lock.forced),
        ];
        for (outcome, count) in outcomes {
            let mut labels = labels();
            labels.push(("outcome", outcome.to_owned()));
            let help = "Attempts at locks by outcome, and holds that expired or were forced open; by phase, the last part of a lock's name.";
            metrics.counter("longhaul_lock_attempts", help, labels, count);
        }
        let help = "For how long locks were held, by phase.";
        metrics.put("longhaul_lock_held_seconds", help, labels(), Value::CounterOf(lock.held_seconds));
    }
    Ok(())
}
