//! The table of settings: what each is called, where it may be set, its default and what it does.
//!
//! Flags, environment, the settings file and the table in docs/settings.md all follow from this one.

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct SettingKey {
    /// Its name in the settings file. The flag is the same with `-` for `_`.
    pub name: &'static str,
    /// Environment variables, the first that is set counts; `SOCKRING_<NAME>` always does too.
    pub environment: &'static [&'static str],
    /// As it would be written; empty: none.
    pub default: &'static str,
    /// One sentence for `--help` and docs/settings.md.
    pub help: &'static str,
}

const fn key(name: &'static str, default: &'static str, help: &'static str) -> SettingKey {
    SettingKey { name, environment: &[], default, help }
}

const fn known_as(environment: &'static [&'static str], key: SettingKey) -> SettingKey {
    SettingKey { environment, ..key }
}

/// All settings, in the order in which they are shown.
#[rustfmt::skip]
pub const KEYS: &[SettingKey] = &[
    known_as(&["SOCKRING_ENV", "NODE_ENV"], key("env", "development", "name of the environment: `development` and `test` may leave secrets out, any other name is as strict as `production`; it is the `server` of every payload")),
    key("host", "::", "address to listen on; `::` is every address, IPv4 too"),
    known_as(&["PORT"], key("port", "8080", "port to listen on; 0 is any free one")),
    key("shards", "", "threads that serve clients, each on a core of its own, up to 256; default: as many as there are cores"),
    key("reuse_port", "false", "`true`: share the port with other processes that do the same"),
    key("drain", "5", "seconds over which clients are closed at SIGTERM; of a single instance, together with the start of the next one, less than 7.5, so that clients with five attempts are back by the fourth"),
    known_as(&["ACCESS_TOKEN_SECRET"], key("access_token_secret", "", "secret of the clients' tokens (HS256, HS384, HS512); in development one is made for the run")),
    known_as(&["ACCESS_TOKEN_SECRET_PREVIOUS"], key("access_token_secret_previous", "", "a secret whose tokens stay valid, while the new one is being rolled out")),
    known_as(&["ACCESS_TOKEN_SECRET_FILE"], key("access_token_secret_file", "", "file that holds the secret, instead of it; a line break at its end does not count")),
    known_as(&["ACCESS_TOKEN_SECRET_PREVIOUS_FILE"], key("access_token_secret_previous_file", "", "file that holds the previous secret")),
    key("token_public_key_file", "", "PEM file of a public key that may have signed tokens: RSA for RS256, EC for ES256, Ed25519 for EdDSA"),
    key("token_jwks_file", "", "file of a JSON Web Key Set, whose keys may have signed tokens that name them by `kid`"),
    key("token_jwks_url", "", "address of such a set, `https://` or `http://`, as `https://login.example.com/.well-known/jwks.json`; it is fetched again and again, and at an unknown `kid`"),
    key("token_jwks_refresh_s", "300", "seconds after which it is fetched again; keys that are gone by then count no more"),
    key("token_require_exp", "false", "`true`: a token without `exp` is refused"),
    key("token_leeway_s", "0", "seconds by which clocks may differ when `exp` and `nbf` are checked"),
    key("expire_sockets", "false", "`true`: a socket is closed when its token expires, so that the client fetches a fresh one"),
    key("user_claim", "_id", "claim of the token that holds the user's id, or the way to it through objects, as `user.id`"),
    key("token_issuer", "", "the `iss` that a token must have, or several, comma-separated; empty: any"),
    key("token_audience", "", "the `aud` that a token must have, or several, of which it must have one, comma-separated; empty: any"),
    known_as(&["API_KEY"], key("api_key", "", "keys of the HTTP API, comma-separated; without one, in development, the API answers this machine only")),
    known_as(&["API_KEY_FILE"], key("api_key_file", "", "file that holds the keys of the HTTP API, separated by commas or line breaks")),
    key("api_listen", "", "address and port of the HTTP API and the metrics, as `127.0.0.1:9090`; default: on the port of the clients"),
    key("api_tls", "false", "`true`: `api_listen` speaks TLS too, with the same certificates"),
    key("api_tls_client_ca_file", "", "PEM file of the authorities of which one has to have signed the certificate that whoever connects to `api_listen` shows; with it, `api_listen` speaks TLS"),
    key("tls_cert_file", "", "PEM file of the certificate, and of those that lead to its authority, with which the clients' port speaks TLS; of several, comma-separated, the one with the name that a client asks for, else the first"),
    key("tls_key_file", "", "PEM file of its private key; of several, in the same order"),
    key("tls_ticket_keys_file", "", "file of the keys that seal session tickets, one per line, the one that seals first: the same for all instances between which clients resume; default: made for the run"),
    key("trusted_proxies", "", "addresses or networks whose `X-Forwarded-For` is believed, comma-separated"),
    known_as(&["CORS_ORIGIN"], key("cors_origin", "", "origins that may connect, comma-separated, or `*`; default: `*` in development, the same origin only in production")),
    key("cors_credentials", "", "whether browsers may send credentials; default: true for a list of origins, false for `*`"),
    key("path", "/socket.io/", "path of the Engine.IO requests"),
    key("namespaces", "/", "namespaces that clients may connect to, comma-separated"),
    key("ping_interval_ms", "25000", "time between heartbeats"),
    key("ping_timeout_ms", "20000", "time for the answer to a heartbeat; later: the client is closed"),
    key("upgrade_timeout_ms", "10000", "time for an upgrade to WebSocket; later: its probe is closed, polling goes on"),
    key("connect_timeout_ms", "45000", "time for the first accepted CONNECT; later: the client is closed"),
    key("payload_bytes_max", "1000000", "bytes of one message or POST from a client; more: close code 1009 or status 413"),
    key("connect_bytes_max", "16384", "bytes of one message or POST from a client before its first accepted CONNECT, and of the payload of every CONNECT; more: close code 1009 or status 413"),
    key("input_bytes_max", "134217728", "bytes of heads, messages, bodies and attachments that all peers have begun and not ended; more: close code 1013 or status 503"),
    key("payload_packets_max", "1000", "packets in one POST; more: status 400, the client is closed"),
    key("polling_gzip_bytes_min", "1024", "bytes from which on an answer to a poll is compressed for who takes gzip; 0: none is"),
    key("fragments_max", "1024", "WebSocket fragments of one message; more: close code 1008"),
    key("attachments_max", "10", "binary attachments of one packet, up to 255; more: the client is closed"),
    key("message_timeout_ms", "30000", "time for a message, or a packet's attachments, once begun; later: the client is closed"),
    key("head_bytes_max", "16384", "bytes of a request head; more: status 431"),
    key("head_timeout_ms", "10000", "time for a request head; later: status 408"),
    key("body_timeout_ms", "30000", "time for a request body; later: status 408, a client is closed"),
    key("idle_timeout_ms", "65000", "time between requests on a connection; later: it is closed"),
    key("requests_per_connection_max", "1000", "requests on one connection; the last one's answer closes it"),
    key("connections_max", "262144", "TCP connections at the clients' port; more: those that idle longest are closed, and where none idles a handshake gets status 503, while requests of sessions and of the API are answered"),
    key("connections_per_address_max", "1024", "connections of one address that have not served a session or an API key; more: closed at once; this machine, private networks and `trusted_proxies` do not count"),
    key("clients_max", "262144", "clients; more: their handshake gets status 503"),
    key("user_connections_max", "10000", "sockets of one user in one namespace; more: CONNECT_ERROR"),
    key("handshakes_per_minute_max", "6000", "handshakes from one address in a minute; more: status 429; this machine and private networks do not count"),
    key("unknown_sids_per_minute_max", "600", "requests with an unknown session id from one address in a minute; more: status 429; counted as above"),
    key("connect_refusals_max", "5", "refused CONNECTs of one client in a row, for each of `namespaces`; with the last one it is closed"),
    key("connect_refusals_per_minute_max", "600", "refused CONNECTs from one address in a minute; more are refused unread; counted as above"),
    key("events_per_second_max", "2000", "Engine.IO packets from one client in a second; more: it is closed"),
    key("namespaces_per_client_max", "16", "namespaces of one client; more: CONNECT_ERROR"),
    key("rooms_per_socket_max", "128", "rooms of one socket; more are not joined"),
    key("acks_pending_max", "100000", "acknowledgements and receipts that one shard waits for, of emits that ask every receiver for one; more: delivered, and not waited for"),
    key("ack_responses_bytes_max", "1048576", "bytes of what the acknowledgements of one emit say, where `responses` are wanted; more: they count, and what they say is left out"),
    key("instance", "", "three characters of `A-Z`, `a-z`, `0-9`, `-`, `_` that all session ids of this instance begin with, each instance its own, so that a proxy knows whose a request is; default: drawn at each start"),
    key("state_file", "", "file in which kept events, keys of emits and what clients have missed outlive a planned restart: written at the end of `drain`, read and removed at the next start"),
    key("kept_default_s", "0", "`ttl` in seconds of emits to users that have none; 0: they are not kept"),
    key("kept_ttl_max_s", "86400", "seconds for which an event may be kept; an emit with a longer `ttl`: status 422"),
    key("kept_events_per_user_max", "128", "events that are kept for one user; more: not kept, and the answer says so"),
    key("kept_bytes_max", "67108864", "bytes of all kept events; more: not kept, and the answer says so"),
    key("idempotency_window_s", "300", "seconds for which an emit with an `idempotencyKey` is one event with all that repeat it"),
    key("idempotency_keys_max", "100000", "such keys that are remembered; more: the oldest are forgotten"),
    key("queue_bytes_max", "1048576", "bytes that wait for one client, what is kept about them included; more: it is closed"),
    key("recovery_window_s", "120", "seconds within which a client that comes back gets what it has missed, up to 3600; 0: nobody does, and nothing is remembered"),
    key("recovery_bytes_max", "67108864", "bytes of events that are remembered for that; more: the oldest go first, and who needs them starts anew"),
    key("recovery_offset", "packet", "how clients are told how far they have got: `packet` by an event of its own behind each event, `argument` by a further argument of each, as Node does"),
    key("recovery_secret", "", "what signs the proofs that clients come back with; default: made for the run, or with `redis_adapter=streams` once for all instances and kept in Redis"),
    key("recovery_secret_file", "", "file that holds it"),
    key("mail_bytes_max", "8388608", "bytes of emits that wait between two shards, or from the API for one; more: status 503, or not delivered there"),
    key("api_connections_max", "1024", "requests that the API serves at once, of those with a key and of anybody, at the clients' port and at `api_listen`; more: status 503. `/health` and `/ready` always answer. At `api_listen` also connections; more: those that wait longest are closed"),
    key("api_connections_per_address_max", "256", "connections of one address at `api_listen` that have shown no API key; more: closed at once; this machine, private networks and `trusted_proxies` do not count"),
    key("api_body_bytes_max", "1048576", "bytes of a request body of the API; more: status 413"),
    known_as(&["REDIS_URL"], key("redis_url", "", "Redis that makes one cluster of all instances and Node servers on it, as `redis://user:password@host:6379/0`, `rediss://` with TLS")),
    known_as(&["REDIS_HOST"], key("redis_host", "", "the same by host; a URL is stronger. Without both there is a single instance")),
    known_as(&["REDIS_SENTINELS"], key("redis_sentinels", "", "sentinels that say which Redis is the master, comma-separated, as `sentinel-1:26379,sentinel-2:26379`; stronger than a host or that of a URL")),
    known_as(&["REDIS_MASTER_NAME"], key("redis_master_name", "mymaster", "what the sentinels call the master")),
    key("redis_sentinel_user", "", "user of the sentinels' access control list"),
    key("redis_sentinel_password", "", "password of the sentinels"),
    key("redis_sentinel_password_file", "", "file that holds the password of the sentinels"),
    known_as(&["REDIS_PORT"], key("redis_port", "6379", "port of Redis")),
    known_as(&["REDIS_USER", "REDIS_USERNAME"], key("redis_user", "", "user of Redis' access control list")),
    known_as(&["REDIS_PASSWORD"], key("redis_password", "", "password of Redis")),
    known_as(&["REDIS_PASSWORD_FILE"], key("redis_password_file", "", "file that holds the password of Redis")),
    key("redis_tls", "false", "`true`: speak TLS with Redis, as with a `rediss://` URL"),
    key("redis_tls_ca_file", "", "PEM file of the authorities that may have signed Redis' certificate; default: those of the operating system"),
    key("redis_tls_cert_file", "", "PEM file of the certificate that Redis may want of its clients"),
    key("redis_tls_key_file", "", "PEM file of the key of that certificate"),
    key("redis_prefix", "socket.io", "what all channels begin with: `key` of the classic adapter, `channelPrefix` of the others"),
    key("redis_adapter", "classic", "`classic` for `createAdapter` and the emitters, `sharded` for `createShardedAdapter` on Redis 7 or newer, `streams` for `@socket.io/redis-streams-adapter`"),
    key("redis_rooms", "all", "classic adapter: `all` hears every room but those of users, so that what is sent right behind an order to join arrives; `users` hears rooms with members here alone"),
    key("redis_subscription_mode", "dynamic", "`subscriptionMode` of the sharded adapter, the same for all servers: `dynamic`, `dynamic-private` or `static`"),
    key("redis_stream_name", "socket.io", "`streamName` of the streams adapter, the same for all servers"),
    key("redis_stream_count", "1", "`streamCount` of the streams adapter, the same for all servers: namespaces are spread over so many streams"),
    key("redis_session_prefix", "sio:session:", "`sessionKeyPrefix` of the streams adapter, the same for all servers"),
    key("redis_stream_entries_max", "10000", "`maxLen` of the streams adapter: about how many entries a stream keeps; an instance that Redis was away for reads them when it is back"),
    key("tunnels_max", "16384", "requests and WebSockets that are brought to the instance that has their session, at once; more: status 503; 0: none is, and the proxy in front has to be sticky"),
    key("cluster_listen", "", "address and port at which other instances bring them, as `10.0.0.7:7946`, not for the Internet; default: over Redis"),
    key("cluster_address", "", "what other instances dial to reach it, as `sockring-1:7946`; default: `cluster_listen`"),
    key("cluster_secret", "", "what instances know each other by there, the same for all, at least 32 bytes"),
    key("cluster_secret_file", "", "file that holds it"),
    key("redis_queue_bytes_max", "8388608", "bytes that wait for Redis to take them; more: not published"),
    key("redis_silence_timeout_ms", "10000", "time for Redis to answer a PING; later: it counts as down, and the connection is opened anew"),
    key("redis_requests_max", "16384", "questions of other servers that wait for an answer; more: answered at once, as if nobody were here"),
    key("redis_request_rooms_max", "10000", "rooms that a request of another server names; more: not done, and answered as if nobody were here"),
    key("redis_acks_max", "16384", "emits of other servers whose receivers here have still to acknowledge them; more: delivered, and counted as received by nobody"),
    key("redis_questions_max", "1024", "questions to other servers that wait for answers; more: answered with what is here"),
    key("redis_answers_bytes_max", "67108864", "bytes of questions of other servers, of their answers to ours and of one of ours to them; more: answered as if nobody were here, or not heard"),
    key("ready_requires_redis", "false", "`true`: `/ready` is 503 while Redis is down"),
    key("log", "info", "what is logged: error, warn, info, debug, trace or off, or by module, as `warn,sockring::worker=debug`"),
    key("debug_users", "", "users whose clients are logged as at level debug, comma-separated, whatever `log` is"),
    key("otlp_endpoint", "", "collector of OpenTelemetry that takes spans of requests and deliveries by OTLP over HTTP, as `http://localhost:4318`; default: there are none"),
    key("otlp_sample_ratio", "1", "part of the traces that begin here that is recorded, from 0 to 1; of a request with `traceparent` its caller decides"),
    key("otlp_spans_max", "2048", "spans that wait for the collector; more: dropped and counted"),
    key("log_format", "text", "`text` or `json`"),
];

