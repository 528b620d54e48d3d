//! `RedisServer`: one `redis-server` on a free port and in a folder of its own, killed when the test ends.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use redis::{Cmd, Connection, FromRedisValue};
use rustix::process::{Pid, Signal, kill_process};

use crate::until;

/// Below the range of outgoing connections, so that nobody takes a port between two starts. As root, from here on.
const FIRST_PORT: u16 = 200;

/// A Redis.
pub struct RedisServer {
    child: Child,
    pub port: u16,
    arguments: Vec<String>,
    /// What it writes: a replica puts what its master has into a file, and a server that finds one reads it.
    folder: PathBuf,
}

impl RedisServer {
    pub fn start(arguments: &[&str]) -> RedisServer {
        RedisServer::start_on(free_port(), arguments)
    }

    fn launched(port: u16, arguments: &[&str]) -> RedisServer {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let folder = std::env::temp_dir().join(format!("sockring-redis-{}-{port}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        RedisServer { child: launch(port, &arguments, &folder), port, arguments, folder }
    }

    /// One that asks for a password, and no more questions of us.
    pub fn start_with_password(password: &str) -> RedisServer {
        let server = RedisServer::launched(free_port(), &["--requirepass", password]);
        let listens = || TcpStream::connect((Ipv4Addr::LOCALHOST, server.port)).is_ok();
        until("Redis listens", listens, |listens| *listens);
        server
    }

    fn start_on(port: u16, arguments: &[&str]) -> RedisServer {
        let mut server = RedisServer::launched(port, arguments);
        server.wait();
        server
    }

    fn wait(&mut self) {
        until("Redis answers", || self.try_connect().is_some(), |answers| *answers);
        assert!(self.child.try_wait().expect("a child of ours").is_none(), "another process has the port");
    }

    fn try_connect(&self) -> Option<Connection> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).expect("a good URL");
        let connection = client.get_connection_with_timeout(Duration::from_secs(1)).ok()?;
        connection.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        Some(connection)
    }

    pub fn connect(&self) -> Connection {
        self.try_connect().expect("Redis answers")
    }

    /// Runs one command.
    #[track_caller]
    pub fn run<T: FromRedisValue>(&self, command: &str) -> T {
        self.try_run(command).unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    /// Runs one command on a Redis that may not answer.
    pub fn try_run<T: FromRedisValue>(&self, command: &str) -> Result<T, redis::RedisError> {
        let mut packed = Cmd::new();
        for word in command.split(' ') {
            packed.arg(word);
        }
        let closed = || redis::RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
        packed.query(&mut self.try_connect().ok_or_else(closed)?)
    }

    /// How many connections subscribe to this channel.
    pub fn subscribers(&self, channel: &str) -> u64 {
        let (_, count): (String, u64) = self.run(&format!("PUBSUB NUMSUB {channel}"));
        count
    }

    pub fn stop(&mut self) {
        self.child.kill().expect("a child of ours");
        self.child.wait().expect("a child of ours");
    }

    /// Starts it again on the same port.
    pub fn start_again(&mut self) {
        self.child = launch(self.port, &self.arguments, &self.folder);
        self.wait();
    }

    pub fn freeze(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).expect("a child of ours");
    }

    pub fn thaw(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).expect("a child of ours");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn launch(port: u16, arguments: &[String], folder: &Path) -> Child {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.current_dir(folder);
    match command.spawn() {
        Ok(child) => child,
        Err(error) => panic!("redis-server cannot be started ({error}): apt-get install redis-server"),
    }
}

/// A port that is free now and was given to no other test of this process.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Other processes that run these tests begin elsewhere.
        let offset = u16::try_from(std::process::id() % 70).unwrap_or(0) * 10;
        let port = FIRST_PORT + (offset + number) % 800;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Three masters, each with a third of the slots.
pub struct RedisCluster {
    pub nodes: Vec<RedisServer>,
    /// Where nodes talk to each other.
    bus_ports: Vec<u16>,
}

impl RedisCluster {
    pub fn start() -> RedisCluster {
        let mut cluster = RedisCluster { nodes: Vec::new(), bus_ports: Vec::new() };
        for (first, last) in [(0, 5460), (5461, 10922), (10923, 16383)] {
            cluster.add_node();
            let node = &cluster.nodes[cluster.nodes.len() - 1];
            node.run::<()>(&format!("CLUSTER ADDSLOTSRANGE {first} {last}"));
            node.run::<()>(&format!("CLUSTER SET-CONFIG-EPOCH {}", cluster.nodes.len()));
            cluster.introduce_last();
        }
        for node in &cluster.nodes {
            let info = || node.run::<String>("CLUSTER INFO");
            until("the cluster stands", info, |info| {
                info.contains("cluster_state:ok")
                    && info.contains("cluster_known_nodes:3")
                    && info.contains("cluster_slots_assigned:16384")
            });
        }
        cluster
    }

