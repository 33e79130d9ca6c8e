//! What Prometheus is told, in its OpenMetrics text. The names and labels are a contract: dashboards and alerts stand on them.
//!
//! | module | of what |
//! | --- | --- |
//! | `installation` | of everything in the database: queues, rooms, workers, chores, locks |
//! | `worker` | of one worker process |
//! | `exporter` | the address at which a worker or a scheduler answers |

mod exporter;
mod installation;
mod worker;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text::encode_registry},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

pub(crate) use exporter::Exporter;
pub(crate) use installation::installation;
pub(crate) use worker::worker;

/// What a scraper is told that it gets.
pub(crate) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;

/// A value of a metric.
#[derive(Debug)]
enum Value {
    Gauge(f64),
    Counter(u64),
    CounterOf(f64),
    Histogram { sum: f64, buckets: Vec<(f64, u64)> },
}

impl Value {
    fn kind(&self) -> MetricType {
        match self {
            Self::Gauge(_) => MetricType::Gauge,
            Self::Counter(_) | Self::CounterOf(_) => MetricType::Counter,
            Self::Histogram { .. } => MetricType::Histogram,
        }
    }
}

/// A metric with its values by labels.
#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    values: Vec<(Labels, Value)>,
}

/// Metrics, as they are gathered.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    families: Vec<Family>,
}

impl Metrics {
    fn put(&mut self, name: &'static str, help: &'static str, labels: Labels, value: Value) {
        match self.families.iter_mut().find(|family| family.name == name) {
            Some(family) => family.values.push((labels, value)),
            None => self.families.push(Family { name, help, values: vec![(labels, value)] }),
        }
    }

    /// A value that goes up and down.
    fn gauge(&mut self, name: &'static str, help: &'static str, labels: Labels, value: f64) {
        self.put(name, help, labels, Value::Gauge(value));
    }

    /// A value that only grows; `_total` is added to its name.
    fn counter(&mut self, name: &'static str, help: &'static str, labels: Labels, value: impl TryInto<u64>) {
        self.put(name, help, labels, Value::Counter(value.try_into().unwrap_or_default()));
    }

    /// The text of it all, with what another registry counts.
    pub(crate) fn text_with(self, other: &Registry) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode_registry(&mut text, &registry);
        let _ = encode_registry(&mut text, other);
        text.push_str("# EOF\n");
        text
    }

    /// The text.
    pub(crate) fn text(self) -> String {
        self.text_with(&Registry::default())
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for family in &self.families {
            let Some((_, first)) = family.values.first() else { continue };
            let mut metric = encoder.encode_descriptor(family.name, family.help, None, first.kind())?;
            for (labels, value) in &family.values {
                let mut metric = metric.encode_family(labels)?;
                match value {
                    Value::Gauge(value) => ConstGauge::new(*value).encode(metric)?,
                    Value::Counter(value) => ConstCounter::new(*value).encode(metric)?,
                    Value::CounterOf(value) => ConstCounter::new(*value).encode(metric)?,
                    Value::Histogram { sum, buckets } => {
                        let count = buckets.iter().map(|(_, count)| count).sum();
                        metric.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Names of a pool's metrics, which every process has.
fn pool(metrics: &mut Metrics, (open, idle): (usize, usize)) {
    let help = "Connections of the pool of this process, by state.";
    metrics.gauge("longhaul_pool_connections", help, vec![("state", "idle".into())], idle as f64);
    metrics.gauge("longhaul_pool_connections", help, vec![("state", "used".into())], open.saturating_sub(idle) as f64);
}
