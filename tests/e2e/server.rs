//! `Server`: one `sockring serve`, killed when the test ends.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sockring::auth::signatures;

use crate::WAIT_MAX;
use crate::client::Client;
use crate::command::{Ended, has_ended_within, limited, sockring, with_socket};
use crate::http::{Connection, request};
use crate::until;

pub const SECRET: &str = "the secret of the end-to-end tests";
pub const API: &str = "/api/v1/websocket";

/// Without markers, and whoever does not read is closed; tests of recovery set it otherwise.
const WITHOUT_RECOVERY: (&str, &str) = ("SOCKRING_RECOVERY_WINDOW_S", "0");

/// A server that runs.
pub struct Server {
    child: Child,
    port: u16,
    lines: Receiver<String>,
    /// What it has logged so far.
    log: Arc<Mutex<String>>,
}

/// What a server holds: all zero when nobody is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub connections: u64,
    pub clients: u64,
    pub sockets: u64,
    pub rooms: u64,
    pub queued_bytes: u64,
}

/// What `/metrics` says.
#[derive(Clone, Debug)]
pub struct Metrics(String);

impl Metrics {
    #[track_caller]
    pub fn ask(connection: &mut Connection) -> Metrics {
        let answer = connection.get("/metrics");
        assert_eq!(answer.status, 200, "{answer:?}");
        Metrics(answer.text())
    }

    /// The value of a metric with this label, summed over the shards.
    #[track_caller]
    pub fn sum(&self, name: &str, label: &str) -> u64 {
        let rows = self.rows(name).filter(|(labels, _)| labels.contains(label)).map(|(_, value)| value);
        rows.reduce(|sum, value| sum + value).unwrap_or_else(|| panic!("{name} with {label} in {}", self.0))
    }

    /// Sessions that ended for this reason.
    #[track_caller]
    pub fn closed(&self, reason: &str) -> u64 {
        self.sum("sockring_sessions_closed_total", &format!("reason=\"{reason}\""))
    }

    /// All limits, and how often each was reached.
    pub fn hits(&self) -> BTreeMap<String, u64> {
        let name = |labels: &str| labels.trim_start_matches("limit=").trim_matches('"').to_owned();
        self.rows("sockring_limit_hits_total").map(|(labels, value)| (name(labels), value)).collect()
    }

    /// The labels and the value of each row of a metric.
    fn rows(&self, name: &str) -> impl Iterator<Item = (&str, u64)> {
        let rows = self.0.lines().filter_map(move |line| line.strip_prefix(name)?.strip_prefix('{')?.split_once("} "));
        rows.map(|(labels, value)| (labels, value.parse().expect("a whole number")))
    }
}

impl Server {
    /// Starts one on a free port with `SECRET` and these variables.
    pub fn start(environment: &[(&str, &str)]) -> Server {
        Server::start_bare(&[&[("ACCESS_TOKEN_SECRET", SECRET)], environment].concat())
    }

    /// Starts one on a free port with these variables only.
    pub fn start_bare(environment: &[(&str, &str)]) -> Server {
        Server::start_as(&["serve"], environment)
    }

    /// Starts one on a free port with these arguments and variables only.
    pub fn start_as(arguments: &[&str], environment: &[(&str, &str)]) -> Server {
        Server::start_by(sockring(arguments, &[&[("PORT", "0"), WITHOUT_RECOVERY], environment].concat()))
    }

    /// Starts one with `SECRET` under a limit, as `-n 200`.
    pub fn start_with_limit(limit: &str, environment: &[(&str, &str)]) -> Server {
        let environment = [&[("PORT", "0"), ("ACCESS_TOKEN_SECRET", SECRET), WITHOUT_RECOVERY], environment].concat();
        Server::start_by(limited(limit, &["serve"], &environment))
    }

    /// Starts one with `SECRET` that has this socket of a service manager.
    pub fn start_with_socket(socket: OwnedFd, environment: &[(&str, &str)]) -> Server {
        let environment = [&[("PORT", "0"), ("ACCESS_TOKEN_SECRET", SECRET), WITHOUT_RECOVERY], environment].concat();
        Server::start_by(with_socket(socket, &environment))
    }

    fn start_by(mut command: Command) -> Server {
        Server::start_from(command.spawn().expect("the binary starts"))
    }

    /// One that was started already.
    pub fn start_from(mut child: Child) -> Server {
        let (line, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|text| line.send(text)));
        let log = Arc::new(Mutex::new(String::new()));
        let mut stderr = child.stderr.take().expect("stderr is piped");
        let kept = Arc::clone(&log);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = stderr.read(&mut bytes) {
                kept.lock().expect("no panic while logging").push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        let mut server = Server { child, port: 0, lines, log };
        let line = server.line_with("is listening on http");
        let port = line.rsplit(':').next().and_then(|port| port.trim().parse().ok());
        server.port = port.unwrap_or_else(|| panic!("a port at the end of `{line}`"));
        server
    }

