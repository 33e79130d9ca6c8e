//! The flows of the showcase.

use std::time::Duration;

use longhaul_schema::{Approval, Concurrency, Flow, OnTimeout, Retry, Step, WaitSignal};
use serde_json::json;

/// A step that takes about so many milliseconds.
fn work(name: &str, handler: &str, ms: u64) -> Step {
    Step::new(name, handler).with("ms", ms).retry(Retry::fixed(3, Duration::from_millis(400)))
}

/// All of them.
pub(crate) fn all() -> Vec<Flow> {
    vec![order(1), order(2), transcode(), report(), region(), onboard(), import(), mail(), backup(), rollout()]
}

fn order(version: i32) -> Flow {
    let flow = Flow::new("shop.order", version)
        .step(work("reserve", "stock.reserve", 120).compensate("stock.give-back"))
        .step(work("charge", "bank.charge", 260).after("reserve").queue("payments").compensate("bank.refund"))
        .step(work("invoice", "documents.invoice", 90).after("charge"))
        .step(work("pack", "warehouse.pack", 340).after("charge"))
        .step(work("ship", "warehouse.ship", 200).after("pack").after("invoice"))
        .step(work("notify", "mail.send", 60).after("ship").queue("mail"));
    if version == 1 {
        return flow;
    }
    flow.step(work("loyalty", "customers.points", 50).after("charge").when("$.input.total > 100"))
}

fn transcode() -> Flow {
    Flow::new("media.transcode", 1)
        .phase("prepare", [work("probe", "media.probe", 150), work("split", "media.split", 300).after("probe")])
        .phase("encode", [work("encode", "media.encode", 900).queue("media").for_each("$.steps.split.parts").window(6)])
        .phase(
            "finish",
            [
                work("join", "media.join", 400).queue("media"),
                work("publish", "media.publish", 100).after("join").approval(
                    Approval::ask("Publish the film?")
                        .choices(["publish", "unlisted", "reject"])
                        .expires(Duration::from_secs(2 * 86_400), "reject"),
                ),
            ],
        )
}

fn report() -> Flow {
    Flow::new("report.nightly", 3)
        .step(Step::child("north", "report.region").input(json!({ "region": "north" })))
        .step(Step::child("south", "report.region").input(json!({ "region": "south" })))
        .step(work("render", "report.render", 300).after("north").after("south"))
        .step(work("send", "mail.send", 60).after("render").queue("mail"))
}

fn region() -> Flow {
    Flow::new("report.region", 1)
        .step(work("read", "report.read", 200))
        .step(work("sum", "report.sum", 100).after("read"))
}

fn onboard() -> Flow {
    Flow::new("customer.onboard", 1)
        .step(work("account", "customers.create", 80))
        .step(
            Step::wait_signal(
                "documents",
                WaitSignal::new("documents")
                    .key("$.input.customer")
                    .timeout(Duration::from_secs(7 * 86_400), OnTimeout::Fail),
            )
            .after("account"),
        )
        .step(work("verify", "customers.verify", 200).after("documents").approval(
            Approval::ask("Are these documents good?").choices(["accept", "ask-again", "reject"]).by(["anna", "bert"]),
        ))
        .step(Step::sleep("cooling-off", Duration::from_secs(3 * 86_400)).after("account"))
        .step(work("welcome", "mail.send", 60).after("verify").after("cooling-off").queue("mail"))
}

fn import() -> Flow {
    Flow::new("etl.import", 5)
        .step(work("extract", "etl.extract", 2_500))
        .step(work("validate", "etl.validate", 200).after("extract"))
        .step(work("load", "etl.load", 1_500).after("validate").concurrency(Concurrency {
            name: Some("warehouse".into()),
            key: Some(json!("$.input.tenant")),
            limit: 1,
        }))
        .step(work("index", "etl.index", 300).after("load"))
}

fn mail() -> Flow {
    Flow::new("mail.send", 1).step(work("send", "mail.send", 40).queue("mail"))
}

/// Nobody registers `tape.write`: its runs do not move.
fn backup() -> Flow {
    Flow::new("backup.volume", 1)
        .step(work("snapshot", "volume.snapshot", 150))
        .step(work("write", "tape.write", 100).after("snapshot"))
        .step(work("verify", "tape.verify", 100).after("write"))
}

fn rollout() -> Flow {
    Flow::new("cluster.rollout", 2)
        .step(work("build", "ci.build", 400))
        .step(work("canary", "deploy.canary", 300).after("build"))
        .step(work("soak", "deploy.soak", 1_200_000).after("canary"))
        .step(work("everywhere", "deploy.all", 300).after("soak"))
}
