//! `RedisConnection`: one connection to a Redis: dialled, encrypted, authenticated, named, and asked what it is.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ProtocolVersion, PushInfo, RedisConnectionInfo, RedisError, Value, cmd};
use sockring_protocol::adapter::Adapter;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::flow::{Flow, Metered, Pushes};
use super::outside::{OutsideWorld, Stream};
use super::settings::{Address, ClientCertificate, ClusterSettings, Secret, SentinelSettings, TlsSettings};

/// From dialling to the answer to the last command of the set-up.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);
/// From dialling on, for `sockring check`.
pub(super) const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Commands that may wait to be written.
const COMMANDS_WAITING: usize = 64;
/// The first version with sharded channels.
const SHARDED_SINCE: u32 = 7;
/// RESP3.
const PROTOCOL: u8 = 3;

/// Why there is no connection. No text of it holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkError {
    /// Nobody answers there.
    Unreachable(String),
    /// Something does, but not in time.
    Silent,
    /// One side did not want the other's handshake.
    Tls(String),
    /// Somebody is there, and has hung up at the first words.
    HungUp(String),
    /// It answers, and does not let us in.
    Refused(String),
    /// Its version has no sharded channels.
    TooOld(String),
    /// Its version, before 6, has no RESP3.
    Ancient,
    /// It is there, and not what is needed: what it says that it is.
    Wrong(RedisRole),
    /// No sentinel says who the master is: what the last one that was asked says.
    NoMaster(String),
}

impl LinkError {
    /// What the operator can do.
    pub fn fix(&self) -> &'static str {
        match self {
            LinkError::Unreachable(_) => "is it running there? See REDIS_URL, or REDIS_HOST and REDIS_PORT",
            LinkError::Silent => "is it frozen, or does only one side speak TLS (rediss://)? See redis_tls",
            LinkError::Tls(_) => {
                "see redis_tls and redis_tls_ca_file, and redis_tls_cert_file where Redis wants a certificate of its clients"
            }
            LinkError::HungUp(_) => {
                "does it speak TLS where we do not? See redis_tls; or want a certificate? See redis_tls_cert_file"
            }
            LinkError::Refused(_) => {
                "see REDIS_USER and REDIS_PASSWORD; that user needs allchannels, +@pubsub and +@connection, ~sockring:* +eval \
                 +evalsha +get +set +lindex +llen +lpop +lrange +lrem +rpush +pexpire +pttl, +cluster|slots on a Redis \
                 Cluster, and for streams ~socket.io (the stream) +xadd +xread +xrange +xrevrange +xlen, and for sessions \
                 that go on at any server ~sio:session:*"
            }
            LinkError::Wrong(RedisRole::Master) => "redis_sentinels are the sentinels, not the Redis that they watch",
            LinkError::Wrong(_) => "name the master, or with redis_sentinels those who know which one it is",
            LinkError::NoMaster(_) => "see redis_sentinels and redis_master_name",
            LinkError::TooOld(_) => "use Redis 7 or newer, or redis_adapter=classic everywhere",
            LinkError::Ancient => "use Redis 6 or newer",
        }
    }
}

impl std::error::Error for LinkError {}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkError::Unreachable(reason) => write!(f, "cannot be reached: {reason}"),
            LinkError::Silent => f.write_str("does not answer in time"),
            LinkError::Tls(reason) => write!(f, "TLS failed: {reason}"),
            LinkError::HungUp(reason) => write!(f, "hung up at the first words: {reason}"),
            LinkError::Refused(reason) => write!(f, "refused: {reason}"),
            LinkError::Wrong(role) => write!(f, "is {role}"),
            LinkError::NoMaster(reason) => write!(f, "is not known: {reason}"),
            LinkError::TooOld(version) => write!(f, "version {version} has no sharded channels"),
            LinkError::Ancient => f.write_str("is older than version 6: it does not know HELLO"),
        }
    }
}

/// Whether a Redis is alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedisMode {
    Standalone,
    Cluster,
}

/// What a Redis is among others. What is published to a replica reaches nobody beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedisRole {
    Master,
    Replica,
    Sentinel,
}

