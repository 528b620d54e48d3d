//! What the settings say of Redis.

use std::path::PathBuf;
use std::time::Duration;

use redis::{ConnectionAddr, IntoConnectionInfo};
use sockring_protocol::adapter::{Adapter, SubscriptionMode};

use crate::cluster::{
    Address, ClientCertificate, ClusterSettings, HeardRooms, KeptSettings, Readiness, Secret, SentinelSettings,
    SharedSessions, StreamSettings, TlsSettings,
};

use super::{ConfigError, Values, recovery, tunnels, wrong};

/// What a queue of tokio could hold is more.
const REQUESTS_MOST: usize = 1 << 24;
const SENTINEL_PORT: u16 = 26379;
const PREFIX_BYTES_MAX: usize = 128;

/// `None` where neither a URL nor a host is set.
pub(super) fn cluster(values: &Values) -> Result<Option<ClusterSettings>, ConfigError> {
    let queue_bytes_max = values.number("redis_queue_bytes_max", 1024)?;
    let port = values.number("redis_port", 1)?;
    let adapter = match values.text("redis_adapter") {
        "classic" => Adapter::Classic,
        "sharded" => Adapter::Sharded,
        "streams" => Adapter::Streams,
        other => {
            let reason = format!("`{other}` is none of `classic`, `sharded` and `streams`");
            return Err(wrong("redis_adapter", reason));
        }
    };
    let heard_rooms = match values.text("redis_rooms") {
        "all" => HeardRooms::All,
        "users" => HeardRooms::Members,
        other => return Err(wrong("redis_rooms", format!("`{other}` is neither `all` nor `users`"))),
    };
    let mode = match (values.text("redis_subscription_mode"), adapter) {
        ("dynamic", _) => SubscriptionMode::Dynamic,
        ("dynamic-private", Adapter::Sharded) => SubscriptionMode::DynamicPrivate,
        ("static", Adapter::Sharded) => SubscriptionMode::Static,
        ("dynamic-private" | "static", Adapter::Classic | Adapter::Streams) => {
            return Err(wrong("redis_subscription_mode", "is of the sharded adapter alone: set redis_adapter=sharded"));
        }
        (other, _) => {
            let reason = format!("`{other}` is none of `dynamic`, `dynamic-private` and `static`");
            return Err(wrong("redis_subscription_mode", reason));
        }
    };
    let readiness = match values.truth("ready_requires_redis")? {
        true => Readiness::RequiresRedis,
        false => Readiness::WithoutRedis,
    };
    let mut settings = ClusterSettings {
        address: Address { host: values.text("redis_host").to_owned(), port },
        sentinels: sentinels(values)?,
        user: values.optional("redis_user"),
        password: values.secret("redis_password")?.map(Secret::new),
        database: 0,
        tls: values.truth("redis_tls")?.then(TlsSettings::default),
        prefix: prefix(values)?,
        adapter,
        heard_rooms,
        mode,
        streams: streams(values, adapter)?,
        kept: KeptSettings {
            events_per_user_max: values.number("kept_events_per_user_max", 1)?,
            idempotency_window_ms: values.number::<u64>("idempotency_window_s", 1)?.saturating_mul(1_000),
        },
        queue_bytes_max,
        silence_timeout: Duration::from_millis(values.number("redis_silence_timeout_ms", 100)?),
        requests_max: values.number_up_to("redis_requests_max", 1, REQUESTS_MOST)?,
        request_rooms_max: values.number("redis_request_rooms_max", 1)?,
        acks_max: values.number("redis_acks_max", 1)?,
        questions_max: values.number("redis_questions_max", 1)?,
        answers_bytes_max: values.number("redis_answers_bytes_max", 1024)?,
        readiness,
        tunnels: tunnels::settings(values)?,
    };
    match values.optional("redis_url") {
        Some(url) => read_url(&url, &mut settings)?,
        None if settings.address.host.is_empty() && settings.sentinels.is_none() => return Ok(None),
        None => {}
    }
    tls_files(values, &mut settings)?;
    Ok(Some(settings))
}

/// `None` without any.
fn sentinels(values: &Values) -> Result<Option<SentinelSettings>, ConfigError> {
    let addresses: Result<Vec<_>, _> = values.list("redis_sentinels").iter().map(|text| sentinel(text)).collect();
    let addresses = addresses?;
    if addresses.is_empty() {
        return Ok(None);
    }
    let Some(master_name) = values.optional("redis_master_name") else {
        return Err(wrong("redis_master_name", "must be what the sentinels call the master, as `mymaster`"));
    };
    let user = values.optional("redis_sentinel_user");
    let password = values.secret("redis_sentinel_password")?.map(Secret::new);
    Ok(Some(SentinelSettings { addresses, master_name, user, password }))
}

