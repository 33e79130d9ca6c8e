//! The handlers of the showcase. They do nothing but take their time, and fail where the input says so.

use std::time::Duration;

use longhaul_schema::Error;
use longhaul_worker::{Registry, StepContext, StepError};
use serde::Deserialize;
use serde_json::{Value, json};

const NAMES: &[&str] = &[
    "bank.charge",
    "bank.refund",
    "ci.build",
    "customers.create",
    "customers.points",
    "customers.verify",
    "deploy.all",
    "deploy.canary",
    "deploy.soak",
    "documents.invoice",
    "etl.extract",
    "etl.index",
    "etl.load",
    "etl.validate",
    "mail.send",
    "media.encode",
    "media.join",
    "media.probe",
    "media.publish",
    "media.split",
    "report.read",
    "report.render",
    "report.sum",
    "stock.give-back",
    "stock.reserve",
    "tape.verify",
    "volume.snapshot",
    "warehouse.pack",
    "warehouse.ship",
];

pub(crate) fn all() -> Result<Registry, Error> {
    let mut registry = Registry::new();
    for name in NAMES {
        registry.add(name, |ctx: StepContext, input: Value| act(ctx, name, input))?;
    }
    Ok(registry)
}

#[derive(Deserialize)]
struct Settings {
    ms: Option<u64>,
}

/// What is to go wrong: in which step, in how many attempts, and how.
#[derive(Deserialize)]
struct Trouble {
    step: String,
    attempts: i32,
    message: String,
    code: Option<String>,
}

async fn act(ctx: StepContext, handler: &'static str, input: Value) -> Result<Value, StepError> {
    let settings: Option<Settings> = ctx.parameters().unwrap_or_default();
    let held = input["hold"].as_object().filter(|hold| hold["step"] == ctx.step()).and_then(|hold| hold["ms"].as_u64());
    let ms = held.or_else(|| settings.and_then(|s| s.ms)).unwrap_or(50);
    // Between three quarters and five quarters of it, the same for an attempt.
    let ms = ms * 3 / 4 + u64::from(ctx.run_id().as_bytes()[15]) * ms / 510;
    if ms > 1_000 {
        long(&ctx, ms).await?;
    } else {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
    let trouble: Option<Trouble> = serde_json::from_value(input["trouble"].clone()).unwrap_or_default();
    if let Some(trouble) = trouble.filter(|t| t.step == ctx.step() && ctx.fencing_token() <= t.attempts) {
        let error = StepError::retry(trouble.message).detail(format!("{handler}, attempt {}", ctx.fencing_token()));
        return Err(match trouble.code {
            Some(code) => error.code(code),
            None => error,
        });
    }
    Ok(outcome(handler, &ctx, &input, ms))
}

async fn long(ctx: &StepContext, ms: u64) -> Result<(), StepError> {
    const PARTS: u64 = 50;
    for part in 0..PARTS {
        ctx.progress(part, PARTS, &format!("part {} of {PARTS}", part + 1)).await?;
        tokio::time::sleep(Duration::from_millis(ms / PARTS)).await;
    }
    Ok(())
}

fn outcome(handler: &str, ctx: &StepContext, input: &Value, ms: u64) -> Value {
    match handler {
        "media.split" => {
            json!({ "parts": (0..input["parts"].as_u64().unwrap_or(6)).map(|n| json!({ "part": n, "frames": 4_800 })).collect::<Vec<_>>() })
        }
        "media.probe" => json!({ "codec": "h264", "width": 3840, "height": 2160, "seconds": 1284.52 }),
        "bank.charge" => json!({ "charge": ctx.idempotency_key(), "amount": input["total"], "currency": "EUR" }),
        "etl.extract" => json!({ "rows": 184_220, "files": ["2026-11-24/a.parquet", "2026-11-24/b.parquet"] }),
        "warehouse.ship" => {
            json!({ "parcel": format!("JD0{:013}", u64::from(ctx.run_id().as_bytes()[9]) * 7_919_317), "carrier": "post" })
        }
        _ => json!({ "took_ms": ms }),
    }
}
