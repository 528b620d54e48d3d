//! What the page asks for besides the rest of the API, and who gets the page.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::client::Client;
use crate::http::{Answer, Connection, request};
use crate::server::{API, Server, data};

const JSON: &str = "Content-Type: application/json";

/// What a route answers, with its status.
#[track_caller]
fn ask(server: &Server, method: &str, route: &str, headers: &[&str], body: &str) -> (u16, Value) {
    let mut connection = server.connect();
    connection.send(request(method, &format!("{API}/{route}"), headers, body));
    let answer = connection.answer();
    (answer.status, answer.json())
}

#[test]
fn users_are_listed_a_part_at_a_time_from_all_shards() {
    let server = Server::start(&[("SOCKRING_SHARDS", "3"), ("SOCKRING_NAMESPACES", "/,/admin")]);
    let mut clients: Vec<_> = (0..40).map(|number| server.client(&format!("user {number}"))).collect();
    clients.push(server.client("user 0"));
    // Rooms of others stand between those of users.
    for number in 0..40 {
        server.post("rooms/join", &json!({"user": format!("user {number}"), "room": format!("room {number}")}));
    }
    let mut users = BTreeMap::new();
    let (mut query, mut answers) = (String::from("?limit=7"), 0);
    loop {
        let (status, answer) = ask(&server, "GET", &format!("users{query}"), &[], "");
        assert_eq!(status, 200, "{answer}");
        let some = data(&answer)["users"].as_array().expect("a list");
        assert!(some.len() <= 7, "{answer}");
        for user in some {
            let (id, sockets) = (user["userId"].as_str().expect("an id"), user["sockets"].as_u64().expect("a count"));
            assert_eq!(users.insert(id.to_owned(), sockets), None, "{id} comes once");
        }
        answers += 1;
        match data(&answer)["next"].as_str() {
            Some(next) => query = format!("?limit=7&from={next}"),
            None => break,
        }
    }
    assert_eq!((users.len(), users["user 0"], users["user 39"]), (40, 2, 1));
    assert!((6..20).contains(&answers), "{answers}");

    for (query, field) in [("?from=x", "from"), ("?from=1", "from"), ("?limit=0", "limit"), ("?limit=1001", "limit")] {
        let (status, answer) = ask(&server, "GET", &format!("users{query}"), &[], "");
        assert_eq!((status, &answer["errors"][0]["path"]), (422, &json!(field)), "{query}");
    }
    let (status, answer) = ask(&server, "GET", "users?from=999.0", &[], "");
    assert_eq!((status, data(&answer)), (200, &json!({"users": [], "next": null})));
}

#[test]
fn without_redis_there_is_one_instance() {
    let server = Server::start(&[("SOCKRING_SHARDS", "2")]);
    let _clients = [server.client("alice"), server.client("alice"), server.client("bob")];
    let (status, answer) = ask(&server, "GET", "instances", &[], "");
    let instances = data(&answer)["instances"].as_array().expect("a list");
    assert_eq!((status, instances.len(), data(&answer).get("missing")), (200, 1, None), "{answer}");
    let numbers = ["connected", "users", "shards"].map(|name| instances[0][name].as_u64());
    assert_eq!((numbers, &instances[0]["id"]), ([Some(3), Some(2), Some(2)], &Value::Null));
}

#[test]
fn in_development_tokens_are_minted_for_whoever_may_use_the_api() {
    let server = Server::start(&[]);
    let (status, answer) = ask(&server, "POST", "test/token", &[JSON], r#"{"userId": 42, "ttl": 60}"#);
    assert_eq!((status, &data(&answer)["userId"]), (200, &json!("42")), "{answer}");
    let token = data(&answer)["token"].as_str().expect("a token");
    let mut client = Client::connect(server.address(), token);
    assert_eq!(server.emit_to("42", "hello"), 1);
    assert_eq!(client.event().0, "hello");
    for (body, field) in [
        (r#"{}"#, "userId"),
        (r#"{"userId": ""}"#, "userId"),
        (r#"{"userId": "a", "ttl": 0}"#, "ttl"),
        (r#"{"userId": "a", "ttl": 604801}"#, "ttl"),
    ] {
        let (status, answer) = ask(&server, "POST", "test/token", &[JSON], body);
        assert_eq!((status, &answer["errors"][0]["path"]), (422, &json!(field)), "{body}");
    }
    // A page of another site can neither send JSON unasked nor be taken for this machine.
    let text = ask(&server, "POST", "test/token", &["Content-Type: text/plain"], r#"{"userId": "a"}"#);
    assert_eq!(text.0, 415);

    let keyed = Server::start(&[("API_KEY", "key")]);
    assert_eq!(ask(&keyed, "POST", "test/token", &[JSON], r#"{"userId": "a"}"#).0, 401);
    let production = Server::start(&[("NODE_ENV", "production"), ("API_KEY", "key")]);
    assert_eq!(ask(&production, "POST", "test/token", &[JSON, "x-api-key: key"], r#"{"userId": "a"}"#).0, 404);
}

/// As a browser sends what it was told for this page.
fn basic(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn get(api: SocketAddr, target: &str, headers: &[&str]) -> Answer {
    let mut connection = Connection::open(api);
    connection.send(request("GET", target, headers, ""));
    connection.answer()
}

#[test]
fn in_production_the_page_is_at_the_address_of_the_api_and_asks_for_a_key() {
    let environment = [("SOCKRING_API_LISTEN", "127.0.0.1:0"), ("NODE_ENV", "production"), ("API_KEY", "one, t:wo")];
    let server = Server::start(&environment);
    let api = server.api_address();
    let answer = get(api, "/", &[]);
    assert_eq!(answer.status, 401);
    assert!(answer.header("www-authenticate").is_some_and(|asks| asks.starts_with("Basic realm=")), "{answer:?}");
    for header in ["x-api-key: one", "Authorization: Bearer t:wo", &basic("", "one"), &basic("me", "t:wo")] {
        let page = get(api, "/", &[header]);
        assert_eq!(page.status, 200, "{header}");
        assert!(page.text().contains("data-strictness=\"production\""));
        assert_eq!(get(api, &format!("{API}/stats"), &[header]).status, 200, "{header}");
    }
    for header in [&basic("one", ""), &basic("", "two"), "Authorization: Basic one", "Authorization: Basic b25l"] {
        assert_eq!(get(api, "/", &[header]).status, 401, "{header}");
        let refused = get(api, &format!("{API}/stats"), &[header]);
        // No browser asks its user because of what a script has fetched.
        assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer")), "{header}");
    }
    // What a browser knows it sends for every site: only our own page's requests count.
    let key = basic("", "one");
    let stats = format!("{API}/stats");
    assert_eq!(get(api, &stats, &[&key, "Origin: http://localhost"]).status, 200);
    for origin in ["Origin: https://evil.example", "Origin: null", "Origin: http://127.0.0.1:1"] {
        assert_eq!(get(api, &stats, &[&key, origin]).status, 401, "{origin}");
        assert_eq!(get(api, &stats, &["x-api-key: one", origin]).status, 200, "{origin}");
    }
    assert_eq!(server.connect().get("/").status, 404, "not where clients are");
}