/// `host`, `host:port` or `[address]:port`.
fn sentinel(text: &str) -> Result<Address, ConfigError> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse().ok()),
        _ => (text, Some(SENTINEL_PORT)),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match port.filter(|port| *port > 0 && !host.is_empty() && !host.contains(['/', '@'])) {
        Some(port) => Ok(Address { host: host.to_owned(), port }),
        None => Err(wrong("redis_sentinels", "must be addresses such as `sentinel-1:26379`, comma-separated")),
    }
}

fn tls_files(values: &Values, settings: &mut ClusterSettings) -> Result<(), ConfigError> {
    let is_encrypted = settings.tls.is_some();
    let file = |name: &str| -> Result<Option<PathBuf>, ConfigError> {
        let Some(file) = values.optional(name) else { return Ok(None) };
        if !is_encrypted {
            let reason = "has no use without TLS: write the URL as `rediss://...`, or set redis_tls=true";
            return Err(wrong(name, reason));
        }
        std::fs::metadata(&file).map_err(|error| wrong(name, format!("`{file}` cannot be read: {error}")))?;
        Ok(Some(file.into()))
    };
    let ca_file = file("redis_tls_ca_file")?;
    let client = match (file("redis_tls_cert_file")?, file("redis_tls_key_file")?) {
        (None, None) => None,
        (Some(certificate_file), Some(key_file)) => Some(ClientCertificate { certificate_file, key_file }),
        (Some(_), None) => return Err(wrong("redis_tls_key_file", "must be set too: the key of redis_tls_cert_file")),
        (None, Some(_)) => {
            return Err(wrong("redis_tls_cert_file", "must be set too: the certificate of redis_tls_key_file"));
        }
    };
    if let Some(tls) = &mut settings.tls {
        *tls = TlsSettings { ca_file, client };
    }
    Ok(())
}

/// What a URL says is stronger than the other settings.
fn read_url(url: &str, settings: &mut ClusterSettings) -> Result<(), ConfigError> {
    // A password may be in it: nothing of it is repeated.
    let wrong_url = || {
        let reason = "is not a URL such as `redis://user:password@host:6379/0`, or `rediss://...` with TLS; special \
                      characters of a password are percent-encoded";
        wrong("redis_url", reason)
    };
    let plain = match url.split_once("://") {
        Some(("redis", rest)) => rest,
        Some(("rediss", rest)) => {
            settings.tls.get_or_insert_default();
            rest
        }
        _ => return Err(wrong_url()),
    };
    let info = format!("redis://{plain}").into_connection_info().map_err(|_| wrong_url())?;
    let ConnectionAddr::Tcp(host, port) = info.addr() else { return Err(wrong_url()) };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    settings.address = Address { host, port: *port };
    let said = info.redis_settings();
    settings.database = said.db();
    if let Some(user) = said.username() {
        settings.user = Some(user.to_owned());
    }
    if let Some(password) = said.password() {
        settings.password = Some(Secret::new(password));
    }
    Ok(())
}

fn streams(values: &Values, adapter: Adapter) -> Result<StreamSettings, ConfigError> {
    let name = values.text("redis_stream_name").to_owned();
    if name.is_empty() || name.len() > PREFIX_BYTES_MAX || name.contains(char::is_control) {
        return Err(wrong("redis_stream_name", format!("must have 1 to {PREFIX_BYTES_MAX} bytes, as `socket.io`")));
    }
    let count = values.number("redis_stream_count", 1)?;
    // Places of several streams have no order among them.
    let is_shared = adapter == Adapter::Streams && count == 1;
    Ok(StreamSettings {
        name,
        count,
        sessions: if is_shared { sessions(values)? } else { None },
        entries_max: values.number("redis_stream_entries_max", 1)?,
    })
}

/// `None`: nobody comes back.
fn sessions(values: &Values) -> Result<Option<SharedSessions>, ConfigError> {
    let prefix = values.text("redis_session_prefix").to_owned();
    if prefix.len() > PREFIX_BYTES_MAX || prefix.contains(char::is_control) {
        return Err(wrong(
            "redis_session_prefix",
            format!("must have up to {PREFIX_BYTES_MAX} bytes, as `sio:session:`"),
        ));
    }
    let recovery = recovery::settings(values)?;
    // Who hears nothing is found out by its heartbeats: from its last position to its end it takes up to this long.
    let silence_ms =
        values.number::<u64>("ping_interval_ms", 10)?.saturating_add(values.number("ping_timeout_ms", 10)?);
    let past = Duration::from_millis(recovery.window_ms.saturating_add(silence_ms));
    let sessions = SharedSessions { prefix, past, secret: recovery.secret };
    Ok((recovery.window_ms > 0).then_some(sessions))
}

