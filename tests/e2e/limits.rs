//! Every limit: reached with a small setting, it has the consequence that the table of settings names, is counted, and
//! harms nobody else.

mod clients;
mod emits;
mod input;
mod requests;

use std::collections::BTreeMap;

use crate::client::Client;
use crate::server::{Metrics, Server};
use crate::until;

/// A server with a small limit, and somebody whom it does not concern.
struct LimitScene {
    server: Server,
    limit: &'static str,
    bystander: Client,
}

impl LimitScene {
    fn new(limit: &'static str, value: &str, others: &[(&str, &str)]) -> LimitScene {
        let variable = format!("SOCKRING_{}", limit.to_uppercase());
        let server = Server::start(&[&[(variable.as_str(), value)], others].concat());
        let bystander = server.client("bystander");
        LimitScene { server, limit, bystander }
    }

    /// The limit was reached this often and no other one was, and the bystander still gets its events and nothing else.
    #[track_caller]
    fn assert_hits(&mut self, count: u64) {
        let expected = BTreeMap::from([(self.limit.to_owned(), count)]);
        until("the limit is counted", || reached(&self.server.metrics()), |reached| *reached == expected);
        assert_eq!(self.server.emit_to("bystander", "undisturbed"), 1);
        assert_eq!(self.bystander.event().0, "undisturbed");
        self.bystander.socket.round_trip();
        self.server.assert_healthy();
    }
}

/// The limits that were reached at all.
fn reached(metrics: &Metrics) -> BTreeMap<String, u64> {
    metrics.hits().into_iter().filter(|(_, count)| *count > 0).collect()
}

/// Names the tests of this module, which are called as the limits that they reach.
macro_rules! tests_of_limits {
    ($($place:ident::$limit:ident,)*) => {
        const TESTED: &[(&str, fn())] = &[$((stringify!($limit), $place::$limit as fn()),)*];
    };
}

tests_of_limits! {
    clients::attachments_max,
    clients::clients_max,
    clients::connect_refusals_max,
    clients::connect_timeout_ms,
    clients::events_per_second_max,
    clients::fragments_max,
    clients::message_timeout_ms,
    clients::namespaces_per_client_max,
    clients::payload_bytes_max,
    clients::payload_packets_max,
    clients::rooms_per_socket_max,
    clients::upgrade_timeout_ms,
    clients::user_connections_max,
    emits::ack_responses_bytes_max,
    emits::api_body_bytes_max,
    emits::api_connections_max,
    emits::idempotency_keys_max,
    emits::kept_bytes_max,
    emits::kept_events_per_user_max,
    emits::mail_bytes_max,
    emits::queue_bytes_max,
    input::connect_bytes_max,
    input::input_bytes_max,
    requests::body_timeout_ms,
    requests::connect_refusals_per_minute_max,
    requests::connections_max,
    requests::handshakes_per_minute_max,
    requests::head_bytes_max,
    requests::head_timeout_ms,
    requests::idle_timeout_ms,
    requests::requests_per_connection_max,
    requests::unknown_sids_per_minute_max,
}

/// Only other instances ask for acknowledgements: tests/bus/requests.rs. All that these tests have are addresses of this machine,
/// which do not count: tests/sim/doors.rs, and at the API's own address src/api/mod.rs.
const TESTED_ELSEWHERE: [&str; 3] =
    ["acks_pending_max", "api_connections_per_address_max", "connections_per_address_max"];

#[test]
fn every_limit_that_is_counted_has_a_test_here() {
    let counted: Vec<String> = Server::start(&[]).metrics().hits().into_keys().collect();
    let mut tested: Vec<&str> = TESTED.iter().map(|(limit, _)| *limit).chain(TESTED_ELSEWHERE).collect();
    tested.sort_unstable();
    assert_eq!(tested, counted);
}
