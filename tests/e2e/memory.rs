//! What the server holds for many clients at once: memory, measured from outside, beside what its gauges say.

use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::client::{Client, WebSocket};
use crate::http::{Connection, request};
use crate::server::{API, Server, data, token_for};
use crate::slow::LARGE_BODIES;
use crate::until;

const MEGABYTE: u64 = 1_000_000;
/// Clients that do not read, and what waits for each: references to the same messages. Copies would take ten times what is
/// allowed, and the kernel has 2.5 MB for each of them. `MEMORY_CROWD=400`: so many, whose copies would take 290 MB.
static CROWD: LazyLock<usize> = LazyLock::new(|| {
    std::env::var("MEMORY_CROWD").map_or(30, |count| count.parse().expect("MEMORY_CROWD is a number"))
});
/// Clients that do.
const READERS: usize = 30;
const MESSAGES: usize = 8;
const MESSAGE_BYTES: usize = 91_000;

/// More than the kernel takes off our hands for one connection.
const LARGE: usize = 5 << 20;

/// Emits to the crowd; says how many have it queued, if a shard said so in time.
fn emit(server: &Server, bytes: usize) -> Option<u64> {
    let body = json!({"user": "crowd", "event": "e", "args": ["x".repeat(bytes)]}).to_string();
    let mut connection = server.connect();
    connection.send(request("POST", &format!("{API}/emit"), &["Content-Type: application/json"], &body));
    let answer = connection.answer();
    connection.leave();
    match answer.status {
        504 => None,
        _ => data(&answer.json())["delivered"].as_u64(),
    }
}

/// Clients of one user, greeted, that stop reading; `MESSAGES` wait for each. `None`: some were gone before that.
fn deaf_crowd_in_time(server: &Server) -> Option<Vec<Client>> {
    let connect = || WebSocket::open_on(Connection::narrow(server.address()));
    let crowd: Vec<_> = (0..*CROWD).map(|_| Client::greeted(connect(), &token_for("crowd"))).collect();
    let mut delivered = vec![emit(server, LARGE)?];
    // Behind it wait pings, at the most.
    let mut queued = u64::MAX;
    while queued >= LARGE as u64 {
        queued = until("less and less of it waits", || server.held().queued_bytes, |bytes| *bytes < queued);
    }
    for _ in 0..MESSAGES {
        delivered.push(emit(server, MESSAGE_BYTES)?);
    }
    let held = server.held();
    if held.clients < *CROWD as u64 {
        return None;
    }
    assert_eq!(delivered, [*CROWD as u64; MESSAGES + 1]);
    assert!(held.queued_bytes >= (*CROWD * MESSAGES * MESSAGE_BYTES) as u64, "{held:?}");
    Some(crowd)
}

/// The same where nobody goes for silence.
fn deaf_crowd(server: &Server) -> Vec<Client> {
    deaf_crowd_in_time(server).expect("all of them stay")
}

/// Watches the server's memory until this holds, which may take this long at the least, and a little longer; says by how much its
/// peak was above where it began.
fn growth_until(server: &Server, what: &str, takes: Duration, mut holds: impl FnMut() -> bool) -> u64 {
    let (before, begun) = (server.forget_peak(), Instant::now());
    while begun.elapsed() < takes && !holds() {
        thread::sleep(Duration::from_millis(2));
    }
    until(what, &mut holds, |holds| *holds);
    let settled = Instant::now() + Duration::from_millis(200);
    until("it has settled", || (), |()| Instant::now() > settled);
    server.peak_bytes().saturating_sub(before)
}

#[test]
fn silent_clients_that_end_take_no_copies_of_what_waits() {
    // All have to be there before the first goes: on a busy machine that takes longer, and so their silence does.
    let crowd_within = |interval_ms: u64| {
        let interval = interval_ms.to_string();
        let times = [("SOCKRING_PING_INTERVAL_MS", interval.as_str()), ("SOCKRING_PING_TIMEOUT_MS", "1000")];
        let server = Server::start(&[&times[..], &[LARGE_BODIES]].concat());
        let crowd = deaf_crowd_in_time(&server)?;
        Some((server, crowd, Duration::from_millis(interval_ms + 1_000)))
    };
    let found = [4_000, 8_000, 16_000, 32_000, 64_000].into_iter().find_map(crowd_within);
    let (server, crowd, silence) = found.expect("a crowd within a minute");
    let growth = growth_until(&server, "all are gone", silence, || server.held().clients == 0);
    assert!(growth < 2 * MEGABYTE, "{growth} bytes");
    assert_eq!(server.metrics().closed("ping_timeout"), *CROWD as u64);
    // They do not read, so nothing more is sent to them.
    until("their connections too", || server.metrics().sum("sockring_connections_closing", ""), |count| *count == 0);
    drop(crowd);
}

