//! Firing what is due: many schedules in one transaction. When that fails, each in one of its own, so that a schedule whose start
//! cannot be made stands in nobody's way.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, Utc};
use longhaul_schema::{
    Calls, Database,
    backoff::Backoff,
    calls::{Executor, Tick},
};
use tokio::task::JoinSet;

use super::plan::Plan;
use crate::Error;

/// Most schedules in one transaction.
const SCHEDULES: usize = 200;

/// So many ticks are enough for one transaction.
const TICKS: usize = 500;

/// Longest and shortest sleep between two looks at the schedules.
const LOOKS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

/// Most ticks that are remembered as tried.
const MOST_TRIED: usize = 100_000;

/// Fires ticks until it is dropped.
pub(crate) async fn run(database: &Database) -> Result<(), Error> {
    // A task of its own, which ends with this call: reckoning ticks delays no chore.
    let mut tasks = JoinSet::new();
    tasks.spawn(Firing { database: database.clone(), tried: HashMap::new() }.run());
    match tasks.join_next().await {
        Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Some(Ok(ended)) => ended,
        _ => Ok(()),
    }
}

struct Firing {
    database: Database,
    /// By schedule, a tick whose start met something that passes. The row says so as well, when it could be written.
    tried: HashMap<i32, DateTime<Utc>>,
}

impl Firing {
    async fn run(mut self) -> Result<(), Error> {
        let mut backoff = Backoff::default();
        loop {
            match self.look().await {
                Ok(wait) => {
                    backoff = Backoff::default();
                    tokio::time::sleep(wait).await;
                }
                Err(error) if error.is_transient() => {
                    tracing::warn!(%error, "waiting for the database");
                    backoff.wait().await;
                }
                Err(error @ (Error::NotInstalled(_) | Error::Denied(_) | Error::TooNew { .. })) => return Err(error),
                Err(error) => {
                    tracing::error!(%error, "ticks cannot be fired; trying again");
                    backoff.wait().await;
                }
            }
        }
    }

    /// Fires a batch of what is due. Returns how long to sleep: not at all when there is more.
    async fn look(&mut self) -> Result<Duration, Error> {
        let more = self.fire_due(false).await?;
        let more_again = self.fire_due(true).await?;
        if more || more_again {
            return Ok(Duration::ZERO);
        }
        let calls = self.database.calls().await?;
        let now = calls.clock().await?;
        let next = calls.next_tick(now).await?;
        let wait = next.and_then(|next| (next - now).to_std().ok()).unwrap_or(LOOKS.1);
        Ok(wait.clamp(LOOKS.0, LOOKS.1))
    }

    /// Fires schedules whose time has come; `again`: those whose last try failed. Returns whether there may be more.
    async fn fire_due(&mut self, again: bool) -> Result<bool, Error> {
        let mut connection = self.database.connection().await?;
        let transaction = connection.transaction().await?;
        let calls = Calls::on(&transaction, self.database.schema().clone());
        let (due, unreadable) = calls.due_schedules(SCHEDULES as i32, again).await?;
        if due.is_empty() && unreadable.is_empty() {
            return Ok(false);
        }
        let now = calls.clock().await?;
        for schedule in &unreadable {
            tracing::error!(schedule = schedule.id, reason = schedule.reason, "a schedule cannot be read");
            calls.postpone_schedule(schedule.id, None, &schedule.reason).await?;
        }
        let mut plans: Vec<Plan> = Vec::with_capacity(due.len());
        let mut ticks = 0;
        for schedule in &due {
            if ticks >= TICKS {
                break;
            }
            let plan = Plan::of(schedule, now, self.tried.get(&schedule.id).copied());
            ticks += plan.ticks.len();
            plans.push(plan);
        }
        let more = due.len() == SCHEDULES
            || plans.len() < due.len()
            || plans.iter().any(|plan| plan.moved.next.is_some_and(|next| next <= now));

        let fired = fire(&calls, &plans).await;
        drop(calls);
        let fired = match fired {
            Ok(()) => transaction.commit().await,
            Err(error) => {
                // Without the connection it is rolled back as well.
                let _ = transaction.rollback().await;
                Err(error)
            }
        };
        let Err(error) = fired else {
            for plan in &plans {
                self.tried.remove(&plan.moved.schedule);
            }
            return Ok(more);
        };
        drop(connection);
        tracing::warn!(%error, "ticks could not be fired together; trying each");
        self.fire_each(&plans).await?;
        Ok(more)
    }

    async fn fire_each(&mut self, plans: &[Plan]) -> Result<(), Error> {
        if self.tried.len() > MOST_TRIED {
            self.tried.clear();
        }
        let punctual = |plan: &&Plan| plan.ticks.first().is_some_and(|tick| !tick.missed);
        self.tried.extend(plans.iter().filter(punctual).filter_map(|plan| Some((plan.moved.schedule, plan.first()?))));
        for plan in plans {
            match self.fire_one(plan).await {
                Ok(()) => {
                    self.tried.remove(&plan.moved.schedule);
                }
                Err(error) => {
                    tracing::warn!(schedule = plan.moved.schedule, %error, "a tick could not be fired; it is tried again");
                    let calls = self.database.calls().await?;
                    let tried = Some(plan).filter(punctual).and_then(Plan::first);
                    calls.postpone_schedule(plan.moved.schedule, tried, &error.to_string()).await?;
                }
            }
        }
        Ok(())
    }

    async fn fire_one(&self, plan: &Plan) -> Result<(), Error> {
        let mut connection = self.database.connection().await?;
        let transaction = connection.transaction().await?;
        let calls = Calls::on(&transaction, self.database.schema().clone());
        // Another scheduler may have fired it meanwhile.
        if calls.lock_due_schedule(plan.moved.schedule, plan.first()).await? {
            fire(&calls, std::slice::from_ref(plan)).await?;
        }
        drop(calls);
        transaction.commit().await
    }
}

async fn fire<E: Executor>(calls: &Calls<E>, plans: &[Plan]) -> Result<(), Error> {
    let ticks: Vec<Tick> = plans.iter().flat_map(|plan| plan.ticks.iter().copied()).collect();
    let started = calls.fire_ticks(&ticks).await?;
    if started > 0 {
        tracing::debug!(started, "ticks have started runs");
    }
    let moved: Vec<_> = plans.iter().map(|plan| plan.moved.clone()).collect();
    calls.move_schedules(&moved).await
}
