//! The real thing behind the model: a flow of the same shape in a database, and each action as the call that it stands for.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use longhaul::{
    Concurrency, Flow, Payload, Retry, Start, Step as FlowStep, WaitSignal,
    calls::{AttemptKey, AttemptOutcome, EndedAttempt, NewWorker, StepKey},
};
use serde_json::json;
use uuid::Uuid;

use super::protocol::{Action, Call, Outcome, Protocol, RunState, State};
use crate::harness::TestDb;

/// What both the model and the database can tell of a step: its rooms, who runs which attempt, how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub run: RunState,
    pub steps: Vec<ShownStep>,
}

/// The rooms of a step, owner and attempt of its lease, and how it ended by which attempt.
pub type ShownStep = (String, Option<(usize, u8)>, Option<(Outcome, u8)>);

impl From<&State> for Shown {
    fn from(state: &State) -> Self {
        let steps = state.steps.iter().map(|s| {
            let rooms = [
                ("task", s.task),
                ("lease", s.lease.is_some()),
                ("timer", s.timer),
                ("held", s.held),
                ("queued", s.queued),
                ("wait", s.wait),
                ("blocked", s.blocked),
            ];
            let rooms: Vec<&str> = rooms.iter().filter(|r| r.1).map(|r| r.0).collect();
            // Who was stopped or cancelled has no attempt that ended it.
            (rooms.join(" "), s.lease, s.outcome.map(|o| (o, if o == Outcome::Cancelled { 0 } else { s.ended_by })))
        });
        Self { run: state.run, steps: steps.collect() }
    }
}

/// A run in a database, and workers that are played.
pub struct World {
    db: TestDb,
    run: Uuid,
    signal: Uuid,
    workers: Vec<i64>,
    /// Number of the last claim.
    claims: AtomicI64,
    /// Numbers of claims that their workers have given up, and that have not arrived.
    late: Mutex<HashMap<usize, i64>>,
}

/// One queue for each step, so that a claim can choose among them.
fn queue(step: usize) -> String {
    format!("q{step}")
}

impl World {
    /// Deploys the model's flow and starts a run of it.
    pub async fn new(db: &TestDb, model: &Protocol) -> Self {
        let client = db.client().await;
        let name = format!("f{}", Uuid::new_v4().simple());
        let mut flow = Flow::new(&name, 1);
        for (place, def) in model.steps.iter().enumerate() {
            let name = format!("s{place}");
            let mut step = if def.signals > 0 {
                FlowStep::wait_signal(name, WaitSignal::new("model").key("$.run.id"))
            } else {
                FlowStep::new(name, "h")
                    .queue(queue(place))
                    .retry(Retry::fixed(u16::from(model.bounds.attempts), Duration::from_secs(3600)))
            };
            if def.keyed {
                step = step.concurrency(Concurrency::per_key("$.run.id", 1));
            }
            if let Some(before) = def.after {
                step = step.after(format!("s{before}"));
            }
            flow = flow.step(step);
        }
        client.deploy(&flow).await.expect("deploy");
        let run = client.start_with(&name, Start::new(&json!({})).expect("JSON")).await.expect("start").id();
        let queues: Vec<String> = (0..model.steps.len()).map(queue).collect();
        let queues: Vec<&str> = queues.iter().map(String::as_str).collect();
        let mut workers = Vec::new();
        for _ in 0..model.bounds.workers {
            let worker = NewWorker {
                tenant: "default",
                name: "model",
                host: "here",
                pid: 1,
                version: "0",
                queues: &queues,
                handlers: &["h"],
                slots: 10,
                lease: Duration::from_secs(3600),
            };
            workers.push(db.calls().await.register_worker(&worker).await.expect("register").worker);
        }
        Self { db: db.clone(), run, signal: Uuid::new_v4(), workers, claims: AtomicI64::new(0), late: Mutex::default() }
    }

    fn key(&self, step: usize, attempt: u8) -> AttemptKey {
        AttemptKey { step: StepKey { run_id: self.run, seq: step as i32 }, attempt: i32::from(attempt) }
    }

