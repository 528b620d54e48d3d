//! `GET /metrics`: what the shards count, in the text format of Prometheus. No label comes from a client.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::shard::{CloseReason, Counters, ShardMetrics, ShardStats};

use super::answer::Answer;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfShard {
    shard: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfReason {
    shard: u32,
    reason: &'static str,
}

/// A gauge or counter: name, what it counts, and where it stands.
type Row<T> = (&'static str, &'static str, fn(&T) -> u64);

const GAUGES: &[Row<ShardStats>] = &[
    ("connections", "TCP connections", |stats| stats.connections),
    ("connections_closing", "Connections that wait for their peer to end its side", |stats| stats.closing),
    ("clients", "Engine.IO sessions", |stats| stats.clients),
    ("clients_connected", "Clients that have a socket", |stats| stats.connected),
    ("clients_websocket", "Connected clients on WebSocket", |stats| stats.websocket),
    ("clients_polling", "Connected clients on long-polling", |stats| stats.polling),
    ("clients_unclaimed", "Half open: clients without an accepted CONNECT", |stats| stats.unclaimed),
    ("clients_probing", "Half open: clients whose upgrade is under way", |stats| stats.probing),
    ("clients_assembling", "Half open: clients whose attachments have not all come", |stats| stats.assembling),
    ("clients_leaving", "Polling clients that have still to fetch how they ended", |stats| stats.leaving),
    ("sockets", "Sockets over all namespaces", |stats| stats.sockets),
    ("rooms", "Rooms with members", |stats| stats.rooms),
    ("users", "Users with a socket", |stats| stats.users),
    ("queued_bytes", "Bytes that wait for clients", |stats| stats.queued_bytes),
];

const COUNTERS: &[Row<Counters>] = &[
    ("received_bytes", "Bytes received from connections", |counters| counters.bytes_in),
    ("sent_bytes", "Bytes sent to connections", |counters| counters.bytes_out),
    ("sessions_opened", "Engine.IO sessions opened", |counters| counters.opened),
    ("messages_received", "Messages from clients", |counters| counters.messages_in),
    ("messages_delivered", "Messages queued for sockets by emits", |counters| counters.delivered),
    ("volatile_dropped", "Volatile messages that a client could not take", |counters| counters.volatile_dropped),
    ("connects_refused", "CONNECTs refused by the application", |counters| counters.refused),
    ("joins_refused", "Joins beyond rooms_per_socket_max", |counters| counters.rooms_refused),
    ("origins_refused", "Requests from an origin that is not allowed", |counters| counters.origins_refused),
    ("capacity_refused", "Connections and handshakes beyond connections_max and clients_max", |counters| counters.full),
    ("malformed", "Requests, frames and bodies that were no such thing", |counters| counters.malformed),
    ("slow_requests", "Requests that took too long to arrive", |counters| counters.slow_requests),
];

/// The metrics of all shards, by their number.
pub(super) fn answer(shards: &[ShardMetrics], api_connections: u64, api_refused: u64) -> Answer {
    let mut registry = Registry::with_prefix("sockring");
    for (name, help, value) in GAUGES {
        let family = Family::<OfShard, Gauge>::default();
        for (shard, metrics) in (0u32..).zip(shards) {
            family.get_or_create(&OfShard { shard }).set(i64::try_from(value(&metrics.stats)).unwrap_or(i64::MAX));
        }
        registry.register(*name, *help, family);
    }
    for (name, help, value) in COUNTERS {
        let family = Family::<OfShard, Counter>::default();
        for (shard, metrics) in (0u32..).zip(shards) {
            family.get_or_create(&OfShard { shard }).inc_by(value(&metrics.counters));
        }
        registry.register(*name, *help, family);
    }
    let closes = Family::<OfReason, Counter>::default();
    for (shard, metrics) in (0u32..).zip(shards) {
        for reason in CloseReason::ALL {
            let label = OfReason { shard, reason: reason.label() };
            closes.get_or_create(&label).inc_by(metrics.counters.closed(reason));
        }
    }
    registry.register("sessions_closed", "Sessions that ended, by reason", closes);
    let connections: Gauge = Gauge::default();
    connections.set(i64::try_from(api_connections).unwrap_or(i64::MAX));
    registry.register("api_connections", "Connections that the API serves", connections);
    let refused: Counter = Counter::default();
    refused.inc_by(api_refused);
    registry.register("api_connections_refused", "Connections beyond api_connections_max", refused);
    let mut text = String::new();
    // Writing into a String does not fail.
    let _ = encode(&mut text, &registry);
    Answer {
        status: 200,
        content_type: "application/openmetrics-text; version=1.0.0; charset=utf-8",
        headers: vec![("Cache-Control", "no-store".to_owned())],
        body: text.into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_and_every_shard_has_its_line() {
        let mut metrics = ShardMetrics::default();
        metrics.counters.count_close(CloseReason::QueueFull);
        metrics.stats.rooms = 7;
        let text = String::from_utf8(answer(&[ShardMetrics::default(), metrics], 0, 0).body).unwrap();
        for line in [
            "sockring_rooms{shard=\"0\"} 0",
            "sockring_rooms{shard=\"1\"} 7",
            "sockring_sessions_closed_total{shard=\"0\",reason=\"queue_full\"} 0",
            "sockring_sessions_closed_total{shard=\"1\",reason=\"queue_full\"} 1",
            "# EOF",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} in\n{text}");
        }
    }
}
