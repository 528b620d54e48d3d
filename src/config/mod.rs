//! `Settings`: what the operator wants, from flags, environment, a file and defaults. Settings that exist are valid.

mod address;
mod jwks;
pub mod keys;
mod log;
mod otlp;
mod recovery;
mod redis;
mod tls;
mod tunnels;
mod values;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sockring_protocol::engineio::SessionTimes;
use sockring_protocol::http::{CorsPolicy, HeadLimits, Origins};
use sockring_protocol::socketio::PacketLimits;

use crate::auth::key::TokenKey;
use crate::auth::key_set::KeySet;
use crate::auth::{AfterExpiry, Expiry, TokenRules};
use crate::capacity::CapacityLimits;
use crate::cluster::ClusterSettings;
use crate::proxies::TrustedProxies;
use crate::shard::{Elsewhere, EngineSettings, Instance, Instances, KeptAt, SHARDS_MOST, SLOTS_MOST};
use crate::worker::Sharing;

pub use jwks::JwksSettings;
pub use otlp::OtlpSettings;
pub use tls::TlsPorts;
pub use values::{CONFIG_VARIABLE, Source, Values};

/// A setting cannot be used. Always the operator's to mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub key: String,
    /// What is wrong and what would be right.
    pub reason: String,
    /// Where it stands; `None`: nowhere.
    pub source: Option<Source>,
}

impl ConfigError {
    fn at(self, source: Source) -> ConfigError {
        ConfigError { source: Some(source), ..self }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.reason)?;
        self.source.as_ref().map_or(Ok(()), |source| write!(f, " (from {source})"))
    }
}

impl std::error::Error for ConfigError {}

fn wrong(key: &str, reason: impl Into<String>) -> ConfigError {
    ConfigError { key: key.to_owned(), reason: reason.into(), source: None }
}

/// All that is wrong with the settings, and what they are with defaults in the place of mistakes.
#[derive(Debug)]
pub struct Mistakes {
    pub all: Vec<ConfigError>,
    pub rest: Option<Box<Settings>>,
}

impl Mistakes {
    /// Whether one of these settings is mistaken.
    pub fn are_about(&self, names: &[&str]) -> bool {
        self.all.iter().any(|mistake| names.iter().any(|name| mistake.key == *name))
    }
}

impl fmt::Display for Mistakes {
    /// One per line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.all.iter().map(ConfigError::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Mistakes {}

/// The most connections or clients of a process: one shard may have all of them, and a session id has to tell them apart. And
/// the most bytes of one message or queue.
const CONNECTIONS_MOST: usize = SLOTS_MOST;
const BYTES_MOST: usize = 1 << 30;

/// A secret of fewer bytes than HS256 has is guessed before that is broken (RFC 7518 section 3.2).
const SECRET_BYTES_LEAST: usize = 32;
const SHORT_SECRET: &str = "has less than 32 bytes, and whoever guesses it signs tokens for any user; make one with \
                            `openssl rand -base64 32`, and keep this one in access_token_secret_previous until its tokens \
                            have expired";

const DRAIN_MOST: Duration = Duration::from_secs(3600);

/// How strict the server is about what is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    Development,
    Production,
}

/// The environments in which much may be missing.
const LENIENT: [&str; 2] = ["development", "test"];
/// Of so many letters of a name one may be a slip.
const LETTERS_PER_SLIP: usize = 3;

impl Strictness {
    /// A name that nobody knows is as strict as `production`.
    fn of(environment: &str) -> Strictness {
        if LENIENT.contains(&environment) { Strictness::Development } else { Strictness::Production }
    }
}