    /// The next line on stdout that contains this.
    pub fn line_with(&self, wanted: &str) -> String {
        loop {
            match self.lines.recv_timeout(WAIT_MAX) {
                Ok(line) if line.contains(wanted) => return line,
                Ok(_) => {}
                Err(error) => panic!("no line with `{wanted}` ({error}); the server logged: {}", self.log()),
            }
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The address of the API, where it has one of its own.
    pub fn api_address(&self) -> SocketAddr {
        let line = self.line_with("The API and the metrics are on http");
        let address = line.rsplit("://").next().and_then(|address| address.trim().parse().ok());
        address.unwrap_or_else(|| panic!("an address at the end of `{line}`"))
    }

    pub fn log(&self) -> String {
        self.log.lock().expect("no panic while logging").clone()
    }

    /// A new HTTP connection.
    pub fn connect(&self) -> Connection {
        Connection::open(self.address())
    }

    /// A WebSocket client of this user, greeted.
    pub fn client(&self, user: &str) -> Client {
        Client::connect(self.address(), &token_for(user))
    }

    /// Emits to a user by the API; says how many sockets have it queued.
    pub fn emit_to(&self, user: &str, event: &str) -> u64 {
        self.emit(&json!({"user": user, "event": event}))
    }

    /// Emits what the body says; says how many sockets have it queued.
    #[track_caller]
    pub fn emit(&self, body: &Value) -> u64 {
        self.post("emit", body)["delivered"].as_u64().expect("a count")
    }

    /// A POST to the API, which has to succeed; its data.
    #[track_caller]
    pub fn post(&self, route: &str, body: &Value) -> Value {
        let headers = ["Content-Type: application/json"];
        let answer = self.ask(&request("POST", &format!("{API}/{route}"), &headers, &body.to_string()));
        data(&answer).clone()
    }

    /// One request on a connection of its own, which is over at both ends afterwards.
    #[track_caller]
    fn ask(&self, request: &str) -> Value {
        let mut connection = self.connect();
        connection.send(request);
        let answer = connection.answer();
        assert_eq!(answer.status, 200, "{answer:?}");
        connection.leave();
        answer.json()
    }

    /// What the shards hold now, by the API.
    pub fn held(&self) -> Held {
        let answer = self.ask(&request("GET", &format!("{API}/stats"), &[], ""));
        let data = data(&answer);
        let shards = data["shards"].as_array().expect("a list of shards");
        let sum = |name: &str| shards.iter().map(|shard| shard[name].as_u64().expect(name)).sum();
        Held {
            connections: sum("connections"),
            clients: sum("clients"),
            sockets: sum("sockets"),
            rooms: sum("rooms"),
            queued_bytes: sum("queuedBytes"),
        }
    }

    /// What is counted now.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        let mut connection = self.connect();
        let metrics = Metrics::ask(&mut connection);
        connection.leave();
        metrics
    }

    /// Waits until nobody is there any more and these descriptors are open.
    #[track_caller]
    pub fn assert_empties_to(&self, descriptors: &[String]) {
        until("the server is empty", || self.held(), |held| *held == Held::default());
        until(&format!("only {descriptors:?} are open"), || self.descriptors(), |open| open == descriptors);
    }

    /// Open descriptors while nobody is there.
    pub fn idle_descriptors(&self) -> Vec<String> {
        // The first request makes what stays for good, and its connection is gone when this returns.
        assert_eq!(self.held(), Held::default());
        self.descriptors()
    }

    /// What is open, by kind: `socket`, `anon_inode`.
    fn descriptors(&self) -> Vec<String> {
        let entries = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("the server runs");
        let targets = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        // The numbers of sockets are not the same in each run of a worker.
        let kind = |target: PathBuf| target.to_string_lossy().split(":[").next().unwrap_or_default().to_owned();
        let mut kinds: Vec<String> = targets.map(kind).collect();
        kinds.sort();
        kinds
    }

    /// Clock ticks that the process has spent so far, in user mode and in the kernel.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("the server runs");
        // Behind the name, which may contain anything.
        let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
        let fields: Vec<&str> = fields.split(' ').collect();
        // utime and stime are fields 14 and 15; the state is field 3.
        fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime")
    }

    /// Memory that the process has in use.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the server runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its size");
        line.trim().trim_end_matches(" kB").parse().expect("a number of kB")
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// From now on the peak is that of what follows; says where it begins.
    pub fn forget_peak(&self) -> u64 {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").expect("the server runs");
        self.peak_bytes()
    }

    /// The most memory that was resident since.
    pub fn peak_bytes(&self) -> u64 {
        self.peak_bytes_if_it_runs().expect("the server runs")
    }

    pub fn peak_bytes_if_it_runs(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?;
        Some(kilobytes.parse::<u64>().ok()? * 1024)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the server runs");
    }

    /// Waits until it ends by itself.
    pub fn finish(mut self) -> Ended {
        assert!(has_ended_within(&self.child, WAIT_MAX), "the server did not end; it logged: {}", self.log());
        let code = self.child.wait().expect("a child of ours").code();
        Ended { code, stdout: self.lines.iter().collect::<Vec<_>>().join("\n"), stderr: self.log() }
    }

    /// It still runs, and has not complained.
    #[track_caller]
    pub fn assert_healthy(&mut self) {
        let status = self.child.try_wait().expect("a child of ours");
        assert!(status.is_none(), "the server ended ({status:?}): {}", self.log());
        let answer = self.connect().get("/health");
        assert_eq!((answer.status, answer.text()), (200, r#"{"status":"ok"}"#.to_owned()));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the server logged: {}", self.log());
        }
    }
}

/// A token of `SECRET` for an hour, as a backend would make it.
pub fn token_for(user: &str) -> String {
    token_by(SECRET, user)
}

/// A token of this secret for an hour.
pub fn token_by(secret: &str, user: &str) -> String {
    let now = unix_ms() / 1000;
    signed(secret, &json!({"_id": user, "iat": now, "exp": now + 3600}))
}

/// A token with these claims.
pub fn signed(secret: &str, claims: &Value) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    signatures::install();
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).expect("claims can be signed")
}

/// Unix time in milliseconds.
pub fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(now.as_millis()).expect("not so far in the future")
}

/// What is in the API's envelope.
#[track_caller]
pub fn data(answer: &Value) -> &Value {
    assert_eq!(answer["success"], true, "{answer}");
    &answer["data"]
}
