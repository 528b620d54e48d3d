//! The HTTP API: who may use it, which routes there are, and what is refused.

use serde_json::{Value, json};

use crate::client::Client;
use crate::http::{Answer, request};
use crate::server::{API, Server, data};

const JSON: &str = "Content-Type: application/json";
const EMIT: &str = r#"{"user":"nobody","event":"e"}"#;

/// One request on a connection of its own.
fn ask(server: &Server, method: &str, target: &str, headers: &[&str], body: &str) -> Answer {
    let mut connection = server.connect();
    connection.send(request(method, target, headers, body));
    if method == "HEAD" { connection.answer_to_head() } else { connection.answer() }
}

fn emit_target() -> String {
    format!("{API}/emit")
}

#[test]
fn with_keys_every_route_needs_one_of_them() {
    for environment in [&[][..], &[("NODE_ENV", "production")]] {
        let server = Server::start(&[&[("API_KEY", "first-key, second-key")], environment].concat());
        for header in [
            "x-api-key: first-key",
            "X-API-Key: second-key",
            "Authorization: Bearer first-key",
            "authorization: bearer second-key",
        ] {
            let answer = ask(&server, "POST", &emit_target(), &[JSON, header], EMIT);
            assert_eq!(answer.status, 200, "{header}: {answer:?}");
            assert_eq!(ask(&server, "GET", &format!("{API}/stats"), &[header], "").status, 200);
        }
        for header in [
            "x-other: first-key",
            "x-api-key: first-ke",
            "x-api-key: first-key, second-key",
            "x-api-key:",
            "Authorization: Bearer",
            "Authorization: Bearer third-key",
            "Authorization: Basic first-key",
        ] {
            let answer = ask(&server, "POST", &emit_target(), &[JSON, header], EMIT);
            assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{header}");
            assert_eq!((&answer.json()["success"], &answer.json()["statusCode"]), (&false.into(), &401.into()));
        }
        // Neither is a route that does not exist told from one that does.
        for target in ["stats", "events", "openapi.json", "user/a/status", "test/emit-to-user", "nothing"] {
            let answer = ask(&server, "GET", &format!("{API}/{target}"), &[], "");
            assert_eq!(answer.status, 401, "{target}");
        }
    }
}

#[test]
fn without_keys_this_machine_alone_is_answered() {
    let server = Server::start(&[]);
    let with_host = |host: &str, header: &str| {
        let mut connection = server.connect();
        connection.send(format!("GET {API}/stats HTTP/1.1\r\nHost: {host}\r\n{header}\r\n"));
        connection.answer()
    };
    for host in ["localhost", "127.0.0.1", "localhost:8080", "[::1]:80"] {
        assert_eq!(with_host(host, "").status, 200, "{host}");
    }
    // DNS rebinding: the peer is this machine, the page is not.
    for host in [
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "[::1]evil",
        "[::1]:80evil",
    ] {
        let answer = with_host(host, "");
        assert_eq!(answer.status, 403, "{host}");
        assert!(answer.json()["message"].as_str().is_some_and(|words| words.contains("API_KEY")), "{answer:?}");
    }
    for header in [
        "X-Forwarded-For: 127.0.0.1",
        "Forwarded: for=127.0.0.1",
        "X-Real-IP: 127.0.0.1",
        "X-Forwarded-Proto: http",
        "X-Forwarded-Host: localhost",
    ] {
        assert_eq!(with_host("localhost", &format!("{header}\r\n")).status, 403, "{header}");
    }
    // The page and the engine are for everybody.
    let mut connection = server.connect();
    connection.send("GET /health HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n");
    assert_eq!(connection.answer().status, 200);
}

