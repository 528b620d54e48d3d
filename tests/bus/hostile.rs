//! Hostile messages on every channel: dropped and counted, and nobody is worse off.

use serde_json::json;

use crate::instance::{instance, instance_with, metric};
use crate::peer::{Peer, broadcast};
use crate::redis_server::RedisServer;
use crate::server::Server;

/// Everything that was dropped.
fn malformed(server: &Server) -> u64 {
    server.metrics().sum("sockring_bus_malformed_total", "reason=")
}

#[test]
fn malformed_messages_are_counted_and_dropped() {
    let redis = RedisServer::start(&[]);
    let mut server = instance(&redis);
    let mut alice = server.client("alice");
    let mut peer = Peer::listening(&redis, &[]);
    let good = broadcast("/", Some("user:alice"), "e", "x");
    let deep = [vec![0x91; 100_000], vec![0xc0]].concat();
    let bodies: Vec<Vec<u8>> = vec![
        vec![],
        vec![0xc1],
        b"{".to_vec(),
        b"null".to_vec(),
        good[..good.len() - 1].to_vec(),
        [&good[..], b"x"].concat(),
        // Lengths that nothing follows.
        vec![0xdd, 0xff, 0xff, 0xff, 0xff],
        vec![0xc6, 0xff, 0xff, 0xff, 0xff, 0x00],
        vec![0xdf, 0xff, 0xff, 0xff, 0xff],
        deep,
        vec![b'['; 100_000],
        (0..=255).collect(),
    ];
    let channels = ["socket.io#/#", "socket.io#/#user:alice#", "socket.io-request#/#", "socket.io-response#/#"];
    for channel in channels {
        for body in &bodies {
            assert!(peer.publish(channel, body) >= 1, "{channel}");
        }
    }
    peer.publish("socket.io#/#user:alice#", &good);
    peer.publish("socket.io#/#", broadcast("/", None, "all", "x"));
    let mut names = [alice.event().0, alice.event().0];
    names.sort();
    assert_eq!(names, ["all", "e"]);
    alice.socket.round_trip();
    crate::until("all are counted", || malformed(&server), |count| *count >= (channels.len() * bodies.len()) as u64);
    assert_eq!(metric(&server, "sockring_bus_reconnects_total"), 0);
    server.assert_healthy();
}

#[test]
fn packets_that_clients_would_choke_on_are_dropped() {
    let redis = RedisServer::start(&[]);
    let server = instance(&redis);
    let mut alice = server.client("alice");
    let mut peer = Peer::listening(&redis, &[]);
    let mut wrong_type = broadcast("/", None, "e", "x");
    let at = wrong_type.windows(5).position(|window| window == b"type\x02").expect("a type") + 4;
    wrong_type[at] = 5;
    peer.publish("socket.io#/#", &wrong_type);
    peer.publish("socket.io#/#", broadcast("/admin", None, "e", "x"));
    peer.publish("socket.io#/#", broadcast("/", None, "good", "x"));
    assert_eq!(alice.event().0, "good");
}

#[test]
fn too_many_questions_are_refused_and_clients_served_on() {
    let redis = RedisServer::start(&[]);
    let server = instance_with(&redis, &[("SOCKRING_SHARDS", "1"), ("SOCKRING_REDIS_REQUESTS_MAX", "256")]);
    let mut clients: Vec<_> = (0..300).map(|number| server.client(&format!("user-{number}"))).collect();
    let mut peer = Peer::listening(&redis, &[]);
    let fetch = json!({"uid": "evil", "requestId": "r", "type": 5, "opts": {"rooms": [], "except": []}}).to_string();
    for _ in 0..5_000 {
        peer.publish("socket.io-request#/#", &fetch);
    }
    peer.publish("socket.io#/#user:user-7#", broadcast("/", Some("user:user-7"), "e", "x"));
    assert_eq!(clients[7].event().0, "e");
    let names: Vec<String> = (0..20_000).map(|number| number.to_string()).collect();
    let many = json!({"uid": "evil", "type": 2, "opts": {"rooms": [], "except": []}, "rooms": names});
    peer.publish("socket.io-request#/#", many.to_string());
    crate::until("some were refused", || metric(&server, "sockring_bus_requests_refused_total"), |count| *count > 0);
    assert_eq!(server.emit_to("user-7", "f"), 1);
    assert_eq!(clients[7].event().0, "f");
}

#[test]
fn answers_to_nothing_and_a_flood_of_them_are_ignored() {
    let redis = RedisServer::start(&[]);
    let mut server = instance(&redis);
    let mut peer = Peer::listening(&redis, &[]);
    for number in 0..2_000 {
        let answer = json!({"requestId": number.to_string(), "sockets": []});
        peer.publish("socket.io-response#/#", answer.to_string());
    }
    server.assert_healthy();
    assert_eq!(malformed(&server), 0);
}

#[test]
fn what_a_shard_does_not_take_in_time_is_counted_as_lost() {
    let redis = RedisServer::start(&[]);
    let mut server = instance_with(&redis, &[("SOCKRING_SHARDS", "1"), ("SOCKRING_MAIL_BYTES_MAX", "1024")]);
    let mut alice = server.client("alice");
    let text = "x".repeat(200);
    let messages = [
        ("socket.io#/#user:alice#", broadcast("/", Some("user:alice"), "one", &text)),
        ("socket.io#/#", broadcast("/", None, "all", &text)),
    ];
    // All at once, so that they are read at once, and each goes another way than the one before.
    let mut burst = redis::pipe();
    for (channel, body) in messages.iter().cycle().take(200) {
        burst.cmd("PUBLISH").arg(channel).arg(body).ignore();
    }
    burst.query::<()>(&mut redis.connect()).expect("Redis takes it");
    let lost = || server.metrics().sum("sockring_bus_lost_total", "reason=\"mailbox_full\"");
    crate::until("the loss is counted", lost, |count| *count > 0);
    assert_eq!(alice.event().0, "one");
    server.assert_healthy();
}
