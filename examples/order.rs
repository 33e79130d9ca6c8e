//! Order fulfilment with compensation: reserve the goods, charge the card, send the parcel. When no parcel can be sent, the
//! charge is refunded and the reservation given back, in that order.
//!
//! Reserving writes to a table of this database, in the very transaction that completes the step: exactly once. Charging calls
//! a provider, which is given the step's idempotency key: it charges once, however often it is asked.
//!
//! ```text
//! cargo run --example order
//! ```

mod support;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use longhaul::{Database, Flow, Retry, Step, StepContext, StepError};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use support::{Outcome, Server};

#[derive(Clone, Serialize, Deserialize)]
struct Order {
    id: i32,
    article: String,
    cents: i64,
    country: String,
}

#[derive(Serialize, Deserialize)]
struct Charge {
    number: String,
    cents: i64,
}

/// A payment provider, as good ones are: the same key again changes nothing.
#[derive(Clone, Default)]
struct Bank {
    balance: Arc<Mutex<HashMap<String, i64>>>,
    calls: Arc<Mutex<u32>>,
}

impl Bank {
    fn charge(&self, key: &str, cents: i64) -> Result<Charge, StepError> {
        let mut calls = self.calls.lock().expect("no panics here");
        *calls += 1;
        self.balance.lock().expect("no panics here").insert(key.into(), cents);
        // Every third answer is lost on its way back.
        if calls.is_multiple_of(3) {
            return Err(StepError::retry("the connection to the bank was cut").code("network"));
        }
        Ok(Charge { number: key.into(), cents })
    }

    fn refund(&self, number: &str) {
        self.balance.lock().expect("no panics here").remove(number);
    }

    fn total(&self) -> i64 {
        self.balance.lock().expect("no panics here").values().sum()
    }
}

async fn reserve(ctx: StepContext, order: Order) -> Result<(), StepError> {
    let mut connection = ctx.state::<Database>()?.connection().await?;
    let transaction = connection.transaction().await?;
    let left = transaction
        .execute("update stock set pieces = pieces - 1 where article = $1 and pieces > 0", &[&order.article])
        .await?;
    if left == 0 {
        return Err(StepError::fail(format!("{} is sold out", order.article)).code("sold_out"));
    }
    ctx.complete_in(&transaction, &order.article).await?;
    transaction.commit().await?;
    Ok(())
}

async fn give_back(ctx: StepContext, undo: Value) -> Result<(), StepError> {
    let article = undo["output"].as_str().unwrap_or_default().to_owned();
    let mut connection = ctx.state::<Database>()?.connection().await?;
    let transaction = connection.transaction().await?;
    transaction.execute("update stock set pieces = pieces + 1 where article = $1", &[&article]).await?;
    ctx.complete_in(&transaction, &()).await?;
    transaction.commit().await?;
    Ok(())
}

async fn charge(ctx: StepContext, order: Order) -> Result<Charge, StepError> {
    ctx.state::<Bank>()?.charge(&ctx.idempotency_key(), order.cents)
}

async fn refund(ctx: StepContext, undo: Value) -> Result<(), StepError> {
    let charge: Charge = serde_json::from_value(undo["output"].clone())?;
    ctx.state::<Bank>()?.refund(&charge.number);
    Ok(())
}

async fn send(_: StepContext, order: Order) -> Result<String, StepError> {
    if order.country == "Atlantis" {
        return Err(StepError::fail("nobody delivers to Atlantis").code("undeliverable"));
    }
    Ok(format!("parcel-{}", order.id))
}

#[tokio::main]
async fn main() -> Outcome {
    let server = Server::start().await?;
    let client = &server.client;
    let connection = client.database().connection().await?;
    connection
        .batch_execute(
            "create table stock (article text primary key, pieces int); insert into stock values ('lamp', 12)",
        )
        .await?;

    let flow = Flow::new("order", 1)
        .step(Step::new("reserve", "stock.reserve").compensate("stock.give-back"))
        .step(
            Step::new("charge", "bank.charge")
                .after("reserve")
                .retry(Retry::fixed(10, std::time::Duration::from_millis(20)))
                .compensate("bank.refund"),
        )
        .step(Step::new("send", "parcel.send").after("charge"));
    client.deploy(&flow).await?;

    let bank = Bank::default();
    let worker = server
        .worker()
        .state(bank.clone())
        .state(client.database().clone())
        .handler("stock.reserve", reserve)
        .handler("stock.give-back", give_back)
        .handler("bank.charge", charge)
        .handler("bank.refund", refund)
        .handler("parcel.send", send);
    Server::work(worker)?;

    let order = |id, country: &str| Order { id, article: "lamp".into(), cents: 1999, country: country.into() };
    let orders = (1..=12).map(|id| order(id, if id % 4 == 0 { "Atlantis" } else { "Iceland" }));
    for id in client.start_many("order", orders).await?.ids() {
        let run = client.run(id);
        while run.wait(std::time::Duration::from_secs(10)).await?.is_none() {}
        let info = run.get().await?;
        let steps: Vec<String> =
            client.steps(id).await?.iter().map(|step| format!("{} {}", step.name, step.state)).collect();
        println!("{} {:9} {}", info.id, info.state.as_str(), steps.join(", "));
    }
    let left: i32 = connection.query_one("select pieces from stock", &[]).await?.get(0);
    println!(
        "12 lamps, 9 orders that can be delivered, 3 that cannot: {left} lamps left, {} cents taken",
        bank.total()
    );
    assert_eq!((left, bank.total()), (3, 9 * 1999));
    drop(connection);
    server.stop().await;
    Ok(())
}