#[test]
fn routes_methods_and_types() {
    let server = Server::start(&[]);
    for (method, target, headers, body, status) in [
        ("POST", "emit", &[JSON][..], EMIT, 200),
        ("POST", "emit", &["Content-Type: Application/JSON; charset=utf-8"], EMIT, 200),
        ("POST", "emit", &[], EMIT, 415),
        ("POST", "emit", &["Content-Type: text/plain"], EMIT, 415),
        ("POST", "emit", &["Content-Type: application/x-www-form-urlencoded"], EMIT, 415),
        ("POST", "emit", &["Content-Type: application/json-seq"], EMIT, 415),
        ("GET", "emit", &[], "", 405),
        ("PUT", "emit", &[JSON], EMIT, 405),
        ("GET", "emit/batch", &[], "", 405),
        ("GET", "rooms/join", &[], "", 405),
        ("PUT", "rooms/leave", &[JSON], "{}", 405),
        ("GET", "disconnect", &[], "", 405),
        ("DELETE", "maintenance", &[], "", 405),
        ("POST", "rooms/join", &[JSON], "{}", 422),
        ("POST", "rooms", &[JSON], "{}", 404),
        ("POST", "disconnect", &[JSON], "{}", 422),
        ("POST", "maintenance", &[JSON], "{}", 422),
        ("DELETE", "stats", &[], "", 405),
        ("POST", "stats", &[JSON], "{}", 405),
        ("POST", "stats", &[], "", 405),
        ("POST", "openapi.json", &[], "", 405),
        ("GET", "openapi.jso", &[], "", 404),
        ("POST", "events", &[JSON], "{}", 405),
        ("GET", "test/emit-to-user", &[], "", 405),
        ("GET", "", &[], "", 404),
        ("GET", "emit/", &[], "", 404),
        ("GET", "user//status/x", &[], "", 404),
        ("GET", "user/%ff/status", &[], "", 422),
        ("GET", "user/alice/status", &[], "", 200),
        ("GET", "events", &[], "", 200),
        ("GET", "stats?now=1", &[], "", 200),
        ("POST", "emit", &[JSON], "", 400),
        ("GET", "maintenance", &[], "", 200),
        ("POST", "emit", &[JSON], "{", 400),
        ("POST", "emit", &[JSON], "[]", 400),
        ("POST", "emit", &[JSON], r#"{"event":"e","user":"a","colour":1}"#, 422),
        ("POST", "emit", &[JSON], r#"{"event":"e","user":"a","namespace":"/none"}"#, 422),
        ("POST", "emit", &[JSON], "\u{feff}{}", 400),
    ] {
        let answer = ask(&server, method, &format!("{API}/{target}"), headers, body);
        assert_eq!(answer.status, status, "{method} {target} {headers:?} {body}: {}", answer.text());
        assert_eq!(answer.header("access-control-allow-origin"), None, "the API is not for other sites");
        let envelope = answer.json();
        assert_eq!((&envelope["statusCode"], &envelope["success"]), (&status.into(), &(status == 200).into()));
        assert_eq!(envelope["errors"][0]["message"].is_string(), status != 200, "{envelope}");
    }
    for (target, status) in [("/", 200), ("/index.html", 404), ("/api", 404), ("/health/", 404), ("//", 404)] {
        assert_eq!(ask(&server, "GET", target, &[], "").status, status, "{target}");
    }
    for target in ["/", "/health", "/ready", "/socket.io/socket.io.js"] {
        assert_eq!(ask(&server, "POST", target, &[JSON], "{}").status, 405, "{target}");
    }
}

#[test]
fn the_field_that_is_wrong_is_named() {
    let server = Server::start(&[]);
    let answer = ask(&server, "POST", &emit_target(), &[JSON], r#"{"event":"e","rooms":["a",7]}"#);
    let envelope = answer.json();
    assert_eq!((answer.status, &envelope["errors"][0]["path"]), (422, &Value::from("rooms[1]")), "{envelope}");
}

#[test]
fn in_production_there_are_no_test_routes() {
    let server = Server::start(&[("NODE_ENV", "production"), ("API_KEY", "key")]);
    for target in ["test/emit-to-user", "test/analysis-events/alice"] {
        for (method, body) in [("POST", "{}"), ("GET", "")] {
            let answer = ask(&server, method, &format!("{API}/{target}"), &[JSON, "x-api-key: key"], body);
            assert_eq!(answer.status, 404, "{method} {target}");
        }
    }
    assert_eq!(ask(&server, "GET", "/", &[], "").status, 404);
}

#[test]
fn health_and_readiness_need_no_key() {
    let server = Server::start(&[("NODE_ENV", "production"), ("API_KEY", "key")]);
    for (target, status) in [("/health", "ok"), ("/ready", "ready")] {
        let answer = ask(&server, "GET", target, &[], "");
        assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some(status)));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
}

#[test]
fn head_is_get_without_the_body() {
    let server = Server::start(&[]);
    let mut connection = server.connect();
    for target in ["/", "/health", "/nothing", "/socket.io/socket.io.js", &format!("{API}/events")] {
        let got = connection.get(target);
        connection.send(request("HEAD", target, &[], ""));
        let headed = connection.answer_to_head();
        assert_eq!((headed.status, headed.headers), (got.status, got.headers), "{target}");
    }
}

#[test]
fn an_emit_reaches_whoever_it_names() {
    let server = Server::start(&[]);
    let (mut alice, mut bob) = (server.client("alice"), server.client("bob"));
    let mut connection = server.connect();
    let mut delivered = |body: &str| {
        let answer = connection.post(&emit_target(), body);
        assert_eq!(answer.status, 200, "{body}: {answer:?}");
        data(&answer.json())["delivered"].as_u64()
    };
    assert_eq!(delivered(r#"{"userId":"alice","event":"one","data":{"n":12345678901234567890.50}}"#), Some(1));
    assert_eq!(delivered(r#"{"users":["alice","bob","alice"],"event":"two"}"#), Some(2));
    assert_eq!(delivered(r#"{"broadcast":true,"except":["user:bob"],"event":"three","args":[[1],null]}"#), Some(1));
    assert_eq!(delivered(&format!(r#"{{"room":"{}","event":"four"}}"#, bob.sid)), Some(1));
    let events = |client: &mut Client, count| -> Vec<String> { (0..count).map(|_| client.socket.text()).collect() };
    let [first, second, third] = &events(&mut alice, 3)[..] else { panic!("three events") };
    assert!(first.starts_with(r#"42["one",{"n":12345678901234567890.50,"timestamp":""#), "{first}");
    assert!(first.ends_with(r#"Z","server":"development"}]"#), "{first}");
    assert_eq!([second, third], [r#"42["two"]"#, r#"42["three",[1],null]"#]);
    assert_eq!(events(&mut bob, 2), [r#"42["two"]"#, r#"42["four"]"#]);
}

/// The status and the words of an answer.
fn told(server: &Server, method: &str, target: &str, body: &str) -> (u16, String) {
    let answer = ask(server, method, target, &[JSON], body);
    let envelope = answer.json();
    let message = envelope["message"].as_str().expect("a message").to_owned();
    if answer.status != 200 {
        let error = &envelope["errors"][0];
        let (path, words) = (error["path"].as_str().expect("a path"), error["message"].as_str().expect("words"));
        let expected = if path.is_empty() { words.to_owned() } else { format!("{path}: {words}") };
        assert_eq!(message, expected, "the message says what the first error says");
    }
    (answer.status, message)
}

#[test]
fn answers_say_what_has_happened() {
    let server = Server::start(&[]);
    let alice = server.client("alice");
    for (route, body, words) in [
        ("emit", r#"{"user":"alice","event":"e"}"#, "Event emitted"),
        ("emit", EMIT, "Nobody was reached: no socket that it is for is connected"),
        (
            "emit",
            r#"{"user":"nobody","event":"e","volatile":true}"#,
            "Nobody was reached: no socket that it is for is connected and could take it at once",
        ),
        ("emit/batch", r#"[{"user":"alice","event":"e"}]"#, "Events emitted"),
        (
            "emit/batch",
            r#"[{"user":"alice","event":"e"},{"user":"nobody","event":"e"},{}]"#,
            "1 event emitted; 1 reached nobody; not accepted: 1",
        ),
        ("rooms/join", r#"{"user":"alice","room":"r"}"#, "Rooms changed"),
        (
            "rooms/join",
            r#"{"socketId":"nobody","room":"r"}"#,
            "The socket is not connected, or in as many rooms as a socket may be",
        ),
        ("rooms/leave", r#"{"user":"alice","room":"s"}"#, "The user is not connected, or not in this room"),
        ("test/emit-to-user", r#"{"userId":"nobody","event":"e","message":"m"}"#, "The user is not connected"),
        ("disconnect", r#"{"user":"nobody"}"#, "The user is not connected"),
        ("disconnect", r#"{"socketId":"nobody"}"#, "The socket is not connected"),
        ("disconnect", r#"{"user":"alice"}"#, "Disconnected"),
    ] {
        assert_eq!(told(&server, "POST", &format!("{API}/{route}"), body), (200, words.to_owned()), "{route} {body}");
    }
    drop(alice);
}

#[test]
fn errors_say_what_is_wrong_and_what_would_be_right() {
    let server = Server::start(&[("SOCKRING_API_BODY_BYTES_MAX", "2000")]);
    let large = format!(r#"{{"event":"e","user":"a","data":"{}"}}"#, "x".repeat(2000));
    for (method, target, body, status, words) in [
        ("POST", "emit", "", 400, "the body is empty; a JSON object is needed"),
        ("POST", "emit/batch", " ", 400, "the body is empty; a JSON list is needed"),
        ("POST", "emit/batch", "[]", 422, "the list is empty"),
        ("POST", "emit/batch", "[7]", 422, "[0]: has to be an object"),
        (
            "POST",
            "emit",
            "{\"event\":\"e\",\n \"user\" \"a\"}",
            400,
            "the body is not JSON: expected `:` at line 2 column 9",
        ),
        ("POST", "emit", r#"{"event":"e","usr":"a"}"#, 422, "usr: is unknown; did you mean user?"),
        ("POST", "emit", &large, 413, "a body may have at most 2000 bytes (api_body_bytes_max)"),
        ("POST", "emitt", "{}", 404, "there is no such route; did you mean POST /api/v1/websocket/emit?"),
        (
            "GET",
            "user/status",
            "",
            404,
            "there is no such route; there are POST emit, POST emit/batch, POST rooms/join, POST rooms/leave, \
             POST disconnect, POST maintenance, GET maintenance, GET stats, GET instances, GET users, GET events, GET openapi.json, \
             GET user/:userId/status, GET user/:userId/kept, DELETE user/:userId/kept, DELETE user/:userId/kept/:id, POST test/token, \
             POST test/emit-to-user, POST test/analysis-events/:userId",
        ),
        ("POST", "stats", "{}", 405, "only GET is allowed here"),
        ("DELETE", "maintenance", "", 405, "only GET, HEAD, POST is allowed here"),
    ] {
        assert_eq!(told(&server, method, &format!("{API}/{target}"), body), (status, words.to_owned()), "{body}");
    }
    for (target, words) in [
        ("/helth", "there is nothing here; did you mean GET /health?"),
        ("/metric", "there is nothing here; did you mean GET /metrics?"),
        ("/emit", "there is nothing here; did you mean POST /api/v1/websocket/emit?"),
        ("/api/websocket/rooms/join", "there is nothing here; did you mean POST /api/v1/websocket/rooms/join?"),
        ("/favicon.ico", "there is nothing here"),
    ] {
        assert_eq!(told(&server, "GET", target, ""), (404, words.to_owned()));
    }
}

#[test]
fn maintenance_is_told_to_whoever_connects_and_to_whoever_asks() {
    let server = Server::start(&[("SOCKRING_SHARDS", "2")]);
    let get = || {
        let answer = ask(&server, "GET", &format!("{API}/maintenance"), &[], "").json();
        let stats = ask(&server, "GET", &format!("{API}/stats"), &[], "").json();
        assert_eq!(data(&answer), &data(&stats)["maintenance"]);
        (data(&answer).clone(), answer["message"].as_str().expect("words").to_owned())
    };
    assert_eq!(get(), (json!({"enabled": false}), "Maintenance mode is off".to_owned()));
    let (status, words) = told(
        &server,
        "POST",
        &format!("{API}/maintenance"),
        r#"{"enabled":true,"message":"back soon","until":"tomorrow"}"#,
    );
    assert_eq!(status, 422);
    assert!(words.starts_with("until: has to be a date: ISO 8601"), "{words}");
    assert_eq!(get().0, json!({"enabled": false}), "what is refused changes nothing");
    let body = json!({"enabled": true, "message": "back soon", "until": "2099-01-31T19:00+01:00"});
    server.post("maintenance", &body);
    let (state, words) = get();
    assert_eq!(words, "Maintenance mode is on");
    assert_eq!((&state["message"], &state["until"]), (&json!("back soon"), &json!("2099-01-31T18:00:00.000Z")));
    let mut late = server.client("late");
    let (event, payload) = late.event();
    assert_eq!((&*event, &payload["until"]), ("maintenance:mode", &state["until"]));
    assert_eq!((&payload["timestamp"], &payload["message"]), (&state["since"], &state["message"]));
    server.post("maintenance", &json!({"enabled": false}));
    assert_eq!(get().0, json!({"enabled": false}));
    assert_eq!(late.event().1["enabled"], false);
    server.client("later").leave();
}
