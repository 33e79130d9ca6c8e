//! Settings of a worker.

use std::{sync::Arc, time::Duration};

use longhaul_schema::{Config, Database, Error, names::check_label};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Policy, Registry, StepContext, StepError,
    session::{self, Summary},
};

/// Everything a session needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) host: String,
    pub(crate) queues: Vec<(String, usize)>,
    pub(crate) heartbeat: Duration,
    pub(crate) lease: Duration,
    pub(crate) poll: Duration,
    pub(crate) grace: Duration,
    pub(crate) max_payload: usize,
    pub(crate) max_history: usize,
    pub(crate) policies: Arc<[Arc<dyn Policy>]>,
}

/// Makes a [`Worker`]; see there.
#[derive(Debug)]
pub struct WorkerBuilder {
    config: Config,
    registry: Registry,
    settings: Settings,
    lease: Option<Duration>,
}

impl WorkerBuilder {
    fn new(config: &Config) -> Self {
        let host = hostname();
        let settings = Settings {
            name: host.clone(),
            host,
            queues: Vec::new(),
            heartbeat: Duration::from_secs(30),
            lease: Duration::ZERO,
            poll: Duration::from_secs(2),
            grace: Duration::from_secs(30),
            max_payload: 0,
            max_history: 0,
            policies: Arc::new([]),
        };
        Self { config: config.clone(), registry: Registry::new(), settings, lease: None }
    }

    /// Adds a handler: an async function `(StepContext, In) -> Result<Out, StepError>`.
    pub fn handler<F, In, Out, Fut>(mut self, name: &str, function: F) -> Result<Self, Error>
    where
        F: Fn(StepContext, In) -> Fut + Send + Sync + 'static,
        In: DeserializeOwned + Send + 'static,
        Out: Serialize + 'static,
        Fut: Future<Output = Result<Out, StepError>> + Send + 'static,
    {
        self.registry.add(name, function)?;
        Ok(self)
    }

    /// Adds all handlers of a registry.
    pub fn registry(mut self, registry: Registry) -> Result<Self, Error> {
        self.registry.merge(registry)?;
        Ok(self)
    }

    /// Keeps only these of the handlers added so far.
    pub fn allow(mut self, handlers: &[&str]) -> Result<Self, Error> {
        self.registry.allow(handlers)?;
        Ok(self)
    }

    /// Claims from this queue, at most so many steps at a time (1 to 10,000). Without any queue: `default` with 16.
    pub fn queue(mut self, name: &str, slots: usize) -> Result<Self, Error> {
        check_label("queue", name)?;
        if !(1..=10_000).contains(&slots) {
            return Err(Error::Invalid(format!("queue {name}: slots are from 1 to 10000, not {slots}")));
        }
        if self.settings.queues.iter().any(|(known, _)| known == name) {
            return Err(Error::Conflict(format!("queue {name} is named twice")));
        }
        self.settings.queues.push((name.into(), slots));
        Ok(self)
    }

    /// Asks this policy, after those added before, whether a step may begin.
    pub fn policy(mut self, policy: impl Policy) -> Self {
        let policies = self.settings.policies.iter().cloned().chain([Arc::new(policy) as Arc<dyn Policy>]);
        self.settings.policies = policies.collect();
        self
    }

    /// A name for people; the host's name by default. Need not be unique.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = name.into();
        self
    }

    /// How often the worker says that it lives; 30 s by default. Its leases live for three times as long.
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.settings.heartbeat = interval;
        self
    }

    /// How long leases live after a heartbeat, if not for three intervals; from 100 ms to a day.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// How often an idle worker looks for work that it was not notified of; 2 s by default.
    pub fn poll(mut self, interval: Duration) -> Self {
        self.settings.poll = interval;
        self
    }

    /// How long running steps may go on at shutdown before they are handed back; 30 s by default.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.settings.grace = grace;
        self
    }

    /// Checks the settings.
    pub fn build(mut self) -> Result<Worker, Error> {
        if self.registry.names().next().is_none() {
            return Err(Error::Invalid("the worker has no handlers".into()));
        }
        if self.settings.queues.is_empty() {
            self.settings.queues.push(("default".into(), 16));
        }
        let settings = &mut self.settings;
        settings.lease = self.lease.unwrap_or(settings.heartbeat * 3);
        if settings.heartbeat.is_zero() || settings.lease < settings.heartbeat * 2 {
            return Err(Error::Invalid(format!(
                "a lease of {:?} leaves no room for a heartbeat every {:?}: it must be at least twice as long",
                settings.lease, settings.heartbeat
            )));
        }
        // An answer that comes later than a lease lives is of no use.
        self.config.call_timeout = self.config.call_timeout.min(settings.lease);
        Ok(Worker {
            database: Database::new(&self.config)?,
            registry: Arc::new(self.registry),
            settings: self.settings,
        })
    }
}

/// A process's share in the work: claims steps and does them until it is told to stop.
#[derive(Debug)]
pub struct Worker {
    database: Database,
    registry: Arc<Registry>,
    settings: Settings,
}

impl Worker {
    /// Settings of a worker for the tenant of this configuration.
    pub fn builder(config: &Config) -> WorkerBuilder {
        WorkerBuilder::new(config)
    }

    /// Works until `stop` completes, then finishes what is running (see [`WorkerBuilder::grace`]), hands the rest back with no
    /// attempt consumed, and deregisters.
    ///
    /// While the database cannot be reached it waits for it. Fails only when Longhaul is not installed there, or the
    /// database refuses this user.
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<Summary, Error> {
        session::run(self.database, self.registry, self.settings, stop).await
    }
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .map(|name| name.trim().to_owned())
        .or_else(|| std::env::var("HOSTNAME").ok())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".into())
}
