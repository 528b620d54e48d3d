//! Faults of Redis: this instance's clients are served on, what is wrong is said, and all comes back by itself.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::Client;
use crate::instance::{emit_to, get, instance, instance_with, metric, ready, until_redis_is};
use crate::peer::{Peer, broadcast};
use crate::redis_server::RedisServer;
use crate::server::Server;
use crate::until;

/// Events go both ways between the instances.
#[track_caller]
fn assert_joined(servers: &[Server; 2], clients: &mut [Client; 2]) {
    for from in [0, 1] {
        let event = format!("from-{from}");
        let (_, published) = emit_to(&servers[from], "alice", &event);
        assert!(published);
        for client in &mut *clients {
            assert_eq!(client.event().0, event);
        }
    }
}

#[test]
fn redis_may_be_absent_at_boot() {
    let mut redis = RedisServer::start(&[]);
    redis.stop();
    let servers = [instance(&redis), instance_with(&redis, &[("SOCKRING_READY_REQUIRES_REDIS", "true")])];
    let mut clients = [servers[0].client("alice"), servers[1].client("alice")];
    assert_eq!(emit_to(&servers[0], "alice", "here"), (1, false));
    assert_eq!(clients[0].event().0, "here");
    assert_eq!((ready(&servers[0]), ready(&servers[1])), ((200, "down".to_owned()), (503, "down".to_owned())));
    let status = get(&servers[0], "user/alice/status");
    assert_eq!((&status["sockets"], &status["missing"]), (&json!(1), &json!(null)));
    assert!(metric(&servers[0], "sockring_bus_publisher_up") == 0);
    redis.start_again();
    servers.iter().for_each(|server| until_redis_is(server, "up"));
    assert_eq!(ready(&servers[1]).0, 200);
    assert_joined(&servers, &mut clients);
    let log = servers[0].log();
    assert!(log.matches("Redis is down").count() <= 4 && log.matches("Redis is up").count() == 1, "{log}");
}

#[test]
fn subscriptions_come_back_after_a_restart() {
    let mut redis = RedisServer::start(&[]);
    let servers = [instance(&redis), instance(&redis)];
    let mut clients = [servers[0].client("alice"), servers[1].client("alice")];
    let others: Vec<_> = (0..200).map(|number| servers[1].client(&format!("user-{number}"))).collect();
    assert_joined(&servers, &mut clients);
    for _ in 0..3 {
        redis.stop();
        servers.iter().for_each(|server| until_redis_is(server, "down"));
        assert_eq!(emit_to(&servers[0], "alice", "here"), (1, false));
        assert_eq!(clients[0].event().0, "here");
        redis.start_again();
        let begun = Instant::now();
        servers.iter().for_each(|server| until_redis_is(server, "up"));
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert_joined(&servers, &mut clients);
        assert_eq!(redis.subscribers("socket.io#/#user:user-77#"), 1);
        assert_eq!(redis.subscribers("socket.io-request#/#"), 2);
    }
    assert!(metric(&servers[1], "sockring_bus_reconnects_total") >= 3);
    drop(others);
}

#[test]
fn a_frozen_redis_is_noticed_and_holds_up_nobody() {
    let redis = RedisServer::start(&[]);
    let silence = ("SOCKRING_REDIS_SILENCE_TIMEOUT_MS", "3000");
    let servers = [instance_with(&redis, &[silence]), instance_with(&redis, &[silence])];
    let mut clients = [servers[0].client("alice"), servers[1].client("alice")];
    redis.freeze();
    let begun = Instant::now();
    assert_eq!(emit_to(&servers[0], "alice", "here"), (1, false));
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
    assert_eq!(clients[0].event().0, "here");
    // Who connects now is told in time that it is connected.
    let begun = Instant::now();
    let late = servers[0].client("late");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    until("the publisher is down", || metric(&servers[0], "sockring_bus_publisher_up"), |is_up| *is_up == 0);
    assert!(servers[0].log().contains("no answer came for 3.0 s"), "{}", servers[0].log());
    let begun = Instant::now();
    assert_eq!(emit_to(&servers[0], "alice", "at-once"), (1, false));
    assert!(begun.elapsed() < Duration::from_millis(300), "{:?}", begun.elapsed());
    assert_eq!(clients[0].event().0, "at-once");
    redis.thaw();
    servers.iter().for_each(|server| until_redis_is(server, "up"));
    // Redis had still what was published before it was known to be frozen.
    until("alice hears what is new", || emit_to(&servers[0], "alice", "new").1, |published| *published);
    while clients[1].event().0 != "new" {}
    assert_eq!(clients[0].event().0, "new");
    assert_joined(&servers, &mut clients);
    drop(late);
}

