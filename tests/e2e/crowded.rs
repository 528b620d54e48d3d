//! Many who want nothing but to be in the way: bodies that never come, keys that are wrong, connections that idle.

use std::io::Write;
use std::net::SocketAddr;

use crate::http::{Connection, request};
use crate::server::{API, Metrics, Server};
use crate::until;

const JSON: &str = "Content-Type: application/json";
const KEY: &str = "x-api-key: right";
const KEYED: [(&str, &str); 2] = [("API_KEY", "right"), ("SOCKRING_SHARDS", "1")];
const EMIT: &str = r#"{"user":"nobody","event":"e"}"#;

fn emit(headers: &[&str]) -> String {
    request("POST", &format!("{API}/emit"), &[&[JSON], headers].concat(), EMIT)
}

/// A POST whose body does not come.
fn bodiless(headers: &[&str]) -> String {
    let whole = emit(headers);
    whole[..whole.len() - EMIT.len()].to_owned()
}

fn status(address: SocketAddr, text: &str) -> u16 {
    let mut connection = Connection::open(address);
    connection.send(text);
    connection.answer().status
}

#[track_caller]
fn assert_serves(address: SocketAddr) {
    let ask = |target| status(address, &request("GET", target, &[], ""));
    for target in ["/health", "/metrics"] {
        assert_eq!(ask(target), 200, "{target}");
    }
    // It is answered always; where the machine has let the server wait, it says for some seconds that it was late.
    until("it is ready", || ask("/ready"), |status| *status == 200);
    assert_eq!(status(address, &emit(&[KEY])), 200);
}

#[test]
fn bodies_that_never_come_take_nothing_from_anybody() {
    let server = Server::start(&[&KEYED[..], &[("SOCKRING_API_LISTEN", "127.0.0.1:0")]].concat());
    let api = server.api_address();
    for (door, status) in [(server.address(), 404), (api, 401)] {
        // More than may be served at once.
        let mut begun: Vec<Connection> = (0..1100).map(|_| Connection::open(door)).collect();
        for headers in [&[][..], &["x-api-key: wrong"]] {
            begun.iter_mut().for_each(|connection| connection.send_what_is_taken(bodiless(headers).as_bytes()));
        }
        assert_serves(api);
        assert_eq!(begun[1000].answer().status, status, "the head is enough to refuse it");
    }
    let server = Server::start(&KEYED);
    let mut begun: Vec<Connection> = (0..1100).map(|_| server.connect()).collect();
    begun.iter_mut().for_each(|connection| connection.send(bodiless(&[])));
    assert_serves(server.address());
    assert_eq!(begun[1000].answer().status, 401);
}

#[test]
fn who_has_a_key_is_served_up_to_the_limit_and_the_rest_goes_on() {
    let server = Server::start(&[&KEYED[..], &[("SOCKRING_API_CONNECTIONS_MAX", "4")]].concat());
    let mut busy: Vec<Connection> = (0..4).map(|_| server.connect()).collect();
    for connection in &mut busy {
        connection.send(bodiless(&[KEY, "Expect: 100-continue"]));
        assert_eq!(connection.answer().status, 100);
    }
    assert_eq!(status(server.address(), &emit(&[KEY])), 503);
    for target in ["/health", "/ready", "/metrics", "/"] {
        assert_eq!(status(server.address(), &request("GET", target, &[], "")), 200, "{target}");
    }
    let mut freed = busy.pop().expect("one of four");
    freed.send(EMIT);
    assert_eq!(freed.answer().status, 200);
    assert_eq!(status(server.address(), &emit(&[KEY])), 200);
}

#[test]
fn a_body_without_a_key_is_refused_by_its_head_and_not_kept() {
    let server = Server::start(&KEYED);
    server.client("alice");
    let body = "x".repeat(1_000_000);
    let whole = request("POST", &format!("{API}/emit"), &[JSON], &body);
    let before = server.resident_kib();
    let mut connections: Vec<Connection> = (0..200).map(|_| server.connect()).collect();
    for connection in &mut connections {
        connection.send_what_is_taken(&whole.as_bytes()[..whole.len() - 1]);
    }
    let grown = server.resident_kib().saturating_sub(before);
    assert!(grown < 40 << 10, "200 MB of bodies: {grown} KiB more");
    for connection in &mut connections {
        let answer = connection.answer();
        assert_eq!((answer.status, answer.header("connection")), (401, Some("close")), "{answer:?}");
    }
}

#[test]
fn what_the_head_decides_is_decided_by_it_and_short_bodies_do_not_end_a_connection() {
    let server = Server::start(&[&KEYED[..], &[("NODE_ENV", "production")]].concat());
    let mut connection = server.connect();
    let cases = [
        (emit(&[]), 401),
        (emit(&["x-api-key: wrong"]), 401),
        (request("PUT", &format!("{API}/emit"), &[KEY], EMIT), 405),
        (request("POST", &format!("{API}/nothing"), &[JSON, KEY], EMIT), 404),
        (request("POST", &format!("{API}/emit"), &[KEY], EMIT), 415),
        (request("POST", "/health", &[], EMIT), 405),
        (request("GET", "/health", &[], "ignored"), 200),
        (emit(&[KEY]), 200),
    ];
    for (text, status) in &cases {
        connection.send(text);
        let answer = connection.answer();
        assert_eq!((answer.status, answer.header("connection")), (*status, None), "{text}");
    }
    // Also when the body comes late, in pieces, or together with the next request.
    connection.send(cases.each_ref().map(|(text, _)| text.as_str()).concat());
    for (text, status) in &cases {
        assert_eq!(connection.answer().status, *status, "{text}");
    }
    let late = emit(&[]);
    connection.send(&late[..late.len() - 3]);
    assert_eq!(connection.answer().status, 401);
    connection.send(&late[late.len() - 3..]);
    assert_eq!(connection.get("/health").status, 200);
    for unread in [
        request("POST", &format!("{API}/emit"), &[JSON], "").replace("Content-Length: 0", "Content-Length: 99999"),
        request("GET", &format!("{API}/emit"), &[JSON, "Transfer-Encoding: chunked"], "").replacen("GET", "POST", 1),
        bodiless(&["Expect: 100-continue"]),
    ] {
        let mut connection = server.connect();
        connection.send(&unread);
        let answer = connection.answer();
        assert_eq!((answer.status, answer.header("connection")), (401, Some("close")), "{unread}");
    }
}

#[test]
fn at_the_apis_address_who_waits_longest_makes_room() {
    let settings = [("SOCKRING_API_LISTEN", "127.0.0.1:0"), ("SOCKRING_API_CONNECTIONS_MAX", "8")];
    let server = Server::start(&[&KEYED[..], &settings].concat());
    let address = server.api_address();
    let mut first: Vec<Connection> = (0..2).map(|_| Connection::open(address)).collect();
    assert_eq!(first[1].get("/health").status, 200);
    (&first[0].stream).write_all(b"GET /hea").expect("half a head");
    let mut later: Vec<Connection> = (0..6).map(|_| Connection::open(address)).collect();
    for connection in &mut later {
        assert_eq!(connection.get("/health").status, 200);
    }
    let newest = [Connection::open(address), Connection::open(address)];
    first.iter_mut().for_each(Connection::assert_ends);
    for mut connection in newest.into_iter().chain(later) {
        connection.send(emit(&[KEY]));
        assert_eq!(connection.answer().status, 200);
    }
    let mut connection = Connection::open(address);
    until("they are counted", || Metrics::ask(&mut connection).hits(), |hits| hits["api_connections_max"] >= 2);
}
