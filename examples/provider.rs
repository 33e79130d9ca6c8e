//! An outside provider with late, doubled, early and missing callbacks. A step hands its work out and ends its slot; the
//! completion comes as a signal, whenever it comes.
//!
//! ```text
//! cargo run --example provider
//! ```

mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use longhaul::{Client, Flow, Payload, Retry, Step, StepContext, StepError};
use serde_json::json;
use support::{Outcome, Server};

/// Prints parcels' labels somewhere else. In real life its callback is an HTTP request to your service, which calls
/// `complete_external`.
struct Printer {
    client: Client,
    ordered: Arc<Mutex<Vec<u32>>>,
}

impl Printer {
    /// Takes an order and calls back, in its own way.
    fn order(&self, parcel: u32, attempt: u32) -> Result<(), StepError> {
        self.ordered.lock().expect("no panics here").push(parcel);
        let (late, times) = match (parcel % 4, attempt) {
            // Busy at first: the step is deferred, which consumes no attempt.
            (0, _) if self.ordered.lock().expect("no panics here").iter().filter(|p| **p == parcel).count() < 3 => {
                return Err(StepError::defer_for(Duration::from_millis(50), "the printer is busy"));
            }
            (0, _) => (10, 1),
            // Before the step waits, and doubled.
            (1, _) => (0, 3),
            // Late.
            (2, _) => (700, 1),
            // Never at the first attempt.
            (_, 1) => return Ok(()),
            (_, _) => (10, 2),
        };
        let client = self.client.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(late)).await;
            for copy in 1..=times {
                let label = Payload::new(&json!({ "label": format!("{parcel}.pdf"), "copy": copy })).expect("JSON");
                client.complete_external("label.printed", &parcel.to_string(), Ok(&label)).await.expect("the callback");
            }
        });
        Ok(())
    }
}

async fn print(ctx: StepContext, parcel: u32) -> Result<(), StepError> {
    ctx.state::<Printer>()?.order(parcel, ctx.attempt())?;
    // The slot is free from here on. Without a callback in a second the attempt has failed.
    Err(StepError::dispatched("label.printed", parcel.to_string(), Some(Duration::from_secs(1))))
}

#[tokio::main]
async fn main() -> Outcome {
    let server = Server::start().await?;
    let client = &server.client;
    let retry = Retry::fixed(3, Duration::from_millis(50));
    let flow = Flow::new("label", 1)
        .step(Step::new("print", "printer.order").retry(retry))
        .output(json!({ "label": "$.steps.print.label", "copy": "$.steps.print.copy" }));
    client.deploy(&flow).await?;

    let printer = Printer { client: client.clone(), ordered: Arc::default() };
    let worker = server.worker().state(printer).handler("printer.order", print);
    Server::work(worker)?;

    let ids = client.start_many("label", 0..20_u32).await?.ids();
    for (parcel, id) in ids.into_iter().enumerate() {
        let label: serde_json::Value = client.run(id).output().await?;
        let attempts: Vec<String> = client.attempts(id).await?.into_iter().map(|a| a.outcome).collect();
        println!("parcel {parcel:2}: {label}  ({})", attempts.join(", "));
        assert_eq!(label, json!({ "label": format!("{parcel}.pdf"), "copy": 1 }), "the first callback counts");
        assert_eq!(attempts.iter().filter(|outcome| *outcome == "timed_out").count(), usize::from(parcel % 4 == 3));
    }
    server.stop().await;
    Ok(())
}
