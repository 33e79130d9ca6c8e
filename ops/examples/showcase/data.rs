//! The runs of the showcase, and all that is not a run.

use std::time::Duration;

use longhaul_scheduler::{Client, Overlap, Schedule, Start};
use longhaul_schema::{
    Payload,
    calls::{NewSignal, QueueLimits, RetentionPolicy, RunState},
};
use serde_json::{Value, json};

use super::Outcome;

const MINUTE: Duration = Duration::from_secs(60);

/// Markup, turned text, escapes, and a name without an end.
pub(crate) fn hostile() -> Vec<String> {
    vec![
        "<img src=x onerror=\"document.title='owned'\">".into(),
        "</script><script>document.title='owned'</script>".into(),
        "invoice \u{202e}fdp.exe\u{202c} \u{2066}left\u{2069}".into(),
        "bell \u{7} escape \u{1b}[31mred\u{1b}[0m tab\tend".into(),
        "W".repeat(200),
        "{{ constructor }} ${7*7} javascript:alert(1)".into(),
    ]
}

/// The input of an order that fails so often in a step.
fn failing(step: &str, attempts: i32, message: &str, code: &str) -> Value {
    json!({ "order": 48_211, "total": 129.9, "trouble": { "step": step, "attempts": attempts, "message": message, "code": code } })
}

/// Before the ordinary ones: what shows something is there at once, however many those are.
async fn start(client: &Client, flow: &str, name: &str, input: &Value) -> Outcome<longhaul_scheduler::RunHandle> {
    Ok(client.start_with(flow, Start::new(input)?.name(name).priority(-10)).await?)
}

/// Everything, with so many ordinary runs.
pub(crate) async fn seed(client: &Client, runs: usize) -> Outcome {
    ordinary(client, runs).await?;
    schedules(client).await?;
    limits(client).await?;
    troubled(client).await?;
    waiting(client).await?;
    steered(client).await?;
    signals(client).await?;
    harmless(client).await
}

async fn ordinary(client: &Client, runs: usize) -> Outcome {
    let mails = runs * 2 / 3;
    for batch in (0..mails).collect::<Vec<_>>().chunks(5_000) {
        let starts = batch
            .iter()
            .map(|n| Start::new(&json!({ "to": format!("customer-{n}@shop.example"), "template": "receipt" })));
        client.start_many("mail.send", starts.collect::<Result<Vec<_>, _>>()?).await?;
    }
    for batch in (mails..runs).collect::<Vec<_>>().chunks(5_000) {
        let starts = batch.iter().map(|n| {
            let order =
                json!({ "order": 40_000 + n, "customer": format!("c-{}", n % 97), "total": (n % 230) as f64 + 0.9 });
            Start::new(&order).map(|start| start.name(format!("order {}", 40_000 + n)))
        });
        client.start_many("shop.order", starts.collect::<Result<Vec<_>, _>>()?).await?;
    }
    Ok(())
}

async fn schedules(client: &Client) -> Outcome {
    client
        .schedule(
            &Schedule::new("nightly-report", "0 3 * * *", "report.nightly")
                .zone("Europe/Berlin")
                .overlap(Overlap::Skip),
        )
        .await?;
    client
        .schedule(
            &Schedule::new("heartbeat-mail", "*/20 * * * * *", "mail.send")
                .input(&json!({ "to": "ops@shop.example" }))?,
        )
        .await?;
    client
        .schedule(
            &Schedule::new("import-hourly", "7 * * * *", "etl.import")
                .input(&json!({ "tenant": "acme" }))?
                .overlap(Overlap::Queue),
        )
        .await?;
    client.schedule(&Schedule::new("weekly-backup", "30 1 * * SUN", "backup.volume").zone("America/New_York")).await?;
    client.pause_schedule("weekly-backup").await?;
    Ok(())
}

async fn limits(client: &Client) -> Outcome {
    client
        .limit_queue(
            "payments",
            &QueueLimits {
                max_running: Some(6),
                rate: Some((50, Duration::from_secs(1))),
                breaker: Some((20, MINUTE)),
            },
        )
        .await?;
    client
        .limit_queue("mail", &QueueLimits { rate: Some((200, Duration::from_secs(1))), ..QueueLimits::default() })
        .await?;
    for policy in [
        RetentionPolicy {
            name: "completed".into(),
            state: Some(RunState::Completed),
            flow: None,
            age: MINUTE * 1440 * 14,
            keep_last: 10,
            archive: false,
        },
        RetentionPolicy {
            name: "mails".into(),
            state: None,
            flow: Some("mail.send".into()),
            age: MINUTE * 1440,
            keep_last: 0,
            archive: false,
        },
        RetentionPolicy {
            name: "failed-to-archive".into(),
            state: Some(RunState::Failed),
            flow: None,
            age: MINUTE * 1440 * 90,
            keep_last: 50,
            archive: true,
        },
    ] {
        let (database, policy) = (client.database(), &policy);
        let tenant = database.tenant();
        database.retrying(|calls| async move { calls.put_retention_policy(tenant, policy).await }).await?;
    }
    for (name, holder) in [("reindex-catalogue", "eu-1/4211"), ("close-of-day", "finance-cron")] {
        if let Some(guard) = client.try_lock(name, holder, MINUTE * 60).await?.acquired() {
            // Held until its time is over: nobody gives it back.
            std::mem::forget(guard);
        }
    }
    Ok(())
}

