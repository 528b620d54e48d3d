//! `Settings`: what the operator wants, from flags, environment, a file and defaults. Settings that exist are valid.

pub mod keys;
mod redis;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sockring_protocol::engineio::SessionTimes;
use sockring_protocol::http::{CorsPolicy, HeadLimits, Origins};
use sockring_protocol::socketio::PacketLimits;

use crate::auth::{AfterExpiry, Expiry, TokenKey, TokenRules};
use crate::capacity::CapacityLimits;
use crate::cluster::ClusterSettings;
use crate::proxies::TrustedProxies;
use crate::shard::{Cluster, Elsewhere, EngineSettings, Instance, Layer, SHARDS_MOST, SLOTS_MOST};
use crate::worker::Sharing;

use keys::KEYS;

/// A setting cannot be used. Always the operator's to mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub key: String,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.reason)
    }
}

impl std::error::Error for ConfigError {}

fn wrong(key: &str, reason: impl Into<String>) -> ConfigError {
    ConfigError { key: key.to_owned(), reason: reason.into() }
}

/// The most connections or clients of a process, and bytes of one message or queue.
const CONNECTIONS_MOST: usize = 4_000_000;
const BYTES_MOST: usize = 1 << 30;

// A session id has to tell all clients of all shards apart.
const _: () = assert!(CONNECTIONS_MOST <= SLOTS_MOST);

const DRAIN_MOST: Duration = Duration::from_secs(3600);

/// How strict the server is about what is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    Development,
    Production,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// Everything that can be set.
#[derive(Clone, Debug)]
pub struct Settings {
    pub environment: String,
    pub strictness: Strictness,
    pub host: IpAddr,
    pub port: u16,
    pub shards: u16,
    pub sharing: Sharing,
    /// How long clients take to be closed at the end.
    pub drain: Duration,
    /// `None` without a public key, in development only: make one for this run.
    pub access_token_secret: Option<String>,
    pub access_token_secret_previous: Option<String>,
    pub token_public_key: Option<TokenKey>,
    pub token_expiry: Expiry,
    pub token_after_expiry: AfterExpiry,
    pub token_leeway_s: u64,
    pub user_claim: String,
    pub token_issuer: Option<String>,
    pub token_audience: Option<String>,
    pub api: ApiSettings,
    pub engine: EngineSettings,
    /// Its descriptors are limited by the operating system.
    pub capacity: CapacityLimits,
    pub mail_bytes_max: usize,
    /// `None`: a single instance.
    pub cluster: Option<ClusterSettings>,
    pub log: String,
    pub log_format: LogFormat,
}

/// What the HTTP API needs to know.
#[derive(Clone, Debug)]
pub struct ApiSettings {
    pub keys: Vec<String>,
    pub strictness: Strictness,
    /// An address of its own.
    pub listen: Option<SocketAddr>,
    pub connections_max: usize,
    pub body_bytes_max: usize,
}

