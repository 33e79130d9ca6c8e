//! What limits, retention, operators and observers cost, as ratios within one session.
//!
//! ```text
//! cargo bench --bench fleet                    # all measures
//! cargo bench --bench fleet -- limits          # one of them
//! cargo bench --bench fleet -- --json FILE --plots FOLDER
//! ```
//!
//! | measure | target |
//! | --- | --- |
//! | `blocked` (P7) | others drain at 0.9 or more of the rate without 100,000 steps blocked behind a key |
//! | `limits` (P8, R41) | a global limit that does not bind costs at most 10 % |
//! | `retention` (P12) | 200,000 runs/s; p99 of claims at most 1.2 times while it runs |
//! | `operators` (R8) | rename, pause and get beside 5,000 dispatches in flight: p99 at most 10 ms |
//! | `status` (R29) | 100 observers, 10,000 queries/s: p99 at most 0.1 ms, throughput within 2 % |
//! | `waves` | slots between a floor and a ceiling under a load that comes in waves, plotted |
//!
//! A private server is started with `fsync` and `synchronous_commit` on, unless `DATABASE_URL` names one.

use std::{
    error::Error,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Parser;
use longhaul::{
    Client, Concurrency, Config, Database, Flow, Observer, Slots, Step, StepContext, StepError, Worker,
    calls::{NewWorker, QueueLimits, RetentionPolicy},
    connect::Connection,
    migrate,
};
use longhaul_ops::embedded::{ClusterOptions, temporary_folder};
use plotters::prelude::*;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// What limits, retention, operators and observers cost.
#[derive(Parser, Debug)]
struct Arguments {
    /// blocked, limits, retention, operators, status, waves; all of them when none is named.
    measures: Vec<String>,
    /// Runs that are drained in each round.
    #[arg(long, default_value_t = 30_000)]
    runs: usize,
    /// Rounds of each measure, with both orders in turn; medians are printed.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Writes all figures to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Writes plots to this folder.
    #[arg(long)]
    plots: Option<PathBuf>,
    /// Given by `cargo bench`; without meaning.
    #[arg(long, hide = true)]
    bench: bool,
}

struct Bench {
    config: Config,
    client: Client,
    runs: usize,
    rounds: usize,
}

async fn nothing(_: StepContext, _: Value) -> Result<Value, StepError> {
    Ok(Value::Null)
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments = Arguments::parse();
    let folder = temporary_folder()?;
    let mut server = None;
    let config = match std::env::var("DATABASE_URL") {
        Ok(url) if !url.is_empty() => Config::from_url(&url)?,
        _ => {
            let options = ClusterOptions::new(folder.path()).set("shared_buffers", "1GB").set("max_wal_size", "8GB");
            server.insert(options.start().await?).config()?
        }
    };
    migrate::migrate(&Database::new(&config)?).await?;
    let client = Client::connect(&config).await?;
    let bench = Bench { config, client, runs: arguments.runs, rounds: arguments.rounds };
    let all = ["blocked", "limits", "retention", "operators", "status", "waves"];
    let chosen: Vec<&str> = match arguments.measures.as_slice() {
        [] => all.to_vec(),
        named => named.iter().map(String::as_str).collect(),
    };
    let mut record = serde_json::Map::new();
    for measure in chosen {
        let figures = match measure {
            "blocked" => bench.blocked().await?,
            "limits" => bench.limits().await?,
            "retention" => bench.retention().await?,
            "operators" => bench.operators().await?,
            "status" => bench.status().await?,
            "waves" => bench.waves(arguments.plots.as_deref()).await?,
            other => return Err(format!("{other:?} is no measure; there are {}", all.join(", ")).into()),
        };
        println!("{measure}: {figures}");
        record.insert(measure.into(), figures);
    }
    if let Some(file) = &arguments.json {
        std::fs::write(file, serde_json::to_string_pretty(&record)?)?;
    }
    drop(bench);
    if let Some(mut server) = server {
        server.stop().await;
    }
    Ok(())
}

impl Bench {
    async fn connection(&self) -> Outcome<Connection> {
        Ok(self.client.database().connection().await?)
    }

    /// Deploys a flow of one step.
    async fn deploy(&self, name: &str, step: Step) -> Outcome<()> {
        self.client.deploy(&Flow::new(name, 1).step(step)).await?;
        Ok(())
    }

    /// Starts runs, drains them with one worker of 500 slots, and gives runs/s of the draining.
    async fn drain(&self, flow: &str, queue: &str, runs: usize) -> Outcome<f64> {
        self.client.start_many(flow, (0..runs).map(|n| n % 1000)).await?;
        let begun = Instant::now();
        let worker = Worker::builder(&self.config).handler("nothing", nothing)?.queue(queue, 500)?.build()?;
        let observer = worker.observer();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(worker.run_until(async move { stopped.cancelled().await }));
        until_completed(&observer, runs).await;
        let rate = runs as f64 / begun.elapsed().as_secs_f64();
        stop.cancel();
        task.await??;
        Ok(rate)
    }

    /// Two variants in turn, in both orders; gives the medians and the ratio of the second to the first.
    async fn compare(&self, names: [&str; 2], mut variant: impl AsyncFnMut(usize) -> Outcome<f64>) -> Outcome<Value> {
        let mut rates = [Vec::new(), Vec::new()];
        for round in 0..self.rounds {
            for which in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
                rates[which].push(variant(which).await?);
            }
        }
        let [first, second] = rates.map(median);
        Ok(json!({ names[0]: first.round(), names[1]: second.round(), "ratio": rounded(second / first) }))
    }

    async fn blocked(&self) -> Outcome<Value> {
        self.deploy("free", Step::new("a", "nothing").queue("blocked")).await?;
        self.deploy("held", Step::new("a", "nothing").queue("blocked").concurrency(Concurrency::named("one", 1)))
            .await?;
        let without = async || self.drain("free", "blocked", self.runs).await;
        let mut before = Vec::new();
        for _ in 0..self.rounds {
            before.push(without().await?);
        }
        // One step of the key is held by somebody who does not end it; 100,000 wait behind it.
        self.client.start_many("held", vec![1; 100_000]).await?;
        let holder = NewWorker {
            tenant: "default",
            name: "holder",
            host: "bench",
            pid: 0,
            version: "0",
            queues: &["blocked"],
            handlers: &["nothing"],
            slots: 1,
            lease: Duration::from_secs(3600),
        };
        let calls = self.client.database().calls().await?;
        let holder = calls.register_worker(&holder).await?.worker;
        assert_eq!(calls.claim(holder, &["blocked"], &[10]).await?.len(), 1, "one of the key is let in");
        drop(calls);
        let mut after = Vec::new();
        for _ in 0..self.rounds {
            after.push(without().await?);
        }
        let (before, after) = (median(before), median(after));
        Ok(
            json!({ "without": before.round(), "beside_100000_blocked": after.round(), "ratio": rounded(after / before) }),
        )
    }

    async fn limits(&self) -> Outcome<Value> {
        self.deploy("plain", Step::new("a", "nothing").queue("limited")).await?;
        self.deploy(
            "keyed",
            Step::new("a", "nothing").queue("limited").concurrency(Concurrency::per_key("$.input", 2)),
        )
        .await?;
        let wide = QueueLimits { max_running: Some(1_000_000), ..QueueLimits::default() };
        let global = self
            .compare(["plain", "global_limit"], async |which| {
                let limits = if which == 1 { wide } else { QueueLimits::default() };
                self.client.limit_queue("limited", &limits).await?;
                self.drain("plain", "limited", self.runs).await
            })
            .await?;
        self.client.limit_queue("limited", &QueueLimits::default()).await?;
        let keys = self
            .compare(["plain", "thousand_keys_of_two"], async |which| {
                self.drain(["plain", "keyed"][which], "limited", self.runs / 3).await
            })
            .await?;
        Ok(json!({ "global": global, "keys": keys }))
    }

    async fn retention(&self) -> Outcome<Value> {
        self.deploy("kept", Step::new("a", "nothing").queue("retention")).await?;
        let finished = self.runs * 4;
        self.drain("kept", "retention", finished).await?;
        let claims = async || -> Outcome<Vec<f64>> {
            // Single claims and completions, as an idle fleet makes them.
            self.client.start_many("kept", 0..2000).await?;
            let calls = self.client.database().calls().await?;
            let worker = calls
                .register_worker(&NewWorker {
                    tenant: "default",
                    name: "claims",
                    host: "bench",
                    pid: 0,
                    version: "0",
                    queues: &["retention"],
                    handlers: &["nothing"],
                    slots: 1,
                    lease: Duration::from_secs(3600),
                })
                .await?
                .worker;
            let mut times = Vec::new();
            for _ in 0..2000 {
                let begun = Instant::now();
                let claimed = calls.claim(worker, &["retention"], &[1]).await?;
                times.push(begun.elapsed().as_secs_f64() * 1000.0);
                calls.complete(worker, &[(claimed[0].key, longhaul::Payload::null())]).await?;
            }
            Ok(times)
        };
        let quiet = claims().await?;
        let policy = RetentionPolicy {
            name: "all".into(),
            state: None,
            flow: None,
            age: Duration::from_millis(1),
            keep_last: 0,
        };
        self.client.database().calls().await?.put_retention_policy("default", &policy).await?;
        let deleting = tokio::spawn({
            let database = self.client.database().clone();
            async move {
                let (mut deleted, begun) = (0_i64, Instant::now());
                loop {
                    let mut connection = database.connection().await?;
                    connection.set_call_timeout(Duration::from_secs(600));
                    let gone: i64 =
                        connection.query_one("select longhaul.run_retention(null, 1000)", &[]).await?.get(0);
                    deleted += gone;
                    if deleted >= finished as i64 || gone == 0 {
                        return Ok::<f64, longhaul::Error>(deleted as f64 / begun.elapsed().as_secs_f64());
                    }
                }
            }
        });
        let beside = claims().await?;
        let rate = deleting.await??;
        self.client.database().calls().await?.delete_retention_policy("default", "all").await?;
        let (quiet, beside) = (quantile(quiet, 0.99), quantile(beside, 0.99));
        Ok(
            json!({ "partition": self.partition_drop().await?, "deleted_per_s": rate.round(), "claim_p99_ms_quiet": rounded(quiet), "claim_p99_ms_beside": rounded(beside), "ratio": rounded(beside / quiet) }),
        )
    }

    /// Milliseconds that dropping a partition of ended runs takes, with the check that none of them is wanted. The rows are
    /// copies of those that were drained, under ids of last month.
    async fn partition_drop(&self) -> Outcome<Value> {
        let mut connection = self.connection().await?;
        connection.set_call_timeout(Duration::from_secs(600));
        self.drain("kept", "retention", self.runs * 4).await?;
        connection
            .batch_execute(
                "set search_path = longhaul;
                 select make_partition(t, date_trunc('day', now()) - interval '42 days', date_trunc('day', now()) - interval '35 days')
                 from unnest(array['run', 'step', 'attempt', 'fan_out', 'checkpoint', 'event']) t;
                 create temp table old as
                   select id, (lpad(to_hex((extract(epoch from now() - interval '40 days') * 1000)::bigint), 12, '0') || substr(replace(id::text, '-', ''), 13))::uuid as old
                   from run where state = 'completed';
                 insert into run (id, created_at, ended_at, flow_id, open_steps, state, tenant, input)
                   select o.old, r.created_at - interval '40 days', r.ended_at - interval '40 days', r.flow_id, 0, r.state, r.tenant, r.input from run r join old o on o.id = r.id;
                 insert into step (run_id, seq, lane_id, blockers, priority, outcome)
                   select o.old, s.seq, s.lane_id, 0, 0, s.outcome from step s join old o on o.id = s.run_id;
                 reset search_path",
            )
            .await?;
        let runs: i64 = connection.query_one("select count(*) from pg_temp.old", &[]).await?.get(0);
        let policy = RetentionPolicy {
            name: "all".into(),
            state: None,
            flow: None,
            age: Duration::from_secs(30 * 86_400),
            keep_last: 0,
        };
        self.client.database().calls().await?.put_retention_policy("default", &policy).await?;
        let begun = Instant::now();
        let dropped: i64 = connection.query_one("select longhaul.drop_partitions()", &[]).await?.get(0);
        let all = begun.elapsed().as_secs_f64() * 1000.0;
        assert_eq!(dropped, 1, "the partition is dropped");
        self.client.database().calls().await?.delete_retention_policy("default", "all").await?;
        Ok(json!({ "runs": runs, "check_and_drop": rounded(all) }))
    }

    async fn operators(&self) -> Outcome<Value> {
        self.deploy("busy", Step::new("a", "sleeps").queue("operators")).await?;
        let sleeps = |_: StepContext, _: Value| async move {
            tokio::time::sleep(Duration::from_millis(900)).await;
            Ok::<_, StepError>(())
        };
        let worker = Worker::builder(&self.config).handler("sleeps", sleeps)?.queue("operators", 5000)?.build()?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let ids = self.client.start_many("busy", 0..60_000).await?.ids();
        let task = tokio::spawn(worker.run_until(async move { stopped.cancelled().await }));
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (mut rename, mut pause, mut get) = (Vec::new(), Vec::new(), Vec::new());
        for id in ids.iter().rev().take(1500) {
            let run = self.client.run(*id);
            let time = async |times: &mut Vec<f64>, call: &mut (dyn Future<Output = ()> + Unpin + Send)| {
                let begun = Instant::now();
                call.await;
                times.push(begun.elapsed().as_secs_f64() * 1000.0);
            };
            time(&mut rename, &mut Box::pin(async { _ = run.rename(Some("renamed")).await })).await;
            time(&mut pause, &mut Box::pin(async { _ = run.pause().await })).await;
            time(&mut get, &mut Box::pin(async { _ = run.get().await })).await;
        }
        let running =
            self.connection().await?.query_one("select count(*) from longhaul.lease", &[]).await?.get::<_, i64>(0);
        stop.cancel();
        // What is left is of no interest.
        task.abort();
        self.connection()
            .await?
            .batch_execute("update longhaul.worker set expires_at = now() - interval '1 hour'")
            .await?;
        Ok(json!({
            "in_flight": running, "rename_p99_ms": rounded(quantile(rename, 0.99)), "pause_p99_ms": rounded(quantile(pause, 0.99)),
            "get_p99_ms": rounded(quantile(get, 0.99)),
        }))
    }

    async fn status(&self) -> Outcome<Value> {
        self.deploy("watched", Step::new("a", "nothing").queue("status")).await?;
        let times = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let outcome = self
            .compare(["alone", "with_100_observers"], async |which| {
                self.client.start_many("watched", 0..self.runs).await?;
                let begun = Instant::now();
                let worker =
                    Worker::builder(&self.config).handler("nothing", nothing)?.queue("status", 500)?.build()?;
                let observer = worker.observer();
                let stop = CancellationToken::new();
                let stopped = stop.clone();
                let task = tokio::spawn(worker.run_until(async move { stopped.cancelled().await }));
                let observers: Vec<_> = (0..100 * which)
                    .map(|_| {
                        let (observer, times) = (observer.clone(), times.clone());
                        tokio::spawn(async move {
                            let mut own = Vec::new();
                            loop {
                                let begun = Instant::now();
                                std::hint::black_box(observer.status());
                                own.push(begun.elapsed().as_secs_f64() * 1000.0);
                                if own.len() == 20 {
                                    times.lock().expect("no panics here").append(&mut own);
                                }
                                tokio::time::sleep(Duration::from_millis(10)).await;
                            }
                        })
                    })
                    .collect();
                until_completed(&observer, self.runs).await;
                let rate = self.runs as f64 / begun.elapsed().as_secs_f64();
                for observer in observers {
                    observer.abort();
                }
                stop.cancel();
                task.await??;
                Ok(rate)
            })
            .await?;
        let times = std::mem::take(&mut *times.lock().expect("no panics here"));
        Ok(
            json!({ "throughput": outcome, "queries": times.len(), "status_p99_ms": (quantile(times, 0.99) * 1e5).round() / 1e5 }),
        )
    }

    async fn waves(&self, plots: Option<&Path>) -> Outcome<Value> {
        self.deploy("wave", Step::new("a", "short").queue("waves")).await?;
        let short = |_: StepContext, _: Value| async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok::<_, StepError>(())
        };
        let worker = Worker::builder(&self.config)
            .handler("short", short)?
            .queue("waves", Slots::between(4, 256))?
            .poll(Duration::from_millis(100))
            .build()?;
        let observer = worker.observer();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(worker.run_until(async move { stopped.cancelled().await }));
        let mut points = Vec::new();
        let begun = Instant::now();
        for wave in 0..3 {
            self.client.start_many("wave", vec![wave; 3000]).await?;
            let next = Instant::now() + Duration::from_secs(6);
            while Instant::now() < next {
                tokio::time::sleep(Duration::from_millis(50)).await;
                if let Some((_, figure)) = observer.status().queues.first() {
                    let waiting = 3000.0 * f64::from(wave + 1) - figure.completed as f64;
                    points.push((
                        begun.elapsed().as_secs_f64(),
                        f64::from(figure.slots),
                        f64::from(figure.running),
                        waiting,
                    ));
                }
            }
        }
        stop.cancel();
        task.await??;
        let most = points.iter().map(|p| p.1).fold(0.0, f64::max);
        let least = points.iter().rev().take(10).map(|p| p.1).fold(f64::MAX, f64::min);
        if let Some(folder) = plots {
            std::fs::create_dir_all(folder)?;
            plot(&folder.join("waves.svg"), &points)?;
        }
        Ok(json!({ "most_slots": most, "slots_at_the_end": least }))
    }
}

