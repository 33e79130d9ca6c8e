//! A database for one test.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use longhaul_embedded::shared_for_tests;
use longhaul_scheduler::{Client, RunHandle, Scheduler};
use longhaul_schema::{
    Config, Database, Error,
    calls::{RunInfo, RunState, StepState},
    migrate,
};
use longhaul_worker::{Worker, WorkerBuilder};
use tokio::{
    sync::OnceCell,
    time::{Instant, sleep},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::Working;

/// Copied for each test: to install Longhaul takes longer.
static TEMPLATE: OnceCell<String> = OnceCell::const_new();
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// Between two looks at a run.
const LOOK: Duration = Duration::from_millis(10);

/// A run must end within this real time, however far the test's time moves.
const PATIENCE: Duration = Duration::from_secs(60);

/// A database with Longhaul in it, for one test, and a scheduler that does the chores there. See [the crate](crate).
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
    config: Config,
    client: Client,
    _scheduler: DropGuard,
}

impl TestDatabase {
    /// Makes the database. Panics when that cannot be: no test could go on.
    pub async fn new() -> Self {
        let template = TEMPLATE.get_or_init(template).await;
        let name = fresh_name("test");
        admin(&format!("create database {name} template {template}")).await;
        let config = config_of(&name);
        let client = Client::connect(&config).await.expect("the new database answers");
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let scheduler = Scheduler::new(&config).expect("the configuration was good for a client");
        tokio::spawn(scheduler.run_until(async move { stopped.cancelled().await }));
        Self { name, config, client, _scheduler: stop.drop_guard() }
    }

    /// A client of it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Where it is.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A worker that notices things soon; add its handlers.
    pub fn worker(&self) -> WorkerBuilder {
        Worker::builder(&self.config)
            .without_chores()
            .heartbeat(Duration::from_secs(1))
            .poll(Duration::from_millis(100))
            .grace(Duration::from_secs(5))
    }

    /// Starts a worker. Panics when it cannot be built.
    pub fn work(&self, worker: WorkerBuilder) -> Working {
        Working::start(worker.build().expect("a worker"))
    }

    /// Moves the time of this database forward: sleeps, retries, deadlines and schedules that are due by then come at once.
    pub async fn advance(&self, by: Duration) -> Result<(), Error> {
        self.client.database().calls().await?.advance_clock(by).await.map(|_| ())
    }

    /// Lets a run go on until it ends, and moves the time forward whenever it only waits for that: sleeps and waits before
    /// retries take no real time.
    ///
    /// Fails when the run waits for something that no time brings, such as a signal or a worker, for a minute.
    pub async fn run_to_end(&self, run: &RunHandle) -> Result<RunInfo, Error> {
        let begun = Instant::now();
        let mut idle = 0;
        loop {
            let info = run.get().await?;
            if info.state.is_final() {
                return Ok(info);
            }
            let steps = self.client.steps(run.id()).await?;
            let busy = steps.iter().any(|step| matches!(step.state, StepState::Ready | StepState::Running));
            let due = steps
                .iter()
                .filter_map(|step| step.fire_at)
                .chain(info.start_at.filter(|_| info.state == RunState::Pending))
                .min();
            idle = if busy { 0 } else { idle + 1 };
            // Seen twice: between two of its steps a run may look idle.
            if let Some(due) = due.filter(|_| idle > 1) {
                let now = self.client.database().calls().await?.clock().await?;
                if let Ok(wait) = (due - now).to_std() {
                    self.advance(wait).await?;
                }
                idle = 0;
            }
            if begun.elapsed() > PATIENCE {
                let waits: Vec<String> = steps
                    .iter()
                    .filter(|step| step.ended_at.is_none())
                    .map(|step| format!("{} is {}", step.name, step.state))
                    .collect();
                return Err(Error::Unavailable(format!(
                    "run {} has not ended within {PATIENCE:?}: {}",
                    run.id(),
                    waits.join(", ")
                )));
            }
            sleep(LOOK).await;
        }
    }

    /// Removes the database, and checks first that every step was where it must be. On a private server that is not needed: the
    /// server goes with the process.
    pub async fn close(self) {
        let calls = self.client.database().calls().await.expect("the database answers");
        let violations = calls.room_violations().await.expect("the database answers");
        assert!(violations.is_empty(), "steps are in wrong rooms: {violations:#?}");
        drop(calls);
        self.client.database().close();
        admin(&format!("drop database {} with (force)", self.name)).await;
    }
}

fn fresh_name(kind: &str) -> String {
    format!("longhaul_{kind}_{}_{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

fn config_of(name: &str) -> Config {
    let mut config = shared_for_tests();
    config.connection.postgres.dbname(name);
    config
}

/// Does something to the server, on a connection of its own.
async fn admin(sql: &str) {
    let database = Database::new(&shared_for_tests().pool_size(1)).expect("the configuration of the server");
    let connection = database.connection().await.expect("the server answers");
    connection.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

async fn template() -> String {
    let name = fresh_name("template");
    admin(&format!("create database {name}")).await;
    let database = Database::new(&config_of(&name)).expect("the configuration of the server");
    migrate::migrate(&database).await.expect("Longhaul is installed");
    database.close();
    // The server takes a moment to notice that connections are closed, and copies no database that has some.
    let administration = Database::new(&shared_for_tests().pool_size(1)).expect("the configuration of the server");
    let connection = administration.connection().await.expect("the server answers");
    let open = "select count(*) from pg_stat_activity where datname = $1";
    while connection.query_one(open, &[&name]).await.expect("the server answers").get::<_, i64>(0) > 0 {
        sleep(LOOK).await;
    }
    name
}
