//! The sharded adapter, on one Redis and on a Redis Cluster whose nodes go and come and whose slots move.

use std::sync::atomic::AtomicBool;
use std::thread;

use serde_json::json;

use crate::instance::{emit_to, get, instance_with, metric, until_redis_is};
use crate::load::{EndsWhenDropped, emit_until, read_until_end};
use crate::redis_server::{RedisCluster, RedisServer};
use crate::server::Server;
use crate::until;

const SHARDED: (&str, &str) = ("SOCKRING_REDIS_ADAPTER", "sharded");
const STREAMS: (&str, &str) = ("SOCKRING_REDIS_ADAPTER", "streams");

/// How many connections subscribe to this shard channel on this node.
fn subscribers(redis: &RedisServer, channel: &str) -> u64 {
    let (_, count): (String, u64) = redis.run(&format!("PUBSUB SHARDNUMSUB {channel}"));
    count
}

/// Everything that instances do with each other.
fn assert_one_cluster(servers: &[Server; 2]) {
    let mut alice = [servers[0].client("alice"), servers[1].client("alice")];
    let mut users: Vec<_> = (0..40).map(|number| servers[1].client(&format!("user-{number}"))).collect();
    assert_eq!(emit_to(&servers[0], "alice", "both"), (1, true));
    for client in &mut alice {
        assert_eq!(client.event().0, "both");
    }
    for (number, client) in users.iter_mut().enumerate() {
        assert_eq!(emit_to(&servers[0], &format!("user-{number}"), "one"), (0, true));
        assert_eq!(client.event().0, "one");
    }
    let all = servers[0].post("emit", &json!({"broadcast": true, "event": "all"}));
    assert_eq!(all["published"], true);
    for client in alice.iter_mut().chain(&mut users) {
        assert_eq!(client.event().0, "all");
    }
    let sid = alice[1].sid.clone();
    servers[0].post("emit", &json!({"room": sid, "event": "you"}));
    assert_eq!(alice[1].event().0, "you");
    let status = get(&servers[0], "user/alice/status");
    assert_eq!(
        status,
        json!({"userId": "alice", "connected": true, "sockets": 2, "instances": 2, "missing": 0, "kept": 0})
    );
    servers[0].post("rooms/join", &json!({"user": "user-7", "room": "news"}));
    let news = json!({"room": "news", "event": "news"});
    until("user-7 has joined there", || servers[1].emit(&news), |delivered| *delivered == 1);
    assert_eq!(users[7].event().0, "news");
    servers[0].post("disconnect", &json!({"user": "alice"}));
    for client in &mut alice {
        assert_eq!(client.socket.text(), "41");
    }
    assert_eq!(get(&servers[0], "stats")["instances"], 2);
}

#[test]
fn instances_with_the_sharded_adapter_are_one_cluster() {
    let redis = RedisServer::start(&[]);
    let servers = [instance_with(&redis, &[SHARDED]), instance_with(&redis, &[SHARDED])];
    assert_one_cluster(&servers);
    assert_eq!(subscribers(&redis, "socket.io#/#"), 2);
    until("rooms are given up", || subscribers(&redis, "socket.io#/#user:alice#"), |count| *count == 0);
}

#[test]
fn shard_channels_come_back_after_a_restart() {
    let mut redis = RedisServer::start(&[]);
    let servers = [instance_with(&redis, &[SHARDED]), instance_with(&redis, &[SHARDED])];
    let mut users: Vec<_> = (0..40).map(|number| servers[1].client(&format!("user-{number}"))).collect();
    redis.stop();
    servers.iter().for_each(|server| until_redis_is(server, "down"));
    redis.start_again();
    servers.iter().for_each(|server| until_redis_is(server, "up"));
    for (number, client) in users.iter_mut().enumerate() {
        assert_eq!(emit_to(&servers[0], &format!("user-{number}"), "again"), (0, true));
        assert_eq!(client.event().0, "again");
    }
}

#[test]
fn a_redis_cluster_carries_the_sharded_adapter() {
    let cluster = RedisCluster::start();
    let servers = [instance_with(&cluster.nodes[0], &[SHARDED]), instance_with(&cluster.nodes[1], &[SHARDED])];
    assert_one_cluster(&servers);
}

#[test]
fn a_redis_cluster_carries_the_classic_adapter() {
    let cluster = RedisCluster::start();
    let servers = [instance_with(&cluster.nodes[0], &[]), instance_with(&cluster.nodes[1], &[])];
    assert_one_cluster(&servers);
}