/// The known environment that was probably meant.
fn meant_environment(name: &str) -> Option<&'static str> {
    let plain = name.trim().to_lowercase();
    let is_near = |known: &&str| {
        let is_short_for = plain.len() >= 3 && (known.starts_with(&plain) || plain.starts_with(known));
        *known != name && (is_short_for || strsim::damerau_levenshtein(&plain, known) <= known.len() / LETTERS_PER_SLIP)
    };
    ["production", LENIENT[0], LENIENT[1]].into_iter().find(is_near)
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
    /// `None`: by chance.
    pub instance: Option<Instance>,
    /// What outlives the process is there between two of them.
    pub state_file: Option<PathBuf>,
    /// `None` without a public key, in development only: make one for this run.
    pub access_token_secret: Option<String>,
    pub access_token_secret_previous: Option<String>,
    pub token_public_key: Option<TokenKey>,
    /// Public keys by their ids, of a file.
    pub token_key_set: Arc<KeySet>,
    /// Where more of them are fetched from, again and again.
    pub token_jwks: Option<JwksSettings>,
    pub token_expiry: Expiry,
    pub token_after_expiry: AfterExpiry,
    pub token_leeway_s: u64,
    pub user_claim: String,
    pub token_issuers: Vec<String>,
    pub token_audiences: Vec<String>,
    pub api: ApiSettings,
    pub engine: EngineSettings,
    /// Its descriptors are limited by the operating system.
    pub capacity: CapacityLimits,
    pub mail_bytes_max: usize,
    /// `None`: a single instance.
    pub cluster: Option<ClusterSettings>,
    /// `None`: plain text.
    pub tls: Option<TlsPorts>,
    /// `None`: nobody collects spans.
    pub otlp: Option<OtlpSettings>,
    pub log: String,
    pub log_format: LogFormat,
    /// Whose clients are logged in any case.
    pub debug_users: Vec<String>,
    /// What all this was made of.
    pub values: Values,
    /// What can be used, but may be meant otherwise.
    pub warnings: Vec<ConfigError>,
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
    /// The `ttl` of emits to users that have none, in seconds; 0: they are not kept.
    pub kept_default_s: u64,
    pub kept_ttl_max_s: u64,
    /// What is said of an event that is kept: where.
    pub kept_in: &'static str,
}

impl Settings {
    /// Makes sense of the values, or says all that makes none: what one mistake hides shows with the default in its place.
    pub fn from_values(values: &Values) -> Result<Settings, Mistakes> {
        let mut values = values.clone();
        values.read_files();
        let mut all = values.mistakes.clone();
        let settings = loop {
            let mut mistake = match Settings::read(&values) {
                Ok(settings) => break settings,
                Err(mistake) => mistake,
            };
            mistake.source = values.source(&mistake.key).cloned();
            let was_given = values.forget(&mistake.key);
            if keys::TLS.contains(&mistake.key.as_str()) {
                for name in keys::TLS {
                    values.forget(name);
                }
            }
            all.push(mistake);
            if !was_given {
                return Err(Mistakes { all, rest: None });
            }
        };
        let is_told = |name: &str| all.iter().any(|mistake| mistake.key.starts_with(name));
        let missing = match values.is_incomplete() || is_told("env") {
            true => Vec::new(),
            false => missing(&settings).into_iter().filter(|missing| !is_told(&missing.key)).collect(),
        };
        all.extend(missing);
        if all.is_empty() { Ok(settings) } else { Err(Mistakes { all, rest: Some(Box::new(settings)) }) }
    }