impl fmt::Display for RedisRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RedisRole::Master => "no sentinel",
            RedisRole::Replica => "a replica, which what is published to others does not reach",
            RedisRole::Sentinel => "a sentinel",
        })
    }
}

/// What a Redis says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    pub version: String,
    pub mode: RedisMode,
    pub role: RedisRole,
}

impl ServerInfo {
    /// What `HELLO` answers.
    pub(super) fn of(hello: Option<&Value>) -> ServerInfo {
        let mut info =
            ServerInfo { version: "unknown".to_owned(), mode: RedisMode::Standalone, role: RedisRole::Master };
        let Some(Value::Map(entries)) = hello else { return info };
        for (name, value) in entries {
            match (text(name), text(value)) {
                (Some("version"), Some(version)) => version.clone_into(&mut info.version),
                (Some("mode"), Some("cluster")) => info.mode = RedisMode::Cluster,
                (Some("mode"), Some("sentinel")) => info.role = RedisRole::Sentinel,
                (Some("role"), Some("replica" | "slave")) => info.role = RedisRole::Replica,
                _ => {}
            }
        }
        info
    }

    /// An error where it is not what is needed. A Redis Cluster carries what is published by and to any of its nodes.
    pub(super) fn check(&self, wanted: RedisRole) -> Result<(), LinkError> {
        let is_fine = self.role == wanted || (self.mode == RedisMode::Cluster && self.role == RedisRole::Replica);
        if is_fine { Ok(()) } else { Err(LinkError::Wrong(self.role)) }
    }
}

/// An open connection. It is closed when this is dropped.
pub(super) struct RedisConnection {
    pub(super) connection: MultiplexedConnection,
    /// What Redis sends unasked; ends with the connection.
    pub(super) pushes: mpsc::UnboundedReceiver<PushInfo>,
    pub(super) flow: Arc<Flow>,
    pub(super) server: ServerInfo,
    pub(super) address: Address,
    driver: JoinHandle<()>,
}

impl Drop for RedisConnection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// How connections are opened.
pub(super) struct Dialler {
    outside: Arc<dyn OutsideWorld>,
    tls: Option<TlsConnector>,
    account: RedisConnectionInfo,
    adapter: Adapter,
    wanted: RedisRole,
}

impl fmt::Debug for Dialler {
    /// Without the account.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialler").field("adapter", &self.adapter).finish_non_exhaustive()
    }
}

impl Dialler {
    pub(super) fn new(outside: Arc<dyn OutsideWorld>, settings: &ClusterSettings) -> Result<Dialler, LinkError> {
        let account = account(settings.user.as_deref(), settings.password.as_ref()).set_db(settings.database);
        let tls = settings.tls.as_ref().map(connector).transpose()?;
        Ok(Dialler { outside, tls, account, adapter: settings.adapter, wanted: RedisRole::Master })
    }

    /// The same for sentinels, who have an account of their own.
    pub(super) fn for_sentinels(&self, sentinels: &SentinelSettings) -> Dialler {
        let account = account(sentinels.user.as_deref(), sentinels.password.as_ref());
        let (outside, tls) = (Arc::clone(&self.outside), self.tls.clone());
        Dialler { outside, tls, account, adapter: Adapter::Classic, wanted: RedisRole::Sentinel }
    }

    /// Has to be called within the local tasks of a runtime.
    pub(super) async fn open(&self, address: &Address, name: &str) -> Result<RedisConnection, LinkError> {
        timeout(OPEN_TIMEOUT, self.open_at_leisure(address, name)).await.unwrap_or(Err(LinkError::Silent))
    }

