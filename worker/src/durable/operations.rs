//! What a durable function can do.

use std::time::Duration;

use chrono::{DateTime, Utc};
use longhaul_schema::{
    Job, Payload,
    backoff::Backoff,
    calls::{AnswerKind, NewCheckpoint, NewWait},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{Decision, Question};
use crate::{
    StepContext, StepError,
    context::BranchPath,
    replay::{
        Place, Suspended, check_durable, check_wait, described, in_checkpoint,
        saver::{NotSaved, Save},
    },
    topic::check_topic,
};

/// The answer of a wait with a time limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signalled<T> {
    /// The signal's payload.
    Signal(T),
    /// None came in time.
    TimedOut,
}

impl StepContext {
    // Checkpoints ------------------------------------------------------------------------------------------------

    /// Computes a value once: what `work` gave is saved, and given again in every later attempt without calling it. An error
    /// is not saved; it is the attempt's, and the next attempt tries again from here.
    ///
    /// The closure is plain code: nothing durable can be called in it, because it is not called again.
    ///
    /// The value must fit into a payload. With `checkpoints: false` in the flow nothing is saved, and `work` is called in every
    /// attempt.
    pub async fn checkpoint<T, F, Fut>(&self, name: &str, work: F) -> Result<T, StepError>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, StepError>>,
        T: Serialize + DeserializeOwned,
    {
        let place = self.place("step", name).await?;
        if let Some((_, value)) = &place.answer {
            return read(value, name);
        }
        let _active = self.inner.waiting.active();
        let value = Payload::new(&in_checkpoint(name, work()).await?)
            .and_then(|value| value.check_size(self.inner.max_payload).map(|()| value))
            .map_err(|e| StepError::fail(format!("checkpoint {name} cannot be stored: {e}")))?;
        // Read back, so that this attempt goes on with what later ones will see.
        let seen = read(&value, name)?;
        if self.inner.step.checkpoints {
            self.save(place.path, "step", name, value).await?;
        }
        Ok(seen)
    }

    /// The present time of this process, the same in every attempt.
    pub async fn now(&self) -> Result<DateTime<Utc>, StepError> {
        let place = self.place("now", "").await?;
        if let Some((_, value)) = &place.answer {
            return read(value, "now");
        }
        let now = Utc::now();
        self.save(place.path, "now", "", Payload::new(&now)?).await?;
        Ok(now)
    }

    /// A UUID that is the same in every attempt, and in no other run or step.
    pub async fn uuid(&self) -> Result<Uuid, StepError> {
        let place = self.place("uuid", "").await?;
        Ok(self.derived(&place))
    }

    /// A number from 0 up to 1 that is the same in every attempt. Not for secrets.
    pub async fn random(&self) -> Result<f64, StepError> {
        let place = self.place("random", "").await?;
        // The last 62 bits of a version 5 UUID are hash; a double holds 53.
        Ok((self.derived(&place).as_u64_pair().1 & ((1 << 53) - 1)) as f64 / (1u64 << 53) as f64)
    }

    /// Whether this code is to do what a change of it brought: true in runs that came here after the change, and false in
    /// those whose history goes on without it. With this, code can change under live runs:
    ///
    /// ```
    /// # use longhaul_worker::{StepContext, StepError};
    /// # async fn f(ctx: StepContext) -> Result<(), StepError> {
    /// if ctx.patched("check-stock-first").await? {
    ///     ctx.checkpoint("check stock", || async { Ok(()) }).await?;
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn patched(&self, id: &str) -> Result<bool, StepError> {
        check_durable(&format!("patched {id:?}"))?;
        let recorded = self.recorded().await?;
        let path = format!("patch {id}");
        if recorded.contains_key(&path) {
            return Ok(true);
        }
        if self.inner.history.goes_on_at(&self.branch.prefix, self.branch.peek()) {
            return Ok(false);
        }
        self.save(path, "patch", id, Payload::null()).await?;
        Ok(true)
    }

    // Waiting ----------------------------------------------------------------------------------------------------

    /// Sleeps for milliseconds or months, by the database's clock, without holding a slot.
    pub async fn sleep(&self, name: &str, length: Duration) -> Result<(), StepError> {
        let awaited = NewWait { kind: "sleep", name: name.into(), wait: Some(length), ..NewWait::default() };
        self.wait_for(awaited).await.map(|_| ())
    }