async fn troubled(client: &Client) -> Outcome {
    for n in 0..14 {
        let declined = failing("charge", 3, "the card was declined: insufficient funds", "card_declined");
        start(client, "shop.order", &format!("order {}", 48_211 + n), &declined).await?;
    }
    for n in 0..5 {
        let broken =
            failing("ship", 3, "POST https://post.example/v2/labels answered 503 Service Unavailable", "carrier_down");
        start(client, "shop.order", &format!("order {}", 48_300 + n), &broken).await?;
    }
    for n in 0..8 {
        start(
            client,
            "shop.order",
            &format!("order {}", 48_400 + n),
            &failing("pack", 1, "the scanner was asleep", "scanner"),
        )
        .await?;
    }
    let schema = json!({ "tenant": "globex", "trouble": { "step": "validate", "attempts": 3, "code": "schema", "message": "column \"ordered_at\" of 2026-11-24/b.parquet is text, and not a time" } });
    start(client, "etl.import", "globex, second half", &schema).await?;
    Ok(())
}

async fn waiting(client: &Client) -> Outcome {
    for (name, parts) in [("Harbour at dawn", 6), ("The long way round", 14), ("Interview with a lighthouse keeper", 9)]
    {
        start(
            client,
            "media.transcode",
            name,
            &json!({ "film": name, "parts": parts, "source": "s3://films/raw/7731.mov" }),
        )
        .await?;
    }
    for (customer, sent) in [("c-1009", true), ("c-1010", true), ("c-1011", false), ("c-1012", false)] {
        start(
            client,
            "customer.onboard",
            &format!("customer {customer}"),
            &json!({ "customer": customer, "country": "SE" }),
        )
        .await?;
        if sent {
            let files = Payload::new(&json!({ "files": ["passport.pdf", "address.pdf"] }))?;
            client
                .send_signal(customer, NewSignal { by: Some("portal".into()), ..NewSignal::new("documents", files) })
                .await?;
        }
    }
    for (n, tenant) in ["acme", "acme", "acme", "globex", "acme", "initech"].iter().enumerate() {
        // The first one holds its key for a while, so that others wait for it.
        let hold = if n == 0 { json!({ "step": "load", "ms": 1_500_000 }) } else { Value::Null };
        start(
            client,
            "etl.import",
            &format!("{tenant} {n}"),
            &json!({ "tenant": tenant, "day": "2026-11-24", "hold": hold }),
        )
        .await?;
    }
    for volume in ["vol-a", "vol-b"] {
        start(client, "backup.volume", volume, &json!({ "volume": volume })).await?;
    }
    start(client, "cluster.rollout", "release 4.18", &json!({ "image": "shop:4.18.0", "regions": ["eu", "us"] }))
        .await?;
    Ok(())
}

async fn steered(client: &Client) -> Outcome {
    let later = Start::new(&json!({ "image": "shop:4.19.0" }))?.name("release 4.19").delay(MINUTE * 90);
    client.start_with("cluster.rollout", later).await?;
    client.start_with("report.nightly", Start::new(&json!({ "day": "2026-11-24" }))?.name("nightly, by hand")).await?;
    let stopped = start(client, "cluster.rollout", "release 4.17", &json!({ "image": "shop:4.17.3" })).await?;
    let paused = start(client, "cluster.rollout", "release 4.16", &json!({ "image": "shop:4.16.9" })).await?;
    stopped.stop().await?;
    paused.pause().await?;
    Ok(())
}

async fn signals(client: &Client) -> Outcome {
    for (topic, key) in [("payment", "order-48211"), ("payment", "order-48214"), ("parcel.delivered", "JD014600")] {
        let payload = Payload::new(&json!({ "key": key, "amount": 129.9 }))?;
        client.send_signal(key, NewSignal { by: Some("webhook".into()), ..NewSignal::new(topic, payload) }).await?;
    }
    Ok(())
}

/// Names and payloads that want to be more than text.
async fn harmless(client: &Client) -> Outcome {
    for name in hostile() {
        let input =
            json!({ &name: &name, "trouble": { "step": "send", "attempts": 3, "message": &name, "code": "hostile" } });
        start(client, "mail.send", &name, &input).await?;
        client
            .send_signal("hostile", NewSignal::new(name.chars().take(150).collect::<String>(), Payload::new(&name)?))
            .await?;
    }
    let endless = json!({ "text": "x".repeat(10_000), "trouble": { "step": "send", "attempts": 3, "message": "y".repeat(10_000), "code": "endless" } });
    start(client, "mail.send", "a payload of 10,000 characters", &endless).await?;
    Ok(())
}

/// Some runs every second.
pub(crate) async fn trickle(client: Client) {
    for n in 0_u64.. {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let order =
            json!({ "order": 60_000 + n, "customer": format!("c-{}", n % 97), "total": (n * 37 % 230) as f64 + 0.9 });
        let mail = json!({ "to": format!("customer-{n}@shop.example"), "template": "receipt" });
        let started = match n % 3 {
            0 => {
                client
                    .start_with(
                        "shop.order",
                        Start::from_payload(Payload::new(&order).expect("JSON")).name(format!("order {}", 60_000 + n)),
                    )
                    .await
            }
            _ => client.start("mail.send", &mail).await,
        };
        if let Err(error) = started {
            eprintln!("a run could not be started: {error}");
        }
    }
}
