//! What a server tells who watches it: its metrics in two formats, its log, and what the docs say of both.

use std::collections::BTreeSet;
use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::client::{Client, Poller, WebSocket};
use crate::http::{Answer, request};
use crate::server::{API, SECRET, Server, signed, token_for};
use crate::until;

/// Asks for the metrics as this.
fn metrics_as(server: &Server, accept: &str) -> Answer {
    let mut connection = server.connect();
    connection.send(request("GET", "/metrics", &[&format!("Accept: {accept}")], ""));
    let answer = connection.answer();
    connection.leave();
    answer
}

#[test]
fn metrics_speak_two_formats_and_each_of_them_has_a_help() {
    let server = Server::start(&[]);
    let _client = server.client("alice");
    for (accept, media, last) in [
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", None),
        ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", "application/openmetrics-text", Some("# EOF")),
    ] {
        let answer = metrics_as(&server, accept);
        assert!(answer.header("content-type").is_some_and(|said| said.starts_with(media)), "{answer:?}");
        let text = answer.text();
        assert_eq!(text.lines().last() == Some("# EOF"), last.is_some());
        let named = |mark: &str| -> BTreeSet<String> {
            let lines = text.lines().filter_map(|line| line.strip_prefix(mark));
            lines.filter_map(|line| line.split_once(' ')).map(|(name, _)| name.to_owned()).collect()
        };
        let (types, helps) = (named("# TYPE "), named("# HELP "));
        assert_eq!(types, helps);
        assert!(types.len() > 80, "{}", types.len());
        for line in [
            "sockring_connects_accepted_total{shard=\"0\"} ",
            "sockring_ready 1",
            "sockring_draining 0",
            "sockring_build_info{version=\"",
            "process_resident_memory_bytes ",
            "process_open_fds ",
            "process_cpu_seconds_total ",
        ] {
            assert!(text.lines().any(|other| other.starts_with(line)), "{line} in {text}");
        }
    }
    assert_eq!(server.metrics().sum("sockring_connects_accepted_total", ""), 1);
}

#[test]
fn requests_to_the_api_are_counted_by_route_and_status_and_no_path_of_a_peer_is_a_label() {
    let server = Server::start(&[]);
    let count = |route: &str, status: u16| {
        server.metrics().sum("sockring_api_requests_total", &format!("route=\"{route}\",status=\"{status}\""))
    };
    server.emit_to("alice", "report:updated");
    server.emit_to("bob", "report:updated");
    let mut connection = server.connect();
    for (method, path) in [("GET", "user/some-user/status"), ("GET", "of-a-peer"), ("POST", "emit")] {
        connection.send(request(method, &format!("{API}/{path}"), &["Content-Type: application/json"], "{}"));
        connection.answer();
    }
    connection.leave();
    assert_eq!((count("POST emit", 200), count("POST emit", 422)), (2, 1));
    assert_eq!((count("GET user/:userId/status", 200), count("none", 404)), (1, 1));
    assert_eq!(server.metrics().sum("sockring_api_request_seconds_count", "route=\"POST emit\""), 3);
    let text = metrics_as(&server, "*/*").text();
    assert!(!text.contains("some-user") && !text.contains("of-a-peer"), "{text}");
}

#[test]
fn the_first_line_says_what_runs_and_the_last_that_it_has_ended_in_flat_json() {
    let settings =
        [("SOCKRING_LOG_FORMAT", "json"), ("SOCKRING_SHARDS", "2"), ("SOCKRING_DRAIN", "0"), ("SOCKRING_PROT", "1")];
    let server = Server::start(&settings);
    let port = server.port();
    server.signal(Signal::TERM);
    // What it logs is read beside it.
    until("the last line", || server.log(), |log| log.contains("the server has ended") && log.ends_with('\n'));
    let ended = server.finish();
    let lines: Vec<Value> =
        ended.stderr.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    let line_of = |message: &str| {
        let mut lines = lines.iter().filter(|line| line["message"] == message);
        let line = lines.next().unwrap_or_else(|| panic!("{message} in {ended:?}"));
        assert!(lines.next().is_none(), "{message} once: {ended:?}");
        line
    };
    let first = line_of("the server has started");
    assert_eq!((&first["version"], &first["shards"]), (&json!(env!("CARGO_PKG_VERSION")), &json!(2)));
    assert_eq!((&first["warnings"], &first["redis"]), (&json!(1), &json!(false)));
    assert!(first["address"].as_str().is_some_and(|address| address.ends_with(&format!(":{port}"))), "{first}");
    assert!(first["clients_max"].as_u64() > Some(0) && first["open_files_max"].as_u64() > Some(0), "{first}");
    let last = line_of("the server has ended");
    assert_eq!((&last["level"], lines.last()), (&json!("INFO"), Some(last)));
}

