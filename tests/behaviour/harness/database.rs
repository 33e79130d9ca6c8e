//! A database for each test, copied from a template with Longhaul installed.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use longhaul::{
    Client, Config, Database, Flow, Scheduler, Step, Worker, WorkerBuilder, calls::Calls, connect::Connection, migrate,
};
use longhaul_ops::embedded::shared_for_tests;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::wait::eventually;

const TEMPLATE: &str = "longhaul_test_template";

static TEMPLATE_MADE: OnceCell<()> = OnceCell::const_new();
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// The database of one test.
#[derive(Clone, Debug)]
pub struct TestDb {
    pub name: String,
    pub config: Config,
    pub database: Database,
}

/// Runs a test on a new database; at its end no step may be in a wrong room. The database is dropped unless the test failed.
pub async fn with_database<Fut: Future<Output = ()>>(test: impl FnOnce(TestDb) -> Fut) {
    let db = TestDb::create().await;
    test(db.clone()).await;
    db.assert_rooms_are_sound().await;
    db.drop_database().await;
}

fn config_for(name: &str) -> Config {
    let mut config = shared_for_tests();
    config.connection.postgres.dbname(name);
    config.pool_size = 12;
    config
}

async fn admin() -> Connection {
    Database::new(&shared_for_tests()).expect("pool").connection().await.expect("the server of the tests")
}

impl TestDb {
    async fn create() -> Self {
        TEMPLATE_MADE
            .get_or_init(|| async {
                let admin = admin().await;
                admin.batch_execute(&format!("drop database if exists {TEMPLATE}")).await.expect("drop template");
                admin.batch_execute(&format!("create database {TEMPLATE}")).await.expect("create template");
                let database = Database::new(&config_for(TEMPLATE)).expect("pool");
                migrate::migrate(&database).await.expect("migrate the template");
                database.close();
                // The server may not have noticed yet that the connections are closed.
                let gone = "select count(*) = 0 from pg_stat_activity where datname = $1";
                while !admin.query_one(gone, &[&TEMPLATE]).await.expect("activity").get::<_, bool>(0) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            })
            .await;
        let name = format!("longhaul_test_{}_{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        admin()
            .await
            .batch_execute(&format!("create database {name} template {TEMPLATE}"))
            .await
            .expect("create database");
        Self::open(&name)
    }

    /// An empty database, for tests of the installation itself.
    pub async fn create_empty() -> Self {
        let name = format!("longhaul_test_{}_{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        admin().await.batch_execute(&format!("create database {name}")).await.expect("create database");
        Self::open(&name)
    }

    pub fn open(name: &str) -> Self {
        let config = config_for(name);
        Self { name: name.into(), database: Database::new(&config).expect("pool"), config }
    }

    pub async fn drop_database(self) {
        self.database.close();
        admin().await.batch_execute(&format!("drop database {} with (force)", self.name)).await.expect("drop database");
    }

    pub async fn assert_rooms_are_sound(&self) {
        let violations = self.calls().await.room_violations().await.expect("violations");
        assert!(violations.is_empty(), "steps in wrong rooms: {violations:#?}");
    }

    pub async fn calls(&self) -> Calls<Connection> {
        self.database.calls().await.expect("connection")
    }

    pub async fn client(&self) -> Client {
        Client::on(self.database.clone()).await.expect("client")
    }

    /// One value of a query.
    pub async fn value<T: for<'a> tokio_postgres::types::FromSql<'a>>(&self, sql: &str) -> T {
        let connection = self.database.connection().await.expect("connection");
        connection.query_one(sql, &[]).await.unwrap_or_else(|e| panic!("{sql}: {e:?}")).get(0)
    }

    pub async fn execute(&self, sql: &str) {
        let connection = self.database.connection().await.expect("connection");
        connection.batch_execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }

    /// Deploys a flow of one step named `a`.
    pub async fn deploy_single(&self, flow: &str, step: Step) {
        self.client().await.deploy(&Flow::new(flow, 1).step(step)).await.expect("deploy");
    }

    /// Waits until a call of this function waits for a lock.
    pub async fn until_blocked(&self, function: &str) {
        let count = format!("select count(*) {}", self.blocked(function));
        eventually("a call is blocked", || async { self.value::<i64>(&count).await > 0 }).await;
    }

    /// Waits until a call of this function waits for a lock, and terminates its backend.
    pub async fn terminate_when_blocked(&self, function: &str) {
        self.until_blocked(function).await;
        self.execute(&format!("select pg_terminate_backend(pid) {}", self.blocked(function))).await;
    }

    /// The sessions whose call of this function waits for a lock.
    fn blocked(&self, function: &str) -> String {
        format!(
            "from pg_stat_activity
             where datname = '{}' and query like '%longhaul.{function}(%' and wait_event_type = 'Lock'",
            self.name
        )
    }

    /// Waits until every run has completed.
    pub async fn until_all_completed(&self) {
        eventually("all runs have completed", || async {
            self.value::<i64>("select count(*) from longhaul.run where state <> 'completed'").await == 0
        })
        .await;
    }

    /// A worker that notices things soon, and does no chores: tests do those when it is time.
    pub fn worker(&self) -> WorkerBuilder {
        Worker::builder(&self.config)
            .without_chores()
            .heartbeat(Duration::from_millis(200))
            .lease(Duration::from_secs(2))
            .poll(Duration::from_millis(200))
            .grace(Duration::from_secs(10))
    }

    /// Starts a worker; it stops when the guard is told to.
    pub fn spawn(&self, builder: WorkerBuilder) -> Running {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let worker = builder.build().expect("worker");
        let task = tokio::spawn(async move { worker.run_until(async move { stopped.cancelled().await }).await });
        Running { stop, task }
    }

    /// Starts a scheduler; it ends with the test's runtime.
    pub fn spawn_scheduler(&self) {
        let scheduler = Scheduler::new(&self.config).expect("scheduler");
        tokio::spawn(scheduler.run_until(std::future::pending()));
    }
}

/// A worker that runs within the test.
pub struct Running {
    pub stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<longhaul::Summary, longhaul::Error>>,
}

impl Running {
    /// Ends it without a word, as a crash of its process would.
    pub fn kill(self) {
        self.task.abort();
    }

    /// Stops it gracefully.
    pub async fn stop(self) -> longhaul::Summary {
        self.stop.cancel();
        self.task.await.expect("the worker's task").expect("the worker")
    }
}
