//! What is computed in the process, without a database: `cargo bench -p longhaul-bench`.

use std::hint::black_box;

use chrono::Utc;
use criterion::{Criterion, criterion_group, criterion_main};
use longhaul::{Flow, Payload, Schedule, Span, Step, cron::CronExpression};
use serde_json::json;

fn parsing(c: &mut Criterion) {
    c.bench_function("cron: next tick of a rare expression", |b| {
        let cron = CronExpression::parse("0 0 29 2 MON", "Europe/Berlin").expect("a valid expression");
        let now = Utc::now();
        b.iter(|| black_box(cron.next(black_box(now))));
    });
    c.bench_function("duration: 2h 30m", |b| b.iter(|| black_box("2h 30m").parse::<Span>()));
    c.bench_function("schedule: made and checked", |b| {
        b.iter(|| Schedule::new(black_box("nightly"), "0 3 * * *", "report"));
    });
}

fn payloads(c: &mut Criterion) {
    let small = json!({ "order": 7, "card": "4242" });
    let large = json!({ "items": (0..1000).map(|n| json!({ "n": n, "text": "some text" })).collect::<Vec<_>>() });
    c.bench_function("payload: 30 bytes", |b| b.iter(|| Payload::new(black_box(&small))));
    c.bench_function("payload: 30 KiB", |b| b.iter(|| Payload::new(black_box(&large))));
}

fn flows(c: &mut Criterion) {
    c.bench_function("flow: 100 steps made and written", |b| {
        b.iter(|| {
            let flow = (1..100).fold(Flow::new("f", 1).step(Step::new("s0", "h")), |flow, n| {
                flow.step(Step::new(format!("s{n}"), "h").after(format!("s{}", n - 1)))
            });
            serde_json::to_string(&flow)
        });
    });
}

criterion_group!(benches, parsing, payloads, flows);
criterion_main!(benches);
