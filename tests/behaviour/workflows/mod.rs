//! Flows beyond plain steps, operations on runs, signals, questions and durable functions.

mod again;
mod children;
mod compensation;
mod conditions;
mod durable;
mod external;
mod fan_out;
mod operations;
mod questions;
mod signals;
mod versions;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use longhaul::{
    Client, Flow, Retry, RunHandle, Step, StepContext, StepError, WorkerBuilder,
    calls::{RunInfo, StepState},
};
use serde_json::{Value, json};

use crate::harness::{TestDb, within};

/// What handlers did, in order; kept outside of the database.
#[derive(Clone, Default)]
pub struct Effects(Arc<Mutex<Vec<String>>>);

impl Effects {
    pub fn add(&self, effect: impl Into<String>) {
        self.0.lock().unwrap().push(effect.into());
    }

    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub fn count(&self, effect: &str) -> usize {
        self.all().iter().filter(|done| *done == effect).count()
    }
}

/// A worker with the handlers `echo` (gives its input), `fail` (never succeeds) and `note` (echo that leaves its step's name).
pub fn simple_worker(db: &TestDb, effects: &Effects) -> WorkerBuilder {
    let noted = effects.clone();
    db.worker()
        .queue("default", 100)
        .handler("echo", |_: StepContext, input: Value| async move { Ok::<_, StepError>(input) })
        .handler("fail", |_: StepContext, _: Value| async move {
            Err::<(), _>(StepError::fail("this handler never succeeds").code("hopeless").detail("secret"))
        })
        .handler("note", move |ctx: StepContext, input: Value| {
            let noted = noted.clone();
            async move {
                noted.add(ctx.step());
                Ok::<_, StepError>(input)
            }
        })
}

pub fn once() -> Retry {
    Retry::never()
}

/// Deploys and starts a flow.
pub async fn start(client: &Client, flow: &Flow, input: &Value) -> RunHandle {
    client.deploy(flow).await.unwrap();
    client.start(&flow.name, input).await.unwrap()
}

/// Waits for the end of a run.
pub async fn ended(run: &RunHandle) -> RunInfo {
    within("the run ends", run.wait(Duration::from_secs(60))).await.unwrap().expect("in time")
}

/// The state of each step, by name.
pub async fn states(client: &Client, run: &RunHandle) -> Vec<(String, StepState)> {
    client.steps(run.id()).await.unwrap().into_iter().map(|step| (step.name, step.state)).collect()
}

/// The state of one step.
pub async fn state_of(client: &Client, run: &RunHandle, step: &str) -> StepState {
    let steps = states(client, run).await;
    steps.iter().find(|(name, _)| name == step).unwrap_or_else(|| panic!("{step} is not in {steps:?}")).1
}

/// A flow whose only step is done by this handler.
pub fn single(flow: &str, handler: &str) -> Flow {
    Flow::new(flow, 1).step(Step::new("a", handler).retry(Retry::fixed(3, Duration::from_millis(10))))
}

/// A simple input.
pub fn input() -> Value {
    json!({ "id": 7, "total": 120, "items": ["a", "b", "c"] })
}