/// The values of all sources, before they mean anything.
#[derive(Clone, Debug, Default)]
pub struct Values(BTreeMap<&'static str, String>);

impl Values {
    /// Takes a value for a key unless a stronger source had one.
    pub fn offer(&mut self, name: &'static str, value: String) {
        self.0.entry(name).or_insert(value);
    }

    /// Takes what the environment has.
    pub fn offer_environment(&mut self, variable: impl Fn(&str) -> Option<String>) {
        for key in KEYS {
            let own = keys::variable(key);
            let names = key.environment.iter().copied().chain([own.as_str()]);
            // An empty variable is as good as none: deployments often pass them through.
            if let Some(value) = names.filter_map(&variable).find(|value| !value.is_empty()) {
                self.offer(key.name, value);
            }
        }
    }

    /// Takes what a settings file has.
    pub fn offer_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| wrong(&name, error.to_string()))?;
        self.offer_toml(&text).map_err(|error| wrong(&name, error.to_string()))
    }

    fn offer_toml(&mut self, text: &str) -> Result<(), ConfigError> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            // Not the line itself: a secret may stand there.
            let begun = error.span().map_or(0, |span| span.start);
            let line = 1 + text.bytes().take(begun).filter(|byte| *byte == b'\n').count();
            wrong("TOML", format!("line {line}: {}", error.message()))
        })?;
        for (name, value) in table {
            let Some(key) = keys::find(&name) else {
                return Err(wrong(&name, format!("is no setting; did you mean `{}`?", keys::nearest(&name))));
            };
            self.offer(key.name, plain(&name, &value)?);
        }
        Ok(())
    }

    fn text(&self, name: &str) -> &str {
        let default = keys::find(name).map_or("", |key| key.default);
        self.0.get(name).map_or(default, String::as_str)
    }

    fn optional(&self, name: &str) -> Option<String> {
        Some(self.text(name)).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    fn parse<T: FromStr>(&self, name: &str, expected: &str) -> Result<T, ConfigError> {
        let text = self.text(name);
        text.trim().parse().map_err(|_| wrong(name, format!("`{text}` is not {expected}")))
    }

    /// A whole number of at least `least`.
    fn number<T: FromStr + PartialOrd + fmt::Display>(&self, name: &str, least: T) -> Result<T, ConfigError> {
        let value: T = self.parse(name, "a whole number")?;
        if value < least {
            return Err(wrong(name, format!("`{value}` is too small; the least is {least}")));
        }
        Ok(value)
    }

    fn number_up_to(&self, name: &str, least: usize, most: usize) -> Result<usize, ConfigError> {
        let value = self.number(name, least)?;
        if value > most {
            return Err(wrong(name, format!("`{value}` is too large; the most is {most}")));
        }
        Ok(value)
    }

    fn truth(&self, name: &str) -> Result<bool, ConfigError> {
        self.parse(name, "either `true` or `false`")
    }

    fn list(&self, name: &str) -> Vec<String> {
        self.text(name).split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }
}

/// A TOML value as it would be written in the environment.
fn plain(name: &str, value: &toml::Value) -> Result<String, ConfigError> {
    match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Boolean(truth) => Ok(truth.to_string()),
        toml::Value::Array(items) => {
            let items: Result<Vec<_>, _> = items.iter().map(|item| plain(name, item)).collect();
            Ok(items?.join(","))
        }
        _ => Err(wrong(name, "is a string, a number, a boolean or a list of strings")),
    }
}

