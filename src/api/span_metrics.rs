//! The metrics of spans, where they are collected.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::spans::{SpanCounts, SpanEnd};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfEnd {
    end: &'static str,
}

/// Adds them.
pub(super) fn register(registry: &mut Registry, counts: SpanCounts) {
    let ends = Family::<OfEnd, Counter>::default();
    for end in SpanEnd::ALL {
        ends.get_or_create(&OfEnd { end: end.label() }).inc_by(counts.of(end));
    }
    registry.register("spans", "Spans of requests and deliveries, by what became of them", ends);
    let waiting: Gauge = Gauge::default();
    waiting.set(i64::try_from(counts.waiting).unwrap_or(i64::MAX));
    registry.register("spans_waiting", "Spans that wait to be sent to the collector", waiting);
}