#[test]
fn a_node_that_goes_and_comes_takes_only_its_own_along() {
    let mut cluster = RedisCluster::start();
    let servers = [instance_with(&cluster.nodes[0], &[SHARDED]), instance_with(&cluster.nodes[0], &[SHARDED])];
    let mut users: Vec<_> = (0..40).map(|number| servers[1].client(&format!("user-{number}"))).collect();
    cluster.nodes[2].stop();
    until_redis_is(&servers[0], "down");
    // Two thirds of the channels are still there.
    let published = (0..40).filter(|number| emit_to(&servers[0], &format!("user-{number}"), "maybe").1).count();
    assert!((10..40).contains(&published), "{published}");
    cluster.nodes[2].start_again();
    servers.iter().for_each(|server| until_redis_is(server, "up"));
    for (number, client) in users.iter_mut().enumerate() {
        let user = format!("user-{number}");
        until("Redis takes it", || emit_to(&servers[0], &user, "again").1, |published| *published);
        while client.event().0 != "again" {}
    }
}

#[test]
fn a_slot_that_moves_takes_its_channels_along() {
    let cluster = RedisCluster::start();
    let servers = [instance_with(&cluster.nodes[0], &[SHARDED]), instance_with(&cluster.nodes[0], &[SHARDED])];
    let mut alice = servers[1].client("alice");
    let channel = "socket.io#/#user:alice#";
    let slot: u16 = cluster.nodes[0].run(&format!("CLUSTER KEYSLOT {channel}"));
    let from = cluster.owner(slot);
    let to = (from + 1) % 3;
    assert_eq!(subscribers(&cluster.nodes[from], channel), 1);
    cluster.move_slot(slot, from, to, &[]);
    until("the channel is subscribed there", || subscribers(&cluster.nodes[to], channel), |count| *count == 1);
    until_redis_is(&servers[1], "up");
    until("it is published there", || emit_to(&servers[0], "alice", "moved").1, |published| *published);
    assert_eq!(alice.event().0, "moved");
    // That of the whole namespace, with all requests.
    let slot: u16 = cluster.nodes[0].run("CLUSTER KEYSLOT socket.io#/#");
    let from = cluster.owner(slot);
    let to = (from + 1) % 3;
    cluster.move_slot(slot, from, to, &[]);
    until("both have followed", || subscribers(&cluster.nodes[to], "socket.io#/#"), |count| *count == 2);
    servers.iter().for_each(|server| until_redis_is(server, "up"));
    let all = || servers[0].post("emit", &json!({"broadcast": true, "event": "all"}))["published"] == true;
    until("it is published there", all, |published| *published);
    assert_eq!(alice.event().0, "all");
    let status = || get(&servers[0], "user/alice/status");
    until("the other instance answers", status, |status| status["sockets"] == 1);
}

#[test]
fn slots_that_move_take_only_their_rooms_along() {
    const USERS: usize = 60;
    let cluster = RedisCluster::start();
    let servers = [instance_with(&cluster.nodes[0], &[SHARDED]), instance_with(&cluster.nodes[0], &[SHARDED])];
    let mut users: Vec<_> = (0..USERS).map(|number| servers[1].client(&format!("user-{number}"))).collect();
    let subscriptions = || metric(&servers[1], "sockring_bus_subscriptions");
    until("all nodes count", subscriptions, |count| *count >= USERS as u64);
    let before = subscriptions();
    let mut published = [0; USERS];
    let mut emit = |user: usize| {
        let number = published[user];
        let body = json!({"user": format!("user-{user}"), "event": "n", "args": [number]});
        published[user] += u64::from(servers[0].post("emit", &body)["published"] == true);
    };
    let channel = |user: usize| format!("socket.io#/#user:user-{user}#");
    let node_of = |slot: u16| cluster.owner(slot);
    for user in 0..USERS {
        let slot: u16 = cluster.nodes[0].run(&format!("CLUSTER KEYSLOT {}", channel(user)));
        let from = node_of(slot);
        let to = (from + 1) % 3;
        cluster.move_slot(slot, from, to, &[]);
        // That user, and others whose slots stay, or have moved.
        [user, user / 2, (user + 7) % USERS].into_iter().for_each(&mut emit);
        until("the room has followed", || subscribers(&cluster.nodes[to], &channel(user)), |count| *count == 1);
    }
    for user in 0..USERS {
        until(
            "it is published again",
            || emit_to(&servers[0], &format!("user-{user}"), "end").1,
            |published| *published,
        );
    }
    let (mut lost, mut sent) = (0, 0);
    for (user, client) in users.iter_mut().enumerate() {
        let mut got = 0;
        while client.event().0 != "end" {
            got += 1;
        }
        sent += published[user];
        lost += published[user].saturating_sub(got);
    }
    // What was published where nobody is any more, at the moment of a move.
    assert!(lost * 20 <= sent && sent > 100, "{lost} of {sent}");
    let reconnects = |server: &Server| metric(server, "sockring_bus_reconnects_total");
    assert_eq!(servers.each_ref().map(reconnects), [0, 0], "the connections live on");
    until("the rooms are the same", subscriptions, |count| *count == before);
    servers.iter().for_each(|server| until_redis_is(server, "up"));
}

