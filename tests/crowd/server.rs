//! `Server`: one `sockring serve` under test, asked by its API and its metrics, killed when the test ends.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::backend::API;
use crate::http::request;
use crate::wait_max;

pub const SECRET: &str = "the secret of the crowd";
/// Of the API, where a server is started with one.
pub const KEY: &str = "the key of the crowd's backend";

/// What may be there while somebody asks, by its metric's name: the connection of the question.
const ASKING: [&str; 1] = ["sockring_api_connections"];

/// What is there as long as the server is, besides its process.
const ALWAYS: [&str; 2] = ["sockring_build_info", "sockring_ready"];

pub struct Server {
    child: Child,
    port: u16,
    lines: Receiver<String>,
    log: Arc<Mutex<String>>,
}

impl Server {
    /// Starts one on a free port.
    pub fn start(environment: &[(&str, String)]) -> Server {
        Server::try_start(0, None, environment).unwrap_or_else(|log| panic!("the server did not start: {log}"))
    }

    /// Starts one that may open this many descriptors.
    pub fn start_with_descriptors(descriptors: Option<u64>, environment: &[(&str, String)]) -> Server {
        Server::try_start(0, descriptors, environment).unwrap_or_else(|log| panic!("the server did not start: {log}"))
    }

    /// Starts one on this port, if it can listen there; else what it said.
    pub fn try_start(port: u16, descriptors: Option<u64>, environment: &[(&str, String)]) -> Result<Server, String> {
        let binary = std::env::var("SOCKRING_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_sockring").to_owned());
        let mut command = match descriptors {
            None => Command::new(binary),
            Some(limit) => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", "ulimit -n \"$0\" && exec \"$@\"", &limit.to_string(), &binary]);
                shell
            }
        };
        command.arg("serve").env_clear().envs([("ACCESS_TOKEN_SECRET", SECRET)]).env("PORT", port.to_string());
        // Without markers, and whoever does not read is closed.
        command.env("SOCKRING_RECOVERY_WINDOW_S", "0");
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let (line, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|text| line.send(text)));
        let log = Arc::new(Mutex::new(String::new()));
        let mut stderr = child.stderr.take().expect("stderr is piped");
        let kept = Arc::clone(&log);
        let logging = thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = stderr.read(&mut bytes) {
                kept.lock().expect("no panic while logging").push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        let mut server = Server { child, port: 0, lines, log };
        let begun = Instant::now();
        while begun.elapsed() < wait_max() {
            match server.lines.recv_timeout(wait_max()) {
                Ok(line) if line.contains("is listening on http://") => {
                    server.port = line.rsplit(':').next().and_then(|port| port.trim().parse().ok()).expect("a port");
                    return Ok(server);
                }
                Err(RecvTimeoutError::Disconnected) => {
                    logging.join().expect("no panic while logging");
                    break;
                }
                _ => {}
            }
        }
        Err(server.log())
    }

    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The limit of descriptors that is in force in it.
    pub fn descriptors_max(&self) -> usize {
        let limits = self.of_process("limits");
        let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("such a limit");
        line.split_whitespace().nth(3).and_then(|limit| limit.parse().ok()).expect("a number")
    }

    /// How many it has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("the server runs").count()
    }

    pub fn resident_mb(&self) -> u64 {
        let status = self.of_process("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("such a line");
        line.split_whitespace().next().and_then(|kb| kb.parse::<u64>().ok()).expect("a number") / 1024
    }

    fn of_process(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).expect("the server runs")
    }

    pub fn log(&self) -> String {
        self.log.lock().expect("no panic while logging").clone()
    }

    /// One request on a connection of its own.
    pub fn ask(&self, method: &str, target: &str, body: &str) -> io::Result<(u16, String)> {
        let mut stream = TcpStream::connect_timeout(&self.address(), wait_max())?;
        stream.set_read_timeout(Some(wait_max()))?;
        let key = format!("x-api-key: {KEY}");
        let headers = ["Content-Type: application/json", "Connection: close", &key];
        stream.write_all(request(method, target, &headers, body).as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = head.get(9..12).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        Ok((status, body.to_owned()))
    }

    /// What the API answers with, out of its envelope.
    #[track_caller]
    fn data(&self, method: &str, route: &str, body: &str) -> Value {
        let (status, text) = self.ask(method, &format!("{API}{route}"), body).expect("the API answers");
        assert_eq!(status, 200, "{route}: {text}");
        serde_json::from_str::<Value>(&text).expect("JSON")["data"].take()
    }

    #[track_caller]
    pub fn get(&self, route: &str) -> Value {
        self.data("GET", route, "")
    }

    #[track_caller]
    pub fn post(&self, route: &str, body: &Value) -> Value {
        self.data("POST", route, &body.to_string())
    }

    /// The sum over all labels but those that contain `wanted`; every metric by its name.
    fn metrics(&self, wanted: impl Fn(&str) -> bool) -> BTreeMap<String, i64> {
        let (_, text) = self.ask("GET", "/metrics", "").expect("metrics");
        let samples = text.lines().filter(|line| !line.starts_with('#') && wanted(line));
        let mut sums = BTreeMap::new();
        for (name, value) in samples.filter_map(|line| line.rsplit_once(' ')) {
            let name = name.split('{').next().unwrap_or(name).to_owned();
            // Sums of histograms have fractions.
            *sums.entry(name).or_default() += value.parse::<f64>().unwrap_or(0.0) as i64;
        }
        sums
    }

    /// The sum of a metric over all its labels.
    pub fn count(&self, name: &str) -> i64 {
        *self.metrics(|_| true).get(name).unwrap_or_else(|| panic!("no {name}"))
    }

    /// How many clients were closed for this reason so far.
    pub fn closed_for(&self, reason: &str) -> i64 {
        let label = format!("reason=\"{reason}\"");
        self.metrics(|line| line.contains(&label)).get("sockring_sessions_closed_total").copied().unwrap_or(0)
    }

    /// All that a gauge or the statistics count and that is not zero, with the connection of the question taken off.
    fn leftovers(&self) -> Vec<String> {
        let (_, text) = self.ask("GET", "/metrics", "").expect("metrics");
        let gauges: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" gauge")).collect();
        assert!(gauges.len() > 5, "hardly any gauges: {text}");
        let is_gauge = |line: &str| {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            gauges.contains(&name) && !ALWAYS.contains(&name) && !name.starts_with("process_")
        };
        let samples = text.lines().filter(|line| is_gauge(line) && !line.ends_with(" 0"));
        let is_asking = |line: &str| ASKING.iter().any(|name| line.starts_with(name) && line.ends_with(" 1"));
        let mut left: Vec<String> = samples.filter(|line| !is_asking(line)).map(str::to_owned).collect();
        let stats = self.get("/stats");
        for name in ["connected", "users", "rooms"] {
            left.extend((stats[name] != 0).then(|| format!("{name} {}", stats[name])));
        }
        for shard in stats["shards"].as_array().expect("a list of shards") {
            let held = ["connections", "clients", "connected", "sockets", "users", "rooms", "queuedBytes"];
            left.extend(held.into_iter().filter(|name| shard[name] != 0).map(|name| format!("{name} in {shard}")));
        }
        left
    }

    /// Waits until every gauge is back at zero.
    #[track_caller]
    pub fn assert_empties(&self) {
        let begun = Instant::now();
        loop {
            let left = self.leftovers();
            if left.is_empty() {
                return;
            }
            assert!(begun.elapsed() < wait_max(), "after all left there is still {left:?}");
            // Not to wait for anything in particular, only to leave the core to others.
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn process(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.process(), signal).expect("the server runs");
    }

    /// Waits until it ends by itself: its exit code.
    pub fn finish(mut self, time: Duration) -> Option<i32> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                return status.code();
            }
            assert!(begun.elapsed() < time, "the server did not end; it logged: {}", self.log());
            // Not to wait for anything in particular, only to leave the core to others.
            thread::sleep(Duration::from_millis(5));
        }
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