    /// Waits for a signal to this run.
    pub async fn signal<T: DeserializeOwned>(&self, topic: &str) -> Result<T, StepError> {
        read(&self.wait_for(awaited_signal(topic, None, None)?).await?.1, topic)
    }

    /// Waits for a signal to this run, but not for ever.
    pub async fn signal_within<T: DeserializeOwned>(
        &self,
        topic: &str,
        patience: Duration,
    ) -> Result<Signalled<T>, StepError> {
        self.signalled(awaited_signal(topic, None, Some(patience))?).await
    }

    /// Waits for a signal to a topic and key, or for the completion of outside work; not for ever if `patience` is given.
    pub async fn topic_signal<T: DeserializeOwned>(
        &self,
        topic: &str,
        key: &str,
        patience: Option<Duration>,
    ) -> Result<Signalled<T>, StepError> {
        self.signalled(awaited_signal(topic, Some(key), patience)?).await
    }

    async fn signalled<T: DeserializeOwned>(&self, awaited: NewWait) -> Result<Signalled<T>, StepError> {
        let topic = awaited.name.clone();
        match self.wait_for(awaited).await? {
            (AnswerKind::Timeout, _) => Ok(Signalled::TimedOut),
            (_, value) => Ok(Signalled::Signal(read(&value, &topic)?)),
        }
    }

    /// Starts a child run and waits for its output. When it fails, that is an error here (not retried: the child has its own
    /// retries). When this run ends before, the child is stopped.
    pub async fn child<T: DeserializeOwned>(&self, flow: &str, input: &impl Serialize) -> Result<T, StepError> {
        let awaited = NewWait {
            kind: "child",
            name: flow.into(),
            flow: Some(flow.into()),
            input: Some(self.payload(input)?),
            ..NewWait::default()
        };
        read(&self.wait_for(awaited).await?.1, flow)
    }

    /// As [`StepContext::child`], of a typed job. A flow of that name must be deployed.
    pub async fn child_job<In: Serialize, Out: DeserializeOwned>(
        &self,
        job: Job<In, Out>,
        input: &In,
    ) -> Result<Out, StepError> {
        self.child(job.name(), input).await
    }

    /// Starts a child run that nobody waits for and that outlives this run. Returns its id.
    pub async fn start_child(&self, flow: &str, input: &impl Serialize) -> Result<Uuid, StepError> {
        let place = self.place("detached", flow).await?;
        if let Some((_, id)) = &place.answer {
            return read(id, flow);
        }
        let _active = self.inner.waiting.active();
        self.inner.history.grow(self.inner.max_history)?;
        let child = NewWait {
            path: place.path,
            flow: Some(flow.into()),
            input: Some(self.payload(input)?),
            ..NewWait::default()
        };
        let (worker, key, child) = (self.inner.worker, self.inner.key, &child);
        let mut busy = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
        loop {
            let started = self.inner.store.try_start_detached(worker, key, child).await.map_err(StepError::of_call)?;
            match started {
                Some(id) => return Ok(id),
                // Somebody holds the run. A connection that waited for them would be missed by all other steps.
                None => busy.wait().await,
            }
        }
    }

    /// Asks a question and waits for the decision. Unlike in an approval, `reject` is an answer like any other.
    pub async fn ask(&self, question: Question) -> Result<Decision, StepError> {
        let awaited = question.awaited(String::new())?;
        read(&self.wait_for(awaited).await?.1, "the decision")
    }

    /// Pauses the run with a reason and a value to show, and waits until somebody resumes it with data. `metadata`, an object, is
    /// set in the run's metadata.
    pub async fn interrupt<T: DeserializeOwned>(
        &self,
        reason: &str,
        value: &impl Serialize,
        metadata: Option<Value>,
    ) -> Result<T, StepError> {
        if metadata.as_ref().is_some_and(|metadata| !metadata.is_object()) {
            return Err(StepError::fail("the metadata of an interrupt is an object"));
        }
        let awaited = NewWait {
            kind: "interrupt",
            prompt: Some(self.payload(&serde_json::json!({ "question": reason, "value": value }))?),
            metadata: metadata.map(|m| self.payload(&m)).transpose()?,
            ..NewWait::default()
        };
        read(&self.wait_for(awaited).await?.1, "the data of the resumption")
    }