#[test]
fn a_replica_that_takes_over_gets_the_subscriptions() {
    let mut cluster = RedisCluster::start();
    cluster.add_replica_of(2);
    let servers = [instance_with(&cluster.nodes[0], &[SHARDED]), instance_with(&cluster.nodes[0], &[SHARDED])];
    let mut users: Vec<_> = (0..40).map(|number| servers[1].client(&format!("user-{number}"))).collect();
    cluster.nodes[2].stop();
    servers.iter().for_each(|server| until_redis_is(server, "down"));
    servers.iter().for_each(|server| until_redis_is(server, "up"));
    for (number, client) in users.iter_mut().enumerate() {
        let user = format!("user-{number}");
        until("Redis takes it", || emit_to(&servers[0], &user, "again").1, |published| *published);
        while client.event().0 != "again" {}
    }
    let status = || get(&servers[0], "user/user-7/status");
    until("the other instance answers", status, |status| status["sockets"] == 1 && status["missing"] == 0);
}

/// A stream keeps what is added to it, so that nothing is lost on its way from node to node, or comes twice.
#[test]
fn a_slot_that_moves_takes_its_stream_along() {
    let redis = RedisCluster::start();
    let long = ("SOCKRING_REQUESTS_PER_CONNECTION_MAX", "1000000");
    let servers = [(); 2].map(|()| instance_with(&redis.nodes[0], &[STREAMS, long]));
    servers.iter().for_each(|server| until_redis_is(server, "up"));
    let mut alice = servers[1].client("alice");
    let slot = redis.nodes[0].run::<u16>("CLUSTER KEYSLOT socket.io");
    let ends = AtomicBool::new(false);
    let (published, got) = thread::scope(|scope| {
        let mut connection = servers[0].connect();
        let ends = &ends;
        let emitting = scope.spawn(move || emit_until(&mut connection, "alice", ends));
        let reading = scope.spawn(|| read_until_end(&mut alice));
        {
            let _ends = EndsWhenDropped(ends);
            for round in 1..=4 {
                let owner = redis.owner(slot);
                let entries = || redis.nodes[owner].run::<u64>("XLEN socket.io");
                until("more is added", entries, |count| *count >= 10 * round);
                if round < 4 {
                    redis.move_slot(slot, owner, (owner + 1) % 3, &["socket.io"]);
                }
            }
        }
        let published = emitting.join().expect("it emits");
        until("an end is published", || emit_to(&servers[0], "alice", "end").1, |published| *published);
        (published, reading.join().expect("it reads"))
    });
    assert!(!published.is_empty());
    assert!(got.is_sorted_by(|one, next| one < next), "in their order, and none twice: {got:?}");
    let lost: Vec<_> = published.iter().filter(|number| !got.contains(number)).collect();
    assert!(lost.is_empty(), "{lost:?} of {}", published.len());
}

/// The owner of a stream stands still, and has lost it when it goes on: it sends on what has waited for it.
#[test]
fn what_was_given_up_is_not_sent_on_to_another_node() {
    let redis = RedisCluster::start();
    let servers = [(); 2].map(|()| instance_with(&redis.nodes[0], &[STREAMS]));
    servers.iter().for_each(|server| until_redis_is(server, "up"));
    let mut clients = servers.each_ref().map(|server| server.client("alice"));
    let slot = redis.nodes[0].run::<u16>("CLUSTER KEYSLOT socket.io");
    let owner = redis.owner(slot);
    let heir = &redis.nodes[(owner + 1) % 3];
    let [id, source] = [heir, &redis.nodes[owner]].map(|node| node.run::<String>("CLUSTER MYID"));
    let mut order = redis.nodes[owner].connect();
    redis.nodes[owner].freeze();
    // It hears of this first when it goes on.
    let gives_it_away = redis::cmd("CLUSTER").arg("SETSLOT").arg(slot).arg("NODE").arg(&id).get_packed_command();
    order.send_packed_command(&gives_it_away).expect("the kernel takes it");
    for number in 0..3 {
        assert_eq!(emit_to(&servers[0], "alice", &format!("late-{number}")), (1, false));
    }
    heir.run::<()>(&format!("CLUSTER SETSLOT {slot} IMPORTING {source}"));
    heir.run::<()>(&format!("CLUSTER SETSLOT {slot} NODE {id}"));
    redis.nodes[owner].thaw();
    until("the stream has moved", || emit_to(&servers[0], "alice", "moved").1, |published| *published);
    assert_eq!(emit_to(&servers[0], "alice", "last"), (1, true));
    let others: Vec<_> = (0..2).map(|_| clients[1].event().0).collect();
    assert_eq!(others, ["moved", "last"]);
    for number in 0..3 {
        assert_eq!(clients[0].event().0, format!("late-{number}"));
    }
}
