//! `GET /metrics`: what the shards count, in either text format. No label comes from a client.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::app::RefusalReason;
use crate::auth::keyring::Keyring;
use crate::capacity::{AcceptError, Capacity, Door};
use crate::cluster::{Cluster, ClusterMetrics};
use crate::mailbox::Postbox;
use crate::shard::{
    AckEnd, Broken, CloseReason, Counters, Histogram, KeptEnd, Limit, PacketFault, Recovered, ShardMetrics, ShardStats,
    UnknownSid,
};
use crate::spans::SpanCounts;
use crate::tls::TlsServer;
use crate::tunnels::{TunnelMetrics, Tunnels};

use super::Api;
use super::answer::ApiAnswer;
use super::bus_metrics;
use super::exposition::Exposition;
use super::key_metrics;
use super::metric_rows::{OfShard, gauges, values};
use super::process_metrics;
use super::served::{self, OfRoute};
use super::span_metrics;
use super::tls_metrics;
use super::tunnel_metrics;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfReason {
    shard: u32,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfResult {
    shard: u32,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfEnd {
    shard: u32,
    end: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPacket {
    layer: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLimit {
    limit: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfErrno {
    errno: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfAccept {
    entrance: &'static str,
    errno: &'static str,
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
    ("clients_moved_away", "Polling clients that have moved to another shard", |stats| stats.moved_away),
    ("request_heads", "Requests whose head has not all come", |stats| stats.heads),
    ("request_bodies", "Requests whose body has not all come", |stats| stats.bodies),
    ("connections_idle", "Connections that wait for a request, and would be closed for others", |stats| stats.idle),
    ("sockets", "Sockets over all namespaces", |stats| stats.sockets),
    ("rooms", "Rooms with members, by their home", |stats| stats.rooms),
    ("users", "Users with a socket, by their home", |stats| stats.users),
    ("sockets_joining", "Sockets that are not told yet that they are connected", |stats| stats.joining),
    ("connects_waiting", "CONNECTs that wait for the key of their token", |stats| stats.connects_waiting),
    ("subscriptions_pending", "Subscriptions to rooms that the bus has still to confirm", |stats| {
        stats.subscriptions_pending
    }),
    ("acks_pending", "Acknowledgements of emits that clients have still to send", |stats| stats.acks_pending),
    ("kept_events", "Events that are kept for users", |stats| stats.kept_events),
    ("kept_bytes", "Bytes of events that are kept, with what is kept about them", |stats| stats.kept_bytes),
    ("idempotency_keys", "Keys of emits that are remembered", |stats| stats.idempotency_keys),
    ("deliveries_pending", "Messages of emits that have still to be queued for their receivers", |stats| {
        stats.deliveries_pending
    }),
    ("recovery_events", "Events that are remembered for clients that come back", |stats| stats.recovery_events),
    ("recovery_bytes", "What they take", |stats| stats.recovery_bytes),
    ("recovery_oldest_seconds", "How long ago the oldest of them was delivered", |stats| {
        stats.recovery_oldest_ms / 1_000
    }),
    ("lingering_rooms", "Rooms without members that are remembered for members that come back", |stats| {
        stats.lingering_rooms
    }),
    ("behind_clients", "Sockets that get what is remembered as fast as they read", |stats| stats.behind),
    ("queued_bytes", "Bytes that wait for clients, with what is kept about them", |stats| stats.queued_bytes),
    ("input_bytes", "Bytes of heads, messages, bodies and attachments that have begun", |stats| stats.input_bytes),
    ("closing_bytes", "Bytes that connections without a client have still to send", |stats| stats.closing_bytes),
    ("sending_bytes", "Bytes of what has begun to leave that the kernel has not taken", |stats| stats.sending_bytes),
];

const COUNTERS: &[Row<Counters>] = &[
    ("received_bytes", "Bytes received from connections", |counters| counters.bytes_in),
    ("sent_bytes", "Bytes sent to connections", |counters| counters.bytes_out),
    ("copied_bytes", "Bytes of messages copied so that several leave in one send", |counters| counters.bytes_copied),
    ("connects_accepted", "CONNECTs that were accepted", |counters| counters.connects_accepted),
    ("sessions_opened", "Engine.IO sessions opened", |counters| counters.opened),
    ("messages_received", "Messages from clients", |counters| counters.messages_in),
    ("messages_delivered", "Messages queued for sockets by emits", |counters| counters.delivered),
    ("volatile_dropped", "Volatile messages that a client could not take", |counters| counters.volatile_dropped),
    ("connects_delayed", "CONNECTs that waited for the key of their token", |counters| counters.connects_delayed),
    ("duplicates", "Emits under a key under which the same event had come", |counters| counters.duplicates),
    ("origins_refused", "Requests from an origin that is not allowed", |counters| counters.origins_refused),
    ("malformed", "Requests, frames and bodies that were no such thing", |counters| counters.malformed),
    ("descriptors_short", "Pauses of accepting because the limit of open files was near", |counters| {
        counters.descriptors_short
    }),
    ("idle_connections_closed", "Connections that idled and were closed so that others find room", |counters| {
        counters.idlers_closed
    }),
    ("recovered_events", "Events that clients missed and got when they came back", |counters| {
        counters.recovered_events
    }),
    ("recovery_evicted", "Events that are not remembered any more because others needed the room", |counters| {
        counters.recovery_evicted
    }),
    ("taken_over", "Sockets that the same client has taken over by another connection", |counters| counters.taken_over),
    ("late_turns", "Turns that came so late that the time did not count against peers", |counters| counters.late_turns),
    ("pardoned", "Peers past a deadline by the clock alone: what they had sent was not read yet", |counters| {
        counters.pardoned
    }),
    ("clients_moved", "Clients that came from another shard", |counters| counters.moved_in),
    ("subscriptions_late", "Subscriptions to rooms that the bus did not confirm in time", |counters| {
        counters.subscriptions_late
    }),
    ("subscriptions_unawaited", "Subscriptions to rooms that nobody waited for because the bus was down", |counters| {
        counters.subscriptions_unawaited
    }),
];

/// A histogram: name, what it shows, what one of its values is in the metric's unit, and where it stands.
type HistogramRow = (&'static str, &'static str, f64, fn(&Counters) -> &Histogram);

const HISTOGRAMS: &[HistogramRow] = &[
    ("turn_seconds", "Time from one look of a shard at what has come to the next", 1e-6, |counters| &counters.turns),
    ("turn_completions", "What the kernel had completed for a turn", 1.0, |counters| &counters.completions),
    ("receipt_seconds", "Time from when a kept event was queued to its receipt", 1e-3, |counters| &counters.receipts),
    ("handshake_seconds", "Time from a session's opening to its first accepted CONNECT", 1e-3, |counters| {
        &counters.handshakes
    }),
];

/// Whether this instance should get traffic, as `/ready` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Traffic {
    Wanted,
    Unwanted,
}

/// What is counted outside of the shards.
pub(super) struct OfApi {
    connections: u64,
    /// Limits that were reached at the API, by the names of their settings.
    hits: Vec<(&'static str, u64)>,
    capacity: Arc<Capacity>,
    /// Letters that wait for each shard, and the bytes of emits among them.
    waiting: Vec<(usize, usize)>,
    bus: Option<ClusterMetrics>,
    tunnels: Option<TunnelMetrics>,
    keyring: Option<Arc<Keyring>>,
    spans: Option<SpanCounts>,
    traffic: Traffic,
    served: BTreeMap<&'static str, OfRoute>,
    /// The entrances that speak TLS.
    tls: Vec<(Door, Arc<TlsServer>)>,
}

impl OfApi {
    pub(super) fn new(api: &Api, traffic: Traffic) -> OfApi {
        OfApi {
            traffic,
            served: api.served.all(),
            connections: api.crowds.iter().map(|crowd| crowd.present() as u64).sum(),
            hits: api.hits.all(),
            capacity: Arc::clone(&api.capacity),
            waiting: api.shards.iter().map(Postbox::waiting).collect(),
            bus: api.cluster.as_deref().map(Cluster::metrics),
            tunnels: api.tunnels.as_deref().map(Tunnels::metrics),
            tls: [(Door::Clients, &api.engine.tls), (Door::Api, &api.tls)]
                .into_iter()
                .filter_map(|(door, server)| Some((door, Arc::clone(server.as_ref()?))))
                .collect(),
            keyring: api.keyring.clone(),
            spans: api.spans.as_ref().map(|spans| spans.queue().counts()),
        }
    }
}

/// One histogram per shard.
#[derive(Debug)]
struct Histograms {
    rows: Vec<(OfShard, Histogram)>,
    /// What one of its values is in the metric's unit.
    unit: f64,
}

impl EncodeMetric for Histograms {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (shard, histogram) in &self.rows {
            let (sum, count, buckets) = values(histogram, self.unit);
            encoder.encode_family(shard)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// The metrics of all shards, by their number.
pub(super) fn answer(shards: &[ShardMetrics], api: OfApi, format: Exposition) -> ApiAnswer {
    let mut root = Registry::default();
    process_metrics::register(&mut root);
    register(root.sub_registry_with_prefix("sockring"), shards, api);
    let mut text = String::new();
    // Writing into a String does not fail.
    let _ = encode(&mut text, &root);
    ApiAnswer {
        status: 200,
        content_type: format.content_type(),
        headers: vec![("Cache-Control", "no-store".to_owned()), ("Vary", "Accept".to_owned())],
        body: format.of(text).into_bytes(),
        reason: None,
    }
}

/// Ours, of all shards and of what is beside them.
fn register(registry: &mut Registry, shards: &[ShardMetrics], api: OfApi) {
    let numbered = || (0u32..).map(|shard| OfShard { shard }).zip(shards);
    for (name, help, value) in GAUGES {
        gauges(registry, name, help, shards.iter().map(|metrics| value(&metrics.stats)));
    }
    gauges(
        registry,
        "mail_waiting",
        "Letters that wait for a shard",
        api.waiting.iter().map(|(letters, _)| *letters as u64),
    );
    let bytes = api.waiting.iter().map(|(_, bytes)| *bytes as u64);
    gauges(registry, "mail_waiting_bytes", "Bytes of emits that wait for a shard", bytes);
    for (name, help, value) in COUNTERS {
        let family = Family::<OfShard, Counter>::default();
        for (shard, metrics) in numbered() {
            family.get_or_create(&shard).inc_by(value(&metrics.counters));
        }
        registry.register(*name, *help, family);
    }
    for (name, help, unit, values) in HISTOGRAMS {
        let rows = numbered().map(|(shard, metrics)| (shard, values(&metrics.counters).clone())).collect();
        registry.register(*name, *help, Histograms { rows, unit: *unit });
    }
    let closes = Family::<OfReason, Counter>::default();
    let hits = Family::<OfLimit, Counter>::default();
    let (refusals, unknown_sids) = (Family::<OfReason, Counter>::default(), Family::<OfReason, Counter>::default());
    let (kept, acks) = (Family::<OfEnd, Counter>::default(), Family::<OfEnd, Counter>::default());
    let packets = Family::<OfPacket, Counter>::default();
    let broken = Family::<OfErrno, Counter>::default();
    let recoveries = Family::<OfResult, Counter>::default();
    for (OfShard { shard }, metrics) in numbered() {
        for reason in CloseReason::ALL {
            let label = OfReason { shard, reason: reason.label() };
            closes.get_or_create(&label).inc_by(metrics.counters.closed(reason));
        }
        for end in KeptEnd::ALL {
            kept.get_or_create(&OfEnd { shard, end: end.label() }).inc_by(metrics.counters.kept(end));
        }
        for end in AckEnd::ALL {
            acks.get_or_create(&OfEnd { shard, end: end.label() }).inc_by(metrics.counters.acks(end));
        }
        for reason in RefusalReason::ALL {
            let label = OfReason { shard, reason: reason.label() };
            refusals.get_or_create(&label).inc_by(metrics.counters.refused(reason));
        }
        for reason in UnknownSid::ALL {
            let label = OfReason { shard, reason: reason.label() };
            unknown_sids.get_or_create(&label).inc_by(metrics.counters.unknown_sids(reason));
        }
        for result in Recovered::ALL {
            let label = OfResult { shard, result: result.label() };
            recoveries.get_or_create(&label).inc_by(metrics.counters.recoveries(result));
        }
        for fault in PacketFault::all() {
            let label = OfPacket { layer: fault.layer(), reason: fault.label() };
            packets.get_or_create(&label).inc_by(metrics.counters.faults(fault));
        }
        for errno in Broken::ALL {
            let label = OfErrno { errno: errno.label() };
            broken.get_or_create(&label).inc_by(metrics.counters.broken(errno));
        }
        for limit in Limit::ALL {
            hits.get_or_create(&OfLimit { limit: limit.setting() }).inc_by(metrics.counters.hits(limit));
        }
    }
    let of_bus = api.bus.iter().flat_map(|bus| &bus.hits);
    for (limit, count) in api.hits.iter().chain(of_bus) {
        hits.get_or_create(&OfLimit { limit }).inc_by(*count);
    }
    let accepts = Family::<OfAccept, Counter>::default();
    for door in Door::ALL {
        for error in AcceptError::ALL {
            let label = OfAccept { entrance: door.label(), errno: error.errno() };
            accepts.get_or_create(&label).inc_by(api.capacity.accept_errors.counted(door, error));
        }
    }
    registry.register("accept_errors", "Connections that could not be accepted, by entrance and errno", accepts);
    registry.register("sessions_closed", "Sessions that ended, by reason", closes);
    registry.register("kept", "Events that were to be kept and are kept no more, by how that came", kept);
    registry.register(
        "acks",
        "Acknowledgements and receipts of emits that sockets were asked for, by how they end",
        acks,
    );
    registry.register("connects_refused", "CONNECTs that were refused, by reason", refusals);
    registry.register("recoveries", "CONNECTs of clients that came back, by what became of them", recoveries);
    registry.register("unknown_sids", "Requests of sessions that are not known, by reason", unknown_sids);
    registry.register("packets_refused", "Frames and packets that were refused, by the rules that they broke", packets);
    registry.register("connections_broken", "Connections that broke, by errno", broken);
    let forgotten: Counter = Counter::default();
    forgotten.inc_by(api.capacity.forgotten());
    registry.register("addresses_forgotten", "Addresses whose rates were forgotten to make room for others", forgotten);
    registry.register("limit_hits", "How often a limit was reached, by its setting", hits);
    let connections: Gauge = Gauge::default();
    connections.set(i64::try_from(api.connections).unwrap_or(i64::MAX));
    registry.register("api_connections", "Connections that the API serves", connections);
    served::register(registry, api.served);
    tls_metrics::register(registry, &api.tls);
    let is_draining = shards.iter().any(|metrics| metrics.stats.is_draining);
    for (name, help, holds) in [
        ("ready", "1: this instance should get traffic, as /ready says", api.traffic == Traffic::Wanted),
        ("draining", "1: all clients are being closed", is_draining),
    ] {
        let gauge: Gauge = Gauge::default();
        gauge.set(i64::from(holds));
        registry.register(name, help, gauge);
    }
    if let Some(bus) = api.bus {
        bus_metrics::register(registry, bus);
    }
    if let Some(tunnels) = api.tunnels {
        tunnel_metrics::register(registry, tunnels);
    }
    if let Some(keyring) = api.keyring {
        key_metrics::register(registry, &keyring);
    }
    if let Some(spans) = api.spans {
        span_metrics::register(registry, spans);
    }
}

#[cfg(test)]
mod tests {
    use sockring_protocol::websocket::FrameError;

    use super::*;
    use crate::capacity::CapacityLimits;
    use crate::shard::Forbidden;

    #[test]
    fn every_reason_and_every_shard_has_its_line() {
        let api = OfApi {
            connections: 0,
            hits: vec![("api_connections_max", 0), ("api_body_bytes_max", 3)],
            capacity: Arc::new(Capacity::new(CapacityLimits::UNLIMITED)),
            waiting: vec![(1, 9)],
            traffic: Traffic::Wanted,
            served: BTreeMap::new(),
            tls: Vec::new(),
            keyring: Some(Keyring::new().0),
            spans: Some(SpanCounts::default()),
            tunnels: None,
            bus: Some(ClusterMetrics {
                subscriber_is_up: 1,
                lost: vec![("redis_down", 2)],
                ..ClusterMetrics::default()
            }),
        };
        let mut metrics = ShardMetrics::default();
        metrics.counters.hit(Limit::RoomsPerSocketMax);
        metrics.counters.turns.observe(5);
        metrics.counters.count_refusal(RefusalReason::TokenExpired);
        metrics.counters.count_unknown_sid(UnknownSid::OtherInstance);
        metrics.counters.count_fault(PacketFault::Session(Forbidden::NotConnected));
        metrics.counters.count_fault(PacketFault::WebSocket(FrameError::Unmasked));
        metrics.counters.count_broken(Broken::TimedOut);
        metrics.counters.count_close(CloseReason::QueueFull);
        metrics.counters.count_recovery(Recovered::TooOld);
        metrics.stats.rooms = 7;
        let text =
            String::from_utf8(answer(&[ShardMetrics::default(), metrics], api, Exposition::OpenMetrics).body).unwrap();
        for line in [
            "sockring_rooms{shard=\"0\"} 0",
            "sockring_rooms{shard=\"1\"} 7",
            "sockring_sessions_closed_total{shard=\"0\",reason=\"queue_full\"} 0",
            "sockring_sessions_closed_total{shard=\"1\",reason=\"queue_full\"} 1",
            "sockring_connects_refused_total{shard=\"1\",reason=\"token_expired\"} 1",
            "sockring_jwks_fetches_total{result=\"unreachable\"} 0",
            "sockring_jwks_keys 0",
            "sockring_spans_total{end=\"queue_full\"} 0",
            "sockring_spans_waiting 0",
            "sockring_recoveries_total{shard=\"1\",result=\"too_old\"} 1",
            "sockring_recoveries_total{shard=\"1\",result=\"recovered\"} 0",
            "sockring_unknown_sids_total{shard=\"1\",reason=\"other_instance\"} 1",
            "sockring_packets_refused_total{layer=\"session\",reason=\"not_connected\"} 1",
            "sockring_packets_refused_total{layer=\"socketio\",reason=\"bad_json\"} 0",
            "sockring_packets_refused_total{layer=\"websocket\",reason=\"unmasked\"} 1",
            "sockring_connections_broken_total{errno=\"ETIMEDOUT\"} 1",
            "sockring_connections_broken_total{errno=\"other\"} 0",
            "sockring_addresses_forgotten_total 0",
            "sockring_limit_hits_total{limit=\"rooms_per_socket_max\"} 1",
            "sockring_limit_hits_total{limit=\"api_body_bytes_max\"} 3",
            "sockring_accept_errors_total{entrance=\"clients\",errno=\"EMFILE\"} 0",
            "sockring_accept_errors_total{entrance=\"api\",errno=\"ENFILE\"} 0",
            "sockring_mail_waiting_bytes{shard=\"0\"} 9",
            "sockring_turn_seconds_count{shard=\"1\"} 1",
            "sockring_turn_seconds_bucket{le=\"0.000016\",shard=\"1\"} 1",
            "sockring_ready 1",
            "sockring_draining 0",
            "sockring_bus_up 1",
            "sockring_bus_lost_total{reason=\"redis_down\"} 2",
            "sockring_bus_published_messages_total 0",
            "sockring_bus_publish_seconds_count 0",
            "# EOF",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} in\n{text}");
        }
    }
}
