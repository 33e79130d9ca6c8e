//! The protocol as a model that can be explored exhaustively (with the `stateright` crate): one run, its steps in their rooms,
//! workers that own attempts, crash, freeze and wake, and calls that are lost, repeated or late.
//!
//! Here are its words. What the database does within an action stands in `effects.rs`, the actions in `moves.rs`, what must always
//! hold in `properties.rs`. `docs/model.md` names the SQL function of each action. A [`Fault`] breaks one rule, so that the
//! property which depends on it can be seen to fail.

use std::collections::BTreeSet;

/// A step of the flow.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepDef {
    /// The step that must have completed before.
    pub after: Option<usize>,
    /// Shares a key of concurrency, of which one step at a time may be ready or running.
    pub keyed: bool,
    /// Waits for a signal instead of being worked on; so many times one after the other.
    pub signals: u8,
}

/// What can happen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    /// Worker processes.
    pub workers: usize,
    /// Attempts that a step may use up.
    pub attempts: u8,
    /// Claims in all: handing back and shutting down use up no attempt.
    pub claims: u8,
    /// Whether workers crash and freeze.
    pub crashes: bool,
    /// Whether handlers fail and are tried again.
    pub failures: bool,
    /// Whether workers shut down and hand back.
    pub shutdowns: bool,
    /// How often operators pause or resume the run.
    pub pauses: u8,
    /// Whether operators stop the run.
    pub stops: bool,
}

/// One rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A completion is accepted whoever owns the step by now.
    NoFencing,
    /// A claim does not see that another one has just taken the step.
    ClaimLeavesTask,
    /// A completion does not unblock what comes after.
    ForgetsSuccessor,
    /// A completion unblocks what still waits for others.
    SuccessorTooEarly,
    /// A step that is tried again gets the number of the attempt before.
    SameAttemptAgain,
    /// Leases expire although their owner is well.
    ExpiryByWorkersClock,
    /// A claim whose answer was lost is never asked about.
    NeverRecovers,
    /// A claim that arrives after its worker has asked is carried out.
    LateClaimsTaken,
    /// Pausing leaves ready steps where they are.
    PauseForgetsReady,
    /// What becomes ready while its run is paused goes to its queue.
    ReadyWhilePaused,
    /// Stopping leaves running steps in their room.
    StopForgetsLeases,
    /// A key lets everybody in.
    GateIgnored,
    /// The next one of a key is not let in.
    GateNeverOpens,
    /// A signal that was delivered stays.
    SignalStays,
    /// The same signal sent twice counts twice.
    SignalTwice,
    /// Shutting down deletes leases and places nothing.
    ShutdownDrops,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    Completed,
    Failed,
    Cancelled,
}

/// State of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunState {
    Running,
    Paused,
    Completed,
    Failed,
    Cancelled,
}

/// A step: a row in each room that it stands in. That there is never more than one is a property, not a type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Step {
    pub task: bool,
    /// Owner and attempt.
    pub lease: Option<(usize, u8)>,
    pub timer: bool,
    pub held: bool,
    pub queued: bool,
    pub wait: bool,
    pub blocked: bool,
    /// Number of the last attempt.
    pub attempt: u8,
    /// Attempts used up.
    pub failures: u8,
    /// Signals that are still to come.
    pub signals: u8,
    pub outcome: Option<Outcome>,
    /// The attempt that ended it.
    pub ended_by: u8,
}

/// A worker process, and what the database knows of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Worker {
    /// The database has given it up, or it left.
    pub lost: bool,
    pub crashed: bool,
    pub frozen: bool,
    /// An answer to a claim was lost, and it has not asked yet what it owns.
    pub unsure: bool,
    /// A claim that it has given up is still on its way.
    pub late: bool,
    /// What it works on: step and attempt.
    pub working: BTreeSet<(usize, u8)>,
}

/// A call on its way to the database. It may be lost, come late, or come twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Call {
    Complete { worker: usize, step: usize, attempt: u8 },
    Fail { worker: usize, step: usize, attempt: u8 },
}

impl Call {
    /// Worker, step and attempt.
    pub fn attempt(self) -> (usize, usize, u8) {
        let (Self::Complete { worker, step, attempt } | Self::Fail { worker, step, attempt }) = self;
        (worker, step, attempt)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub run: RunState,
    pub steps: Vec<Step>,
    pub workers: Vec<Worker>,
    /// Calls on their way.
    pub calls: BTreeSet<Call>,
    /// Calls that have arrived: an arrival that is repeated finds that it was done before.
    pub arrived: BTreeSet<Call>,
    /// Signals that were sent and not consumed yet.
    pub kept_signals: u8,
    pub sent: bool,
    pub claims: u8,
    pub pauses: u8,
    /// Steps in the order of their places in line; who is paused or queued keeps its place.
    pub line: Vec<usize>,
    /// What has gone wrong, as only an onlooker can see it.
    pub seen: Seen,
}

/// What an onlooker has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seen {
    /// Attempts that were begun.
    pub begun: BTreeSet<(usize, u8)>,
    pub begun_twice: bool,
    pub begun_before_predecessor: bool,
    pub claimed_while_paused: bool,
    pub stale_write: bool,
    pub taken_from_the_living: bool,
    pub consumed: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A claim, its answer received.
    Claim {
        worker: usize,
        step: usize,
    },
    /// A claim whose answer is lost.
    ClaimUnanswered {
        worker: usize,
        step: usize,
    },
    /// A worker gives a claim up that has not arrived yet.
    GiveUpClaim {
        worker: usize,
    },
    /// It arrives after all.
    LateClaim {
        worker: usize,
        step: usize,
    },
    /// The worker asks what it owns besides what it knows.
    Recover {
        worker: usize,
    },
    /// A handler ends well, and the worker says so.
    Finish {
        worker: usize,
        step: usize,
    },
    /// A handler fails, and the worker says so.
    FinishBadly {
        worker: usize,
        step: usize,
    },
    /// A call arrives.
    Arrive(Call),
    /// A call that has arrived is repeated: its answer was lost.
    Repeat(Call),
    Crash {
        worker: usize,
    },
    Freeze {
        worker: usize,
    },
    Thaw {
        worker: usize,
    },
    /// The database's clock says that the worker's heartbeat has stopped.
    Expire {
        worker: usize,
    },
    /// A worker leaves in good order.
    Shutdown {
        worker: usize,
    },
    FireTimer {
        step: usize,
    },
    Pause,
    Resume,
    Stop,
    /// A signal is sent; the same one may be sent again, as after a lost answer.
    Signal,
}

/// The model: a flow, what can happen to it, and at most one broken rule.
#[derive(Clone, Debug)]
pub struct Protocol {
    pub steps: Vec<StepDef>,
    pub bounds: Bounds,
    pub fault: Option<Fault>,
}
