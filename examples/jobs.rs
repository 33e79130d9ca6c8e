//! Typed jobs: the program that starts a job and the worker that does it agree on name, input and output, or do not compile.
//! The handler shares a bank with others, and a middleware logs how long each attempt took.
//!
//! ```text
//! cargo run --example jobs
//! ```

mod support;

use std::time::Instant;

use longhaul::{BoxFuture, Job, Middleware, Next, Payload, StepContext, StepError, Unique};
use serde::{Deserialize, Serialize};
use support::{Outcome, Server};

#[derive(Serialize, Deserialize)]
struct Order {
    id: u64,
    cents: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Receipt {
    number: String,
}

const CHARGE: Job<Order, Receipt> = Job::new("payment.charge");

/// What the handlers share.
struct Bank {
    name: &'static str,
}

async fn charge(ctx: StepContext, order: Order) -> Result<Receipt, StepError> {
    let bank = ctx.state::<Bank>()?;
    // A real bank is given the idempotency key, and charges once however often it is asked.
    let key = ctx.idempotency_key();
    println!("{} takes {} cents for order {}", bank.name, order.cents, order.id);
    Ok(Receipt { number: format!("{}-{key}", bank.name) })
}

struct Timed;

impl Middleware for Timed {
    fn call<'a>(
        &'a self,
        ctx: StepContext,
        input: Payload,
        next: Next<'a>,
    ) -> BoxFuture<'a, Result<Payload, StepError>> {
        Box::pin(async move {
            let begun = Instant::now();
            let outcome = next.run(ctx.clone(), input).await;
            println!("attempt {} at {} took {:?}", ctx.attempt(), ctx.step(), begun.elapsed());
            outcome
        })
    }
}

#[tokio::main]
async fn main() -> Outcome {
    let server = Server::start().await?;
    Server::work(server.worker().state(Bank { name: "north" }).middleware(Timed).job(CHARGE, charge))?;

    // The first start deploys the job. `output` is a Receipt: the compiler knows.
    let order = Order { id: 7, cents: 1999 };
    let run = server.client.start_job(CHARGE, &order).await?;
    println!("receipt {}", run.output().await?.number);

    // With options: a request that comes twice starts one run.
    let once = |start: longhaul::Start| start.unique("order-8", Unique::Forever);
    let order = Order { id: 8, cents: 500 };
    let first = server.client.start_job_with(CHARGE, &order, once).await?;
    let second = server.client.start_job_with(CHARGE, &order, once).await?;
    assert_eq!(first.id(), second.id());

    let orders = (100..110).map(|id| Order { id, cents: 100 });
    let started = server.client.start_jobs(CHARGE, orders).await?;
    for id in started.ids() {
        server.client.run(id).output::<Receipt>().await?;
    }
    server.stop().await;
    Ok(())
}