    /// The decision that let this step begin: of its approval, of its budget, or of a policy; `None` when none was asked for.
    pub async fn decision(&self) -> Result<Option<Decision>, StepError> {
        let entries = self.inner.store.history(self.inner.key.step).await?;
        let decided = entries
            .iter()
            .find(|entry| entry.answer.is_some() && matches!(entry.path.as_str(), "approval" | "budget" | "policy"));
        decided.map(|entry| read(&entry.value, "the decision")).transpose()
    }

    // What they share --------------------------------------------------------------------------------------------

    /// What a place has for itself, in every attempt.
    fn derived(&self, place: &Place) -> Uuid {
        Uuid::new_v5(&self.run_id(), format!("{}/{}", self.inner.key.step.seq, place.path).as_bytes())
    }

    /// The next place in this branch, with what is recorded there.
    pub(super) async fn place(&self, kind: &str, name: &str) -> Result<Place, StepError> {
        check_durable(&described(kind, name))?;
        // Taken before anything is awaited: places are in the order of the calls.
        let path = self.branch.take();
        self.recorded().await?;
        self.inner.history.visit(path, kind, name)
    }

    async fn recorded(
        &self,
    ) -> Result<&std::collections::HashMap<String, longhaul_schema::calls::Checkpoint>, StepError> {
        let _active = self.inner.waiting.active();
        self.inner.history.recorded(&self.inner.store, self.inner.key).await
    }

    /// A context for a branch.
    pub(super) fn branch(&self, path: &str, number: usize) -> Self {
        Self { inner: self.inner.clone(), branch: BranchPath::new(format!("{path}.{number}.")) }
    }

    fn payload(&self, value: &impl Serialize) -> Result<Payload, StepError> {
        Payload::new(value)
            .and_then(|payload| payload.check_size(self.inner.max_payload).map(|()| payload))
            .map_err(|e| StepError::fail(e.to_string()))
    }

    /// Saves a value under a place; the lease must still be this worker's.
    pub(super) async fn save(
        &self,
        path: String,
        kind: &'static str,
        name: &str,
        value: Payload,
    ) -> Result<(), StepError> {
        let _active = self.inner.waiting.active();
        self.inner.history.grow(self.inner.max_history)?;
        let (saved, answer) = oneshot::channel();
        let checkpoint = NewCheckpoint { key: self.inner.key, path, kind, name: name.into(), value };
        if self.inner.saver.send(Save { checkpoint, saved }).await.is_err() {
            return Err(StepError::retry("the worker is shutting down"));
        }
        match answer.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(NotSaved::Invalid(reason))) => Err(StepError::fail(format!("{name} cannot be stored: {reason}"))),
            Ok(Err(NotSaved::LeaseLost)) | Err(_) => {
                Err(StepError::retry("the lease was lost before the checkpoint was saved"))
            }
        }
    }

    /// Waits for something durable: the answer from the history, or suspension. An error that was recorded is an error.
    async fn wait_for(&self, mut awaited: NewWait) -> Result<(AnswerKind, Payload), StepError> {
        check_wait(self.inner.key, &described(awaited.kind, &awaited.name))?;
        let place = self.place(awaited.kind, &awaited.name).await?;
        match place.answer {
            Some((AnswerKind::Error, value)) => {
                let error: Value = value.read()?;
                let message = error["message"].as_str().map_or_else(|| error.to_string(), str::to_owned);
                Err(StepError::fail(message).code(error["code"].as_str().unwrap_or("failed")))
            }
            Some(answer) => Ok(answer),
            None => {
                self.inner.history.grow(self.inner.max_history)?;
                awaited.path = place.path;
                match Suspended::new(self.inner.waiting.clone(), awaited).await {}
            }
        }
    }
}

fn read<T: DeserializeOwned>(value: &Payload, what: &str) -> Result<T, StepError> {
    value.read().map_err(|e| StepError::fail(format!("what is recorded of {what} does not fit: {e}")))
}

fn awaited_signal(topic: &str, key: Option<&str>, wait: Option<Duration>) -> Result<NewWait, StepError> {
    check_topic(topic, key)?;
    Ok(NewWait {
        kind: "signal",
        name: topic.into(),
        topic: Some(topic.into()),
        key: key.map(Into::into),
        wait,
        ..NewWait::default()
    })
}