impl Settings {
    /// Makes sense of the values, or says which one makes none.
    pub fn from_values(values: &Values) -> Result<Settings, ConfigError> {
        let environment = values.text("env").to_owned();
        let strictness = match environment.as_str() {
            "production" => Strictness::Production,
            _ => Strictness::Development,
        };
        let access_token_secret = values.optional("access_token_secret");
        let token_public_key = public_key(values)?;
        let keys = values.list("api_key");
        if strictness == Strictness::Production {
            if access_token_secret.is_none() && token_public_key.is_none() {
                let reason = "must be set in production: the secret that your backend signs its tokens with \
                              (ACCESS_TOKEN_SECRET)";
                return Err(wrong("access_token_secret", reason));
            }
            if keys.is_empty() {
                let reason = "must be set in production: a long random text that your backend sends as x-api-key \
                              (API_KEY)";
                return Err(wrong("api_key", reason));
            }
        }
        let log_format = match values.text("log_format") {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            other => return Err(wrong("log_format", format!("`{other}` is neither `text` nor `json`"))),
        };
        Ok(Settings {
            host: values.parse("host", "an IP address")?,
            port: values.parse("port", "a port from 0 to 65535")?,
            shards: match values.text("shards") {
                "" => std::thread::available_parallelism()
                    .map_or(1, |cores| u16::try_from(cores.get()).unwrap_or(SHARDS_MOST).min(SHARDS_MOST)),
                _ => u16::try_from(values.number_up_to("shards", 1, usize::from(SHARDS_MOST))?).unwrap_or(SHARDS_MOST),
            },
            sharing: if values.truth("reuse_port")? { Sharing::WithOthers } else { Sharing::Alone },
            drain: seconds(values, "drain")?,
            access_token_secret,
            access_token_secret_previous: values.optional("access_token_secret_previous"),
            token_public_key,
            token_expiry: if values.truth("token_require_exp")? { Expiry::Required } else { Expiry::Optional },
            token_after_expiry: if values.truth("expire_sockets")? { AfterExpiry::Close } else { AfterExpiry::Stay },
            token_leeway_s: values.number("token_leeway_s", 0)?,
            user_claim: values
                .optional("user_claim")
                .ok_or_else(|| wrong("user_claim", "must name a claim, as `_id` or `sub`"))?,
            token_issuer: values.optional("token_issuer"),
            token_audience: values.optional("token_audience"),
            api: ApiSettings {
                keys,
                strictness,
                listen: match values.text("api_listen") {
                    "" => None,
                    _ => Some(values.parse("api_listen", "an address with a port, as `127.0.0.1:9090`")?),
                },
                connections_max: values.number("api_connections_max", 1)?,
                body_bytes_max: values.number("api_body_bytes_max", 1024)?,
            },
            engine: engine(values, strictness)?,
            capacity: CapacityLimits {
                connections_max: values.number_up_to("connections_max", 1, CONNECTIONS_MOST)?,
                clients_max: values.number_up_to("clients_max", 1, CONNECTIONS_MOST)?,
                descriptors_max: usize::MAX,
                handshakes_per_minute_max: values.number("handshakes_per_minute_max", 1)?,
                unknown_sids_per_minute_max: values.number("unknown_sids_per_minute_max", 1)?,
            },
            mail_bytes_max: values.number("mail_bytes_max", 1024)?,
            cluster: redis::cluster(values)?,
            log: values.text("log").to_owned(),
            log_format,
            environment,
            strictness,
        })
    }

    /// What a client's token must satisfy, with this secret if there is one.
    pub fn token_rules(&self, secret: Option<String>) -> TokenRules {
        let secrets = secret.iter().chain(&self.access_token_secret_previous);
        let keys = secrets.map(|secret| TokenKey::from_secret(secret)).chain(self.token_public_key.clone()).collect();
        TokenRules {
            keys,
            minting_secret: secret,
            expiry: self.token_expiry,
            after_expiry: self.token_after_expiry,
            leeway_s: self.token_leeway_s,
            user_claim: self.user_claim.clone(),
            issuer: self.token_issuer.clone(),
            audience: self.token_audience.clone(),
        }
    }
}

fn engine(values: &Values, strictness: Strictness) -> Result<EngineSettings, ConfigError> {
    Ok(EngineSettings {
        layer: Layer::SocketIo,
        elsewhere: Elsewhere::HandOver,
        cluster: Cluster::Alone,
        instance: Instance::default(),
        path: path(values)?,
        namespaces: namespaces(values)?,
        times: SessionTimes {
            ping_interval_ms: values.number("ping_interval_ms", 10)?,
            ping_timeout_ms: values.number("ping_timeout_ms", 10)?,
            upgrade_timeout_ms: values.number("upgrade_timeout_ms", 10)?,
        },
        cors: cors(values, strictness)?,
        proxies: TrustedProxies::parse(values.list("trusted_proxies").iter().map(String::as_str))
            .map_err(|error| wrong("trusted_proxies", error.to_string()))?,
        head: HeadLimits { head_bytes_max: values.number("head_bytes_max", 1024)? },
        packet: PacketLimits { attachments_max: values.number("attachments_max", 1)?, ..PacketLimits::default() },
        fragments_max: values.number("fragments_max", 1)?,
        payload_bytes_max: values.number_up_to("payload_bytes_max", 128, BYTES_MOST)?,
        payload_packets_max: values.number("payload_packets_max", 1)?,
        connect_gap_ms: 0,
        connect_timeout_ms: values.number("connect_timeout_ms", 10)?,
        head_timeout_ms: values.number("head_timeout_ms", 10)?,
        body_timeout_ms: values.number("body_timeout_ms", 10)?,
        message_timeout_ms: values.number("message_timeout_ms", 10)?,
        idle_timeout_ms: values.number("idle_timeout_ms", 10)?,
        requests_per_connection_max: values.number("requests_per_connection_max", 1)?,
        user_connections_max: values.number("user_connections_max", 1)?,
        events_per_second_max: values.number("events_per_second_max", 1)?,
        namespaces_per_client_max: values.number("namespaces_per_client_max", 1)?,
        rooms_per_socket_max: values.number("rooms_per_socket_max", 1)?,
        acks_pending_max: values.number("acks_pending_max", 1)?,
        queue_bytes_max: values.number_up_to("queue_bytes_max", 1024, BYTES_MOST)?,
    })
}

