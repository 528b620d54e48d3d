//! What the metrics of shards and those of the bus are written with.

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::shard::Histogram;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfShard {
    pub(super) shard: u32,
}

/// A histogram of the whole instance.
#[derive(Debug)]
pub(super) struct OneHistogram {
    pub(super) histogram: Histogram,
    pub(super) unit: f64,
}

impl EncodeMetric for OneHistogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let (sum, count, buckets) = values(&self.histogram, self.unit);
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// Sum, count and buckets in the metric's unit.
pub(super) fn values(histogram: &Histogram, unit: f64) -> (f64, u64, Vec<(f64, u64)>) {
    let bound = |bound: Option<u64>| bound.map_or(f64::INFINITY, |bound| bound as f64 * unit);
    let buckets: Vec<_> = histogram.buckets().map(|(up_to, count)| (bound(up_to), count)).collect();
    let count = buckets.iter().map(|(_, count)| count).sum();
    (histogram.sum() as f64 * unit, count, buckets)
}

pub(super) fn gauges(registry: &mut Registry, name: &str, help: &str, values: impl Iterator<Item = u64>) {
    let family = Family::<OfShard, Gauge>::default();
    for (shard, value) in (0u32..).zip(values) {
        family.get_or_create(&OfShard { shard }).set(i64::try_from(value).unwrap_or(i64::MAX));
    }
    registry.register(name, help, family);
}
