//! The metrics of tunnels to other instances, where there are any.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::tunnels::TunnelMetrics;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfReason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Carrying {
    carries: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OverMedium {
    over: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Towards {
    direction: &'static str,
}

/// Adds them.
pub(super) fn register(registry: &mut Registry, tunnels: TunnelMetrics) {
    let neighbours: Gauge = Gauge::default();
    neighbours.set(i64::try_from(tunnels.neighbours).unwrap_or(i64::MAX));
    registry.register("neighbours", "Other instances that requests of their sessions can be brought to", neighbours);
    let open = Family::<Carrying, Gauge>::default();
    for (carries, count) in
        [("request", tunnels.requests), ("websocket", tunnels.websockets), ("nothing", tunnels.idle)]
    {
        open.get_or_create(&Carrying { carries }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    registry.register("tunnels", "Ways to other instances, by what they carry", open);
    let requests = Family::<OverMedium, Counter>::default();
    for (over, count) in [("tcp", tunnels.by_tcp), ("redis", tunnels.by_redis)] {
        requests.get_or_create(&OverMedium { over }).inc_by(count);
    }
    registry.register("tunnelled_requests", "Requests that were brought to the instance of their session", requests);
    let bytes = Family::<Towards, Counter>::default();
    for (direction, count) in [("to_owner", tunnels.sent_bytes), ("from_owner", tunnels.received_bytes)] {
        bytes.get_or_create(&Towards { direction }).inc_by(count);
    }
    registry.register("tunnelled_bytes", "Bytes that were brought to other instances and back", bytes);
    let received: Counter = Counter::default();
    received.inc_by(tunnels.received);
    registry.register("tunnels_received", "Connections that other instances have brought", received);
    let refused = Family::<OfReason, Counter>::default();
    for (reason, count) in &tunnels.refused {
        refused.get_or_create(&OfReason { reason }).inc_by(*count);
    }
    registry.register("tunnels_refused", "Tunnels that were not opened, here or for others, by reason", refused);
}