    fn read(values: &Values) -> Result<Settings, ConfigError> {
        let environment = values.text("env").to_owned();
        let strictness = Strictness::of(&environment);
        let access_token_secret = values.secret("access_token_secret")?;
        let token_public_key = public_key(values)?;
        // A file may have one per line.
        let keys = values::list(&values.secret("api_key")?.unwrap_or_default().replace('\n', ","));
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
            instance: instance(values)?,
            state_file: values.optional("state_file").map(PathBuf::from),
            access_token_secret,
            access_token_secret_previous: values.secret("access_token_secret_previous")?,
            token_public_key,
            token_key_set: jwks::key_set(values)?,
            token_jwks: jwks::fetched(values)?,
            token_expiry: if values.truth("token_require_exp")? { Expiry::Required } else { Expiry::Optional },
            token_after_expiry: if values.truth("expire_sockets")? { AfterExpiry::Close } else { AfterExpiry::Stay },
            token_leeway_s: values.number("token_leeway_s", 0)?,
            user_claim: values
                .optional("user_claim")
                .ok_or_else(|| wrong("user_claim", "must name a claim, as `_id` or `sub`"))?,
            token_issuers: values.list("token_issuer"),
            token_audiences: values.list("token_audience"),
            api: ApiSettings {
                keys,
                strictness,
                listen: match values.text("api_listen") {
                    "" => None,
                    _ => Some(values.parse("api_listen", "an address with a port, as `127.0.0.1:9090`")?),
                },
                connections_max: values.number("api_connections_max", 1)?,
                body_bytes_max: values.number("api_body_bytes_max", 1024)?,
                kept_default_s: kept_default_s(values)?,
                kept_ttl_max_s: values.number("kept_ttl_max_s", 1)?,
                kept_in: if values.optional("state_file").is_some() { "state" } else { "memory" },
            },
            engine: engine(values, strictness)?,
            capacity: CapacityLimits {
                connections_max: values.number_up_to("connections_max", 1, CONNECTIONS_MOST)?,
                clients_max: values.number_up_to("clients_max", 1, CONNECTIONS_MOST)?,
                descriptors_max: usize::MAX,
                input_bytes_max: values.number("input_bytes_max", 65_536)?,
                guests_max: 0,
                connections_per_address_max: values.number("connections_per_address_max", 1)?,
                api_connections_per_address_max: values.number("api_connections_per_address_max", 1)?,
                handshakes_per_minute_max: values.number("handshakes_per_minute_max", 1)?,
                unknown_sids_per_minute_max: values.number("unknown_sids_per_minute_max", 1)?,
                connect_refusals_per_minute_max: values.number("connect_refusals_per_minute_max", 1)?,
            },
            mail_bytes_max: values.number("mail_bytes_max", 1024)?,
            cluster: redis::cluster(values)?,
            tls: tls::settings(values)?,
            otlp: otlp::settings(values)?,
            log: log::filter(values)?,
            log_format,
            debug_users: values.list("debug_users"),
            environment,
            strictness,
            warnings: warnings(values, strictness),
            values: values.clone(),
        })
    }

    /// Whether somebody else signs tokens, by keys that are not secret here.
    pub fn has_public_keys(&self) -> bool {
        self.token_public_key.is_some() || !self.token_key_set.is_empty() || self.token_jwks.is_some()
    }

    /// What a client's token must satisfy, with this secret if there is one.
    pub fn token_rules(&self, secret: Option<String>) -> TokenRules {
        let secrets = secret.iter().chain(&self.access_token_secret_previous);
        let keys = secrets.map(|secret| TokenKey::from_secret(secret)).chain(self.token_public_key.clone()).collect();
        TokenRules {
            keys,
            key_set: Arc::clone(&self.token_key_set),
            keyring: None,
            minting_secret: secret,
            expiry: self.token_expiry,
            after_expiry: self.token_after_expiry,
            leeway_s: self.token_leeway_s,
            user_claim: self.user_claim.clone(),
            issuers: self.token_issuers.clone(),
            audiences: self.token_audiences.clone(),
        }
    }
}

/// What a strict environment cannot be without.
fn missing(settings: &Settings) -> Vec<ConfigError> {
    let mut missing = Vec::new();
    if settings.strictness != Strictness::Production {
        return missing;
    }
    let place = match (settings.environment.as_str(), meant_environment(&settings.environment)) {
        ("production", _) => "must be set in production".to_owned(),
        (name, Some(meant @ ("development" | "test"))) => format!(
            "must be set in the environment `{name}`, which is as strict as production; did you mean `{meant}`?"
        ),
        (name, _) => format!(
            "must be set in the environment `{name}`, which is as strict as production: all but `development` and \
             `test` are"
        ),
    };
    if settings.access_token_secret.is_none() && !settings.has_public_keys() {
        let what = "the secret that your backend signs its tokens with (ACCESS_TOKEN_SECRET)";
        missing.push(wrong("access_token_secret", format!("{place}: {what}")));
    }
    if settings.access_token_secret.as_ref().is_some_and(|secret| secret.len() < SECRET_BYTES_LEAST) {
        missing.push(wrong("access_token_secret", format!("{SHORT_SECRET} (ACCESS_TOKEN_SECRET)")));
    }
    if settings.api.keys.is_empty() {
        let what = "a long random text that your backend sends as x-api-key (API_KEY)";
        missing.push(wrong("api_key", format!("{place}: {what}")));
    }
    missing
}