/// Settings that name a file whose content is read with them, and again at SIGHUP.
pub const HELD_IN_FILES: [&str; 13] = [
    "access_token_secret_file",
    "access_token_secret_previous_file",
    "token_public_key_file",
    "token_jwks_file",
    "api_key_file",
    "cluster_secret_file",
    "recovery_secret_file",
    "redis_password_file",
    "redis_sentinel_password_file",
    "api_tls_client_ca_file",
    "tls_cert_file",
    "tls_key_file",
    "tls_ticket_keys_file",
];

/// Of these, those that may name several.
pub const LISTS_OF_FILES: [&str; 2] = ["tls_cert_file", "tls_key_file"];

/// Settings that say nothing without each other: a mistake in one is not followed by what the others lack then.
pub const TLS: [&str; 5] =
    ["tls_cert_file", "tls_key_file", "tls_ticket_keys_file", "api_tls", "api_tls_client_ca_file"];

/// Settings whose value is never shown. A URL may have a password in it.
pub const SECRETS: [&str; 8] = [
    "access_token_secret",
    "access_token_secret_previous",
    "api_key",
    "cluster_secret",
    "recovery_secret",
    "redis_password",
    "redis_sentinel_password",
    "redis_url",
];

/// Settings that SIGHUP takes over; the others need a restart.
pub const TAKEN_OVER: [&str; 21] = [
    "access_token_secret",
    "access_token_secret_file",
    "access_token_secret_previous",
    "access_token_secret_previous_file",
    "token_public_key_file",
    "token_jwks_file",
    "token_require_exp",
    "token_leeway_s",
    "expire_sockets",
    "user_claim",
    "token_issuer",
    "token_audience",
    "api_key",
    "api_key_file",
    "cors_origin",
    "cors_credentials",
    "api_tls_client_ca_file",
    "tls_cert_file",
    "tls_key_file",
    "tls_ticket_keys_file",
    "debug_users",
];

