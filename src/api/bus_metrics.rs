//! The metrics of the bus between instances, where there is one.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::cluster::ClusterMetrics;

use super::metric_rows::OneHistogram;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfReason {
    reason: &'static str,
}

type Row = (&'static str, &'static str, fn(&ClusterMetrics) -> u64);

const COUNTERS: &[Row] = &[
    ("bus_reconnects", "Connections to Redis that the subscriber has lost", |bus| bus.subscriber_reconnects),
    ("bus_received_messages", "Messages received from Redis", |bus| bus.received),
    ("bus_received_bytes", "Bytes of messages received from Redis, their channels included", |bus| bus.received_bytes),
    ("bus_publisher_reconnects", "Connections to Redis that the publisher has lost", |bus| bus.publisher_reconnects),
    ("bus_reader_reconnects", "Connections to Redis that the readers of streams have lost", |bus| {
        bus.reader_reconnects
    }),
    ("bus_published_messages", "Messages that Redis has taken", |bus| bus.published),
    ("bus_published_bytes", "Bytes of messages that Redis has taken", |bus| bus.published_bytes),
    ("bus_requests_answered", "Requests of other instances that were answered or carried out", |bus| {
        bus.requests_answered
    }),
    ("bus_requests_refused", "Requests of other instances that were too many or too large", |bus| bus.requests_refused),
    ("bus_questions", "Questions to other instances", |bus| bus.questions),
    ("bus_questions_incomplete", "Questions that not all of them answered in time", |bus| bus.questions_incomplete),
    ("bus_kept_events", "Events of this instance that Redis has kept for users", |bus| bus.kept),
    ("bus_keeps_refused", "Emits that Redis did not want to remember", |bus| bus.keeps_refused),
    ("bus_duplicates", "Emits under a key under which Redis knew the same event", |bus| bus.duplicates),
    ("bus_mailboxes_read", "Mailboxes of users that were read", |bus| bus.mailboxes_read),
];

/// Adds them.
pub(super) fn register(registry: &mut Registry, bus: ClusterMetrics) {
    for (name, help, value) in COUNTERS {
        let counter = Counter::<u64>::default();
        counter.inc_by(value(&bus));
        registry.register(*name, *help, counter);
    }
    for (name, help, value) in [
        ("bus_up", "Whether the subscriber's connections to Redis stand", bus.subscriber_is_up),
        ("bus_subscriptions", "Rooms that have members and are subscribed", bus.subscriptions),
        ("bus_publisher_up", "Whether the publisher's connection to Redis stands", bus.publisher_is_up),
        ("bus_streams_read", "Streams whose connection to Redis stands", bus.streams_read),
        ("bus_unread_entries", "Entries of this instance in streams that it has still to read", bus.unread),
        ("bus_silent_connections", "Connections on which Redis does not answer for the moment", bus.silent),
        ("bus_queue_bytes", "Bytes that wait for Redis to take them", bus.queue_bytes),
        ("bus_answers_bytes", "Bytes of questions, answers and acknowledgements that wait", bus.answers_bytes),
        ("bus_acks_awaited", "Emits of other servers that have still to be acknowledged here", bus.acks_awaited),
    ] {
        let gauge: Gauge = Gauge::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(name, help, gauge);
    }
    for (name, help, values) in [
        ("bus_lost", "Messages that were not delivered or not published, by reason", &bus.lost),
        ("bus_malformed", "Messages of the bus that were dropped, by reason", &bus.malformed),
    ] {
        let family = Family::<OfReason, Counter>::default();
        for (reason, count) in values {
            family.get_or_create(&OfReason { reason }).inc_by(*count);
        }
        registry.register(name, help, family);
    }
    let latency = OneHistogram { histogram: bus.publish_micros, unit: 1e-6 };
    registry.register("bus_publish_seconds", "Time until Redis had a message", latency);
}