fn warnings(values: &Values, strictness: Strictness) -> Vec<ConfigError> {
    let mut warnings = values.warnings.clone();
    let name = values.text("env");
    if let Some(meant) =
        meant_environment(name).filter(|_| strictness == Strictness::Production && name != "production")
    {
        let reason = format!("`{name}` is as strict as `production`, but is it a slip? Did you mean `{meant}`?");
        let warning = wrong("env", reason);
        warnings.push(ConfigError { source: values.source("env").cloned(), ..warning });
    }
    // The one before stays usable everywhere: else a short secret could not be replaced without logging everybody out.
    for (key, is_refused) in
        [("access_token_secret", strictness == Strictness::Production), ("access_token_secret_previous", false)]
    {
        let is_short = |secret: String| secret.len() < SECRET_BYTES_LEAST;
        if !is_refused && values.optional(key).is_some_and(is_short) {
            let warning = wrong(key, SHORT_SECRET);
            warnings.push(ConfigError { source: values.source(key).cloned(), ..warning });
        }
    }
    warnings.extend(jwks::warning(values));
    let with_source = |warning: ConfigError| ConfigError { source: values.source(&warning.key).cloned(), ..warning };
    warnings.extend(tunnels::warnings(values).into_iter().map(with_source));
    warnings
}

fn engine(values: &Values, strictness: Strictness) -> Result<EngineSettings, ConfigError> {
    Ok(EngineSettings {
        turn: Default::default(),
        recovery: recovery::settings(values)?,
        elsewhere: Elsewhere::HandOver,
        instances: Instances::Alone,
        kept_at: KeptAt::Shard,
        instance: Instance::default(),
        tls: None,
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
        connect_bytes_max: values.number_up_to("connect_bytes_max", 128, BYTES_MOST)?,
        payload_packets_max: values.number("payload_packets_max", 1)?,
        polling_gzip_bytes_min: values.number("polling_gzip_bytes_min", 0)?,
        connect_timeout_ms: values.number("connect_timeout_ms", 10)?,
        head_timeout_ms: values.number("head_timeout_ms", 10)?,
        body_timeout_ms: values.number("body_timeout_ms", 10)?,
        message_timeout_ms: values.number("message_timeout_ms", 10)?,
        idle_timeout_ms: values.number("idle_timeout_ms", 10)?,
        requests_per_connection_max: values.number("requests_per_connection_max", 1)?,
        user_connections_max: values.number("user_connections_max", 1)?,
        connect_refusals_max: values.number("connect_refusals_max", 1)?,
        events_per_second_max: values.number("events_per_second_max", 1)?,
        namespaces_per_client_max: values.number("namespaces_per_client_max", 1)?,
        rooms_per_socket_max: values.number("rooms_per_socket_max", 1)?,
        acks_pending_max: values.number("acks_pending_max", 1)?,
        ack_responses_bytes_max: values.number("ack_responses_bytes_max", 1)?,
        kept_events_per_user_max: values.number("kept_events_per_user_max", 1)?,
        kept_bytes_max: values.number_up_to("kept_bytes_max", 65_536, usize::MAX)?,
        idempotency_window_ms: values.number::<u64>("idempotency_window_s", 1)?.saturating_mul(1_000),
        idempotency_keys_max: values.number("idempotency_keys_max", 1)?,
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

fn instance(values: &Values) -> Result<Option<Instance>, ConfigError> {
    let named = |name: String| {
        Instance::of_prefix(&name)
            .ok_or_else(|| wrong("instance", "must be three characters of A-Z, a-z, 0-9, `-` and `_`"))
    };
    values.optional("instance").map(named).transpose()
}

/// No more than a single emit may ask for.
fn kept_default_s(values: &Values) -> Result<u64, ConfigError> {
    let (default_s, max_s) = (values.number("kept_default_s", 0)?, values.number("kept_ttl_max_s", 1)?);
    match default_s > max_s {
        true => Err(wrong("kept_default_s", format!("`{default_s}` is more than kept_ttl_max_s, {max_s}"))),
        false => Ok(default_s),
    }
}

fn public_key(values: &Values) -> Result<Option<TokenKey>, ConfigError> {
    let name = "token_public_key_file";
    let Some(pem) = values.content(name)? else { return Ok(None) };
    match TokenKey::from_pem(pem) {
        Some(key) => Ok(Some(key)),
        None => {
            let path = values.text(name);
            let kinds = "RSA (2048 bits or more), EC P-256 or Ed25519";
            Err(wrong(name, format!("`{path}` holds no public key of {kinds} in PEM")))
        }
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
