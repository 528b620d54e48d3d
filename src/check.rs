//! `sockring check`: whether this machine and these settings will do: everything at once, one line each, with what to mend.

use std::error::Error;
use std::io;
use std::time::{Duration, SystemTime};

use rustix::process::{Resource, getrlimit};
use serde_json::{Map, Value, json};
use sockring::auth::key_set::KeySet;
use sockring::cluster::RedisMode;
use sockring::config::keys::{self, KEYS};
use sockring::config::{ConfigError, Mistakes, Settings, TlsPorts};
use sockring::ring;
use sockring::spans::SpanSource;
use sockring_protocol::adapter::Adapter;

use crate::budget::{self, Descriptors};
use crate::collector::Collector;
use crate::jwks::KeySource;
use crate::{limits, listen, out, rings, space, state};

/// A certificate that was to be renewed by itself would have been.
const ENDS_SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// How the report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    Json,
}

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Ok,
    Warn,
    Fail,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Warn => "warn",
            Status::Fail => "fail",
        }
    }

    /// In front of a line, all of one width.
    fn mark(self) -> &'static str {
        match self {
            Status::Ok => "ok   ",
            Status::Warn => "warn ",
            Status::Fail => "FAIL ",
        }
    }
}

/// The checks so far. Lines are printed as they come, JSON at the end.
struct CheckReport {
    form: Form,
    checks: Vec<Value>,
    has_failed: bool,
}

impl CheckReport {
    /// What is fine, or what to mend.
    fn add(&mut self, check: &str, result: Result<String, String>) -> io::Result<()> {
        match result {
            Ok(fine) => self.put(Status::Ok, check, &fine, Map::new()),
            Err(fix) => self.put(Status::Fail, check, &fix, Map::new()),
        }
    }

    /// Something about one setting, with where it stands.
    fn add_setting(&mut self, status: Status, error: &ConfigError) -> io::Result<()> {
        let source = error.source.as_ref().map(ToString::to_string);
        let more = [("setting", json!(error.key)), ("source", json!(source))];
        let more = more.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
        self.put(status, "settings", &error.to_string(), more)
    }

    fn put(&mut self, status: Status, check: &str, said: &str, mut more: Map<String, Value>) -> io::Result<()> {
        self.has_failed |= status == Status::Fail;
        if self.form == Form::Text {
            return out::line(format_args!("{} {check}: {said}", status.mark()));
        }
        for (name, value) in [("check", check), ("status", status.word()), ("said", said)] {
            more.insert(name.to_owned(), value.into());
        }
        self.checks.push(Value::Object(more));
        Ok(())
    }
}

/// Prints what came of each check; an error if one failed.
pub(crate) fn run(settings: Result<Settings, Mistakes>, form: Form) -> Result<(), Box<dyn Error>> {
    let mut report = CheckReport { form, checks: Vec::new(), has_failed: false };
    let nothing = Mistakes { all: Vec::new(), rest: None };
    // What is right is looked at even if something else is wrong.
    let (settings, mistakes) = match settings {
        Ok(settings) => (Some(settings), nothing),
        Err(mut mistakes) => (mistakes.rest.take().map(|rest| *rest), mistakes),
    };
    for mistake in &mistakes.all {
        report.add_setting(Status::Fail, mistake)?;
    }
    if let Some(settings) = &settings {
        for warning in &settings.warnings {
            report.add_setting(Status::Warn, warning)?;
        }
        if mistakes.all.is_empty() {
            report.add("settings", Ok(describe(settings)))?;
        }
    }
    report.add("kernel", kernel())?;
    let io_uring = ring::requirements();
    let has_io_uring = io_uring.is_ok();
    report.add("io_uring", io_uring.map(|()| "usable".to_owned()).map_err(|error| error.to_string()))?;
    if let Some(settings) = &settings {
        check_places(settings, &mistakes, has_io_uring, &mut report)?;
    }
    if form == Form::Json {
        let settings: Vec<_> = settings.iter().flat_map(given).collect();
        let whole = json!({"ok": !report.has_failed, "checks": report.checks, "settings": settings});
        out::line(serde_json::to_string_pretty(&whole)?)?;
    }
    if report.has_failed { Err("some checks failed".into()) } else { Ok(()) }
}

