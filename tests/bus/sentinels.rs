//! Masters and replicas: only a master counts as up, and sentinels say which Redis that is, also when it is another one.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use std::{fs, net::TcpStream, thread};

use crate::command::run;
use crate::instance::{emit_to, instance, ready, until_redis_is};
use crate::load::{EndsWhenDropped, emit_until, read_until_end};
use crate::redis_server::{RedisServer, free_port};
use crate::server::Server;
use crate::until;

/// Three sentinels that watch a master as `mymaster`.
struct Sentinels {
    children: Vec<Child>,
    ports: Vec<u16>,
    folders: Vec<PathBuf>,
}

impl Sentinels {
    fn watching(master: &RedisServer) -> Sentinels {
        let mut sentinels = Sentinels { children: Vec::new(), ports: Vec::new(), folders: Vec::new() };
        for _ in 0..3 {
            let port = free_port();
            let folder = std::env::temp_dir().join(format!("sockring-sentinel-{}-{port}", std::process::id()));
            fs::create_dir_all(&folder).expect("a folder");
            let text = format!(
                "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor mymaster 127.0.0.1 {} 2\n\
                 sentinel down-after-milliseconds mymaster 1000\nsentinel failover-timeout mymaster 4000\n",
                folder.display(),
                master.port
            );
            fs::write(folder.join("sentinel.conf"), text).expect("a file");
            let mut command = Command::new("redis-server");
            command.arg(folder.join("sentinel.conf")).arg("--sentinel");
            let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            sentinels.children.push(child.expect("redis-server is there"));
            sentinels.ports.push(port);
            sentinels.folders.push(folder);
        }
        for port in &sentinels.ports {
            let listens = || TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_ok();
            until("a sentinel listens", listens, |listens| *listens);
            let knows = |part: &str| sentinels.ask(*port, &["SENTINEL", part, "mymaster"]).len();
            until("it knows the others", || knows("SENTINELS"), |count| *count == 2);
            until("it knows the replica", || knows("REPLICAS"), |count| *count == 1);
        }
        sentinels
    }

    fn ask(&self, port: u16, words: &[&str]) -> Vec<redis::Value> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).expect("a good URL");
        let mut connection = client.get_connection().expect("a sentinel answers");
        let mut command = redis::Cmd::new();
        command.arg(words);
        command.query(&mut connection).unwrap_or_default()
    }

    /// As `redis_sentinels`.
    fn list(&self) -> String {
        let names: Vec<String> = self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        names.join(",")
    }

    fn instance(&self, adapter: &str) -> Server {
        let redis = [("REDIS_SENTINELS", self.list()), ("SOCKRING_REDIS_ADAPTER", adapter.to_owned())];
        let redis = redis.each_ref().map(|(name, value)| (*name, value.as_str()));
        // One connection for all emits, and no heartbeats among the events.
        let long = [("SOCKRING_REQUESTS_PER_CONNECTION_MAX", "1000000"), ("SOCKRING_PING_INTERVAL_MS", "600000")];
        Server::start(&[&redis[..], &[("SOCKRING_SHARDS", "2")], &long].concat())
    }
}

impl Drop for Sentinels {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.folders.iter().for_each(|folder| drop(fs::remove_dir_all(folder)));
    }
}

fn replica_of(master: &RedisServer) -> RedisServer {
    let replica = RedisServer::start(&["--replicaof", &format!("127.0.0.1 {}", master.port)]);
    let replication = || replica.run::<String>("INFO replication");
    until("it follows", replication, |info| info.contains("master_link_status:up"));
    replica
}

/// What a Redis says that it is; one that changes just now ends its connections and says nothing.
fn role(redis: &RedisServer) -> Option<String> {
    let parts: Vec<redis::Value> = redis.try_run("ROLE").ok()?;
    redis::from_redis_value(parts[0].clone()).ok()
}

/// Orders another master, and then kills that one: all follow, and leave nobody behind.
fn change_masters_twice(nodes: &mut [RedisServer; 2], sentinels: &Sentinels, servers: &[Server; 2], counted: &str) {
    sentinels.ask(sentinels.ports[0], &["SENTINEL", "FAILOVER", "mymaster"]);
    until("the other one is the master", || role(&nodes[1]), |role| role.as_deref() == Some("master"));
    let named =
        |server: &Server, port: u16| server.log().matches(&format!("name 127.0.0.1:{port} as the master")).count();
    for server in servers {
        until("it is followed", || named(server, nodes[1].port), |count| *count == 1);
        until_redis_is(server, "up");
    }
    until("both subscribe there", || nodes[1].subscribers(counted), |count| *count == 2);
    until("the old one follows", || role(&nodes[0]), |role| role.as_deref() == Some("slave"));
    assert_eq!(nodes[0].subscribers(counted), 0, "nobody is left at a replica");
    let replication = || nodes[0].run::<String>("INFO replication");
    until("it can take over", replication, |info| info.contains("master_link_status:up"));
    nodes[1].stop();
    until("the first one is the master again", || role(&nodes[0]), |role| role.as_deref() == Some("master"));
    for server in servers {
        until("it is followed", || named(server, nodes[0].port), |count| *count == 2);
        until_redis_is(server, "up");
    }
    until("both subscribe there", || nodes[0].subscribers(counted), |count| *count == 2);
}

