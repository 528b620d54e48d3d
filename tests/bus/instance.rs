//! A server in a cluster: how it is started, and what it says of Redis.

use serde_json::{Value, json};

use crate::http::request;
use crate::redis_server::RedisServer;
use crate::server::{API, Server, data};
use crate::until;

/// An instance on this Redis.
pub fn instance(redis: &RedisServer) -> Server {
    instance_with(redis, &[])
}

/// The same with more variables.
pub fn instance_with(redis: &RedisServer, environment: &[(&str, &str)]) -> Server {
    let port = redis.port.to_string();
    let redis = [("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", port.as_str()), ("SOCKRING_SHARDS", "2")];
    Server::start(&[&redis, environment].concat())
}

/// What `/ready` answers: its status and what it says of Redis.
pub fn ready(server: &Server) -> (u16, String) {
    let answer = server.connect().get("/ready");
    let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
    (answer.status, body["redis"].as_str().unwrap_or_default().to_owned())
}

#[track_caller]
pub fn until_redis_is(server: &Server, word: &str) {
    until(&format!("Redis is {word}"), || ready(server).1, |said| said == word);
}

/// Emits to a user by the API: how many sockets have it here, and whether Redis has it.
#[track_caller]
pub fn emit_to(server: &Server, user: &str, event: &str) -> (u64, bool) {
    let answer = server.post("emit", &json!({"user": user, "event": event}));
    (answer["delivered"].as_u64().expect("a count"), answer["published"].as_bool().expect("true or false"))
}

/// What a GET of the API answers.
#[track_caller]
pub fn get(server: &Server, route: &str) -> Value {
    let mut connection = server.connect();
    connection.send(request("GET", &format!("{API}/{route}"), &[], ""));
    let answer = connection.answer();
    assert_eq!(answer.status, 200, "{answer:?}");
    data(&answer.json()).clone()
}

/// A metric without labels.
#[track_caller]
pub fn metric(server: &Server, name: &str) -> u64 {
    let text = server.connect().get("/metrics").text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} in {text}"))
}
