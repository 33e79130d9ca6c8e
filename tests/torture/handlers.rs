//! What handlers do: as their run's input says, and writing down what they do.

use std::{io, path::Path, sync::Arc, time::Duration};

use longhaul::{
    Database, Question, Signalled, StepContext, StepError, branch,
    lock::{LockGuard, Locked},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    clock,
    record::{Deed, Recorder, seq_of},
};

/// How long a lock is held at most: less than some handlers take, so that locks expire under their holders.
pub const HOLD: Duration = Duration::from_millis(400);

/// A run's input: how its steps behave.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Behaviour {
    /// How long a handler takes.
    pub ms: u64,
    /// One in so many first attempts fails; 0: none.
    pub fails: u32,
    /// One in so many first claims snoozes; 0: none.
    pub snoozes: u32,
    /// One in so many first attempts never returns; 0: none.
    pub hangs: u32,
    /// The key of its steps, of the signal that its run waits for, and of the lock that it takes.
    pub key: u32,
    /// What its fan-out works on.
    pub items: Vec<Behaviour>,
}

/// A step's output: which attempt made it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Made {
    pub token: i32,
}

/// Whether the flow `saga` fails in this run.
pub fn doomed(run: Uuid) -> bool {
    run.as_u128().is_multiple_of(2)
}

/// What handlers share.
#[derive(Clone)]
pub struct Hands {
    recorder: Arc<Recorder>,
    database: Database,
}

impl Hands {
    pub fn new(record: &Path, database: Database) -> io::Result<Self> {
        Ok(Self { recorder: Arc::new(Recorder::open(record)?), database })
    }

    /// An ordinary step.
    pub async fn work(self, ctx: StepContext, behaviour: Behaviour) -> Result<Made, StepError> {
        self.begin(&ctx, &behaviour).await?;
        self.progress(&ctx, 1).await?;
        tokio::time::sleep(Duration::from_millis(behaviour.ms)).await;
        self.progress(&ctx, 2).await?;
        self.end(&ctx)
    }

    /// The last step of a saga, which half of all runs do not survive.
    pub async fn doom(self, ctx: StepContext, behaviour: Behaviour) -> Result<Made, StepError> {
        self.begin(&ctx, &behaviour).await?;
        if doomed(ctx.run_id()) {
            return Err(StepError::fail("as the run's id demands"));
        }
        self.end(&ctx)
    }

    /// A compensation.
    pub async fn undo(self, ctx: StepContext, _: serde_json::Value) -> Result<Made, StepError> {
        self.begin(&ctx, &Behaviour { fails: 7, snoozes: 11, ..Behaviour::default() }).await?;
        self.end(&ctx)
    }

    /// A step that only one may do at a time, by a lock.
    pub async fn guarded(self, ctx: StepContext, behaviour: Behaviour) -> Result<Made, StepError> {
        self.begin(&ctx, &behaviour).await?;
        let (lock, asked) = (format!("vault {}", behaviour.key), clock::machine_nanos());
        let Locked::Acquired(guard) = self.database.try_lock(&lock, "torture", HOLD).await? else {
            return Err(StepError::snooze(Duration::from_millis(40)));
        };
        let held = Held { hands: self.clone(), ctx: ctx.clone(), lock, guard: Some(guard) };
        held.write(asked)?;
        tokio::time::sleep(Duration::from_millis(behaviour.ms)).await;
        held.release().await?;
        self.end(&ctx)
    }

