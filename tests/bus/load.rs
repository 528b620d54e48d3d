//! Load: numbered emits to one user while something happens to Redis, and what came of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::client::Client;
use crate::http::{Connection, request};

/// Emits to a user one after the other over this connection until it is told to end. Gives those that were published.
pub fn emit_until(connection: &mut Connection, user: &str, ends: &AtomicBool) -> Vec<u64> {
    let mut published = Vec::new();
    for number in 0.. {
        if ends.load(Ordering::Relaxed) {
            break;
        }
        let body = json!({"user": user, "event": "n", "args": [number]}).to_string();
        let headers = ["Content-Type: application/json"];
        connection.send(request("POST", "/api/v1/websocket/emit", &headers, &body));
        if connection.answer().json()["data"]["published"] == true {
            published.push(number);
        }
        thread::sleep(Duration::from_millis(5));
    }
    published
}

/// Ends what emits, also when something fails: threads are waited for.
pub struct EndsWhenDropped<'a>(pub &'a AtomicBool);

impl Drop for EndsWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The numbers that come before the end.
pub fn read_until_end(client: &mut Client) -> Vec<u64> {
    let mut numbers = Vec::new();
    loop {
        match client.event() {
            (name, _) if name == "end" => return numbers,
            (_, number) => numbers.push(number.as_u64().expect("a number")),
        }
    }
}
