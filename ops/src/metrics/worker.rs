//! Metrics of one worker process.

use longhaul_worker::{Observer, measure::Histogram};

use super::{Metrics, Value, pool};

/// What a worker measures of itself.
pub(crate) fn worker(observer: &Observer) -> Metrics {
    let mut metrics = Metrics::default();
    let (status, measures) = (observer.status(), observer.measures());
    for (name, figure) in &status.queues {
        let queue = || vec![("queue", name.to_string())];
        metrics.gauge("longhaul_worker_running", "Steps that run, by queue.", queue(), figure.running.into());
        metrics.gauge("longhaul_worker_slots", "Steps that may run at once, by queue.", queue(), figure.slots.into());
        metrics.counter("longhaul_worker_claimed", "Attempts that were claimed, by queue.", queue(), figure.claimed);
        metrics.counter(
            "longhaul_worker_completed",
            "Attempts that completed their steps, by queue.",
            queue(),
            figure.completed,
        );
        metrics.counter("longhaul_worker_failed", "Attempts that failed, by queue.", queue(), figure.failed);
    }
    for queue in &measures.queues {
        let labels = vec![("queue", queue.name.clone())];
        metrics.put(
            "longhaul_worker_attempt_seconds",
            "How long attempts took, by queue.",
            labels,
            value(&queue.attempts),
        );
    }
    for (outcome, count) in measures.outcomes.all() {
        let labels = vec![("outcome", outcome.to_owned())];
        metrics.counter(
            "longhaul_worker_outcomes",
            "Attempts by how they ended; lost: the lease had expired.",
            labels,
            count,
        );
    }
    metrics.gauge("longhaul_worker_leases", "Steps that the worker owns.", vec![], status.owned as f64);
    let stopping = if status.stopping { 1.0 } else { 0.0 };
    metrics.gauge("longhaul_worker_stopping", "1 when it claims no more: it stops, or is drained.", vec![], stopping);
    metrics.put("longhaul_worker_claim_seconds", "How long claims took.", vec![], value(&measures.claims));
    metrics.put("longhaul_worker_claim_items", "How many steps claims brought.", vec![], value(&measures.claimed));
    metrics.counter("longhaul_worker_claim_failures", "Claims that failed.", vec![], measures.failed_claims.get());
    metrics.put(
        "longhaul_worker_store_seconds",
        "How long calls took that store outcomes.",
        vec![],
        value(&measures.stores),
    );
    metrics.put("longhaul_worker_store_items", "How many outcomes such calls stored.", vec![], value(&measures.stored));
    metrics.counter("longhaul_worker_store_failures", "Such calls that failed.", vec![], measures.failed_stores.get());
    pool(&mut metrics, measures.pool());
    metrics
}

fn value(histogram: &Histogram) -> Value {
    Value::Histogram { sum: histogram.sum(), buckets: histogram.buckets() }
}
