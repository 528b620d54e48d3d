//! Sessions that are served at any instance: what comes to another one is brought to theirs, over Redis or by TCP.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sockring_protocol::websocket::Opcode;

use crate::client::{Frame, Poller, WEBSOCKET, WebSocket};
use crate::http::{Connection, request};
use crate::instance::{emit_to, instance_with, metric, until_redis_is};
use crate::redis_server::{RedisCluster, RedisServer, free_port};
use crate::server::{Metrics, Server, token_for};
use crate::until;

const LISTEN: [(&str, &str); 2] = [
    ("SOCKRING_CLUSTER_LISTEN", "127.0.0.1:0"),
    ("SOCKRING_CLUSTER_SECRET", "a secret of more than 32 bytes, for tests"),
];

/// Two instances that know of each other.
fn pair(redis: &RedisServer, environment: &[(&str, &str)]) -> [Server; 2] {
    let servers = [instance_with(redis, environment), instance_with(redis, environment)];
    for server in &servers {
        until_neighbours(server, 1);
    }
    servers
}

#[track_caller]
fn until_neighbours(server: &Server, count: u64) {
    until("it has heard of the others", || metric(server, "sockring_neighbours"), |known| *known == count);
}

fn labelled(server: &Server, name: &str, label: &str) -> u64 {
    Metrics::ask(&mut server.connect()).sum(name, label)
}

/// A session of the first server that only ever asks the second one for it.
#[track_caller]
fn astray(servers: &[Server; 2]) -> Poller {
    let opened = Poller::open(servers[0].address());
    Poller { connection: servers[1].connect(), target: opened.target }
}

