//! Where requests come from and where they go to: proxies that are believed, rates by address, and the API's own address.

use std::net::SocketAddr;

use serde_json::Value;

use crate::client::{Client, POLLING, Poller, WEBSOCKET, WebSocket, upgrade_request};
use crate::command::run;
use crate::http::{Answer, Connection, request};
use crate::server::{API, SECRET, Server, data, token_for};

const JSON: &str = "Content-Type: application/json";
const RATE: (&str, &str) = ("SOCKRING_HANDSHAKES_PER_MINUTE_MAX", "3");
const UNKNOWN: (&str, &str) = ("SOCKRING_UNKNOWN_SIDS_PER_MINUTE_MAX", "3");
const PROXY: (&str, &str) = ("SOCKRING_TRUSTED_PROXIES", "127.0.0.1");

/// A polling handshake with these X-Forwarded-For headers, on a connection of its own.
fn handshake(server: &Server, forwarded: &[&str]) -> u16 {
    ask(server, POLLING, forwarded).status
}

fn ask(server: &Server, target: &str, forwarded: &[&str]) -> Answer {
    let headers: Vec<String> = forwarded.iter().map(|value| format!("X-Forwarded-For: {value}")).collect();
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    let mut connection = server.connect();
    connection.send(request("GET", target, &headers, ""));
    connection.answer()
}

#[test]
fn a_trusted_proxy_says_who_is_counted() {
    let server = Server::start(&[RATE, PROXY, ("SOCKRING_SHARDS", "3")]);
    // The same client in all the ways in which a proxy may write it; what it wrote itself stands before.
    let same = [
        &["203.0.113.1"][..],
        &["198.51.100.7, 203.0.113.1"],
        &["198.51.100.8", "203.0.113.1"],
        &["::ffff:203.0.113.1"],
        &["203.0.113.1:4711"],
        &["203.0.113.1, 127.0.0.1"],
    ];
    let statuses = same.map(|forwarded| handshake(&server, forwarded));
    assert_eq!(statuses, [200, 200, 200, 429, 429, 429], "rates are the process's, not a shard's");
    // Neither whom it pretended to be nor its neighbour pays for it.
    for other in ["198.51.100.7", "198.51.100.8", "203.0.113.2", "10.0.0.1"] {
        assert_eq!(handshake(&server, &[other]), 200, "{other}");
    }
    // A network of IPv6 is one client's.
    let network = ["2001:db8:1:2::1", "[2001:db8:1:2::2]:443", "2001:db8:1:2:ffff::3", "2001:db8:1:2::4"];
    let statuses = network.map(|address| handshake(&server, &[address]));
    assert_eq!(statuses, [200, 200, 200, 429]);
    assert_eq!(handshake(&server, &["2001:db8:1:3::1"]), 200);
    // The proxy's own requests, and what is no address, do not count.
    for _ in 0..5 {
        for forwarded in [&[][..], &["127.0.0.1"], &["unknown"], &[""], &["203.0.113.1, nonsense"]] {
            assert_eq!(handshake(&server, forwarded), 200, "{forwarded:?}");
        }
    }
    assert_eq!(server.metrics().hits()["handshakes_per_minute_max"], 4);
}

#[test]
fn who_is_no_trusted_proxy_is_not_believed_and_this_machine_does_not_count() {
    for proxies in ["", "10.0.0.0/8, 192.0.2.1"] {
        let server = Server::start(&[RATE, UNKNOWN, ("SOCKRING_TRUSTED_PROXIES", proxies)]);
        let unknown = format!("{POLLING}&sid=AAAAAAAAAAAAAAAAAAAA");
        for _ in 0..6 {
            assert_eq!(handshake(&server, &["203.0.113.1"]), 200);
            assert_eq!(handshake(&server, &[]), 200);
            assert_eq!(ask(&server, &unknown, &["203.0.113.1"]).status, 400);
        }
        let hits = server.metrics().hits();
        assert_eq!((hits["handshakes_per_minute_max"], hits["unknown_sids_per_minute_max"]), (0, 0));
    }
}