    /// A durable function: checkpoints, a sleep, a signal that may not come, a child, branches, a question.
    pub async fn journey(self, ctx: StepContext, behaviour: Behaviour) -> Result<Made, StepError> {
        self.begin(&ctx, &behaviour).await?;
        self.checkpoint(&ctx, "pack").await?;
        self.note(&ctx, "id", ctx.uuid().await?.to_string())?;
        ctx.sleep("nap", Duration::from_millis(behaviour.ms)).await?;
        let key = behaviour.key.to_string();
        let patience = Some(Duration::from_millis(200 + behaviour.ms));
        match ctx.topic_signal::<u64>("go", &key, patience).await? {
            Signalled::Signal(number) => self.note(&ctx, "signal", number.to_string())?,
            Signalled::TimedOut => self.note(&ctx, "signal", "none".into())?,
        }
        let child = Behaviour { ms: behaviour.ms, ..Behaviour::default() };
        let child = ctx.child::<Made>("single", &child).await?;
        self.note(&ctx, "child", child.token.to_string())?;
        let sides = ["left", "right"].map(|place| {
            let hands = self.clone();
            branch(move |ctx| async move { hands.checkpoint(&ctx, place).await })
        });
        ctx.all(sides).await?;
        if behaviour.key == 0 {
            let question = Question::new("On?").choices(["on", "back"]).expires(Duration::from_millis(500), "on");
            let decision = ctx.ask(question).await?;
            self.note(&ctx, "decision", decision.choice)?;
        }
        self.checkpoint(&ctx, "arrive").await?;
        self.end(&ctx)
    }

    // What they share ----------------------------------------------------------------------------------------------

    /// The beginning of every attempt: some fail, snooze, or never return, by a chance that the run's id decides.
    async fn begin(&self, ctx: &StepContext, behaviour: &Behaviour) -> Result<(), StepError> {
        self.recorder.write(ctx, Deed::Begin)?;
        let chance = ctx.run_id().as_u128() as u32 ^ (seq_of(ctx) as u32).wrapping_mul(0x9e37_79b9);
        let one_in = |n: u32| n > 0 && chance.is_multiple_of(n);
        if ctx.fencing_token() == 1 && one_in(behaviour.snoozes) {
            return Err(StepError::snooze(Duration::from_millis(50)));
        }
        if ctx.attempt() == 1 && one_in(behaviour.fails) {
            return Err(StepError::retry("as the behaviour demands"));
        }
        if ctx.attempt() == 1 && one_in(behaviour.hangs) {
            return std::future::pending().await;
        }
        Ok(())
    }

    fn end(&self, ctx: &StepContext) -> Result<Made, StepError> {
        self.recorder.write(ctx, Deed::End)?;
        Ok(Made { token: ctx.fencing_token() })
    }

    async fn progress(&self, ctx: &StepContext, done: u64) -> Result<(), StepError> {
        self.recorder.write(ctx, Deed::Progress { done })?;
        ctx.progress(done, 2, "").await
    }

    /// A value that is computed once: which attempt computed it.
    async fn checkpoint(&self, ctx: &StepContext, place: &str) -> Result<(), StepError> {
        let compute = || async {
            self.recorder.write(ctx, Deed::Compute { place: place.into() })?;
            tokio::time::sleep(Duration::from_millis(10)).await;
            Ok(ctx.fencing_token())
        };
        let value = ctx.checkpoint(place, compute).await?;
        self.note(ctx, place, value.to_string())
    }

    /// The function goes on with a value, which must be the same in every attempt.
    fn note(&self, ctx: &StepContext, place: &str, value: String) -> Result<(), StepError> {
        Ok(self.recorder.write(ctx, Deed::Goes { place: place.into(), value })?)
    }
}

/// A lock that is held. Whoever drops it, it is written down before it is given back.
struct Held {
    hands: Hands,
    ctx: StepContext,
    lock: String,
    guard: Option<LockGuard>,
}

impl Held {
    fn write(&self, asked: u128) -> io::Result<()> {
        let Some(guard) = &self.guard else { return Ok(()) };
        let deed = Deed::Acquired { lock: self.lock.clone(), token: guard.token(), asked };
        self.hands.recorder.write(&self.ctx, deed)
    }

    async fn release(mut self) -> Result<(), StepError> {
        if let Some(guard) = self.give_up()? {
            guard.release().await?;
        }
        Ok(())
    }

    fn give_up(&mut self) -> io::Result<Option<LockGuard>> {
        let Some(guard) = self.guard.take() else { return Ok(None) };
        let deed = Deed::Released { lock: self.lock.clone(), token: guard.token() };
        self.hands.recorder.write(&self.ctx, deed)?;
        Ok(Some(guard))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // The guard's own drop gives it back.
        let _ = self.give_up();
    }
}