    fn next_claim(&self) -> i64 {
        self.claims.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn late_claim(&self, worker: usize) -> Option<i64> {
        self.late.lock().expect("no panics here").remove(&worker)
    }

    async fn claim(&self, worker: usize, step: usize, number: i64) -> Result<usize, longhaul::Error> {
        let calls = self.db.calls().await;
        let claimed = calls.claim_numbered(self.workers[worker], &[queue(step).as_str()], &[1], Some(number)).await?;
        Ok(claimed.len())
    }

    /// Makes the call that an action stands for; what happens in a worker alone is no call.
    pub async fn make(&self, action: Action) {
        let calls = self.db.calls().await;
        match action {
            Action::Claim { worker, step } | Action::ClaimUnanswered { worker, step } => {
                assert_eq!(
                    self.claim(worker, step, self.next_claim()).await.expect("claim"),
                    1,
                    "{action:?} finds a step"
                );
            }
            Action::GiveUpClaim { worker } => {
                self.late.lock().expect("no panics here").insert(worker, self.next_claim());
            }
            Action::LateClaim { worker, step } => {
                let number = self.late_claim(worker).expect("one was given up");
                assert_eq!(self.claim(worker, step, number).await.expect("claim"), 1, "{action:?} finds a step");
            }
            Action::Arrive(call) | Action::Repeat(call) => self.arrive(call).await,
            Action::Expire { worker } => {
                self.db
                    .execute(&format!(
                        "update longhaul.worker set expires_at = longhaul.clock() where id = {}; select longhaul.expire_leases()",
                        self.workers[worker]
                    ))
                    .await;
            }
            Action::Shutdown { worker } => {
                calls.deregister_worker(self.workers[worker]).await.expect("deregister");
            }
            Action::FireTimer { step } => {
                self.db
                    .execute(&format!(
                        "update longhaul.timer set fire_at = longhaul.clock() where run_id = '{}' and seq = {step}; select longhaul.fire_timers()",
                        self.run
                    ))
                    .await;
            }
            Action::Pause => self.operate("pause_run").await,
            Action::Resume => self.operate("resume_run").await,
            Action::Stop => self.operate("stop_run").await,
            Action::Signal => {
                self.db
                    .execute(&format!(
                        "select longhaul.send_signal('default', 'model', '{}', '1', p_idempotency_key => '{}')",
                        self.run, self.signal
                    ))
                    .await;
            }
            Action::Recover { worker } => {
                let number = Some(self.next_claim());
                calls.forgotten_leases(self.workers[worker], std::iter::empty(), number).await.expect("forgotten");
                if let Some(late) = self.late_claim(worker) {
                    self.claim(worker, 0, late).await.expect_err("it comes too late");
                }
            }
            Action::Finish { .. }
            | Action::FinishBadly { .. }
            | Action::Crash { .. }
            | Action::Freeze { .. }
            | Action::Thaw { .. } => {}
        }
    }

    async fn operate(&self, function: &str) {
        self.db.execute(&format!("select longhaul.{function}('default', '{}')", self.run)).await;
    }

    /// A refusal is an answer as well.
    async fn arrive(&self, call: Call) {
        let calls = self.db.calls().await;
        match call {
            Call::Complete { worker, step, attempt } => {
                let items = [(self.key(step, attempt), Payload::null())];
                calls.complete(self.workers[worker], &items).await.expect("complete");
            }
            Call::Fail { worker, step, attempt } => {
                let ended = EndedAttempt {
                    key: self.key(step, attempt),
                    outcome: AttemptOutcome::Failed,
                    error: None,
                    retryable: true,
                    delay: None,
                };
                calls.end_attempts(self.workers[worker], &[ended]).await.expect("end_attempts");
            }
        }
    }

    /// What the database says.
    pub async fn look(&self) -> Shown {
        let connection = self.db.database.connection().await.expect("connection");
        // What comes to a key, and what has left it, is looked at by the next claim.
        connection.batch_execute("select longhaul.admit(1000)").await.expect("admit");
        let state: String = connection
            .query_one("select state::text from longhaul.run where id = $1", &[&self.run])
            .await
            .expect("the run")
            .get(0);
        let rows = connection
            .query(
                "select concat_ws(' ', (select 'task' from longhaul.task x where (x.run_id, x.seq) = (s.run_id, s.seq)),
                                       (select 'lease' from longhaul.lease x where (x.run_id, x.seq) = (s.run_id, s.seq)),
                                       (select 'timer' from longhaul.timer x where (x.run_id, x.seq) = (s.run_id, s.seq)),
                                       (select 'held' from longhaul.held x where (x.run_id, x.seq) = (s.run_id, s.seq)),
                                       (select 'queued' from longhaul.queued x where (x.run_id, x.seq) = (s.run_id, s.seq)),
                                       (select distinct 'wait' from longhaul.wait x where (x.run_id, x.seq) = (s.run_id, s.seq)),
                                       case when s.state = 'blocked' then 'blocked' end),
                        l.worker_id, l.attempt, longhaul.outcome_of(s.run_id, s.seq)::text, coalesce(s.attempt, 0)
                 from longhaul.steps s left join longhaul.lease l on (l.run_id, l.seq) = (s.run_id, s.seq)
                 where s.run_id = $1 order by s.seq",
                &[&self.run],
            )
            .await
            .expect("the steps");
        let steps = rows.iter().map(|row| {
            let owner: Option<i64> = row.get(1);
            let lease = owner.map(|owner| {
                let worker = self.workers.iter().position(|w| *w == owner).unwrap_or(usize::MAX);
                (worker, row.get::<_, i32>(2) as u8)
            });
            let ended = row.get::<_, Option<&str>>(3).map(|outcome| match outcome {
                "completed" => (Outcome::Completed, row.get::<_, i32>(4) as u8),
                "failed" => (Outcome::Failed, row.get::<_, i32>(4) as u8),
                "cancelled" => (Outcome::Cancelled, 0),
                other => panic!("the model knows no {other} steps"),
            });
            (row.get::<_, String>(0), lease, ended)
        });
        let run = match state.as_str() {
            "running" => RunState::Running,
            "paused" => RunState::Paused,
            "completed" => RunState::Completed,
            "failed" => RunState::Failed,
            "cancelled" => RunState::Cancelled,
            other => panic!("the model knows no {other} runs"),
        };
        Shown { run, steps: steps.collect() }
    }

    /// Leaves nothing that a later world could claim.
    pub async fn end(self) {
        let stop = format!(
            "select longhaul.stop_run('default', '{}') where exists (select from longhaul.run where id = '{}' and state in ('running', 'paused'))",
            self.run, self.run
        );
        self.db.execute(&stop).await;
    }
}
