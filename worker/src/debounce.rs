//! The debounced writer: however many updates a key gets, its last value is stored, by one call for all keys in each flush
//! interval, in the order of the keys.
//!
//! One task owns the values; updates reach it by messages through a bounded channel. While a flush is in flight updates go on;
//! when it fails, the newest value of each key is kept and stored later. Memory is bounded by the number of keys: beyond the
//! limit, a flush comes early, and whoever updates waits for it. At the end the last values are flushed.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use longhaul_schema::{Error, backoff::Backoff};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

/// Where the values go.
pub trait Sink<K, V>: Send + Sync + 'static {
    /// Stores the last value of each key, in one call; keys are sorted. Called again with newer values when it fails.
    fn store(&self, values: Vec<(K, V)>) -> impl Future<Output = Result<(), Error>> + Send;
}

/// How a writer works.
#[derive(Clone, Copy, Debug)]
pub struct DebounceSettings {
    /// Longest time between an update and its flush.
    pub interval: Duration,
    /// Most keys that wait; with so many, a flush comes early.
    pub max_keys: usize,
}

impl Default for DebounceSettings {
    /// Twice a second, at most 10,000 keys.
    fn default() -> Self {
        Self { interval: Duration::from_millis(500), max_keys: 10_000 }
    }
}

enum Message<K, V> {
    Put(K, V),
    Flush(oneshot::Sender<()>),
}

/// Takes updates. Cheap to clone; when all clones are gone, the last values are flushed and the writer's task ends.
#[derive(Debug)]
pub struct DebouncedWriter<K, V> {
    messages: mpsc::Sender<Message<K, V>>,
    flushes: Arc<AtomicU64>,
}

impl<K, V> Clone for DebouncedWriter<K, V> {
    fn clone(&self) -> Self {
        Self { messages: self.messages.clone(), flushes: self.flushes.clone() }
    }
}

impl<K: Ord + Clone + Send + Sync + 'static, V: Clone + Send + Sync + 'static> DebouncedWriter<K, V> {
    /// Starts a writer.
    pub fn start(sink: impl Sink<K, V>, settings: DebounceSettings) -> Self {
        let (this, task) = Self::with_task(sink, settings);
        tokio::spawn(task);
        this
    }

    /// A writer, and its task for the caller to run.
    pub(crate) fn with_task(
        sink: impl Sink<K, V>,
        settings: DebounceSettings,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (messages, inbox) = mpsc::channel(1024);
        let flushes = Arc::new(AtomicU64::new(0));
        let task = run(sink, settings, inbox, flushes.clone());
        (Self { messages, flushes }, task)
    }

    /// Sets the value of a key. Waits while too many keys wait to be stored.
    pub async fn put(&self, key: K, value: V) {
        if self.messages.send(Message::Put(key, value)).await.is_err() {
            // The task ends only when all writers are gone, or with a panic of the sink.
            tracing::error!("a value is not stored: the task of its debounced writer has ended");
        }
    }

    /// Stores everything that was put before, however long the database is away.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.messages.send(Message::Flush(done)).await.is_ok() {
            let _ = flushed.await;
        }
    }

    /// Calls of the sink so far.
    pub fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Relaxed)
    }
}

