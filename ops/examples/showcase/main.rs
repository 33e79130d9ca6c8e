//! A whole installation in which everything is to be seen: flows of many kinds, runs in every state, retries, waits, questions,
//! schedules, locks, limits, dead letters, names that try to be markup. For work on the console, for its tests, for a first look.
//!
//! ```text
//! cargo run -p longhaul-ops --example showcase
//! cargo run -p longhaul-ops --example showcase -- --runs 100000 --still
//! ```
//!
//! It prints the console's address as JSON, and runs until Ctrl-C. All of it stands in a temporary folder.

mod data;
mod flows;
mod handlers;
mod past;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Parser;
use longhaul_ops::{
    embedded::{ClusterOptions, temporary_folder},
    serve::{ServeOptions, Server},
};
use longhaul_scheduler::{Client, Scheduler};
use longhaul_schema::{Config, Database, migrate};
use longhaul_worker::{Slots, Worker, shutdown_signal};

/// What an example gives.
type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// An installation in which everything is to be seen.
#[derive(Parser)]
struct Options {
    /// So many ordinary runs beside those that show something.
    #[arg(long, default_value_t = 300)]
    runs: usize,
    /// No runs but those: without it, some start every second.
    #[arg(long)]
    still: bool,
    /// Address of the console.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Take the files of the console from this folder.
    #[arg(long)]
    console: Option<PathBuf>,
}

/// A worker with some of the queues.
fn worker(config: &Config, name: &str, queues: &[(&str, usize)]) -> Result<Worker, longhaul_schema::Error> {
    let builder = Worker::builder(config).name(name).poll(Duration::from_millis(500)).without_chores();
    let builder = builder.registry(handlers::all()?);
    let builder = queues.iter().fold(builder, |builder, (queue, slots)| builder.queue(queue, Slots::from(*slots)));
    builder.build()
}

#[tokio::main]
async fn main() -> Outcome {
    let options = Options::parse();
    let folder = temporary_folder()?;
    let mut cluster = ClusterOptions::new(folder.path()).start().await?;
    let config = cluster.config()?;
    let database = Database::new(&config)?;
    migrate::migrate(&database).await?;
    let client = Client::on(database).await?;

    tokio::spawn(Scheduler::new(&config)?.run_until(std::future::pending()));
    for flow in flows::all() {
        client.deploy(&flow).await?;
    }
    for (name, queues) in [
        ("eu-1", [("default", 16), ("payments", 4), ("mail", 8)]),
        ("eu-2", [("default", 16), ("payments", 4), ("media", 2)]),
        ("us-1", [("default", 8), ("mail", 8), ("media", 4)]),
    ] {
        tokio::spawn(worker(&config, name, &queues)?.run_until(std::future::pending()));
    }
    past::make_up(&client).await?;
    data::seed(&client, options.runs).await?;
    if !options.still {
        tokio::spawn(data::trickle(client.clone()));
    }

    let serve = ServeOptions { console: options.console, ..ServeOptions::on(options.listen) };
    let server = Server::bind(&config, serve).await?;
    println!("{}", serde_json::json!({ "url": server.url() }));
    server.run_until(shutdown_signal()).await?;
    client.database().close();
    cluster.stop().await;
    Ok(())
}