#[test]
fn a_refused_origin_is_told_once_by_all_shards() {
    let server = Server::start(&[("CORS_ORIGIN", "https://app.example"), ("SOCKRING_SHARDS", "4")]);
    for _ in 0..40 {
        let mut connection = server.connect();
        connection.send(request("GET", crate::client::POLLING, &["Origin: https://elsewhere.example"], ""));
        assert_eq!(connection.answer().status, 403);
    }
    assert_eq!(server.metrics().sum("sockring_origins_refused_total", ""), 40);
    assert_eq!(server.log().matches("https://elsewhere.example").count(), 1, "{}", server.log());
}

/// Has everything happen that clients' developers report.
fn have_all_issues(server: &Server) {
    let mut connection = server.connect();
    connection.send(request("GET", crate::client::POLLING, &["Origin: https://elsewhere.example"], ""));
    assert_eq!(connection.answer().status, 403);
    let expired = signed(SECRET, &json!({"_id": "alice", "exp": 1}));
    let mut refused = WebSocket::open(server.address());
    refused.send(&format!("40{{\"token\":\"{expired}\"}}"));
    assert!(refused.text().contains("token_expired"));
    assert_eq!(server.emit(&json!({"user": "nobody", "event": "report:updated", "data": {"secret": "payload"}})), 0);
    let mut connection = server.connect();
    connection.send(request("GET", &format!("{API}/nothing"), &[], ""));
    assert_eq!(connection.answer().status, 404);
    Client::connect(server.address(), &token_for("alice")).leave();
    let _polls = Poller::connect(server.address(), &token_for("bob"));
}

#[test]
fn what_the_docs_say_of_common_issues_is_what_the_server_says() {
    let settings =
        [("SOCKRING_LOG", "debug"), ("CORS_ORIGIN", "https://app.example"), ("REDIS_URL", "redis://127.0.0.1:1")];
    let server = Server::start(&settings);
    have_all_issues(&server);
    let docs = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operating.md")).expect("the docs");
    let (_, section) = docs.split_once("## When something is wrong").expect("the section");
    let section = section.split("\n## ").next().expect("a section");
    let rows: String = section.lines().filter(|line| line.starts_with('|')).collect();
    // Words in quotes outside of code are the log's.
    let prose: String = rows.split('`').step_by(2).collect();
    let quoted: Vec<&str> = prose.split('"').skip(1).step_by(2).collect();
    assert!(quoted.len() >= 6, "{quoted:?}");
    for words in quoted {
        until(&format!("the log has `{words}`"), || server.log(), |log| log.contains(words));
    }
    let metrics = metrics_as(&server, "*/*").text();
    let names = rows.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let names: BTreeSet<&str> = names.filter(|name| name.starts_with("sockring_")).collect();
    assert!(names.len() >= 8, "{names:?}");
    for name in names {
        assert!(metrics.lines().any(|line| line.starts_with(name)), "{name}");
    }
    let log = server.log();
    let line =
        |words: &str| log.lines().find(|line| line.contains(words)).unwrap_or_else(|| panic!("{words} in {log}"));
    for (words, parts) in [
        ("a CONNECT was refused", &["reason=\"token_expired\"", "address=127.0.0.1", "namespace=\"/\""][..]),
        ("a client has connected", &["user=\"alice\"", "address=127.0.0.1", "transport=\"websocket\"", "ms="]),
        ("an emit was queued for nobody here", &["event=\"report:updated\"", "user=\"nobody\""]),
        ("a request to the API was not served", &["route=\"none\"", "status=404", "address=127.0.0.1"]),
    ] {
        for part in parts {
            assert!(line(words).contains(part), "{part} in {}", line(words));
        }
    }
    assert!(!log.contains("payload"), "{log}");
}
