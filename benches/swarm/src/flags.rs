//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use lexopt::prelude::*;

pub const HELP: &str = "\
Holds Socket.IO clients that have no sockets of their own, on a TUN device in a network namespace, with a server that it
starts there, and reports one line of JSON. Needs CAP_NET_ADMIN and CAP_SYS_ADMIN, as root has them.

swarm --server PROGRAM [FLAG VALUE]...

  --server PROGRAM      the server's program
  --clients N           each of them a user of its own (20000)
  --faulty N            clients beside them that misbehave, in turn in all ways (src/fault.rs); the run fails if the
                        server gets one of them wrong (0)
  --shards N            of the server (2)
  --set NAME=VALUE      a setting of the server, as ping_interval_ms=50000; more of them by more flags
  --parallel N          handshakes under way at once (256)
  --hold S              seconds for which all are held and nothing is sent but heartbeats (30)
  --fanouts N           events to all, one when the one before has arrived (2)
  --payload BYTES       of the string in an event (64)
  --rate N              emits per second to single users, alone and then beside the events to all (0)
  --rate-seconds S      for which they are alone (5)
  --stop S              for which the server is stopped (SIGSTOP) (0)
  --quota PERCENT       of one core that the server has for a while, with an event to all in each second (0)
  --quota-seconds S     for which (60)
  --overload S          for which three times as many events go to all as the server can deliver (0)
  --memory-spare MB     by which the server may grow for a while, with large events to all (0)
  --memory-seconds S    for which (20)
  --memory-payload BYTES  of the string in those events (10000)
  --after S             for which clients are held behind each of these (5)
  --margin S            for which a phase may stand still; longer: the run fails (60)
  --queue PACKETS       that the device holds; what comes beyond them is lost. The kernel takes up to 524287 (500000)
  --core N              that the clients are on (any)
  --label TEXT          goes into the report as it is";

#[derive(Clone, Debug)]
pub struct Flags {
    pub server: PathBuf,
    pub clients: u32,
    pub faulty: u32,
    pub shards: u32,
    pub set: Vec<String>,
    pub parallel: u32,
    pub hold: f64,
    pub fanouts: u16,
    pub payload: usize,
    pub rate: f64,
    pub rate_seconds: f64,
    pub stop: f64,
    pub quota: f64,
    pub quota_seconds: f64,
    pub overload: f64,
    pub memory_spare: u64,
    pub memory_seconds: f64,
    pub memory_payload: usize,
    pub after: f64,
    pub margin: f64,
    pub queue: u32,
    pub core: Option<usize>,
    pub label: Option<String>,
}

impl Flags {
    fn usual() -> Flags {
        Flags {
            server: PathBuf::new(),
            clients: 20_000,
            faulty: 0,
            shards: 2,
            set: Vec::new(),
            parallel: 256,
            hold: 30.0,
            fanouts: 2,
            payload: 64,
            rate: 0.0,
            rate_seconds: 5.0,
            stop: 0.0,
            quota: 0.0,
            quota_seconds: 60.0,
            overload: 0.0,
            memory_spare: 0,
            memory_seconds: 20.0,
            memory_payload: 10_000,
            after: 5.0,
            margin: 60.0,
            queue: 500_000,
            core: None,
            label: None,
        }
    }

    /// Without the program's own name; what is wrong with them, or the help that was asked for.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Flags, String> {
        let mut flags = Flags::usual();
        let mut parser = lexopt::Parser::from_args(arguments);
        while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
            match argument {
                Long("help") | Short('h') => return Err(HELP.into()),
                Long(name) => {
                    let name = name.to_owned();
                    let value = parser.value().map_err(|error| error.to_string())?;
                    flags.put(&name, &value.string().map_err(|error| format!("--{name}: {error}"))?)?;
                }
                other => return Err(other.unexpected().to_string()),
            }
        }
        if flags.server.as_os_str().is_empty() {
            return Err("--server is missing; --help says more".into());
        }
        Ok(flags)
    }

    fn put(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "server" => self.server = value.into(),
            "clients" => self.clients = number(name, value)?,
            "faulty" => self.faulty = number(name, value)?,
            "shards" => self.shards = number(name, value)?,
            "set" => self.set.push(value.to_owned()),
            "parallel" => self.parallel = number(name, value)?,
            "hold" => self.hold = number(name, value)?,
            "fanouts" => self.fanouts = number(name, value)?,
            "payload" => self.payload = number(name, value)?,
            "rate" => self.rate = number(name, value)?,
            "rate-seconds" => self.rate_seconds = number(name, value)?,
            "stop" => self.stop = number(name, value)?,
            "quota" => self.quota = number(name, value)?,
            "quota-seconds" => self.quota_seconds = number(name, value)?,
            "overload" => self.overload = number(name, value)?,
            "memory-spare" => self.memory_spare = number(name, value)?,
            "memory-seconds" => self.memory_seconds = number(name, value)?,
            "memory-payload" => self.memory_payload = number(name, value)?,
            "after" => self.after = number(name, value)?,
            "margin" => self.margin = number(name, value)?,
            "queue" => self.queue = number(name, value)?,
            "core" => self.core = Some(number(name, value)?),
            "label" => self.label = Some(value.to_owned()),
            _ => return Err(format!("--{name}: there is no such flag; --help names them")),
        }
        Ok(())
    }
}

fn number<T: FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("--{name} {value}: not a number that it takes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Flags, String> {
        Flags::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn every_flag_that_the_help_names_is_taken() {
        let names = HELP.lines().filter_map(|line| line.strip_prefix("  --")?.split_whitespace().next());
        for name in names.clone() {
            assert!(Flags::usual().put(name, "1").is_ok(), "{name}");
        }
        assert_eq!(names.count(), 23);
    }

    #[test]
    fn flags_are_read() {
        let flags = parse("--server a --clients=7 --set x=1 --set y=2 --hold 0.5").unwrap();
        assert_eq!((flags.clients, flags.set, flags.hold), (7, vec!["x=1".to_owned(), "y=2".to_owned()], 0.5));
        for (line, said) in [
            ("--server a --clients x", "--clients x: not a number that it takes"),
            ("--server a --client 1", "--client: there is no such flag; --help names them"),
            ("--clients 1", "--server is missing; --help says more"),
            ("--help", HELP),
        ] {
            assert_eq!(parse(line).unwrap_err(), said);
        }
    }
}
