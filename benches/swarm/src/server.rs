//! The server under load: begins and ends it, and asks what it counts.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::api::{Api, PORT};
use crate::flags::Flags;
use crate::group::{Group, Quota};
use crate::namespace::INSIDE;

pub const SECRET: &str = "a secret of the swarm, of 32 bytes";
const START_MAX: Duration = Duration::from_secs(30);
const END_MAX: Duration = Duration::from_secs(60);

pub struct Server {
    child: Child,
    /// Only where something is to be limited. It is removed after the server has ended.
    group: Option<Group>,
}

impl Server {
    pub fn start(flags: &Flags) -> Result<Server, String> {
        let all = flags.clients + flags.faulty + 1000;
        // `setpriv`, so that it ends with us whatever ends us.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(&flags.server);
        for (setting, value) in [("host", "0.0.0.0"), ("log", "warn"), ("drain", "0")] {
            command.args([format!("--{setting}"), value.to_owned()]);
        }
        let numbers =
            [("port", u32::from(PORT)), ("shards", flags.shards), ("connections-max", all), ("clients-max", all)];
        for (setting, value) in numbers {
            command.args([format!("--{setting}"), value.to_string()]);
        }
        for setting in &flags.set {
            let (name, value) = setting.split_once('=').ok_or_else(|| format!("--set {setting}: no `=`"))?;
            command.args([format!("--{}", name.replace('_', "-")), value.to_owned()]);
        }
        command.env("ACCESS_TOKEN_SECRET", SECRET).env("SOCKRING_ENV", "test").env_remove(INSIDE);
        // Its greeting is for people, and our line is for programs.
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().map_err(|error| format!("setpriv, of util-linux: {error}"))?;
        let mut server = Server { child, group: None };
        if flags.quota > 0.0 || flags.memory_spare > 0 {
            server.group = Some(Group::create(&format!("sockring-swarm-{}", std::process::id()), server.pid())?);
        }
        server.wait_until_ready()?;
        Ok(server)
    }

    fn wait_until_ready(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        while Api::default().get("/ready").is_err() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the server has ended: {status}"));
            }
            if begun.elapsed() > START_MAX {
                return Err("the server does not get ready".into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may be gone.
            let _ = kill_process(pid, signal);
        }
    }

    pub fn set_quota(&self, quota: Quota) -> Result<(), String> {
        self.group()?.set_quota(quota)
    }

    pub fn set_memory_max(&self, bytes: u64) -> Result<(), String> {
        self.group()?.set_memory_max(bytes)
    }

    pub fn memory_bytes(&self) -> Result<u64, String> {
        self.group()?.memory_bytes()
    }

    pub fn times_at_memory_max(&self) -> Result<u64, String> {
        self.group()?.times_at_memory_max()
    }

    fn group(&self) -> Result<&Group, String> {
        self.group.as_ref().ok_or_else(|| "the server has no control group".into())
    }

    /// Whether it is still there.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks it to end, and how it did.
    pub fn stop(mut self) -> String {
        self.signal(Signal::TERM);
        let begun = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return status.to_string(),
                Ok(None) if begun.elapsed() < END_MAX => thread::sleep(Duration::from_millis(20)),
                _ => return format!("does not end within {END_MAX:?}"),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What it counts, over all shards.
pub struct Metrics(BTreeMap<String, BTreeMap<String, u64>>);

impl Metrics {
    pub fn read() -> Result<Metrics, String> {
        let answer = Api::default().get("/metrics").map_err(|error| format!("/metrics: {error}"))?;
        Ok(Metrics::parse(&String::from_utf8_lossy(&answer.body)))
    }

    /// By name and by `reason`, where there is one.
    fn parse(text: &str) -> Metrics {
        let mut metrics: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let reason = labels
                .split_once("reason=\"")
                .and_then(|(_, rest)| rest.split_once('"'))
                .map_or("", |(reason, _)| reason);
            let value = value.parse::<f64>().unwrap_or(0.0) as u64;
            *metrics.entry(name.to_owned()).or_default().entry(reason.to_owned()).or_default() += value;
        }
        Metrics(metrics)
    }

    pub fn count(&self, name: &str) -> u64 {
        self.0.get(name).map_or(0, |reasons| reasons.values().sum())
    }

    /// What was counted, by reason, without those that never happened.
    pub fn by_reason(&self, name: &str) -> BTreeMap<String, u64> {
        let reasons = self.0.get(name).into_iter().flatten().filter(|(_, count)| **count > 0);
        reasons.map(|(reason, count)| (reason.clone(), *count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_over_shards() {
        let text = "# TYPE a counter\na_total{shard=\"0\",reason=\"x\"} 2\na_total{shard=\"1\",reason=\"x\"} 3\n\
            a_total{shard=\"1\",reason=\"y\"} 0\nb{shard=\"0\"} 4\nb{shard=\"1\"} 5\nc 6\n";
        let metrics = Metrics::parse(text);
        assert_eq!(
            (metrics.count("a_total"), metrics.count("b"), metrics.count("c"), metrics.count("d")),
            (5, 9, 6, 0)
        );
        assert_eq!(metrics.by_reason("a_total"), BTreeMap::from([("x".to_owned(), 5)]));
    }
}