    async fn open_at_leisure(&self, address: &Address, name: &str) -> Result<RedisConnection, LinkError> {
        let unreachable = |error: io::Error| LinkError::Unreachable(error.to_string());
        let stream = self.outside.dial(address).await.map_err(unreachable)?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => stream,
            Some(connector) => {
                let name = ServerName::try_from(address.host.clone()).map_err(|_| {
                    LinkError::Tls(format!("`{}` is no name that a certificate could have", address.host))
                })?;
                let encrypted = connector.connect(name, stream).await;
                Box::new(encrypted.map_err(|error| LinkError::Tls(words_of_tls(&error)))?)
            }
        };
        let (sender, pushes) = mpsc::unbounded_channel();
        let flow = Flow::new();
        let config = AsyncConnectionConfig::new()
            // All commands of a connection are answered in their order: `Pulse` notices where no answer comes.
            .set_response_timeout(None)
            .set_connection_timeout(None)
            .set_pipeline_buffer_size(COMMANDS_WAITING)
            .set_push_sender(Pushes { sender, flow: Arc::clone(&flow) });
        let metered = Metered { stream, flow: Arc::clone(&flow) };
        let opened = MultiplexedConnection::new_with_config(&self.account, metered, config).await;
        let (connection, driver) = opened.map_err(|error| turned_away(error, &flow))?;
        let driver = tokio::task::spawn_local(driver);
        // From here on the driver ends with the link.
        let (server, address) = (ServerInfo::of(None), address.clone());
        let mut link = RedisConnection { connection, pushes, flow, server, address, driver };
        let mut setup = redis::pipe();
        setup.cmd("CLIENT").arg("SETNAME").arg(name).add_command(greeting());
        let answers = link.connection.send_packed_commands(&setup, 0, 2).await.map_err(refused)?;
        link.server = ServerInfo::of(answers.last());
        link.server.check(self.wanted)?;
        if self.adapter == Adapter::Sharded && major(&link.server.version) < SHARDED_SINCE {
            return Err(LinkError::TooOld(link.server.version.clone()));
        }
        Ok(link)
    }
}

/// What a Redis answers with what it is. It stands on its own only from 6.2 on: without the protocol 6.0 does not know it.
pub(super) fn greeting() -> Cmd {
    cmd("HELLO").arg(PROTOCOL).take()
}

/// As whom a connection is opened.
fn account(user: Option<&str>, password: Option<&Secret>) -> RedisConnectionInfo {
    let mut account = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_lib_name("sockring", env!("CARGO_PKG_VERSION"));
    if let Some(user) = user {
        account = account.set_username(user);
    }
    if let Some(password) = password {
        account = account.set_password(password.reveal());
    }
    account
}

/// What is wrong when the first words get no answer.
fn turned_away(error: RedisError, flow: &Flow) -> LinkError {
    if !error.is_io_error() {
        return refused(error);
    }
    match flow.failure() {
        // Redis looks at our certificate when the handshake is over for us.
        Some(failure) if failure.kind() == io::ErrorKind::InvalidData => LinkError::Tls(words_of_tls(&failure)),
        Some(failure) => LinkError::HungUp(failure.to_string()),
        None => LinkError::HungUp(error.to_string()),
    }
}

/// What was refused, in words for who sets it up.
fn words_of_tls(error: &io::Error) -> String {
    let words = error.to_string();
    let meaning = [
        ("CertificateRequired", "it wants a certificate of ours"),
        ("HandshakeFailure", "it may want a certificate of ours"),
        ("alert: UnknownCA", "it does not know who has signed our certificate"),
        ("alert: BadCertificate", "it does not want our certificate"),
        ("alert: DecryptError", "it does not want our certificate"),
        ("alert: CertificateExpired", "our certificate has expired"),
        ("UnknownIssuer", "we do not know who has signed its certificate"),
        ("InvalidContentType", "it does not speak TLS"),
        ("eof", "it hung up during the handshake"),
    ];
    match meaning.iter().find(|(sign, _)| words.contains(sign)) {
        Some((_, meaning)) => format!("{meaning} ({words})"),
        None => words,
    }
}

fn refused(error: RedisError) -> LinkError {
    let words = error.to_string();
    match error.is_io_error() {
        true => LinkError::Unreachable(words),
        false if words.contains("unknown command `HELLO`") => LinkError::Ancient,
        false => LinkError::Refused(words),
    }
}

