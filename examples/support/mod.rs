//! What the examples share: a private server with Longhaul installed, and a scheduler.
//!
//! In production these are `longhaul migrate` and `longhaul scheduler` beside your workers, and `Config::from_env()`.

use std::time::Duration;

use longhaul::{Client, Config, Database, Scheduler, Worker, WorkerBuilder, migrate};
use longhaul_embedded::{Cluster, ClusterOptions, temporary_folder};

/// What an example gives.
pub type Outcome = Result<(), Box<dyn std::error::Error>>;

/// A server that lives as long as the example.
pub struct Server {
    pub config: Config,
    pub client: Client,
    cluster: Cluster,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Starts a private PostgreSQL, installs Longhaul, and runs a scheduler.
    pub async fn start() -> Result<Self, Box<dyn std::error::Error>> {
        let folder = temporary_folder()?;
        let cluster = ClusterOptions::new(folder.path()).start().await?;
        let config = cluster.config()?;
        migrate::migrate(&Database::new(&config)?).await?;
        tokio::spawn(Scheduler::new(&config)?.run_until(std::future::pending()));
        let client = Client::connect(&config).await?;
        Ok(Self { config, client, cluster, _folder: folder })
    }

    /// A worker of 32 slots, to which handlers are added.
    pub fn worker(&self) -> WorkerBuilder {
        Worker::builder(&self.config).poll(Duration::from_millis(200)).queue("default", 32)
    }

    /// Runs a worker until the example ends.
    pub fn work(worker: WorkerBuilder) -> Result<(), longhaul::Error> {
        tokio::spawn(worker.build()?.run_until(std::future::pending()));
        Ok(())
    }

    pub async fn stop(mut self) {
        self.client.database().close();
        self.cluster.stop().await;
    }
}