#[test]
fn sentinels_are_followed_to_another_master_under_load() {
    follow_under_load("classic");
}

#[test]
fn a_stream_is_read_on_at_another_master_of_the_sentinels() {
    follow_under_load("streams");
}

fn follow_under_load(adapter: &str) {
    // Which channel has as many subscribers as there are servers.
    let counted = if adapter == "streams" { "socket.io#/#" } else { "socket.io-request#/#" };
    let mut nodes = [RedisServer::start(&[]), RedisServer::start(&[])];
    nodes[1] = replica_of(&nodes[0]);
    let sentinels = Sentinels::watching(&nodes[0]);
    let servers = [sentinels.instance(adapter), sentinels.instance(adapter)];
    let mut alice = servers[1].client("alice");
    servers.iter().for_each(|server| until_redis_is(server, "up"));
    let ends = AtomicBool::new(false);
    let (published, got, last) = thread::scope(|scope| {
        let mut connection = servers[0].connect();
        let ends = &ends;
        let emitting = scope.spawn(move || emit_until(&mut connection, "alice", ends));
        let reading = scope.spawn(|| read_until_end(&mut alice));
        {
            let _ends = EndsWhenDropped(ends);
            change_masters_twice(&mut nodes, &sentinels, &servers, counted);
            // What is published from now on has no reason to be lost.
            thread::sleep(Duration::from_millis(500));
        }
        let published = emitting.join().expect("it emits");
        until("an end is published", || emit_to(&servers[0], "alice", "end").1, |published| *published);
        let last = published[published.len() - 20..].to_vec();
        (published, reading.join().expect("it reads"), last)
    });
    assert!(got.is_sorted_by(|one, next| one < next), "in their order, and none twice: {got:?}");
    assert!(last.iter().all(|number| got.contains(number)), "{last:?} in {got:?}");
    // What was published at the moment of a change may be lost with the old master, as with any pub/sub.
    let lost = published.iter().filter(|number| !got.contains(number)).count();
    assert!(lost * 10 < published.len(), "{lost} of {}", published.len());
}

#[test]
fn neither_a_replica_nor_a_sentinel_counts_as_up() {
    let master = RedisServer::start(&[]);
    let replica = replica_of(&master);
    let server = instance(&replica);
    until("the reason is logged", || server.log(), |log| log.contains("is a replica"));
    assert_eq!(ready(&server), (200, "down".to_owned()));
    assert_eq!(emit_to(&server, "alice", "e"), (0, false));
    let sentinels = Sentinels::watching(&master);
    let [port, sentinel] = [replica.port, sentinels.ports[0]].map(|port| port.to_string());
    for (port, word) in [(&port, "is a replica"), (&sentinel, "is a sentinel")] {
        let ended = run(&["check"], &[("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", port)]);
        assert!(ended.stdout.contains("FAIL  redis: ") && ended.stdout.contains(word), "{ended:?}");
        assert!(ended.stdout.contains("redis_sentinels"), "{ended:?}");
    }
    let ended = run(&["check"], &[("REDIS_SENTINELS", &sentinels.list())]);
    assert!(ended.stdout.contains(&format!("ok    redis: 127.0.0.1:{} answers", master.port)), "{ended:?}");
    for (name, value, word) in [
        ("REDIS_MASTER_NAME", "other", "knows no master `other`"),
        ("REDIS_SENTINELS", &format!("127.0.0.1:{}", master.port), "is no sentinel"),
    ] {
        let mut settings = vec![("REDIS_SENTINELS", sentinels.list())];
        settings.retain(|(known, _)| *known != name);
        let mut settings: Vec<(&str, &str)> = settings.iter().map(|(name, list)| (*name, list.as_str())).collect();
        settings.push((name, value));
        let ended = run(&["check"], &settings);
        assert!(ended.stdout.contains("FAIL  redis: ") && ended.stdout.contains(word), "{ended:?}");
    }
}

#[test]
fn a_master_that_becomes_a_replica_is_left() {
    let master = RedisServer::start(&[]);
    let other = RedisServer::start(&[]);
    let server = instance(&master);
    until_redis_is(&server, "up");
    master.run::<()>(&format!("REPLICAOF 127.0.0.1 {}", other.port));
    until_redis_is(&server, "down");
    until("nothing is published", || emit_to(&server, "alice", "e"), |emitted| *emitted == (0, false));
    master.run::<()>("REPLICAOF NO ONE");
    until_redis_is(&server, "up");
    assert_eq!(emit_to(&server, "alice", "e"), (0, true));
}
