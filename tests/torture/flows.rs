//! The flows of the load: together they use everything.

use std::time::Duration;

use longhaul::{
    Approval, Budget, Client, Concurrency, Error, Exceeded, Flow, Missed, Overlap, Retry, Schedule, Step, WaitSignal,
    calls::{QueueLimits, RetentionPolicy},
};

use crate::handlers::Behaviour;

/// Attempts of each step: enough that faults do not use them up.
pub const ATTEMPTS: u16 = 50;

/// Those whose runs wait for each other.
pub const LIMITED: [&str; 4] = ["keyed", "narrow", "guarded", "bought"];

/// How the load grows with its clients.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Keys that steps, signals and locks share.
    pub keys: u32,
    /// Steps of the queue `narrow` that may run at once.
    pub narrow: u32,
    /// What the budget `purse` has for each second.
    pub purse: u32,
    /// Runs of a bulk start of a flow that is not limited.
    pub bulk: u32,
}

impl Limits {
    /// So that what these clients start comes to its end: what is limited must not pile up.
    pub fn of(clients: u32) -> Self {
        Self { keys: 5 * clients, narrow: 3 * clients, purse: 20 * clients, bulk: 50 * clients }
    }
}

/// Those that clients start; `tick` is its schedule's, and `brief` is retention's.
pub const STARTED: [&str; 13] = [
    "single",
    "chain",
    "diamond",
    "signalled",
    "family",
    "spread",
    "keyed",
    "narrow",
    "journey",
    "guarded",
    "saga",
    "approved",
    "bought",
];

/// A step that survives what is done to it.
fn step(name: &str, handler: &str) -> Step {
    Step::new(name, handler)
        .retry(Retry::fixed(ATTEMPTS, Duration::from_millis(20)))
        .timeout(Duration::from_millis(800))
}

fn work(name: &str) -> Step {
    step(name, "work")
}

/// A step that lasts while its owner is frozen: what it did the owner says when it wakes, too late.
fn patient(name: &str) -> Step {
    work(name).timeout(Duration::from_secs(3))
}

/// The other tenant's flow.
pub async fn deploy_for_other(client: &Client) -> Result<(), Error> {
    client.deploy(&Flow::new("single", 1).step(work("a"))).await?;
    Ok(())
}

pub async fn deploy(client: &Client, limits: Limits) -> Result<(), Error> {
    for flow in flows(limits) {
        client.deploy(&flow).await?;
    }
    let narrow = i32::try_from(limits.narrow).ok();
    client.limit_queue("narrow", &QueueLimits { max_running: narrow, ..QueueLimits::default() }).await?;
    let schedule = Schedule::new("ticks", "* * * * * *", "tick")
        .input(&Behaviour::default())?
        .missed(Missed::All)
        .overlap(Overlap::Allow);
    client.schedule(&schedule).await?;
    // Kept short, so that retention deletes runs all the time; what it deletes the checker does not ask for.
    let brief = RetentionPolicy {
        name: "brief".into(),
        state: None,
        flow: Some("brief".into()),
        age: Duration::from_secs(1),
        keep_last: 0,
        archive: false,
    };
    client.database().calls().await?.put_retention_policy("default", &brief).await?;
    let often = "update longhaul.chore set interval_ms = 5000 where name = 'retention'";
    client.database().connection().await?.execute(often, &[]).await?;
    Ok(())
}

fn flows(limits: Limits) -> Vec<Flow> {
    let go = Step::wait_signal("go", WaitSignal::new("go").key("$.input.key")).after("a");
    let purse = Budget {
        name: "purse".into(),
        limit: limits.purse.into(),
        per: Duration::from_secs(1).into(),
        amount: None,
        exceeded: Exceeded::Defer,
    };
    let mut approval = Approval::ask("Shall it go on?");
    approval.expires = Some(Duration::from_millis(500).into());
    approval.default = Some("approve".into());
    vec![
        Flow::new("single", 1).step(patient("a")),
        Flow::new("chain", 1).step(work("a")).step(work("b").after("a")).step(work("c").after("b")),
        Flow::new("diamond", 1)
            .step(patient("top"))
            .step(patient("left").after("top"))
            .step(patient("right").after("top").priority(-5))
            .step(patient("bottom").after("left").after("right")),
        Flow::new("signalled", 1).step(work("a")).step(go).step(work("b").after("go")),
        Flow::new("family", 1).step(Step::child("child", "chain")).step(work("after").after("child")),
        Flow::new("spread", 1)
            .step(work("items").for_each("$.input.items").window(3))
            .step(work("join").after("items")),
        Flow::new("keyed", 1).step(work("a").concurrency(Concurrency::per_key("$.input.key", 2))),
        Flow::new("narrow", 1).step(work("a").queue("narrow")),
        Flow::new("journey", 1).step(step("go", "journey")),
        Flow::new("guarded", 1).step(step("a", "guarded")),
        Flow::new("saga", 1)
            .step(work("a").compensate("undo"))
            .step(work("b").after("a").compensate("undo"))
            .step(step("c", "doom").after("b")),
        Flow::new("approved", 1).step(work("a")).step(work("b").after("a").approval(approval)),
        Flow::new("bought", 1).step(work("a").budget(purse)),
        Flow::new("tick", 1).step(work("a")),
        Flow::new("brief", 1).step(work("a")),
    ]
}
