//! `sockring emit` and `sockring stats`: questions to a server that runs, by its HTTP API.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Map, Value, json};
use sockring::config::Settings;

use crate::authorities::TrustedAuthorities;
use crate::out;

const API: &str = "/api/v1/websocket";
/// From connecting to the last byte of the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of `sockring emit` when nobody has the event.
const NOBODY: u8 = 3;

/// Which server, where it is not the one of the settings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Whom {
    pub server: Option<String>,
    pub key: Option<String>,
    /// Who may have signed its certificate, where it has one.
    pub ca_file: Option<PathBuf>,
}

/// An event, and whom it is for.
#[derive(Clone, Debug)]
pub(crate) struct Emit {
    pub event: String,
    /// JSON, or text where it is none.
    pub data: Option<String>,
    /// The field of the API's body, and what it holds.
    pub target: (&'static str, Value),
    pub except: Vec<String>,
    pub namespace: Option<String>,
    pub volatile: bool,
    /// The key under which it comes once.
    pub once: Option<String>,
    /// For how many seconds it is kept.
    pub ttl: Option<u64>,
    /// How long sockets may take to call back, and to receive it.
    pub ack_ms: Option<u64>,
    pub receipt_ms: Option<u64>,
}

/// `sockring emit`: the status is 3 when nobody has the event, here or on another instance.
pub(crate) fn emit(settings: &Settings, whom: &Whom, emit: Emit) -> Result<ExitCode, Box<dyn Error>> {
    // The other instances say where a user is, in the first namespace.
    let user = match &emit.target {
        ("user", Value::String(user)) if emit.namespace.is_none() && emit.except.is_empty() => Some(user.clone()),
        _ => None,
    };
    let mut body = Map::new();
    body.insert(emit.target.0.to_owned(), emit.target.1);
    body.insert("event".to_owned(), emit.event.into());
    if let Some(data) = emit.data {
        body.insert("data".to_owned(), serde_json::from_str(&data).unwrap_or(Value::String(data)));
    }
    if !emit.except.is_empty() {
        body.insert("except".to_owned(), json!(emit.except));
    }
    if let Some(namespace) = emit.namespace {
        body.insert("namespace".to_owned(), namespace.into());
    }
    if emit.volatile {
        body.insert("volatile".to_owned(), true.into());
    }
    if let Some(key) = emit.once {
        body.insert("idempotencyKey".to_owned(), key.into());
    }
    if let Some(ttl) = emit.ttl {
        body.insert("ttl".to_owned(), ttl.into());
    }
    if let Some(timeout_ms) = emit.ack_ms {
        body.insert("ack".to_owned(), json!({"timeoutMs": timeout_ms, "responses": true}));
    }
    if let Some(timeout_ms) = emit.receipt_ms {
        body.insert("receipt".to_owned(), json!({"timeoutMs": timeout_ms}));
    }
    let wait = Duration::from_millis(emit.ack_ms.max(emit.receipt_ms).unwrap_or(0));
    let answer = ask(settings, whom, "/emit", Some(&Value::Object(body)), PATIENCE + wait)?;
    out::line(at(&answer, "/message").as_str().unwrap_or_default())?;
    print_answers(&answer)?;
    let is_with_others = *at(&answer, "/data/published") == true;
    let was_emitted_before = *at(&answer, "/data/duplicate") == true;
    let is_kept = at(&answer, "/data/kept").is_string();
    let is_nobodys_here = *at(&answer, "/data/delivered") == 0 && !was_emitted_before && !is_kept;
    let is_nobodys = is_nobodys_here
        && match user {
            _ if !is_with_others => true,
            // The event is out, whatever comes of this.
            Some(user) => is_nowhere(settings, whom, &user).unwrap_or(false),
            None => false,
        };
    Ok(if is_nobodys { ExitCode::from(NOBODY) } else { ExitCode::SUCCESS })
}

/// Whether a user is connected to no instance, and all of them say so.
fn is_nowhere(settings: &Settings, whom: &Whom, user: &str) -> Result<bool, Box<dyn Error>> {
    // RFC 3986 section 2.1.
    let segment: String = user.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let status = ask(settings, whom, &format!("/user/{segment}/status"), None, PATIENCE)?;
    let is_nowhere = *at(&status, "/data/connected") == false && *at(&status, "/data/missing") == 0;
    if is_nowhere {
        out::line("Nobody was reached: the user is connected to no instance")?;
    }
    Ok(is_nowhere)
}

/// What sockets have said, where that was wanted.
fn print_answers(answer: &Value) -> Result<(), Box<dyn Error>> {
    if let Some(acked) = at(answer, "/data/acked").as_u64() {
        out::line(format_args!("{acked} called back, {} did not", at(answer, "/data/timedOut")))?;
        for response in at(answer, "/data/responses").as_array().into_iter().flatten() {
            out::line(response)?;
        }
    }
    if let Some(received) = at(answer, "/data/received").as_u64() {
        out::line(format_args!("{received} received it"))?;
    }
    Ok(())
}

/// `sockring stats`: a line for each number.
pub(crate) fn stats(settings: &Settings, whom: &Whom) -> Result<ExitCode, Box<dyn Error>> {
    let answer = ask(settings, whom, "/stats", None, PATIENCE)?;
    let data = at(&answer, "/data").as_object().ok_or("the answer has no data")?;
    for (name, value) in data.iter().filter(|(name, _)| *name != "shards") {
        match value {
            Value::Object(parts) => {
                let parts: Vec<String> = parts.iter().map(|(part, value)| format!("{part} {}", plain(value))).collect();
                out::line(format_args!("{name:<16}{}", parts.join(", ")))?;
            }
            value => out::line(format_args!("{name:<16}{}", plain(value)))?,
        }
    }
    for shard in data.get("shards").and_then(Value::as_array).into_iter().flatten() {
        let number = |name: &str| shard.get(name).and_then(Value::as_u64).unwrap_or(0);
        out::line(format_args!(
            "shard {:<10}{} clients, {} sockets, {} users, {} rooms, {} bytes queued",
            number("shard"),
            number("clients"),
            number("sockets"),
            number("users"),
            number("rooms"),
            number("queuedBytes")
        ))?;
    }
    if data.get("instances").and_then(Value::as_u64).is_some_and(|instances| instances > 1) {
        show_instances(&ask(settings, whom, "/instances", None, PATIENCE)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A line for each instance, the one that was asked first.
fn show_instances(answer: &Value) -> Result<(), Box<dyn Error>> {
    for instance in at(answer, "/data/instances").as_array().into_iter().flatten() {
        let number = |name: &str| instance.get(name).and_then(Value::as_u64).unwrap_or(0);
        out::line(format_args!(
            "instance {}  {} clients, {} users, {} rooms, {} bytes queued",
            at(instance, "/name").as_str().unwrap_or_default(),
            number("connected"),
            number("users"),
            number("rooms"),
            number("queuedBytes")
        ))?;
    }
    match at(answer, "/data/missing") {
        Value::Number(missing) if missing.as_u64() != Some(0) => {
            out::line(format_args!("{missing} more have not answered: Node servers do not"))?;
        }
        Value::Null => out::line("Redis does not say which others there are")?,
        _ => {}
    }
    Ok(())
}

/// What is at a place (RFC 6901), or null.
fn at<'a>(answer: &'a Value, place: &str) -> &'a Value {
    answer.pointer(place).unwrap_or(&Value::Null)
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Asks the API; an answer that is an error is one here, in the server's words.
fn ask(
    settings: &Settings,
    whom: &Whom,
    route: &str,
    body: Option<&Value>,
    patience: Duration,
) -> Result<Value, Box<dyn Error>> {
    let server = whom.server.clone().unwrap_or_else(|| address(settings));
    let server = server.trim_end_matches('/');
    let url = format!("{server}{API}{route}");
    let config = ureq::Agent::config_builder().timeout_global(Some(patience)).http_status_as_error(false).proxy(None);
    let config = match server.starts_with("https://") {
        true => config.tls_config(TrustedAuthorities::of_file(whom.ca_file.as_deref())?.for_requests()),
        false => config,
    };
    let agent: ureq::Agent = config.build().into();
    let key = whom.key.as_ref().or_else(|| settings.api.keys.first()).map_or("", String::as_str);
    let answer = match body {
        Some(body) => {
            let post = agent.post(&url).header("x-api-key", key).header("content-type", "application/json");
            post.send(body.to_string())
        }
        None => agent.get(&url).header("x-api-key", key).call(),
    };
    let mut answer = answer.map_err(|error| format!("{server}: {error}: does it run there? See --server"))?;
    let status = answer.status();
    let text = answer.body_mut().read_to_string().map_err(|error| format!("{url}: {error}"))?;
    let value: Value = serde_json::from_str(&text)
        .map_err(|_| format!("{url}: answered {status} with what is not sockring's: is that its API?"))?;
    if status.is_success() {
        return Ok(value);
    }
    let details = at(&value, "/errors").as_array().into_iter().flatten().filter_map(|error| {
        let message = at(error, "/message").as_str()?;
        Some(match at(error, "/path").as_str() {
            None | Some("") => message.to_owned(),
            Some(path) => format!("{path}: {message}"),
        })
    });
    let mut words: Vec<String> = details.collect();
    if words.is_empty() {
        words.extend(at(&value, "/message").as_str().map(str::to_owned));
    }
    Err(format!("{server} answered {status}: {}", words.join("; ")).into())
}

/// Where the API of a server with these settings is, from this machine.
fn address(settings: &Settings) -> String {
    let address = settings.api.listen.unwrap_or_else(|| SocketAddr::new(settings.host, settings.port));
    let speaks_tls = match settings.api.listen {
        Some(_) => settings.tls.as_ref().is_some_and(|tls| tls.api.is_some()),
        None => settings.tls.is_some(),
    };
    let scheme = if speaks_tls { "https" } else { "http" };
    match address.ip().is_unspecified() {
        true => format!("{scheme}://localhost:{}", address.port()),
        false => format!("{scheme}://{address}"),
    }
}
