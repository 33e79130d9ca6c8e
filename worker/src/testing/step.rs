//! A step in a test.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use longhaul_schema::{
    Error, Payload,
    calls::{AnswerKind, AttemptKey, FlowStep, ProgressValue, StepKey},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    answers::{Answers, decision},
    outcome::{Called, End},
};
use crate::{
    StepContext, StepError,
    context::{BranchPath, Inner},
    debounce::{DebounceSettings, DebouncedWriter, Sink},
    lease_clock::{LeaseClock, Moment},
    replay::{History, described, saver::Save, until_suspended},
    scripted::{Scripted, State},
    state::States,
    store::Store,
};

/// As in a new installation.
const MAX_PAYLOAD: usize = 1 << 20;
const MAX_HISTORY: usize = 10_000;

/// So often a handler may be called: more is taken for a handler that never ends.
const MOST_CALLS: u32 = 10_000;

/// What a handler will meet when a test calls it. See [the module](super).
#[derive(Debug)]
pub struct TestStep {
    run_id: Uuid,
    attempt: u32,
    max_attempts: u32,
    step: FlowStep,
    script: Scripted,
    answers: Answers,
    states: States,
}

impl Default for TestStep {
    fn default() -> Self {
        Self::new()
    }
}

impl TestStep {
    /// The first of five attempts at step `step` of flow `flow`, with nothing around it.
    pub fn new() -> Self {
        let step = FlowStep {
            seq: 0,
            flow: "flow".into(),
            version: 1,
            name: "step".into(),
            handler: "handler".into(),
            max_attempts: 5,
            timeout: None,
            parameters: None,
            checkpoints: true,
        };
        let script = Scripted {
            tenant: "default".into(),
            outputs: HashMap::new(),
            items: HashMap::new(),
            state: Mutex::new(State::default()),
        };
        Self {
            run_id: Uuid::now_v7(),
            attempt: 1,
            max_attempts: 5,
            step,
            script,
            answers: Answers::default(),
            states: States::default(),
        }
    }

    /// Of this run.
    pub fn run_id(mut self, id: Uuid) -> Self {
        self.run_id = id;
        self
    }

    /// Under these names of flow and step.
    pub fn named(mut self, flow: &str, step: &str) -> Self {
        (self.step.flow, self.step.name) = (flow.into(), step.into());
        self
    }

    /// As this attempt, from 1, of so many.
    pub fn attempt(mut self, attempt: u32, of: u32) -> Self {
        (self.attempt, self.max_attempts) = (attempt.max(1), of);
        self
    }

    /// With these settings (`with` in the step's definition), as [`StepContext::parameters`] reads them.
    pub fn parameters(mut self, parameters: &impl Serialize) -> Self {
        self.step.parameters = Some(payload(parameters));
        self
    }

