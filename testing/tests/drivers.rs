//! Starts and completions in transactions of other drivers, and in plain SQL as docs/transactions.md has it.

use longhaul_scheduler::{Client, Start, Unique};
use longhaul_schema::{
    Config, Error, Flow, Step,
    calls::{JsonStatement, RunState},
};
use longhaul_testing::TestDatabase;
use longhaul_worker::{StepContext, StepError};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};

async fn connect(config: &Config) -> PgConnection {
    let url = config.connection.to_url();
    let options = config.connection.postgres.clone();
    let host = match options.get_hosts().first() {
        Some(tokio_postgres::config::Host::Unix(folder)) => folder.display().to_string(),
        Some(tokio_postgres::config::Host::Tcp(name)) => name.clone(),
        None => panic!("{url} names no host"),
    };
    let mut sqlx = PgConnectOptions::new()
        .host(&host)
        .port(*options.get_ports().first().unwrap_or(&5432))
        .username(options.get_user().expect("a user"))
        .database(options.get_dbname().expect("a database"));
    if let Some(password) = options.get_password() {
        sqlx = sqlx.password(std::str::from_utf8(password).expect("a text"));
    }
    PgConnection::connect_with(&sqlx).await.expect("sqlx connects")
}

async fn flow(db: &TestDatabase) -> &Client {
    let client = db.client();
    client.deploy(&Flow::new("ship", 1).step(Step::new("pack", "pack"))).await.unwrap();
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_in_a_transaction_of_sqlx_is_one_with_what_the_caller_wrote() {
    let db = TestDatabase::new().await;
    let client = flow(&db).await;
    let mut sqlx = connect(db.config()).await;
    sqlx::query("create table orders (id int primary key)").execute(&mut sqlx).await.unwrap();
    for (id, pays) in [(1, true), (2, false), (3, true)] {
        let mut transaction = sqlx.begin().await.unwrap();
        sqlx::query("insert into orders values ($1)").bind(id).execute(&mut *transaction).await.unwrap();
        let start = Start::new(&id).unwrap().name(format!("order {id}")).priority(-3);
        let start =
            start.metadata(&serde_json::json!({ "id": id })).unwrap().unique(format!("order-{id}"), Unique::Forever);
        let first = client.start_in(&mut transaction, "ship", start.clone()).await.unwrap();
        let again = Start::new(&id).unwrap().unique(format!("order-{id}"), Unique::Forever);
        let second = client.start_in(&mut *transaction, "ship", again).await.unwrap();
        assert_eq!(first, second, "the key holds within the transaction as well");
        if pays { transaction.commit().await.unwrap() } else { transaction.rollback().await.unwrap() }
    }
    let runs = client.list(&Default::default()).await.unwrap();
    let mut names: Vec<_> = runs.iter().filter_map(|run| run.name.as_deref()).collect();
    names.sort_unstable();
    assert_eq!(names, ["order 1", "order 3"]);

    let mut transaction = sqlx.begin().await.unwrap();
    let starts: Vec<i32> = (10..20).collect();
    let started = client.start_many_in(&mut transaction, "ship", starts).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(started.started.len(), 10);

    let mut transaction = sqlx.begin().await.unwrap();
    let error = client.start_in(&mut transaction, "no such flow", Start::new(&1).unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::NotFound(_)), "{error:?}");
    drop(transaction);
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_is_completed_in_a_transaction_of_sqlx() {
    let db = TestDatabase::new().await;
    let client = flow(&db).await;
    let mut sqlx = connect(db.config()).await;
    sqlx::query("create table packed (id int)").execute(&mut sqlx).await.unwrap();
    let pack = |ctx: StepContext, id: i32| async move {
        let mut sqlx = connect(ctx.state::<Config>()?).await;
        let mut transaction = sqlx.begin().await?;
        sqlx::query("insert into packed values ($1)").bind(id).execute(&mut *transaction).await?;
        ctx.complete_in(&mut transaction, &format!("packed {id}")).await?;
        transaction.commit().await?;
        Ok(String::new())
    };
    let worker = db.work(db.worker().state(db.config().clone()).handler("pack", pack));
    let run = client.start("ship", &7).await.unwrap();
    assert_eq!(db.run_to_end(&run).await.unwrap().state, RunState::Completed);
    assert_eq!(run.output::<String>().await.unwrap(), "packed 7");
    let packed: i64 = sqlx::query_scalar("select count(*) from packed").fetch_one(&mut sqlx).await.unwrap();
    assert_eq!(packed, 1);
    worker.stop().await.unwrap();
    db.close().await;
}

/// As a program would wrap a driver that Longhaul does not know.
struct Other<'a>(&'a tokio_postgres::Transaction<'a>);

impl JsonStatement for Other<'_> {
    async fn json(&mut self, sql: &str, parameter: &str) -> Result<String, Error> {
        let row = self.0.query_one(sql, &[&parameter]).await.map_err(|error| Error::Driver(error.into()))?;
        row.try_get(0).map_err(|error| Error::Driver(error.into()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_longhaul_does_not_know_needs_one_method() {
    let db = TestDatabase::new().await;
    let client = flow(&db).await;
    let mut connection = client.database().connection().await.unwrap();
    let transaction = (**connection).transaction().await.unwrap();
    let id = client.start_in(&mut Other(&transaction), "ship", Start::new(&1).unwrap()).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(client.get(id).await.unwrap().state, RunState::Running);
    drop(connection);
    db.close().await;
}

/// The SQL blocks of the page that a program sends with parameters, in their order.
fn blocks() -> Vec<&'static str> {
    let page = include_str!("../../docs/transactions.md");
    let blocks = page.split("```sql\n").skip(1).map(|rest| rest.split("```").next().expect("the block ends"));
    blocks.filter(|block| block.contains("$1")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_statements_of_the_documentation_start_and_complete() {
    let db = TestDatabase::new().await;
    let client = flow(&db).await;
    let [start, complete] = blocks()[..] else { panic!("two blocks: {:?}", blocks()) };

    let connection = client.database().connection().await.unwrap();
    let input = serde_json::json!(7);
    let row = connection.query_one(start, &[&"ship", &input, &"order-7"]).await.unwrap();
    let again = connection.query_one(start, &[&"ship", &input, &"order-7"]).await.unwrap();
    assert_eq!(row.get::<_, uuid::Uuid>(0), again.get::<_, uuid::Uuid>(0));
    let run = client.run(row.get(0));

    let pack = move |ctx: StepContext, _: i32| async move {
        let connection = ctx.state::<longhaul_schema::Database>()?.connection().await?;
        let key = ctx.attempt_key();
        let output = serde_json::json!("packed");
        let (worker, id, seq, attempt) = (ctx.worker(), key.step.run_id, key.step.seq, key.attempt);
        let refused = connection.query(complete, &[&worker, &id, &seq, &attempt, &output]).await?;
        assert!(refused.is_empty());
        Err::<(), _>(StepError::retry("the completion in the database counts"))
    };
    let worker = db.work(db.worker().state(client.database().clone()).handler("pack", pack));
    assert_eq!(db.run_to_end(&run).await.unwrap().state, RunState::Completed);
    assert_eq!(run.output::<String>().await.unwrap(), "packed");
    worker.stop().await.unwrap();
    drop(connection);
    db.close().await;
}