fn connector(tls: &TlsSettings) -> Result<TlsConnector, LinkError> {
    let mut roots = RootCertStore::empty();
    match &tls.ca_file {
        Some(file) => {
            for certificate in certificates_in(file)? {
                roots.add(certificate).map_err(|error| wrong_file(file, error))?;
            }
        }
        None => {
            // Some of an operating system's certificates may be beyond the library.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(LinkError::Tls("the operating system has no certificates of authorities".to_owned()));
            }
        }
    }
    let config = ClientConfig::builder().with_root_certificates(roots);
    let config = match &tls.client {
        None => config.with_no_client_auth(),
        Some(ClientCertificate { certificate_file, key_file }) => {
            let key = PrivateKeyDer::from_pem_file(key_file).map_err(|error| wrong_file(key_file, error))?;
            let chain = config.with_client_auth_cert(certificates_in(certificate_file)?, key);
            chain.map_err(|error| wrong_file(certificate_file, error))?
        }
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

fn wrong_file(file: &Path, reason: impl fmt::Display) -> LinkError {
    LinkError::Tls(format!("`{}`: {reason}", file.display()))
}

fn certificates_in(file: &Path) -> Result<Vec<CertificateDer<'static>>, LinkError> {
    let certificates = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(wrong_file(file, "holds no certificate in PEM")),
        Err(error) => Err(wrong_file(file, error)),
    }
}

/// A value that is a text.
pub(super) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        Value::VerbatimString { text, .. } => Some(text),
        _ => None,
    }
}

fn major(version: &str) -> u32 {
    version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(u32::MAX)
}

/// The time before the next attempt: longer each time, and never quite the same for two.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    const FIRST_MS: u64 = 100;
    const LAST_MS: u64 = 1_000;

    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// `chance` is a random number.
    pub(super) fn next(&mut self, chance: u32) -> Duration {
        let most = (Backoff::FIRST_MS << self.failures.min(10)).min(Backoff::LAST_MS);
        self.failures += 1;
        // Between the half and the whole of it.
        Duration::from_millis(most / 2 + (most / 2 * u64::from(chance)) / u64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_come_at_growing_times_within_bounds() {
        let mut backoff = Backoff::default();
        let times: Vec<u128> = (0..9).map(|_| backoff.next(0).as_millis()).collect();
        assert_eq!(times, [50, 100, 200, 400, 500, 500, 500, 500, 500]);
        assert_eq!(backoff.next(u32::MAX).as_millis(), 1000);
        backoff.reset();
        assert_eq!(backoff.next(u32::MAX).as_millis(), 100);
    }

    #[test]
    fn a_redis_without_a_greeting_is_called_too_old() {
        let of = |line: &[u8]| {
            let answer = redis::parse_redis_value(line).expect("RESP").extract_error();
            refused(answer.expect_err("an error"))
        };
        assert_eq!(of(b"-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n"), LinkError::Ancient);
        assert!(matches!(of(b"-ERR unknown command `CLIENT`, with args beginning with: \r\n"), LinkError::Refused(_)));
    }

    #[test]
    fn a_greeting_says_what_a_redis_is() {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let greeting = |entries: &[(&str, &str)]| {
            let entries = entries.iter().map(|(name, value)| (bulk(name), bulk(value)));
            ServerInfo::of(Some(&Value::Map(entries.collect())))
        };
        let info = greeting(&[("version", "7.0.15"), ("mode", "cluster"), ("role", "replica")]);
        assert_eq!((info.version.as_str(), info.mode, major(&info.version)), ("7.0.15", RedisMode::Cluster, 7));
        assert_eq!(info.check(RedisRole::Master), Ok(()), "any node of a cluster will do");
        let replica = greeting(&[("mode", "standalone"), ("role", "replica")]);
        assert_eq!(replica.check(RedisRole::Master), Err(LinkError::Wrong(RedisRole::Replica)));
        let sentinel = greeting(&[("mode", "sentinel"), ("role", "sentinel")]);
        assert_eq!(sentinel.check(RedisRole::Master), Err(LinkError::Wrong(RedisRole::Sentinel)));
        assert_eq!(sentinel.check(RedisRole::Sentinel), Ok(()));
        let master = greeting(&[("mode", "standalone"), ("role", "master")]);
        assert_eq!(master.check(RedisRole::Master), Ok(()));
        assert_eq!(master.check(RedisRole::Sentinel), Err(LinkError::Wrong(RedisRole::Master)));
        assert_eq!(major("unknown"), u32::MAX);
    }
}