/// What these settings want of this machine, as far as they are right.
fn check_places(
    settings: &Settings,
    mistakes: &Mistakes,
    has_io_uring: bool,
    report: &mut CheckReport,
) -> io::Result<()> {
    let (limit, shared) = share_out(settings);
    if !mistakes.are_about(&["shards", "connections_max", "api_connections_max"]) {
        report.add("descriptors", shared.clone().and_then(|shared| descriptors(settings, limit, shared)))?;
    }
    let space = match mistakes.are_about(&["shards", "connections_max", "clients_max"]) {
        true => None,
        false => Some(space::try_all(settings)),
    };
    if let Some(space) = &space {
        report.add("memory", space.clone())?;
    }
    if has_io_uring && !mistakes.are_about(&["shards", "connections_max"]) {
        // Without open files and memory there are no rings, and what the kernel says then tells less.
        let space = space.unwrap_or(Ok(String::new()));
        let is_room = shared.and(space);
        report.add("shards", is_room.clone().and_then(|_| shards(settings)))?;
        if is_room.is_ok() {
            let (status, said) = limits(settings, limit);
            report.put(status, "limits", &said, Map::new())?;
        }
    }
    // Both at once: they may be the same.
    let are_known = !mistakes.are_about(&["host", "port", "shards", "reuse_port"]);
    let clients = are_known.then(|| listen::clients(settings));
    let api = listen::api(settings);
    if let Some(clients) = clients {
        let free = |_| match settings.port {
            0 => "any free one".to_owned(),
            port => format!("{port} is free"),
        };
        report.add("port", clients.map(free))?;
    }
    if !mistakes.are_about(&["drain"]) {
        let (status, said) = drain(settings);
        report.put(status, "drain", &said, Map::new())?;
    }
    if let Some(path) = &settings.state_file {
        report.add("state_file", state::check(path))?;
    }
    if let Some(tls) = &settings.tls {
        check_certificates(tls, report)?;
    }
    if let Some(address) = settings.api.listen {
        report.add("api_listen", api.map(|_| format!("{address} is free")))?;
    }
    if let Some(jwks) = &settings.token_jwks {
        let keys = |keys: KeySet| match keys.refused() {
            refused if refused.is_empty() => format!("{} has {}", jwks.url, keys.kinds()),
            refused => format!("{} has {}; of no use: {refused}", jwks.url, keys.kinds()),
        };
        let fetched = KeySource::new(jwks).fetch();
        report.add("token_jwks_url", fetched.map(keys).map_err(|error| format!("{}: {error}", jwks.url)))?;
    }
    if let Some(otlp) = &settings.otlp {
        let resource = SpanSource { instance: "check".to_owned(), environment: settings.environment.clone() };
        let sent = Collector::new(otlp, resource).send(&[]).map(|_| format!("{} takes spans", otlp.url));
        report.add("otlp_endpoint", sent.map_err(|error| format!("{}: {error}", otlp.url)))?;
    }
    if !KEYS.iter().any(|key| key.name.starts_with("redis_") && mistakes.are_about(&[key.name])) {
        report.add("redis", redis(settings))?;
    }
    Ok(())
}

/// Whether the kernel's own limits are high enough. Who has not asked for so many connections may never have them.
fn limits(settings: &Settings, limit: u64) -> (Status, String) {
    let most = settings.capacity.connections_max;
    let options = budget::ring_options(settings, usize::try_from(limit).unwrap_or(usize::MAX));
    match limits::shortages(settings, &options) {
        None => (Status::Ok, format!("the kernel's are high enough for {most} connections")),
        Some(said) if settings.values.source("connections_max").is_none() => {
            (Status::Ok, format!("{said}, if all of {most} connect"))
        }
        Some(said) => (Status::Warn, said),
    }
}

/// Until when each certificate is good.
fn check_certificates(tls: &TlsPorts, report: &mut CheckReport) -> io::Result<()> {
    for (file, certificate) in tls.certificate_files.iter().zip(&tls.clients.certificates) {
        let left = certificate.ends().duration_since(SystemTime::now()).unwrap_or_default();
        let days = left.as_secs() / (24 * 3600);
        let end = humantime::format_rfc3339_seconds(certificate.ends());
        let key = certificate.rsa_bits().map_or(String::new(), |bits| {
            format!("; its RSA key of {bits} bits makes a handshake cost several times what one of EC P-256 does")
        });
        let status = if left < ENDS_SOON { Status::Warn } else { Status::Ok };
        report.put(status, "tls", &format!("`{file}` ends at {end}, in {days} days{key}"), Map::new())?;
    }
    Ok(())
}

/// All that is set, and where. Of secrets only that.
fn given(settings: &Settings) -> impl Iterator<Item = Value> {
    KEYS.iter().filter_map(|key| {
        let source = settings.values.source(key.name)?.to_string();
        let value = (!keys::SECRETS.contains(&key.name)).then(|| settings.values.text(key.name));
        Some(json!({"setting": key.name, "source": source, "value": value}))
    })
}

/// The earliest that a stock client with five attempts makes the fourth and the last of them after its connection has ended, with
/// the delays of socket.io-client: from half of 1, 2, 4 and 8 s on, and of 5 s at the most.
const FOURTH_ATTEMPT_S: f64 = 7.5;
const FIFTH_ATTEMPT_S: f64 = 12.5;