fn seconds(values: &Values, name: &str) -> Result<Duration, ConfigError> {
    let seconds: f64 = values.parse(name, "a number of seconds")?;
    let duration = Duration::try_from_secs_f64(seconds).ok().filter(|duration| *duration <= DRAIN_MOST);
    duration.ok_or_else(|| {
        wrong(name, format!("`{seconds}` is not a number of seconds from 0 to {}", DRAIN_MOST.as_secs()))
    })
}

fn public_key(values: &Values) -> Result<Option<TokenKey>, ConfigError> {
    let name = "token_public_key_file";
    let Some(path) = values.optional(name) else { return Ok(None) };
    let pem = std::fs::read(&path).map_err(|error| wrong(name, format!("`{path}` cannot be read: {error}")))?;
    match TokenKey::from_pem(&pem) {
        Some(key) => Ok(Some(key)),
        None => Err(wrong(
            name,
            format!("`{path}` holds no public key of RSA (2048 bits or more), EC P-256 or Ed25519 in PEM"),
        )),
    }
}

fn path(values: &Values) -> Result<String, ConfigError> {
    let path = values.text("path").trim_matches('/');
    if path.is_empty() || !path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#%".contains(&byte)) {
        return Err(wrong("path", "must be a path such as `/socket.io/`"));
    }
    Ok(format!("/{path}/"))
}

fn namespaces(values: &Values) -> Result<Vec<String>, ConfigError> {
    let mut namespaces = vec!["/".to_owned()];
    for name in values.list("namespaces") {
        if !name.starts_with('/') || name.contains(',') || name.len() > PacketLimits::default().namespace_bytes_max {
            return Err(wrong("namespaces", format!("`{name}` must begin with `/`, as `/admin`")));
        }
        if !namespaces.contains(&name) {
            namespaces.push(name);
        }
    }
    Ok(namespaces)
}

fn cors(values: &Values, strictness: Strictness) -> Result<CorsPolicy, ConfigError> {
    let list = values.list("cors_origin");
    let origins = match (list.as_slice(), strictness) {
        ([], Strictness::Development) => Origins::Any,
        ([], Strictness::Production) => Origins::SameOrigin,
        (list, _) if list.iter().any(|origin| origin == "*") => Origins::Any,
        (list, _) => {
            if let Some(bad) = list.iter().find(|origin| !origin.contains("://")) {
                let reason = format!("`{bad}` is not an origin such as `https://app.example.com`");
                return Err(wrong("cors_origin", reason));
            }
            Origins::List(list.to_vec())
        }
    };
    let credentials = match values.text("cors_credentials") {
        "" => matches!(origins, Origins::List(_)),
        _ => values.truth("cors_credentials")?,
    };
    if credentials && matches!(origins, Origins::Any) && strictness == Strictness::Production {
        let reason = "`*` together with cors_credentials=true lets every site act as your users: name the origins of \
                      your front end (CORS_ORIGIN=https://app.example.com), or set cors_credentials=false";
        return Err(wrong("cors_origin", reason));
    }
    Ok(CorsPolicy { origins, credentials })
}

#[cfg(test)]
mod tests;