    fn add_node(&mut self) {
        let bus_port = free_port();
        let port = bus_port.to_string();
        let cluster = ["--cluster-enabled", "yes", "--cluster-port", &port];
        // A node that is gone is no reason for the others to refuse what they have.
        let more = ["--cluster-require-full-coverage", "no", "--cluster-node-timeout", "2000"];
        self.nodes.push(RedisServer::start_on(free_port(), &[&cluster[..], &more].concat()));
        self.bus_ports.push(bus_port);
    }

    fn introduce_last(&self) {
        if let ([first, .., last], Some(bus_port)) = (self.nodes.as_slice(), self.bus_ports.last()) {
            first.run::<()>(&format!("CLUSTER MEET 127.0.0.1 {} {bus_port}", last.port));
        }
    }

    /// Another node, which takes over from this one when it is gone.
    pub fn add_replica_of(&mut self, master: usize) {
        let id: String = self.nodes[master].run("CLUSTER MYID");
        self.add_node();
        self.introduce_last();
        let replica = &self.nodes[self.nodes.len() - 1];
        until("it knows its master", || replica.run::<String>("CLUSTER NODES"), |nodes| nodes.contains(&id));
        replica.run::<()>(&format!("CLUSTER REPLICATE {id}"));
        let replication = || replica.run::<String>("INFO replication");
        until("it follows", replication, |info| info.contains("master_link_status:up"));
        for node in &self.nodes {
            until("all know it", || node.run::<String>("CLUSTER NODES"), |nodes| nodes.contains("slave"));
        }
    }

    /// Which node has a slot.
    pub fn owner(&self, slot: u16) -> usize {
        let slots: Vec<(u16, u16, Vec<redis::Value>)> = self.nodes[0]
            .run::<Vec<Vec<redis::Value>>>("CLUSTER SLOTS")
            .into_iter()
            .map(|range| {
                let number = |value: &redis::Value| redis::from_redis_value::<u16>(value.clone()).expect("a number");
                let master = redis::from_redis_value(range[2].clone()).expect("a node");
                (number(&range[0]), number(&range[1]), master)
            })
            .collect();
        let (.., master) = slots.iter().find(|(first, last, _)| (first..=last).contains(&&slot)).expect("an owner");
        let port: u16 = redis::from_redis_value(master[1].clone()).expect("a port");
        self.nodes.iter().position(|node| node.port == port).expect("one of ours")
    }

    /// Gives a slot to another node, with these keys, which are all that it has.
    pub fn move_slot(&self, slot: u16, from: usize, to: usize, keys: &[&str]) {
        let id = |node: usize| self.nodes[node].run::<String>("CLUSTER MYID");
        let (source, target) = (id(from), id(to));
        self.nodes[to].run::<()>(&format!("CLUSTER SETSLOT {slot} IMPORTING {source}"));
        self.nodes[from].run::<()>(&format!("CLUSTER SETSLOT {slot} MIGRATING {target}"));
        for key in keys {
            self.nodes[from].run::<()>(&format!("MIGRATE 127.0.0.1 {} {key} 0 5000", self.nodes[to].port));
        }
        // The new owner first, and then who else may be asked.
        self.nodes[to].run::<()>(&format!("CLUSTER SETSLOT {slot} NODE {target}"));
        self.nodes[from].run::<()>(&format!("CLUSTER SETSLOT {slot} NODE {target}"));
    }
}
