//! Settings of a worker.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use longhaul_schema::{Config, Database, Error, calls::AttemptKey, duration::LONGEST, names::check_label};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Observer, Policy, Registry, Slots, StepContext, StepError, chores,
    observe::Observed,
    session::{self, Summary},
};

/// Everything a session needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) host: String,
    pub(crate) queues: Vec<(String, Slots)>,
    pub(crate) heartbeat: Duration,
    pub(crate) lease: Duration,
    pub(crate) poll: Duration,
    pub(crate) grace: Duration,
    pub(crate) max_payload: usize,
    pub(crate) max_history: usize,
    pub(crate) policies: Arc<[Arc<dyn Policy>]>,
    pub(crate) flush: Duration,
    pub(crate) at_shutdown: Option<ShutdownHook>,
    pub(crate) observed: Observed,
}

/// Called for each run in flight when the worker is told to stop.
#[derive(Clone)]
pub(crate) struct ShutdownHook(pub(crate) Arc<dyn Fn(AttemptKey) -> BoxFuture<'static, ()> + Send + Sync>);

impl std::fmt::Debug for ShutdownHook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ShutdownHook")
    }
}

/// Makes a [`Worker`]; see there.
#[derive(Debug)]
pub struct WorkerBuilder {
    config: Config,
    registry: Registry,
    settings: Settings,
    lease: Option<Duration>,
    chores: bool,
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
            flush: Duration::from_millis(500),
            at_shutdown: None,
            observed: Observed::new(std::iter::empty()),
        };
        Self { config: config.clone(), registry: Registry::new(), settings, lease: None, chores: true }
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

    /// Claims from this queue, at most so many steps at a time (1 to 10,000), or between a floor and a ceiling
    /// ([`Slots::between`]). Without any queue: `default` with 16.
    pub fn queue(mut self, name: &str, slots: impl Into<Slots>) -> Result<Self, Error> {
        check_label("queue", name)?;
        let slots = slots.into();
        if !(1..=10_000).contains(&slots.floor) || !(slots.floor..=10_000).contains(&slots.ceiling) {
            return Err(Error::Invalid(format!(
                "queue {name}: slots are from 1 to 10000, and the floor is not above the ceiling: {} to {}",
                slots.floor, slots.ceiling
            )));
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

    /// How often the worker says that it lives; 30 s by default, from a millisecond to half a day. Its leases live for three times
    /// as long.
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.settings.heartbeat = interval;
        self
    }

    /// How long leases live after a heartbeat, if not for three intervals; from 100 ms to a day.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// How often an idle worker looks for work that it was not notified of; 2 s by default, from a millisecond to a day.
    /// After some time without any it looks less and less often, down to an eighth.
    pub fn poll(mut self, interval: Duration) -> Self {
        self.settings.poll = interval;
        self
    }

    /// How long a shutdown may take; 30 s by default. Running steps may go on until the last fifth of it, at most 5 s, begins. Then
    /// they are handed back with no attempt consumed. More than 10,000 days are as 10,000 days.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.settings.grace = grace;
        self
    }

    /// How often what handlers report and the figures of queues are stored; 500 ms by default, from a millisecond to
    /// an hour.
    pub fn flush_every(mut self, interval: Duration) -> Self {
        self.settings.flush = interval;
        self
    }

    /// Leaves the chores (timers, expired leases, schedules, retention) to others: other workers, or a `Scheduler`.
    ///
    /// Without this, a worker does them when it sees that nobody does: it asks about every 2 s, more rarely the more workers
    /// there are, on a thread and over connections of its own.
    pub fn without_chores(mut self) -> Self {
        self.chores = false;
        self
    }

    /// Called once for each run in flight when the worker is told to stop, while its handler still runs: to tell it, to save
    /// something. All calls run at the same time, and are given up when the grace is over.
    pub fn at_shutdown<Fut>(mut self, hook: impl Fn(AttemptKey) -> Fut + Send + Sync + 'static) -> Self
    where
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.settings.at_shutdown = Some(ShutdownHook(Arc::new(move |key| Box::pin(hook(key)))));
        self
    }

    /// Checks the settings.
    pub fn build(mut self) -> Result<Worker, Error> {
        if self.registry.names().next().is_none() {
            return Err(Error::Invalid("the worker has no handlers".into()));
        }
        if self.settings.queues.is_empty() {
            self.settings.queues.push(("default".into(), 16.into()));
        }
        let settings = &mut self.settings;
        let (tick, day) = (Duration::from_millis(1), Duration::from_secs(86_400));
        within("the heartbeat", settings.heartbeat, tick, day / 2)?;
        within("the poll interval", settings.poll, tick, day)?;
        within("the flush interval", settings.flush, tick, Duration::from_secs(3600))?;
        settings.grace = settings.grace.min(LONGEST);
        settings.lease = self.lease.unwrap_or_else(|| (settings.heartbeat * 3).clamp(tick * 100, day));
        within("a lease", settings.lease, tick * 100, day)?;
        if settings.lease < settings.heartbeat * 2 {
            return Err(Error::Invalid(format!(
                "a lease of {:?} leaves no room for a heartbeat every {:?}: it must be at least twice as long",
                settings.lease, settings.heartbeat
            )));
        }
        // An answer that comes later than a lease lives is of no use.
        self.config.call_timeout = self.config.call_timeout.min(settings.lease);
        settings.observed = Observed::new(settings.queues.iter().map(|(name, _)| name.clone()));
        let database = Database::new(&self.config)?;
        settings.observed.measures.uses(&database);
        Ok(Worker { database, registry: Arc::new(self.registry), settings: self.settings, chores: self.chores })
    }
}