#[track_caller]
fn connect(poller: &mut Poller, user: &str) {
    assert_eq!(poller.post(&format!(r#"40{{"token":"{}"}}"#, token_for(user))).text(), "ok");
    let mut greeting = poller.poll();
    if !greeting.contains(r#"42["connected","#) {
        greeting += &poller.poll();
    }
    assert!(greeting.contains(r#"42["connected","#), "{greeting}");
}

/// Goes on as a WebSocket at this server.
#[track_caller]
fn upgrade(poller: &mut Poller, at: &Server) -> WebSocket {
    let sid = poller.target.split("sid=").nth(1).expect("a sid").to_owned();
    let mut socket = WebSocket::upgrade(at.connect(), &format!("{WEBSOCKET}&sid={sid}")).expect("101");
    socket.send("2probe");
    assert_eq!(socket.text(), "3probe");
    assert_eq!(poller.poll(), "6");
    socket.send("5");
    socket
}

/// Everything that a client does, at the instance that has not its session.
fn assert_served_elsewhere(servers: &[Server; 2]) {
    let mut poller = astray(servers);
    connect(&mut poller, "alice");
    let sid = poller.target.clone();
    assert_eq!(emit_to(&servers[0], "alice", "one"), (1, true));
    assert_eq!(poller.poll(), r#"42["one"]"#);
    // A GET that is held, and a POST meanwhile on another connection.
    let held = thread::spawn(move || {
        let text = poller.poll();
        (poller, text)
    });
    let mut other = Poller { connection: servers[1].connect(), target: sid.clone() };
    assert_eq!(other.post(r#"42["ping:check"]"#).text(), "ok");
    emit_to(&servers[0], "alice", "two");
    let (mut poller, text) = held.join().expect("it polls");
    assert!(text.contains(r#"42["two"]"#), "{text}");
    // The same connection serves requests of the instance's own.
    assert_eq!(poller.connection.get("/health").status, 200);
    let mut socket = upgrade(&mut poller, &servers[1]);
    assert_eq!(labelled(&servers[1], "sockring_tunnels", r#"carries="websocket""#), 1);
    emit_to(&servers[1], "alice", "three");
    assert_eq!(socket.text(), r#"42["three"]"#);
    let large = "x".repeat(300_000);
    socket.send(&format!(r#"420["nobody:hears",{{"text":"{large}"}}]"#));
    servers[0].post("emit", &serde_json::json!({"user": "alice", "event": "large", "data": {"text": large}}));
    assert!(socket.text().contains(&large));
    socket.round_trip();
    socket.connection.leave();
    until(
        "its session has ended with it",
        || Connection::open(servers[0].address()).get(&sid).status,
        |status| *status == 400,
    );
}

#[test]
fn a_session_is_served_at_every_instance_over_redis() {
    let redis = RedisServer::start(&[]);
    for adapter in ["classic", "sharded", "streams"] {
        let servers = pair(&redis, &[("SOCKRING_REDIS_ADAPTER", adapter)]);
        assert_served_elsewhere(&servers);
        assert_eq!(labelled(&servers[1], "sockring_tunnelled_requests_total", r#"over="tcp""#), 0);
    }
}

#[test]
fn a_session_is_served_at_every_instance_by_tcp() {
    let redis = RedisServer::start(&[]);
    let servers = pair(&redis, &LISTEN);
    assert_served_elsewhere(&servers);
    assert_eq!(labelled(&servers[1], "sockring_tunnelled_requests_total", r#"over="redis""#), 0);
    assert!(labelled(&servers[1], "sockring_tunnelled_requests_total", r#"over="tcp""#) > 5);
}

#[test]
fn a_session_is_served_at_every_instance_of_a_redis_cluster() {
    let redis = RedisCluster::start();
    for adapter in ["classic", "sharded", "streams"] {
        let servers = pair(&redis.nodes[0], &[("SOCKRING_REDIS_ADAPTER", adapter)]);
        assert_served_elsewhere(&servers);
    }
}

#[test]
fn more_at_once_than_tunnels_max_are_refused_until_there_is_room() {
    let redis = RedisServer::start(&[]);
    let servers = pair(&redis, &[("SOCKRING_TUNNELS_MAX", "1")]);
    let mut poller = astray(&servers);
    connect(&mut poller, "alice");
    let mut other = Poller { connection: servers[1].connect(), target: poller.target.clone() };
    let held = thread::spawn(move || poller.poll());
    let open = || labelled(&servers[1], "sockring_tunnels", r#"carries="request""#);
    until("the poll is on its way", open, |open| *open == 1);
    assert_eq!(other.post("3").status, 503);
    assert_eq!(labelled(&servers[1], "sockring_tunnels_refused_total", r#"reason="tunnels_max""#), 1);
    emit_to(&servers[0], "alice", "one");
    assert_eq!(held.join().expect("it polls"), r#"42["one"]"#);
    let mut again = Poller { connection: servers[1].connect(), target: other.target };
    assert_eq!(again.post(r#"42["nobody:hears"]"#).text(), "ok");
}

/// A WebSocket at the second server of a session of the first.
#[track_caller]
fn carried(servers: &[Server; 2]) -> WebSocket {
    let mut poller = astray(servers);
    connect(&mut poller, "alice");
    upgrade(&mut poller, &servers[1])
}

#[test]
fn a_redis_that_is_away_for_a_moment_ends_no_websocket() {
    let mut redis = RedisServer::start(&[]);
    let servers = pair(&redis, &[]);
    let mut socket = carried(&servers);
    redis.stop();
    servers.iter().for_each(|server| until_redis_is(server, "down"));
    assert_eq!(emit_to(&servers[0], "alice", "meanwhile"), (1, false));
    socket.send(r#"42["nobody:hears"]"#);
    thread::sleep(Duration::from_secs(1));
    redis.start_again();
    assert_eq!(socket.text(), r#"42["meanwhile"]"#);
    socket.round_trip();
    // They know each other as before.
    assert_eq!(metric(&servers[1], "sockring_neighbours"), 1);
    let mut other = astray(&servers);
    until_redis_is(&servers[0], "up");
    until_redis_is(&servers[1], "up");
    connect(&mut other, "bob");
}

#[test]
#[ignore = "it takes long: cargo test --test bus tunnels -- --ignored"]
fn an_owner_that_is_frozen_for_a_moment_answers_when_it_is_back() {
    let redis = RedisServer::start(&[]);
    for environment in [&[][..], &LISTEN] {
        let servers = pair(&redis, environment);
        let mut socket = carried(&servers);
        let mut poller = astray(&servers);
        servers[0].signal(Signal::STOP);
        socket.connection.send(crate::client::frame(Opcode::Ping, b"are you there"));
        poller.connection.send(request("POST", &poller.target, &["Content-Type: text/plain"], "40"));
        thread::sleep(Duration::from_secs(2));
        servers[0].signal(Signal::CONT);
        assert_eq!(socket.frame(), Frame::Pong(b"are you there".to_vec()));
        assert_eq!(poller.connection.answer().text(), "ok");
    }
}

#[test]
#[ignore = "it takes long: cargo test --test bus tunnels -- --ignored"]
fn who_asks_for_a_session_of_an_owner_that_is_killed_hears_so_soon() {
    let redis = RedisServer::start(&[]);
    for environment in [&[][..], &LISTEN] {
        let [owner, other] = pair(&redis, environment);
        let servers = [owner, other];
        let mut socket = carried(&servers);
        let target = Poller::open(servers[0].address()).target;
        let [owner, other] = servers;
        owner.signal(Signal::KILL);
        drop(owner.finish());
        let begun = Instant::now();
        let status = other.connect().get(&target).status;
        assert!(status == 504 || status == 400, "{status}");
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
        if !environment.is_empty() {
            socket.connection.rest();
        }
    }
}

#[test]
fn an_owner_that_ends_serves_to_the_end_and_says_that_it_has() {
    let redis = RedisServer::start(&[]);
    for environment in [&[][..], &LISTEN] {
        let servers = pair(&redis, &[environment, &[("SOCKRING_DRAIN", "2")]].concat());
        let mut poller = astray(&servers);
        connect(&mut poller, "alice");
        servers[0].signal(Signal::TERM);
        let mut told = String::new();
        while !told.contains("server:shutdown") {
            told = poller.poll();
        }
        let [owner, other] = servers;
        drop(owner.finish());
        let begun = Instant::now();
        until_neighbours(&other, 0);
        assert!(begun.elapsed() < Duration::from_secs(5), "it has said so");
        // At once, and as by Node.
        let answer = other.connect().get(&poller.target);
        assert_eq!((answer.status, answer.json()["code"].as_u64()), (400, Some(1)));
        assert_eq!(labelled(&other, "sockring_unknown_sids_total", "other_instance"), 1);
    }
}

#[test]
fn instances_with_other_secrets_are_reached_over_redis() {
    let redis = RedisServer::start(&[]);
    let [one, mut other] = [LISTEN, LISTEN];
    other[1].1 = "another secret of more than 32 bytes";
    let servers = [instance_with(&redis, &one), instance_with(&redis, &other)];
    servers.iter().for_each(|server| until_neighbours(server, 1));
    let mut poller = astray(&servers);
    connect(&mut poller, "alice");
    assert_eq!(labelled(&servers[1], "sockring_tunnelled_requests_total", r#"over="tcp""#), 0);
    assert!(labelled(&servers[0], "sockring_tunnels_refused_total", "wrong") > 0);
    until("the log tells", || servers[1].log(), |log| log.contains("it does not know our cluster_secret"));
}

#[test]
fn nobody_comes_in_at_the_door_of_instances_who_does_not_prove_that_he_may() {
    let redis = RedisServer::start(&[]);
    let address = format!("127.0.0.1:{}", free_port());
    let door = [("SOCKRING_CLUSTER_LISTEN", address.as_str()), LISTEN[1]];
    let server = instance_with(&redis, &door);
    let address: SocketAddr = address.parse().expect("an address");
    let hello = [&b"SRT1"[..], &[7; 32]].concat();
    for (said, has_challenge) in [
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), false),
        // A preface that is longer than any.
        ([&hello[..], &[255]].concat(), true),
        // One that proves nothing.
        ([&hello[..], &[9], b"AAABBB\0\0\0", &[0; 32]].concat(), true),
    ] {
        let mut connection = Connection::open(address);
        connection.send(&said);
        assert_eq!(connection.rest().len(), if has_challenge { 64 } else { 0 }, "{}", said.escape_ascii());
    }
    let mut slow = Connection::open(address);
    slow.send(&hello);
    assert_eq!(slow.rest().len(), 64);
    let refused = |reason| labelled(&server, "sockring_tunnels_refused_total", reason);
    assert_eq!((refused("wrong"), refused("secret"), refused("slow")), (2, 1, 1));
    // At the clients' port it is no HTTP.
    let mut public = server.connect();
    public.send(&hello);
    assert_eq!(public.answer().status, 400);
    assert_eq!(metric(&server, "sockring_tunnels_received_total"), 0);
}

#[test]
fn limits_by_address_are_those_of_the_client_wherever_its_request_comes() {
    let redis = RedisServer::start(&[]);
    let limits = [("SOCKRING_TRUSTED_PROXIES", "127.0.0.1"), ("SOCKRING_UNKNOWN_SIDS_PER_MINUTE_MAX", "3")];
    let servers = pair(&redis, &[&limits[..], &LISTEN].concat());
    let sid = astray(&servers).target;
    let made_up = format!("{}AAAAAAAAAAAA", &sid[..sid.len() - 12]);
    let ask = |address: &str| {
        let mut connection = servers[1].connect();
        connection.send(request("GET", &made_up, &[&format!("X-Forwarded-For: {address}")], ""));
        connection.answer().status
    };
    assert_eq!([(); 4].map(|()| ask("203.0.113.1")), [400, 400, 400, 429]);
    assert_eq!(ask("203.0.113.2"), 400, "one address does not use up another's");
    assert_eq!(labelled(&servers[0], "sockring_unknown_sids_total", r#"reason="gone""#), 4, "the owner counts them");
}

#[test]
fn two_instances_of_one_name_are_told() {
    let redis = RedisServer::start(&[]);
    let named = [("SOCKRING_INSTANCE", "AAA")];
    let servers = [instance_with(&redis, &named), instance_with(&redis, &named)];
    for server in &servers {
        until("the log tells", || server.log(), |log| log.contains("has the same `instance`"));
    }
    assert!(redis.run::<String>("GET sockring:socket.io:instance:AAA").len() == 16, "it is claimed");
}

#[test]
#[ignore = "it takes long: cargo test --test bus tunnels -- --ignored"]
fn more_than_there_may_be_are_refused_and_what_has_been_leaves_nothing() {
    let redis = RedisServer::start(&[]);
    for environment in [&[][..], &LISTEN] {
        let servers = pair(
            &redis,
            &[environment, &[("SOCKRING_TUNNELS_MAX", "41"), ("SOCKRING_CONNECT_TIMEOUT_MS", "3000")]].concat(),
        );
        let before = servers.each_ref().map(Server::idle_descriptors);
        let mut sockets: Vec<_> = (0..40).map(|_| carried(&servers)).collect();
        let mut held = astray(&servers);
        held.connection.send(request("GET", &held.target, &[], ""));
        until("it is held", || labelled(&servers[1], "sockring_tunnels", "request"), |open| *open == 1);
        let mut poller = astray(&servers);
        assert_eq!(poller.post("40").status, 503);
        assert_eq!(labelled(&servers[1], "sockring_tunnels_refused_total", "tunnels_max"), 1);
        sockets.iter_mut().for_each(WebSocket::round_trip);
        drop((sockets, held, poller));
        for (server, descriptors) in servers.iter().zip(&before) {
            server.assert_empties_to(descriptors);
        }
    }
}