#[test]
fn every_handshake_counts_and_nothing_else_does() {
    let server = Server::start(&[RATE, PROXY]);
    let header = "X-Forwarded-For: 203.0.113.1";
    let with_header = |text: String| text.replacen("\r\n", &format!("\r\n{header}\r\n"), 1);
    // A WebSocket, and two by polling, one of them on a connection that the API has served before.
    let mut socket = server.connect();
    socket.send(with_header(upgrade_request(WEBSOCKET)));
    assert_eq!(socket.answer().status, 101);
    let socket = {
        let mut socket = WebSocket { connection: socket };
        assert!(socket.text().starts_with("0{"));
        socket
    };
    let mut client = Client::greeted(socket, &token_for("alice"));
    let mut connection = server.connect();
    assert_eq!(connection.get("/health").status, 200);
    connection.send(with_header(request("GET", POLLING, &[], "")));
    let answer = connection.answer();
    assert_eq!(answer.status, 200);
    let open: Value = serde_json::from_slice(&answer.body[1..]).expect("an open packet");
    let target = format!("{POLLING}&sid={}", open["sid"].as_str().expect("a sid"));
    // Its posts, polls and its upgrade are no handshakes; nor are refused ones, and preflights.
    connection.send(with_header(request("POST", &target, &[], &format!(r#"40{{"token":"{}"}}"#, token_for("bob")))));
    assert_eq!(connection.answer().text(), "ok");
    for _ in 0..5 {
        connection.send(with_header(request("POST", &target, &[], "42[\"a\"]")));
        assert_eq!(connection.answer().text(), "ok");
        connection.send(with_header(request("GET", "/socket.io/?EIO=3&transport=polling", &[], "")));
        assert_eq!(connection.answer().status, 400);
    }
    connection.send(with_header(upgrade_request(&target.replace("polling", "websocket"))));
    assert_eq!(connection.answer().status, 101);
    assert_eq!(handshake(&server, &["203.0.113.1"]), 200);
    // That was the third.
    for handshake in [request("GET", POLLING, &[], ""), upgrade_request(WEBSOCKET)] {
        let mut connection = server.connect();
        connection.send(with_header(handshake));
        let answer = connection.answer();
        assert_eq!((answer.status, answer.header("connection")), (429, Some("close")), "{answer:?}");
        connection.assert_ends();
    }
    // Who is connected is not concerned.
    assert_eq!(server.emit_to("alice", "e"), 1);
    assert_eq!(client.event().0, "e");
}

#[test]
fn an_address_that_guesses_sessions_is_refused_whatever_way_it_asks() {
    let server = Server::start(&[UNKNOWN, PROXY]);
    let mut known = Poller::connect(server.address(), &token_for("alice"));
    let header = "X-Forwarded-For: 203.0.113.1";
    let target = format!("{POLLING}&sid=AAAAAAAAAAAAAAAAAAAA");
    let upgrade = upgrade_request(&target.replace("polling", "websocket"));
    let requests = [
        request("GET", &target, &[header], ""),
        request("POST", &target, &[header], "42[\"a\"]"),
        upgrade.replacen("\r\n", &format!("\r\n{header}\r\n"), 1),
        request("GET", &target, &[header], ""),
        request("POST", &target, &[header], "42[\"a\"]"),
        upgrade.replacen("\r\n", &format!("\r\n{header}\r\n"), 1),
    ];
    let statuses = requests.map(|request| {
        let mut connection = server.connect();
        connection.send(request);
        connection.answer().status
    });
    assert_eq!(statuses, [400, 400, 400, 429, 429, 429]);
    assert_eq!(server.metrics().hits()["unknown_sids_per_minute_max"], 3);
    assert_eq!(server.emit_to("alice", "e"), 1);
    assert_eq!(known.poll(), r#"42["e"]"#);
}

#[test]
fn unknown_sessions_are_counted_by_why_they_are_unknown() {
    let (server, other) = (Server::start(&[]), Server::start(&[]));
    let ended = {
        let mut poller = Poller::connect(server.address(), &token_for("alice"));
        // A packet that ends it; what it may still fetch waits for it.
        poller.post("42[");
        poller.target
    };
    let gone = Poller::connect(server.address(), &token_for("bob")).target;
    let gone = format!("{}AAAAAAAA", &gone[..gone.len() - 8]);
    let elsewhere = Poller::open(other.address()).target;
    for (target, reason, count) in [
        (&*format!("{POLLING}&sid="), "malformed", 1),
        (&*format!("{POLLING}&sid=nonsense"), "malformed", 2),
        (&*elsewhere, "other_instance", 1),
        (&*gone, "gone", 1),
    ] {
        assert_eq!(server.connect().get(target).status, 400, "{target}");
        let metrics = server.metrics();
        assert_eq!(metrics.sum("sockring_unknown_sids_total", &format!("reason=\"{reason}\"")), count, "{target}");
    }
    let mut connection = server.connect();
    connection.send(request("POST", &ended, &[], "42[\"a\"]"));
    assert_eq!(connection.answer().status, 400);
    assert_eq!(server.metrics().sum("sockring_unknown_sids_total", "reason=\"ended\""), 1);
}

#[test]
fn a_request_through_a_trusted_proxy_is_not_one_of_this_machine() {
    let server = Server::start(&[PROXY]);
    let mut connection = server.connect();
    connection.send(request("GET", &format!("{API}/stats"), &["X-Forwarded-For: 127.0.0.1"], ""));
    assert_eq!(connection.answer().status, 403);
    assert_eq!(connection.get(&format!("{API}/stats")).status, 200);
}

#[test]
fn what_is_no_network_is_refused_at_start() {
    for (value, word) in [("10.0.0.0/33", "10.0.0.0/33"), ("proxy.example.com", "proxy.example.com")] {
        let ended = run(&["--trusted-proxies", value], &[("PORT", "0"), ("ACCESS_TOKEN_SECRET", SECRET)]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.starts_with("sockring: trusted_proxies: ") && ended.stderr.contains(word), "{ended:?}");
    }
}

/// The statuses that targets get at the clients' port and at the API's address.
fn at_both(server: &Server, api: SocketAddr, target: &str) -> (u16, u16) {
    (server.connect().get(target).status, Connection::open(api).get(target).status)
}

#[test]
fn with_an_address_of_its_own_the_api_is_there_only() {
    for host in ["127.0.0.1:0", "[::1]:0"] {
        let server = Server::start(&[("SOCKRING_API_LISTEN", host), ("SOCKRING_SHARDS", "2")]);
        let api = server.api_address();
        assert_ne!(api.port(), server.port());
        for (target, statuses) in [
            ("/health", (200, 200)),
            ("/ready", (200, 200)),
            ("/metrics", (404, 200)),
            (&*format!("{API}/stats"), (404, 200)),
            (&*format!("{API}/events"), (404, 200)),
            (&*format!("{API}/user/alice/status"), (404, 200)),
            (&*format!("{API}/nothing"), (404, 404)),
            ("/", (404, 200)),
            ("/socket.io/socket.io.js", (200, 200)),
            ("/socket.io/socket.io.min.js", (200, 200)),
            (POLLING, (200, 404)),
            ("/socket.io/", (400, 404)),
            (&*format!("{POLLING}&sid=AAAAAAAAAAAAAAAAAAAA"), (400, 404)),
            ("/nothing", (404, 404)),
        ] {
            assert_eq!(at_both(&server, api, target), statuses, "{target} with {host}");
        }
        let upgrade = WebSocket::upgrade(Connection::open(api), WEBSOCKET).map(|_| ()).expect_err("no engine there");
        assert_eq!(upgrade.status, 404);
        // Emits go in there and come out here; a connection may do so as often as it likes.
        let mut alice = server.client("alice");
        let mut connection = Connection::open(api);
        for round in 0..20 {
            let emit = format!(r#"{{"user":"alice","event":"e{round}"}}"#);
            let answer = connection.post(&format!("{API}/emit"), &emit);
            assert_eq!(data(&answer.json())["delivered"], 1);
            assert_eq!(alice.event().0, format!("e{round}"));
            assert_eq!(connection.get(POLLING).status, 404);
        }
        let emit = r#"{"user":"alice","event":"e"}"#;
        assert_eq!(server.connect().post(&format!("{API}/emit"), emit).status, 404);
        alice.socket.round_trip();
    }
}

#[test]
fn at_its_own_address_the_same_keys_count() {
    let keys = ("API_KEY", "first, second");
    let server = Server::start(&[("SOCKRING_API_LISTEN", "127.0.0.1:0"), keys, ("NODE_ENV", "production")]);
    let api = server.api_address();
    let emit = r#"{"user":"nobody","event":"e"}"#;
    for (header, status) in [
        ("x-api-key: first", 200),
        ("Authorization: Bearer second", 200),
        ("x-api-key: third", 401),
        ("x-other: first", 401),
    ] {
        let mut connection = Connection::open(api);
        connection.send(request("POST", &format!("{API}/emit"), &[JSON, header], emit));
        assert_eq!(connection.answer().status, status, "{header}");
        // Whoever has a key: at the clients' port there is nothing.
        let mut connection = server.connect();
        connection.send(request("POST", &format!("{API}/emit"), &[JSON, header], emit));
        assert_eq!(connection.answer().status, 404, "{header}");
    }
    for target in ["/health", "/ready", "/metrics"] {
        assert_eq!(Connection::open(api).get(target).status, 200, "{target}");
    }
    assert_eq!(at_both(&server, api, "/"), (404, 401), "in production the page is for who has a key");
    assert_eq!(at_both(&server, api, "/socket.io/socket.io.js"), (200, 200));
}

#[test]
fn an_address_of_the_api_that_cannot_be_had_is_named() {
    let server = Server::start(&[("SOCKRING_API_LISTEN", "127.0.0.1:0")]);
    let taken = server.api_address().to_string();
    for value in ["127.0.0.1", "9090", "localhost:9090", &taken] {
        let environment = [("PORT", "0"), ("ACCESS_TOKEN_SECRET", SECRET), ("SOCKRING_API_LISTEN", value)];
        let ended = run(&[], &environment);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        assert!(ended.stderr.starts_with("sockring: api_listen: ") && ended.stderr.contains(value), "{ended:?}");
    }
}

#[test]
fn an_origin_that_is_no_text_is_no_page_of_ours() {
    let server = Server::start(&[("NODE_ENV", "production"), ("API_KEY", "key")]);
    let address = server.address();
    let status = |origin: &[u8]| {
        let head = format!("GET {POLLING} HTTP/1.1\r\nHost: {address}\r\nOrigin: ");
        let mut connection = server.connect();
        connection.send([head.as_bytes(), origin, b"\r\n\r\n"].concat());
        connection.answer().status
    };
    assert_eq!(status(format!("http://{address}").as_bytes()), 200);
    for origin in [&b"https://evil.example"[..], b"https://evil\xff.example", b"\xff", b"\xef\xbf\xbd"] {
        assert_eq!(status(origin), 403, "{origin:?}");
    }
}
