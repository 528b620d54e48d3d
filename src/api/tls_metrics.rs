//! How handshakes ended at the ports that speak TLS, and when their certificates end.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::capacity::Door;
use crate::tls::TlsServer;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfHandshake {
    entrance: &'static str,
    version: &'static str,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRefusal {
    entrance: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfEntrance {
    entrance: &'static str,
}

/// Those that there are.
pub(super) fn register(registry: &mut Registry, servers: &[(Door, Arc<TlsServer>)]) {
    if servers.is_empty() {
        return;
    }
    let handshakes = Family::<OfHandshake, Counter>::default();
    let refused = Family::<OfRefusal, Counter>::default();
    let ends = Family::<OfEntrance, Gauge>::default();
    for (door, server) in servers {
        let entrance = door.label();
        for (version, kind, count) in server.counts().all_done() {
            handshakes.get_or_create(&OfHandshake { entrance, version: version.label(), kind }).inc_by(count);
        }
        for (reason, count) in server.counts().all_refused() {
            refused.get_or_create(&OfRefusal { entrance, reason: reason.label() }).inc_by(count);
        }
        let end = server.ends().and_then(|end| end.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        let end = i64::try_from(end.as_secs()).unwrap_or(i64::MAX);
        ends.get_or_create(&OfEntrance { entrance }).set(end);
    }
    let kinds = "Handshakes of TLS that were completed, by entrance and version, in full or resumed";
    registry.register("tls_handshakes", kinds, handshakes);
    registry.register("tls_refused", "Connections that TLS ended, by entrance and reason", refused);
    let help = "When the first of the certificates ends, in Unix time";
    registry.register("tls_certificate_end_timestamp_seconds", help, ends);
}