fn within(what: &str, time: Duration, least: Duration, most: Duration) -> Result<(), Error> {
    if (least..=most).contains(&time) {
        return Ok(());
    }
    Err(Error::Invalid(format!("{what} is from {least:?} to {most:?}, not {time:?}")))
}

/// A process's share in the work: claims steps and does them until it is told to stop.
#[derive(Debug)]
pub struct Worker {
    database: Database,
    registry: Arc<Registry>,
    settings: Settings,
    chores: bool,
}

impl Worker {
    /// Settings of a worker for the tenant of this configuration.
    pub fn builder(config: &Config) -> WorkerBuilder {
        WorkerBuilder::new(config)
    }

    /// Looks on at this worker: its status, and the outcomes of its steps.
    pub fn observer(&self) -> Observer {
        self.settings.observed.observer()
    }

    /// Works until `stop` completes, then finishes what is running (see [`WorkerBuilder::grace`]), hands the rest back with no
    /// attempt consumed, and deregisters.
    ///
    /// Ends as well when somebody drains it, once it has finished what it has: [`Summary::drained`].
    ///
    /// While the database cannot be reached it waits for it. Fails only when Longhaul is not installed there, the
    /// database refuses this user, or the worker breaks down again and again.
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<Summary, Error> {
        // Ends with this future.
        let _chores = if self.chores { Some(chores::start(self.database.config())?) } else { None };
        session::run(self.database, self.registry, self.settings, stop).await
    }
}

/// The name under which this machine's workers register.
pub fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .map(|name| name.trim().to_owned())
        .or_else(|| std::env::var("HOSTNAME").ok())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> WorkerBuilder {
        let config = Config::from_url("postgres://localhost/x").unwrap();
        Worker::builder(&config).handler("x", |_: StepContext, (): ()| async { Ok(()) }).unwrap()
    }

    #[test]
    fn settings_that_cannot_be_are_refused_by_name() {
        for (builder, named) in [
            (builder().heartbeat(Duration::ZERO), "the heartbeat"),
            (builder().heartbeat(Duration::MAX), "the heartbeat"),
            (builder().poll(Duration::MAX), "the poll interval"),
            (builder().flush_every(Duration::ZERO), "the flush interval"),
            (builder().lease(Duration::MAX), "a lease"),
            (builder().lease(Duration::from_secs(30)), "a lease"),
        ] {
            let error = builder.build().unwrap_err().to_string();
            assert!(error.starts_with(named), "{error}");
        }
    }

    #[test]
    fn a_grace_for_ever_is_very_long() {
        let worker = builder().grace(Duration::MAX).heartbeat(Duration::from_secs(43_200)).build().unwrap();
        assert_eq!(worker.settings.grace, LONGEST);
        assert_eq!(worker.settings.lease, Duration::from_secs(86_400));
    }
}