    /// With a value that the worker's handlers share, as [`StepContext::state`] finds it.
    pub fn state<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.states.add(value);
        self
    }

    /// Another step has given this output.
    pub fn output(mut self, step: &str, output: &impl Serialize) -> Self {
        self.script.outputs.insert(step.into(), Some(payload(output)));
        self
    }

    /// Another step was skipped, or has failed: it has no output.
    pub fn no_output(mut self, step: &str) -> Self {
        self.script.outputs.insert(step.into(), None);
        self
    }

    /// The items of a fan-out have given these outputs; `None` for items that failed.
    pub fn item_outputs<T: Serialize>(mut self, step: &str, outputs: impl IntoIterator<Item = Option<T>>) -> Self {
        let outputs = outputs.into_iter().map(|output| output.as_ref().map(payload)).collect();
        self.script.items.insert(step.into(), outputs);
        self
    }

    /// A signal is there when the handler waits for this topic. Several of one topic come in their order.
    pub fn signal(mut self, topic: &str, value: &impl Serialize) -> Self {
        self.answers.signals.entry((topic.into(), None)).or_default().push_back(payload(value));
        self
    }

    /// A signal is there when the handler waits for this topic and key.
    pub fn topic_signal(mut self, topic: &str, key: &str, value: &impl Serialize) -> Self {
        self.answers.signals.entry((topic.into(), Some(key.into()))).or_default().push_back(payload(value));
        self
    }

    /// The next child run of this flow gives this output.
    pub fn child(mut self, flow: &str, output: &impl Serialize) -> Self {
        self.answers.children.entry(flow.into()).or_default().push_back((AnswerKind::Ok, payload(output)));
        self
    }

    /// The next child run of this flow fails with this message.
    pub fn failing_child(mut self, flow: &str, message: &str) -> Self {
        let error = payload(&serde_json::json!({ "message": message, "code": "child_failed" }));
        self.answers.children.entry(flow.into()).or_default().push_back((AnswerKind::Error, error));
        self
    }

    /// The next question is answered with this choice, by this person.
    pub fn answer(mut self, choice: &str, by: &str) -> Self {
        self.answers.decisions.push_back(decision(&choice.into(), by));
        self
    }

    /// The next interrupt is resumed with this.
    pub fn resume(mut self, data: &impl Serialize) -> Self {
        self.answers.resumptions.push_back(payload(data));
        self
    }

    /// The step was approved before it began, with this choice, by this person: what [`StepContext::decision`] gives.
    pub fn approved(self, choice: &str, by: &str) -> Self {
        let value = payload(&decision(&choice.into(), by));
        self.script.record("approval".into(), "decision", "", AnswerKind::Ok, value);
        self
    }

    /// Calls the handler, again and again with its history when it waits, until it ends or waits for what the test does not give.
    ///
    /// The input goes through JSON, as it does in a database. Panics when input or output cannot be stored.
    pub async fn call<F, In, Out, Fut>(mut self, handler: F, input: &impl Serialize) -> Called<Out>
    where
        F: Fn(StepContext, In) -> Fut,
        In: DeserializeOwned,
        Out: Serialize,
        Fut: Future<Output = Result<Out, StepError>>,
    {
        let input = payload(input);
        self.step.max_attempts = i16::try_from(self.max_attempts).unwrap_or(i16::MAX);
        let (script, step) = (Arc::new(self.script), Arc::new(self.step));
        let reported = Reported::default();
        let progress = DebouncedWriter::start(reported.clone(), DebounceSettings::default());
        let (saver, mut saves) = mpsc::channel::<Save>(64);
        let (mut now, mut calls, mut questions) = (Duration::ZERO, 0, Vec::new());
        let states = Arc::new(self.states);
        let key = |token| AttemptKey { step: StepKey { run_id: self.run_id, seq: 0 }, attempt: token };
        let end = loop {
            calls += 1;
            // The first attempt at a step has no history, and is not asked for one.
            let fresh = calls == 1 && self.attempt == 1 && script.history().is_empty();
            let key = key(if fresh { 1 } else { i32::try_from(calls + self.attempt).unwrap_or(i32::MAX) });
            let inner = Inner {
                store: Store::Scripted(script.clone()),
                key,
                failures: i16::try_from(self.attempt - 1).unwrap_or(i16::MAX),
                step: step.clone(),
                worker: 1,
                cancel: CancellationToken::new(),
                lease: LeaseClock::new(Duration::from_secs(86_400), Moment::now()),
                max_payload: MAX_PAYLOAD,
                max_history: MAX_HISTORY,
                history: History::default(),
                waiting: Arc::default(),
                saver: saver.clone(),
                progress: progress.clone(),
                states: states.clone(),
                completed_in: false.into(),
            };
            let context = StepContext { inner: Arc::new(inner), branch: BranchPath::new(String::new()) };
            let read = input.read::<In>().unwrap_or_else(|error| panic!("the input does not fit the handler: {error}"));
            let called = handler(context.clone(), read);
            let saving = async {
                while let Some(Save { checkpoint, saved }) = saves.recv().await {
                    script.record(checkpoint.path, checkpoint.kind, &checkpoint.name, AnswerKind::Ok, checkpoint.value);
                    // Whoever does not wait any more was cancelled.
                    let _ = saved.send(Ok(()));
                }
            };
            let called = tokio::select! {
                called = until_suspended(called, context.inner.waiting.clone(), key, &step) => called,
                () = saving => unreachable!("the test holds a sender"),
            };
            let waits = match called {
                Ok(Ok(output)) => match context.inner.history.check_end() {
                    Ok(()) => {
                        payload(&output);
                        break End::Completed(output);
                    }
                    Err(error) => break End::Failed(error),
                },
                Ok(Err(error)) => break End::of(Err(error)),
                Err(waits) => waits,
            };
            assert!(calls < MOST_CALLS, "the handler waits again and again, {calls} times so far: {waits:?}");
            let waiting = || waits.iter().map(|wait| described(wait.kind, &wait.name)).collect();
            let Some(answered) = self.answers.of(&waits, &mut now) else { break End::Waiting(waiting()) };
            for (wait, (kind, value)) in answered {
                match wait.kind {
                    "child" => {
                        let child = wait.input.clone().unwrap_or_else(Payload::null);
                        script.state().children.push((wait.name.clone(), child));
                    }
                    "decision" | "interrupt" => questions.push(question(wait.prompt.as_ref())),
                    _ => {}
                }
                script.record(wait.path, wait.kind, &wait.name, kind, value);
            }
        };
        progress.flush().await;
        let state = std::mem::take(&mut *script.state());
        Called {
            end,
            slept: now,
            calls,
            children: state.children.into_iter().map(|(flow, input)| (flow, value(&input))).collect(),
            questions,
            reported: reported.into_values(),
            history: state.history,
        }
    }
}

/// Keeps the last value of each key.
#[derive(Clone, Debug, Default)]
struct Reported(Arc<Mutex<BTreeMap<String, Value>>>);

impl Reported {
    fn into_values(self) -> Vec<(String, Value)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_iter().collect()
    }
}

impl Sink<(StepKey, String), ProgressValue> for Reported {
    async fn store(&self, values: Vec<((StepKey, String), ProgressValue)>) -> Result<(), Error> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(values.into_iter().map(|((_, key), reported)| (key, value(&reported.value))));
        Ok(())
    }
}

fn question(prompt: Option<&Payload>) -> String {
    let prompt = prompt.map(value).unwrap_or_default();
    prompt["question"].as_str().unwrap_or_default().to_owned()
}

fn value(payload: &Payload) -> Value {
    payload.read().unwrap_or_default()
}

#[track_caller]
fn payload(value: &impl Serialize) -> Payload {
    Payload::new(value)
        .and_then(|payload| payload.check_size(MAX_PAYLOAD).map(|()| payload))
        .unwrap_or_else(|error| panic!("a value of the test cannot be stored: {error}"))
}