/// Slots and running steps over time, under the steps that wait.
fn plot(file: &Path, points: &[(f64, f64, f64, f64)]) -> Outcome<()> {
    let root = SVGBackend::new(file, (900, 420)).into_drawing_area();
    root.fill(&WHITE)?;
    let end = points.last().map_or(1.0, |p| p.0);
    let mut chart = ChartBuilder::on(&root)
        .caption("Slots between 4 and 256, three waves of 3,000 steps of 50 ms", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .right_y_label_area_size(56)
        .build_cartesian_2d(0.0..end, 0.0..280.0)?
        .set_secondary_coord(0.0..end, 0.0..3300.0);
    chart.configure_mesh().x_desc("seconds").y_desc("slots, running").draw()?;
    chart.configure_secondary_axes().y_desc("steps that wait").draw()?;
    let waiting = AreaSeries::new(points.iter().map(|p| (p.0, p.3)), 0.0, RGBColor(200, 200, 200).mix(0.5));
    chart
        .draw_secondary_series(waiting)?
        .label("waiting")
        .legend(|(x, y)| Rectangle::new([(x, y - 4), (x + 16, y + 4)], RGBColor(200, 200, 200)));
    for (name, colour, value) in [("slots", BLUE, 0), ("running", RED, 1)] {
        let line = points.iter().map(|p| (p.0, if value == 0 { p.1 } else { p.2 }));
        chart
            .draw_series(LineSeries::new(line, &colour))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
    }
    chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
    root.present()?;
    Ok(())
}

async fn until_completed(observer: &Observer, runs: usize) {
    while observer.status().queues.first().is_none_or(|(_, figure)| figure.completed < runs as i64) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn median(values: Vec<f64>) -> f64 {
    quantile(values, 0.5)
}

fn quantile(mut values: Vec<f64>, part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(((values.len() as f64 * part) as usize).min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
