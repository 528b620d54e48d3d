//! What the page asks for besides the rest of the API: who is connected.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::http::request;
use crate::server::{API, Server, data};

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