fn prefix(values: &Values) -> Result<String, ConfigError> {
    let prefix = values.text("redis_prefix").to_owned();
    if prefix.is_empty() || prefix.len() > PREFIX_BYTES_MAX || prefix.contains(char::is_control) {
        return Err(wrong("redis_prefix", format!("must have 1 to {PREFIX_BYTES_MAX} bytes, as `socket.io`")));
    }
    Ok(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;

    fn read(pairs: &[(&'static str, &str)]) -> Result<Option<ClusterSettings>, ConfigError> {
        let mut values = Values::default();
        for (name, value) in pairs {
            values.offer(name, (*value).to_owned(), Source::Flag("--x".to_owned()));
        }
        cluster(&values)
    }

    #[test]
    fn redis_is_on_exactly_with_a_url_or_a_host() {
        assert_eq!(read(&[("redis_port", "7000"), ("redis_password", "x")]), Ok(None));
        let settings = read(&[("redis_host", "cache"), ("redis_password", "x")]).unwrap().unwrap();
        assert_eq!(settings.address, Address { host: "cache".to_owned(), port: 6379 });
        assert_eq!((settings.prefix.as_str(), settings.adapter), ("socket.io", Adapter::Classic));
        assert_eq!((settings.tls, settings.queue_bytes_max), (None, 8 << 20));
    }

    #[test]
    fn a_url_says_it_all() {
        let url = "rediss://app:p%40ss@[::1]:6380/2";
        let settings = read(&[("redis_url", url), ("redis_host", "other"), ("redis_user", "other")]).unwrap().unwrap();
        assert_eq!(settings.address, Address { host: "::1".to_owned(), port: 6380 });
        assert_eq!((settings.user.as_deref(), settings.database), (Some("app"), 2));
        assert_eq!(settings.password, Some(Secret::new("p@ss")));
        assert!(settings.tls.is_some());
        let settings = read(&[("redis_url", "redis://cache"), ("redis_password", "x")]).unwrap().unwrap();
        assert_eq!((settings.password, settings.address.port), (Some(Secret::new("x")), 6379));
    }

    #[test]
    fn sentinels_take_the_place_of_a_host() {
        let list = "one, two:7001,[::1]:7002,::2";
        let settings = read(&[("redis_sentinels", list), ("redis_sentinel_password", "x")]).unwrap().unwrap();
        let sentinels = settings.sentinels.unwrap();
        let names: Vec<String> = sentinels.addresses.iter().map(Address::to_string).collect();
        assert_eq!(names, ["one:26379", "two:7001", "[::1]:7002", "[::2]:26379"]);
        assert_eq!((sentinels.master_name.as_str(), sentinels.password), ("mymaster", Some(Secret::new("x"))));
    }

    #[test]
    fn what_cannot_be_used_is_named_without_the_secret_in_it() {
        for (pairs, key) in [
            (&[("redis_url", "secret@host")][..], "redis_url"),
            (&[("redis_url", "http://u:secret@host")], "redis_url"),
            (&[("redis_url", "redis://u:secret@host:port")], "redis_url"),
            (&[("redis_url", "redis://u:secret@host/db")], "redis_url"),
            (&[("redis_host", "h"), ("redis_adapter", "stream")], "redis_adapter"),
            (&[("redis_adapter", "streams"), ("redis_subscription_mode", "static")], "redis_subscription_mode"),
            (&[("redis_host", "h"), ("redis_stream_name", "")], "redis_stream_name"),
            (&[("redis_host", "h"), ("redis_stream_count", "0")], "redis_stream_count"),
            (&[("redis_host", "h"), ("redis_stream_entries_max", "0")], "redis_stream_entries_max"),
            (&[("redis_host", "h"), ("redis_rooms", "none")], "redis_rooms"),
            (&[("redis_host", "h"), ("redis_subscription_mode", "static")], "redis_subscription_mode"),
            (&[("redis_adapter", "sharded"), ("redis_subscription_mode", "x")], "redis_subscription_mode"),
            (&[("redis_host", "h"), ("redis_prefix", "")], "redis_prefix"),
            (&[("redis_host", "h"), ("redis_port", "0")], "redis_port"),
            (&[("redis_sentinels", "redis://u:secret@h")], "redis_sentinels"),
            (&[("redis_sentinels", "h:0")], "redis_sentinels"),
            (&[("redis_sentinels", "h"), ("redis_master_name", "")], "redis_master_name"),
            (&[("redis_host", "h"), ("redis_tls_ca_file", "/dev/null")], "redis_tls_ca_file"),
            (&[("redis_url", "rediss://h"), ("redis_tls_ca_file", "/no/such")], "redis_tls_ca_file"),
            (&[("redis_url", "rediss://h"), ("redis_tls_cert_file", "/dev/null")], "redis_tls_key_file"),
            (&[("redis_url", "rediss://h"), ("redis_tls_key_file", "/dev/null")], "redis_tls_cert_file"),
            (&[("redis_host", "h"), ("redis_tls_cert_file", "/dev/null")], "redis_tls_cert_file"),
        ] {
            let error = read(pairs).unwrap_err();
            assert_eq!(error.key, key, "{pairs:?}");
            assert!(!error.reason.contains("secret"), "{error}");
        }
        let settings = read(&[("redis_url", "redis://u:hidden@h")]).unwrap();
        assert!(!format!("{settings:?}").contains("hidden"));
    }
}