/// What most servers set; `-h` shows these.
pub const COMMON: [&str; 9] =
    ["env", "host", "port", "shards", "access_token_secret", "api_key", "cors_origin", "redis_url", "log"];

/// What a setting is about, as a heading.
pub fn group(key: &SettingKey) -> &'static str {
    let name = key.name;
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    if name.contains("redis") {
        "Redis"
    } else if begins(&["access_token", "token_", "user_claim", "expire_sockets"]) {
        "Tokens"
    } else if begins(&["api_"]) {
        "HTTP API"
    } else if begins(&["tls_"]) {
        "TLS"
    } else if begins(&["recovery_"]) {
        "Recovery"
    } else if begins(&["log", "debug_users"]) {
        "Logs"
    } else if begins(&["otlp_"]) {
        "Traces"
    } else if ["_max", "_ms", "_max_s", "_default_s", "_window_s"].iter().any(|end| name.ends_with(end)) {
        "Limits and times"
    } else {
        "Server"
    }
}

/// The variable that every setting has besides its own.
pub fn variable(key: &SettingKey) -> String {
    format!("SOCKRING_{}", key.name.to_uppercase())
}

/// The key with this name.
pub fn find(name: &str) -> Option<&'static SettingKey> {
    KEYS.iter().find(|key| key.name == name)
}

/// The known key whose name is most like this one.
pub fn nearest(name: &str) -> &'static str {
    let distance = |key: &&SettingKey| strsim::damerau_levenshtein(name, key.name);
    KEYS.iter().min_by_key(distance).map_or("", |key| key.name)
}