#[test]
fn a_lost_connection_comes_back() {
    let redis = RedisServer::start(&[]);
    let servers = [instance(&redis), instance(&redis)];
    let mut clients = [servers[0].client("alice"), servers[1].client("alice")];
    let list: String = redis.run("CLIENT LIST");
    assert_eq!(list.matches("name=sockring-").count(), 4, "a subscriber and a publisher each: {list}");
    for kind in ["pubsub", "normal"] {
        let _: u64 = redis.run(&format!("CLIENT KILL TYPE {kind} SKIPME yes"));
        until(
            "both are back",
            || {
                let list: String = redis.run("CLIENT LIST");
                list.matches("name=sockring-").count()
            },
            |count| *count == 4,
        );
        servers.iter().for_each(|server| until_redis_is(server, "up"));
        until("alice is subscribed", || redis.subscribers("socket.io#/#user:alice#"), |count| *count == 2);
        assert_joined(&servers, &mut clients);
    }
}

#[test]
fn an_overrun_of_redis_output_limit_is_a_counted_loss() {
    let redis = RedisServer::start(&["--client-output-buffer-limit", "pubsub 1mb 0 0"]);
    let server = instance_with(&redis, &[("SOCKRING_SHARDS", "1")]);
    let mut alice = server.client("alice");
    // Stopped, so that nothing is read; Redis gives up on it.
    server.signal(rustix::process::Signal::STOP);
    let mut peer = Peer::listening(&redis, &[]);
    let text = "x".repeat(200);
    let body = broadcast("/", Some("user:nobody"), "e", &text);
    let mut sent = 0;
    while peer.publish("socket.io#/#", &body) > 0 {
        sent += 1;
        assert!(sent < 200_000, "Redis does not give up");
    }
    server.signal(rustix::process::Signal::CONT);
    let lost = || metric(&server, "sockring_bus_reconnects_total");
    until("the loss is counted", lost, |count| *count >= 1);
    until_redis_is(&server, "up");
    peer.publish("socket.io#/#user:alice#", broadcast("/", Some("user:alice"), "after", "x"));
    assert_eq!(alice.event().0, "after");
}

#[test]
fn a_slow_redis_bounds_what_waits_for_it() {
    let redis = RedisServer::start(&[]);
    let server = instance_with(&redis, &[("SOCKRING_REDIS_QUEUE_BYTES_MAX", "10000")]);
    redis.freeze();
    let emitting: Vec<_> = (0..8)
        .map(|_| {
            let mut connection = server.connect();
            thread::spawn(move || {
                let body = json!({"user": "alice", "event": "e", "args": ["x".repeat(4000)]}).to_string();
                let headers = ["Content-Type: application/json"];
                connection.send(crate::http::request("POST", "/api/v1/websocket/emit", &headers, &body));
                connection.answer().json()["data"]["published"].clone()
            })
        })
        .collect();
    for answer in emitting {
        assert_eq!(answer.join().expect("it is answered"), json!(false));
    }
    redis.thaw();
    let lost = |reason: &str| server.metrics().sum("sockring_bus_lost_total", &format!("reason=\"{reason}\""));
    assert!(lost("queue_full") > 0 && lost("timed_out") > 0);
    until("nothing waits any more", || metric(&server, "sockring_bus_queue_bytes"), |bytes| *bytes == 0);
    until("it goes on", || emit_to(&server, "alice", "e").1, |published| *published);
}