/// Whether clients are back before they give up, when this instance is replaced by the next.
fn drain(settings: &Settings) -> (Status, String) {
    let drain_s = settings.drain.as_secs_f64();
    if settings.cluster.is_some() {
        return (Status::Ok, format!("{drain_s} s, in which clients come back to other instances"));
    }
    let (fourth_s, fifth_s) = (FOURTH_ATTEMPT_S - drain_s, FIFTH_ATTEMPT_S - drain_s);
    let give_up = "clients that try five times, as the guide's do,";
    match drain_s {
        _ if fifth_s <= 0.0 => {
            let said = format!("{drain_s} s: {give_up} give up before a single instance is back; set less than 7.5");
            (Status::Warn, said)
        }
        _ if fourth_s <= 0.0 => (
            Status::Warn,
            format!(
                "{drain_s} s: {give_up} are lost unless the next process listens within {fifth_s} s after; set less than 7.5"
            ),
        ),
        _ => (
            Status::Ok,
            format!(
                "{drain_s} s; {give_up} are back by the fourth if the next process listens within {fourth_s} s after, \
                 and some are lost from {fifth_s} s on"
            ),
        ),
    }
}

/// The rings of all shards, as the server would have them.
fn shards(settings: &Settings) -> Result<String, String> {
    let options = budget::ring_options(settings, budget::raise_descriptor_limit());
    rings::try_all(options, settings).map(|()| match settings.shards {
        1 => "1 has its ring".to_owned(),
        shards => format!("all {shards} have their rings"),
    })
}

fn kernel() -> Result<String, String> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").map_err(|error| error.to_string())?;
    let release = release.trim();
    if !ring::is_new_enough(release) {
        return Err(format!("{release} is too old: Linux 6.1 or newer is needed"));
    }
    Ok(release.to_owned())
}

/// How many open files are allowed, and how they are shared out.
fn share_out(settings: &Settings) -> (u64, Result<Descriptors, String>) {
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    (limit, budget::descriptors(settings, usize::try_from(limit).unwrap_or(usize::MAX)))
}

fn descriptors(settings: &Settings, limit: u64, shared: Descriptors) -> Result<String, String> {
    // WebSockets need none: each shard's ring has tables for as many of them each as the limit allows files.
    let options = budget::ring_options(settings, usize::try_from(limit).unwrap_or(usize::MAX));
    let tables = options.slots().saturating_mul(u64::from(settings.shards));
    let wanted = settings.capacity.connections_max as u64;
    let shards = if settings.shards == 1 { "1 shard".to_owned() } else { format!("{} shards", settings.shards) };
    let (websockets, others) = (tables.min(wanted), shared.members);
    let each = if options.tables_max == 1 { "a table".to_owned() } else { format!("{} tables", options.tables_max) };
    let each = if settings.shards == 1 { each } else { format!("{each} each") };
    let room =
        format!("{limit} allowed, enough for {websockets} WebSockets with {shards} of {each}, and {others} others");
    let is_default = keys::find("connections_max").is_some_and(|key| key.default == wanted.to_string());
    match tables < wanted && !is_default {
        true => Err(format!(
            "{room}, and connections_max is {wanted}: raise RLIMIT_NOFILE (ulimit -n, or LimitNOFILE= in systemd) or \
             shards, or lower connections_max"
        )),
        false => Ok(room),
    }
}

fn describe(settings: &Settings) -> String {
    let from = |name: &str| settings.values.source(name).map_or(String::new(), |source| format!(" (from {source})"));
    let by_file = |name: &str, file: &str| {
        let name = if settings.values.source(name).is_some() { name } else { file };
        from(name)
    };
    let public = ["token_public_key_file", "token_jwks_file", "token_jwks_url"];
    let public = public.into_iter().find(|name| settings.values.source(name).is_some());
    let secret = match (&settings.access_token_secret, public) {
        (Some(_), _) => format!("a secret is set{}", by_file("access_token_secret", "access_token_secret_file")),
        (None, Some(name)) => format!("public keys are set{}", from(name)),
        (None, None) => "no secret is set: one is made for each run".to_owned(),
    };
    format!("environment `{}`{}, port {}{}, {secret}", settings.environment, from("env"), settings.port, from("port"))
}

fn redis(settings: &Settings) -> Result<String, String> {
    let Some(redis) = &settings.cluster else { return Ok("not set: a single instance".to_owned()) };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("no runtime to connect with: {error}"))?;
    let server = tokio::task::LocalSet::new().block_on(&runtime, redis.probe());
    let (address, server) = server.map_err(|error| format!("{} {error}; {}", redis.place(), error.fix()))?;
    let mode = match server.mode {
        RedisMode::Standalone => "one server",
        RedisMode::Cluster => "a Redis Cluster",
    };
    let adapter = match redis.adapter {
        Adapter::Classic => "classic",
        Adapter::Sharded => "sharded",
        Adapter::Streams => "streams",
    };
    Ok(format!("{address} answers: version {}, {mode}, {adapter} adapter", server.version))
}
