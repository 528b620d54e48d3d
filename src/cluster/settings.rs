//! `ClusterSettings`: which Redis, as whom, and how to speak on it.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use sockring_protocol::adapter::{Adapter, SubscriptionMode};

use crate::shard::RecoverySecret;

/// What Redis must be for `/ready` to be 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    WithoutRedis,
    RequiresRedis,
}

/// Which rooms an instance hears that none of its clients is in yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeardRooms {
    /// Every room but those of users, as Node's classic adapter does: who is joined by an order is reached by what is sent
    /// right behind it.
    All,
    /// None: each room is subscribed when its first member comes.
    Members,
}

/// A text that no log ever shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Where a Redis is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// What is no address of a host and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoAddress;

impl FromStr for Address {
    type Err = NoAddress;

    /// `host:port` or `[address]:port`.
    fn from_str(text: &str) -> Result<Address, NoAddress> {
        let (host, port) = text.rsplit_once(':').ok_or(NoAddress)?;
        let is_bare = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().ok().filter(|port| *port > 0).ok_or(NoAddress)?;
        let is_name = !host.is_empty() && !host.contains(['/', '@']) && !host.contains(char::is_whitespace);
        if is_bare && is_name { Ok(Address { host: host.to_owned(), port }) } else { Err(NoAddress) }
    }
}

/// How requests of sessions that other instances have are brought to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TunnelSettings {
    /// Where other instances dial us; `None`: they reach us over Redis.
    pub listen: Option<SocketAddr>,
    /// What they are told to dial.
    pub address: Option<Address>,
    /// What instances know each other by.
    pub secret: Option<Secret>,
    /// Open ones from here, and open ones to here; 0: requests stay where they are.
    pub tunnels_max: usize,
}

impl TunnelSettings {
    /// Where others are to dial us.
    pub(super) fn announced(&self) -> Option<String> {
        let listen = self.listen?;
        Some(self.address.as_ref().map_or_else(|| listen.to_string(), ToString::to_string))
    }
}

/// Connections are encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// PEM file of the authorities that may have signed; `None`: those of the operating system.
    pub ca_file: Option<PathBuf>,
    /// Who we are, where Redis wants to know that of its clients.
    pub client: Option<ClientCertificate>,
}

/// PEM files of a certificate, with those that lead to its authority, and of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
}

/// Who knows which Redis is the master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentinelSettings {
    /// At least one.
    pub addresses: Vec<Address>,
    /// What they call it.
    pub master_name: String,
    pub user: Option<String>,
    pub password: Option<Secret>,
}

/// The streams of the streams adapter, the same for all servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSettings {
    /// What the only stream is called, or all begin with.
    pub name: String,
    /// Namespaces are spread over so many.
    pub count: u32,
    /// About how many entries one keeps.
    pub entries_max: u64,
    /// `None`: clients come back to the same server only.
    pub sessions: Option<SharedSessions>,
}

impl StreamSettings {
    /// Where the secret is that signs sessions. On a Redis Cluster it is where the stream is.
    pub(super) fn secret_key(&self) -> String {
        format!("sockring:{{{}}}:recovery_secret", self.name)
    }
}

/// How servers of one stream know of each other's sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedSessions {
    /// What their keys begin with.
    pub prefix: String,
    /// How old the entries are that a client may have missed.
    pub past: Duration,
    /// What signs them; `None`: it is in Redis, for all servers.
    pub secret: Option<RecoverySecret>,
}

/// What is kept for users and of emits, for all instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptSettings {
    /// In one namespace.
    pub events_per_user_max: usize,
    /// For so long the key of an emit is known.
    pub idempotency_window_ms: u64,
}

/// Everything about Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSettings {
    pub address: Address,
    /// Who say where it is instead.
    pub sentinels: Option<SentinelSettings>,
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub database: i64,
    pub tls: Option<TlsSettings>,
    /// What all channels begin with.
    pub prefix: String,
    pub adapter: Adapter,
    /// With the classic adapter.
    pub heard_rooms: HeardRooms,
    /// Of the sharded adapter.
    pub mode: SubscriptionMode,
    /// Of the streams adapter.
    pub streams: StreamSettings,
    pub kept: KeptSettings,
    /// Bytes that may wait for Redis to take them; more are not published.
    pub queue_bytes_max: usize,
    /// A connection on which Redis leaves a question open for longer is given up.
    pub silence_timeout: Duration,
    /// Questions of other servers that may wait for an answer.
    pub requests_max: usize,
    /// Rooms that one request of another server may name.
    pub request_rooms_max: usize,
    /// Emits of other servers whose acknowledgements are awaited.
    pub acks_max: usize,
    /// Questions to other servers that may wait for answers.
    pub questions_max: usize,
    /// Bytes of questions that wait, of answers to ours, of acknowledgements whose number is not known yet, and of one answer.
    pub answers_bytes_max: usize,
    pub readiness: Readiness,
    pub tunnels: TunnelSettings,
}

impl ClusterSettings {
    /// Whether each socket has a channel of its own, which has to be subscribed.
    pub fn has_channels_of_sids(&self) -> bool {
        self.adapter == Adapter::Sharded && self.mode == SubscriptionMode::DynamicPrivate
    }

    /// Where Redis is looked for.
    pub fn place(&self) -> String {
        match &self.sentinels {
            None => self.address.to_string(),
            Some(sentinels) => format!("the master `{}` of the sentinels", sentinels.master_name),
        }
    }
}
