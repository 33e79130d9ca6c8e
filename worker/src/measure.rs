//! What a worker measures of itself, for metrics: how often, how many, how long. Counting is a few additions in memory; nobody waits.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use longhaul_schema::Database;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }
}

/// How many values lie between the bounds of a list.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    counts: Box<[AtomicU64]>,
    /// In millionths.
    sum: AtomicU64,
}

/// Bounds of times, in seconds.
const SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];

/// Bounds of numbers of items.
const ITEMS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }

    fn of_times() -> Self {
        Self::new(SECONDS)
    }

    fn of_items() -> Self {
        Self::new(ITEMS)
    }

    fn add(&self, value: f64) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        self.counts[place].fetch_add(1, Relaxed);
        self.sum.fetch_add((value * 1e6) as u64, Relaxed);
    }

    pub(crate) fn time(&self, time: Duration) {
        self.add(time.as_secs_f64());
    }

    pub(crate) fn items(&self, items: usize) {
        self.add(items as f64);
    }

    /// The upper bound of each piece with how many values lie in it and in none before; the last bound is infinite.
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(&self.counts).map(|(bound, count)| (bound, count.load(Relaxed))).collect()
    }

    /// The sum of all values.
    pub fn sum(&self) -> f64 {
        self.sum.load(Relaxed) as f64 / 1e6
    }
}

/// What is measured of one queue.
#[derive(Debug)]
pub struct QueueMeasures {
    /// Its name.
    pub name: String,
    /// How long handlers took, in seconds.
    pub attempts: Histogram,
}

/// What a worker measures of itself, from its beginning.
#[derive(Debug)]
pub struct Measures {
    /// Its queues, in the order in which they were named.
    pub queues: Vec<QueueMeasures>,
    /// Claims that were answered, and how long they took, in seconds.
    pub claims: Histogram,
    /// How many steps they brought.
    pub claimed: Histogram,
    /// Claims that failed.
    pub failed_claims: Counter,
    /// Calls that stored outcomes, and how long they took, in seconds.
    pub stores: Histogram,
    /// How many outcomes they stored.
    pub stored: Histogram,
    /// Calls for outcomes that failed, and are made again.
    pub failed_stores: Counter,
    /// Outcomes by the word for them; `lost` are those whose leases had been lost.
    pub outcomes: Outcomes,
    pool: OnceLock<Database>,
}

/// Outcomes by the word for them.
#[derive(Debug, Default)]
pub struct Outcomes([Counter; WORDS.len()]);

const WORDS: [&str; 11] = [
    "completed",
    "failed",
    "timed_out",
    "panicked",
    "released",
    "snoozed",
    "deferred",
    "suspended",
    "cancelled",
    "lost",
    "other",
];

impl Outcomes {
    pub(crate) fn add(&self, word: &str) {
        let place = WORDS.iter().position(|known| *known == word).unwrap_or(WORDS.len() - 1);
        self.0[place].add(1);
    }

    /// Each word with how many there were.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        WORDS.iter().copied().zip(self.0.iter().map(Counter::get))
    }
}

impl Measures {
    pub(crate) fn new(queues: impl Iterator<Item = String>) -> Arc<Self> {
        Arc::new(Self {
            queues: queues.map(|name| QueueMeasures { name, attempts: Histogram::of_times() }).collect(),
            claims: Histogram::of_times(),
            claimed: Histogram::of_items(),
            failed_claims: Counter::default(),
            stores: Histogram::of_times(),
            stored: Histogram::of_items(),
            failed_stores: Counter::default(),
            outcomes: Outcomes::default(),
            pool: OnceLock::new(),
        })
    }

    pub(crate) fn uses(&self, database: &Database) {
        let _ = self.pool.set(database.clone());
    }

    /// Connections of the worker's pool: open, and of these idle.
    pub fn pool(&self) -> (usize, usize) {
        self.pool.get().map_or((0, 0), Database::pool_status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_where_they_lie() {
        let histogram = Histogram::of_items();
        for items in [0, 1, 2, 3, 5, 1000, 1001] {
            histogram.items(items);
        }
        let counts: Vec<u64> = histogram.buckets().iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, [2, 1, 2, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(histogram.buckets().last().unwrap().0, f64::INFINITY);
        assert!((histogram.sum() - 2012.0).abs() < 1e-6);
        let outcomes = Outcomes::default();
        outcomes.add("completed");
        outcomes.add("unheard of");
        assert_eq!(
            outcomes.all().filter(|(_, count)| *count > 0).collect::<Vec<_>>(),
            [("completed", 1), ("other", 1)]
        );
    }
}