#[test]
fn clients_that_are_ended_take_no_copies_of_what_waits() {
    let server = Server::start(&[LARGE_BODIES]);
    let mut crowd = deaf_crowd(&server);
    let waiting = server.held().queued_bytes;
    let growth = growth_until(&server, "all are gone", Duration::ZERO, || {
        server.post("disconnect", &json!({"user": "crowd", "reconnect": true}));
        server.held().clients == 0
    });
    assert!(growth < 2 * MEGABYTE, "{growth} bytes");
    let metrics = server.metrics();
    assert_eq!(metrics.sum("sockring_queued_bytes", ""), 0);
    let closing = metrics.sum("sockring_closing_bytes", "");
    assert!(closing >= waiting, "what connections that close hold is counted: {closing} of {waiting}");
    // The kernel has taken some pieces of what is large, and has still to take the others.
    let sending = metrics.sum("sockring_sending_bytes", "");
    assert!(((*CROWD * LARGE / 4) as u64..(*CROWD * LARGE) as u64).contains(&sending), "{sending}");
    // One that reads on gets it all, in order, and then its end.
    let mut last = crowd.pop().expect("one of them");
    for bytes in [&[LARGE][..], &[MESSAGE_BYTES; MESSAGES]].concat() {
        assert_eq!(last.event().1.as_str().map(str::len), Some(bytes));
    }
    assert_eq!(last.socket.close_code(), None);
    drop(crowd);
    until("nothing is held", || server.metrics().sum("sockring_closing_bytes", ""), |bytes| *bytes == 0);
    until("nothing is sent", || server.metrics().sum("sockring_sending_bytes", ""), |bytes| *bytes < 100_000);
}

#[test]
fn clients_that_end_with_the_server_take_no_copies_of_what_waits() {
    let server = Server::start(&[LARGE_BODIES, ("SOCKRING_DRAIN", "0.5")]);
    let crowd = deaf_crowd(&server);
    let before = server.forget_peak();
    server.signal(Signal::TERM);
    // Its peak while it lives.
    let mut peak = before;
    while let Some(bytes) = server.peak_bytes_if_it_runs() {
        peak = peak.max(bytes);
    }
    assert!(peak - before < 2 * MEGABYTE, "{} bytes", peak - before);
    assert_eq!(server.finish().code, Some(0));
    drop(crowd);
}

#[test]
fn two_large_events_in_one_turn_are_not_copied_for_each_receiver() {
    let server = Server::start(&[LARGE_BODIES]);
    let mut crowd: Vec<_> = (0..READERS).map(|_| server.client("crowd")).collect();
    let event = |bytes: usize| json!({"user": "crowd", "event": "e", "args": ["x".repeat(bytes)]});
    // What the API takes for such a body.
    server.post("emit/batch", &json!([{"user": "nobody", "event": "e", "args": ["x".repeat(1_600_000)]}]));
    let copied_before = server.metrics().sum("sockring_copied_bytes_total", "");
    let before = server.forget_peak();
    let results = server.post("emit/batch", &json!([event(400_000), event(400_000), event(10), event(10)]));
    assert!(results.as_array().expect("a list").iter().all(|result| result["delivered"] == READERS), "{results}");
    for client in &mut crowd {
        let lengths: Vec<_> = (0..4).map(|_| client.event().1.as_str().map(str::len)).collect();
        assert_eq!(lengths, [400_000, 400_000, 10, 10].map(Some));
    }
    let growth = server.peak_bytes().saturating_sub(before);
    assert!(growth < 8 * MEGABYTE, "{growth} bytes");
    let copied = server.metrics().sum("sockring_copied_bytes_total", "") - copied_before;
    assert!((1..100 * READERS as u64).contains(&copied), "only the small ones were copied: {copied}");
}

#[test]
fn keys_count_as_what_waits() {
    let queue_bytes_max: u64 = 1 << 20;
    let server = Server::start(&[LARGE_BODIES]);
    let slow = crate::slow::stalled(&server, "slow");
    let batch = |from: usize| {
        let event = |number: usize| json!({"user": "slow", "event": "e", "conflateKey": format!("key-{number}")});
        json!((from..from + 100).map(event).collect::<Vec<_>>())
    };
    server.post("emit/batch", &json!([{"user": "nobody", "event": "e"}]));
    let before = server.forget_peak();
    for from in (0..).step_by(100) {
        server.post("emit/batch", &batch(from));
        if server.held().clients == 0 {
            break;
        }
    }
    let growth = server.peak_bytes().saturating_sub(before);
    assert!(growth < 3 * queue_bytes_max, "{growth} bytes were kept for a queue of {queue_bytes_max}");
    assert_eq!(server.metrics().closed("queue_full"), 1);
    drop(slow);
}
