//! A nightly report: at its time, figures are gathered for each region by a child run, and put together. One region's source
//! is down at first; its step is retried, and the report waits.
//!
//! ```text
//! cargo run --example nightly
//! ```

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use longhaul::{Database, Flow, Retry, Start, Step, StepContext, StepError};
use serde_json::{Value, json};
use support::{Outcome, Server};

async fn figures(database: Database, region: String, sql: &'static str) -> Result<Value, StepError> {
    let connection = database.connection().await?;
    let row = connection.query_one(sql, &[&region]).await?;
    Ok(row.get(0))
}

async fn report(ctx: StepContext, _: Value) -> Result<String, StepError> {
    let regions: Vec<Value> = ctx.output("regions").await?;
    let lines = regions
        .iter()
        .map(|r| format!("{:6} {:4} orders {:8} cents", r["region"].as_str().unwrap_or("?"), r["orders"], r["cents"]));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

#[tokio::main]
async fn main() -> Outcome {
    let server = Server::start().await?;
    let client = &server.client;
    let connection = client.database().connection().await?;
    connection
        .batch_execute(
            "create table sale (region text, cents int);
             insert into sale select (array['north', 'south', 'west'])[1 + n % 3], n from generate_series(1, 3000) n",
        )
        .await?;

    client
        .deploy(
            &Flow::new("region", 1)
                .step(Step::new("orders", "sales.orders").retry(Retry::fixed(5, Duration::from_millis(100))))
                .step(Step::new("cents", "sales.cents"))
                .output(json!({ "region": "$.input", "orders": "$.steps.orders", "cents": "$.steps.cents" })),
        )
        .await?;
    client
        .deploy(
            &Flow::new("nightly", 1)
                .timeout(Duration::from_secs(6 * 3600))
                .step(Step::child("regions", "region").for_each("$.input.regions"))
                .step(Step::new("report", "sales.report").after("regions")),
        )
        .await?;

    let down = Arc::new(AtomicBool::new(true));
    let (orders, cents) = (client.database().clone(), client.database().clone());
    let worker = server
        .worker()
        .handler("sales.orders", move |_: StepContext, region: String| {
            let (database, down) = (orders.clone(), down.clone());
            async move {
                if region == "west" && down.swap(false, Ordering::SeqCst) {
                    return Err(StepError::retry("the source of the west is down"));
                }
                figures(database, region, "select to_jsonb(count(*)) from sale where region = $1").await
            }
        })
        .handler("sales.cents", move |_: StepContext, region: String| {
            figures(cents.clone(), region, "select to_jsonb(sum(cents)) from sale where region = $1")
        })
        .handler("sales.report", report);
    Server::work(worker)?;

    // Tonight at three. The example does not wait for that: it moves the database's clock, as a test would.
    let start = Start::new(&json!({ "regions": ["north", "south", "west"] }))?
        .name("sales of the day")
        .delay(Duration::from_secs(9 * 3600));
    let run = client.start_with("nightly", start).await?;
    println!("{}", client.why(run.id(), "regions").await?);
    connection.batch_execute("select longhaul.advance_clock('9 hours')").await?;
    let text: String = run.output().await?;
    println!("{text}");
    assert!(text.contains("north  1000 orders 1501500 cents"), "{text}");
    let retried: i64 =
        connection.query_one("select count(*) from longhaul.attempt where outcome = 'failed'", &[]).await?.get(0);
    assert_eq!(retried, 1);
    drop(connection);
    server.stop().await;
    Ok(())
}