async fn run<K: Ord + Clone + Send + Sync, V: Clone + Send + Sync>(
    sink: impl Sink<K, V>,
    settings: DebounceSettings,
    mut inbox: mpsc::Receiver<Message<K, V>>,
    flushes: Arc<AtomicU64>,
) {
    let mut pending: BTreeMap<K, V> = BTreeMap::new();
    let mut waiting: Vec<oneshot::Sender<()>> = Vec::new();
    // When the oldest value that waits is to be stored, and before when nothing is to be tried after a failure.
    let mut due: Option<Instant> = None;
    let mut not_before: Option<Instant> = None;
    let mut open = true;
    let mut backoff = Backoff::default();
    while open || !pending.is_empty() || !waiting.is_empty() {
        // Gather.
        let now = Instant::now();
        let at_once = !open || !waiting.is_empty() || pending.len() >= settings.max_keys;
        if !pending.is_empty() && due.is_none() {
            due = Some(now + settings.interval);
        }
        let flush_at =
            if at_once { Some(now) } else { due }.map(|at| not_before.map_or(at, |earliest| at.max(earliest)));
        if flush_at.is_none_or(|at| at > now) {
            tokio::select! {
                message = inbox.recv(), if open && pending.len() < settings.max_keys => {
                    take(message, &mut pending, &mut waiting, &mut open);
                    continue;
                }
                () = sleep_until(flush_at) => {}
            }
        }
        // Flush, and take updates meanwhile: they are newer.
        due = None;
        let asked = std::mem::take(&mut waiting);
        let batch = std::mem::take(&mut pending);
        if !batch.is_empty() {
            flushes.fetch_add(1, Ordering::Relaxed);
            let store = sink.store(batch.iter().map(|(k, v)| (k.clone(), v.clone())).collect());
            let mut store = std::pin::pin!(store);
            let outcome = loop {
                tokio::select! {
                    outcome = &mut store => break outcome,
                    message = inbox.recv(), if open && pending.len() < settings.max_keys => take(message, &mut pending, &mut waiting, &mut open),
                }
            };
            if let Err(error) = outcome {
                tracing::debug!(%error, keys = batch.len(), "values wait for the database");
                for (key, value) in batch {
                    pending.entry(key).or_insert(value);
                }
                waiting.extend(asked);
                not_before = Some(Instant::now() + backoff.next_wait());
                continue;
            }
            backoff = Backoff::default();
            not_before = None;
        }
        for done in asked {
            let _ = done.send(());
        }
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn take<K: Ord, V>(
    message: Option<Message<K, V>>,
    pending: &mut BTreeMap<K, V>,
    waiting: &mut Vec<oneshot::Sender<()>>,
    open: &mut bool,
) {
    match message {
        Some(Message::Put(key, value)) => _ = pending.insert(key, value),
        Some(Message::Flush(done)) => waiting.push(done),
        None => *open = false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Memory {
        stored: Arc<Mutex<BTreeMap<u32, u64>>>,
        calls: Arc<Mutex<Vec<Vec<u32>>>>,
        away: Arc<std::sync::atomic::AtomicBool>,
    }

    impl Sink<u32, u64> for Memory {
        async fn store(&self, values: Vec<(u32, u64)>) -> Result<(), Error> {
            if self.away.load(Ordering::SeqCst) {
                return Err(Error::Unavailable("away".into()));
            }
            self.calls.lock().unwrap().push(values.iter().map(|(k, _)| *k).collect());
            self.stored.lock().unwrap().extend(values);
            Ok(())
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_million_updates_of_a_hundred_keys_are_few_sorted_flushes_with_the_last_values() {
        let memory = Memory::default();
        let settings = DebounceSettings { interval: Duration::from_millis(50), max_keys: 1000 };
        let writer = DebouncedWriter::start(memory.clone(), settings);
        let started = std::time::Instant::now();
        for n in 0..1_000_000_u64 {
            writer.put((n % 100) as u32, n).await;
        }
        writer.flush().await;
        let most = started.elapsed().as_millis() / 50 + 2;
        assert!(u128::from(writer.flushes()) <= most, "{} flushes, at most {most}", writer.flushes());
        let expected: BTreeMap<u32, u64> = (0..100).map(|k| (k, 999_900 + u64::from(k))).collect();
        assert_eq!(*memory.stored.lock().unwrap(), expected);
        assert!(memory.calls.lock().unwrap().iter().all(|keys| keys.is_sorted()));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_newest_value_of_each_key_survives_a_database_that_is_away() {
        let memory = Memory::default();
        let settings = DebounceSettings { interval: Duration::from_millis(5), max_keys: 1000 };
        let writer = DebouncedWriter::start(memory.clone(), settings);
        memory.away.store(true, Ordering::SeqCst);
        for n in 0..100 {
            writer.put(1, n).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        writer.put(2, 7).await;
        memory.away.store(false, Ordering::SeqCst);
        writer.flush().await;
        assert_eq!(*memory.stored.lock().unwrap(), BTreeMap::from([(1, 99), (2, 7)]));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_value_whose_flush_failed_is_stored_without_anybody_doing_anything() {
        let memory = Memory::default();
        let settings = DebounceSettings { interval: Duration::from_millis(5), max_keys: 1000 };
        let writer = DebouncedWriter::start(memory.clone(), settings);
        memory.away.store(true, Ordering::SeqCst);
        writer.put(1, 7).await;
        while writer.flushes() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        memory.away.store(false, Ordering::SeqCst);
        let stored = async {
            while memory.stored.lock().unwrap().get(&1) != Some(&7) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), stored).await.expect("the value is stored");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_last_values_are_flushed_at_the_end_and_too_many_keys_come_early() {
        let memory = Memory::default();
        let settings = DebounceSettings { interval: Duration::from_secs(3600), max_keys: 10 };
        let writer = DebouncedWriter::start(memory.clone(), settings);
        for key in 0..25 {
            writer.put(key, 1).await;
        }
        writer.put(3, 2).await;
        drop(writer);
        while memory.stored.lock().unwrap().get(&3) != Some(&2) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(memory.stored.lock().unwrap().len(), 25);
        assert!(memory.calls.lock().unwrap().iter().all(|keys| keys.len() <= 10));
    }
}
