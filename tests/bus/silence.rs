//! Silence: a Redis or an instance that stands still for a while loses nothing, and one that does not answer is left.

use std::time::{Duration, Instant};
use std::{io::Write, net::TcpStream, thread};

use rustix::process::Signal;

use crate::client::Client;
use crate::instance::{emit_to, instance, instance_with, metric, ready, until_redis_is};
use crate::peer::{Peer, broadcast};
use crate::proxy::Proxy;
use crate::redis_server::RedisServer;
use crate::server::Server;
use crate::until;

fn reconnects(server: &Server) -> u64 {
    metric(server, "sockring_bus_reconnects_total") + metric(server, "sockring_bus_publisher_reconnects_total")
}

fn publish(number: usize) -> Vec<u8> {
    let body = broadcast("/", Some("user:alice"), "e", &number.to_string());
    redis::cmd("PUBLISH").arg("socket.io#/#user:alice#").arg(body).get_packed_command()
}

/// The next events are these numbers, in their order.
#[track_caller]
fn assert_numbers(client: &mut Client, numbers: std::ops::Range<usize>) {
    for number in numbers {
        assert_eq!(client.event(), ("e".to_owned(), number.to_string().into()));
    }
}

/// Redis stands still by `stop`, until `go_on`: for longer than answers take, and not for as long as it may be silent.
fn assert_nothing_is_lost(redis: &RedisServer, stop: impl FnOnce(), go_on: impl FnOnce()) {
    let servers = [instance(redis), instance(redis)];
    let mut alice = servers[1].client("alice");
    let mut sender = TcpStream::connect(("127.0.0.1", redis.port)).expect("Redis listens");
    stop();
    // Who sends has sent it when the kernel has it; Redis reads it later.
    for number in 0..200 {
        sender.write_all(&publish(number)).expect("room in a buffer of the kernel");
    }
    servers.iter().for_each(|server| until_redis_is(server, "silent"));
    assert_eq!(ready(&servers[0]).0, 200);
    let begun = Instant::now();
    for _ in 0..10 {
        assert_eq!(emit_to(&servers[0], "alice", "late"), (0, false));
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "nobody is held up: {:?}", begun.elapsed());
    assert!(metric(&servers[0], "sockring_bus_silent_connections") > 0);
    // Longer than any impatience but that of the setting.
    thread::sleep(Duration::from_secs(4));
    go_on();
    servers.iter().for_each(|server| until_redis_is(server, "up"));
    let mut numbers = 0..200;
    let mut late = 0;
    while numbers.start < 200 || late < 10 {
        match alice.event() {
            (name, _) if name == "late" => late += 1,
            event => assert_eq!(event, ("e".to_owned(), numbers.next().expect("no more").to_string().into())),
        }
    }
    assert_eq!(servers.each_ref().map(reconnects), [0, 0]);
}

#[test]
fn a_redis_that_stands_still_for_a_while_loses_nothing() {
    let redis = RedisServer::start(&[]);
    assert_nothing_is_lost(&redis, || redis.freeze(), || redis.thaw());
}

#[test]
fn a_redis_that_pauses_its_clients_loses_nothing() {
    let redis = RedisServer::start(&[]);
    assert_nothing_is_lost(&redis, || redis.run("CLIENT PAUSE 6000 ALL"), || {});
}

#[test]
fn an_instance_that_was_stopped_reads_what_has_come_before_it_judges() {
    let redis = RedisServer::start(&[]);
    let server = instance_with(&redis, &[("SOCKRING_REDIS_SILENCE_TIMEOUT_MS", "1000")]);
    let mut alice = server.client("alice");
    let mut sender = redis.connect();
    for round in 0..4 {
        // Whenever it is stopped, a question may be open.
        thread::sleep(Duration::from_millis(100 + 230 * round));
        server.signal(Signal::STOP);
        thread::sleep(Duration::from_millis(2500));
        for number in 0..300 {
            sender.send_packed_command(&publish(number)).expect("Redis takes it");
        }
        server.signal(Signal::CONT);
        assert_numbers(&mut alice, 0..300);
    }
    assert_eq!(reconnects(&server), 0);
}

#[test]
fn a_redis_that_says_much_and_answers_nothing_is_left() {
    let redis = RedisServer::start(&[]);
    let proxy = Proxy::before(&redis);
    let port = proxy.port.to_string();
    let silence = ("SOCKRING_REDIS_SILENCE_TIMEOUT_MS", "1500");
    let server = instance_with(&redis, &[("REDIS_PORT", &port), ("SOCKRING_SHARDS", "1"), silence]);
    let mut alice = server.client("alice");
    until_redis_is(&server, "up");
    // What follows is taken for elements of this list, the answers to PING among them.
    proxy.say(b"*2147483647\r\n");
    until_redis_is(&server, "silent");
    until("both connections are new", || reconnects(&server), |count| *count == 2);
    until_redis_is(&server, "up");
    assert!(server.log().contains("no answer came for 1.5 s"), "{}", server.log());
    let mut peer = Peer::listening(&redis, &[]);
    peer.publish("socket.io#/#user:alice#", broadcast("/", Some("user:alice"), "again", "x"));
    assert_eq!(alice.event().0, "again");
}
