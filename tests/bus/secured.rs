//! TLS, users and passwords: what is right gets in, what is wrong is named, and no secret is repeated.

use std::fs;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::json;

use crate::command::run;
use crate::instance::{emit_to, instance_with, ready, until_redis_is};
use crate::redis_server::{RedisCluster, RedisServer, free_port};
use crate::server::Server;
use crate::until;

/// A folder with an authority, and a certificate for `localhost` that it has signed; gone when the test ends.
struct Certificates(PathBuf);

impl Certificates {
    fn new() -> Certificates {
        let folder = std::env::temp_dir().join(format!("sockring-tls-{}-{}", std::process::id(), free_port()));
        fs::create_dir_all(&folder).expect("a folder");
        let write = |name: &str, text: String| fs::write(folder.join(name), text).expect("a file");
        let mut authority = CertificateParams::new(Vec::new()).expect("no names");
        // OpenSSL takes a certificate with the name of its authority for one that has signed itself.
        authority.distinguished_name.push(DnType::CommonName, folder.to_string_lossy().as_ref());
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(authority, key).expect("signed by itself");
        write("ca.pem", authority.pem());
        for (name, names) in [("redis", vec!["localhost".to_owned()]), ("client", vec!["app".to_owned()])] {
            let key = KeyPair::generate().expect("a key");
            let certificate = CertificateParams::new(names).and_then(|own| own.signed_by(&key, &authority));
            write(&format!("{name}.pem"), certificate.expect("signed").pem());
            write(&format!("{name}.key"), key.serialize_pem());
        }
        Certificates(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn tls_and_a_user_of_the_access_list() {
    let certificates = Certificates::new();
    let port = free_port().to_string();
    let [ca, own, key] = ["ca.pem", "redis.pem", "redis.key"].map(|name| certificates.path(name));
    let tls = ["--tls-port", &port, "--tls-ca-cert-file", &ca, "--tls-cert-file", &own, "--tls-key-file", &key];
    let user = ["--tls-auth-clients", "no", "--user", "app", "on", ">pass"];
    let rights: Vec<_> = PUBSUB.split(' ').collect();
    let _redis = RedisServer::start(&[&tls[..], &user, &rights].concat());
    let url = format!("rediss://app:pass@localhost:{port}");
    let start = |url: &str, ca: &str| {
        Server::start(&[("REDIS_URL", url), ("SOCKRING_REDIS_TLS_CA_FILE", ca), ("SOCKRING_SHARDS", "2")])
    };
    let servers = [start(&url, &ca), start(&url, &ca)];
    let mut alice = servers[1].client("alice");
    assert_eq!(emit_to(&servers[0], "alice", "sealed"), (0, true));
    assert_eq!(alice.event().0, "sealed");
    // An authority that has not signed it.
    let stranger = Certificates::new();
    let refused = start(&url, &stranger.path("ca.pem"));
    until("the reason is logged", || refused.log(), |log| log.contains("TLS failed"));
    assert_eq!(ready(&refused), (200, "down".to_owned()));
    // A name that is not in the certificate.
    let ended =
        run(&["check"], &[("REDIS_URL", &format!("rediss://127.0.0.1:{port}")), ("SOCKRING_REDIS_TLS_CA_FILE", &ca)]);
    assert!(ended.stdout.contains("TLS failed"), "{ended:?}");
    let ended = run(&["check"], &[("REDIS_URL", &url), ("SOCKRING_REDIS_TLS_CA_FILE", &ca)]);
    let line = format!("ok    redis: localhost:{port} answers: version ");
    assert!(ended.stdout.contains(&line), "{ended:?}");
}

#[test]
fn a_redis_that_wants_certificates_gets_one_and_says_what_it_does_not_want() {
    let (certificates, stranger) = (Certificates::new(), Certificates::new());
    let port = free_port().to_string();
    let [ca, own, key] = ["ca.pem", "redis.pem", "redis.key"].map(|name| certificates.path(name));
    let tls = ["--tls-port", &port, "--tls-ca-cert-file", &ca, "--tls-cert-file", &own, "--tls-key-file", &key];
    let redis = RedisServer::start(&[&tls[..], &["--tls-auth-clients", "yes"]].concat());
    let url = format!("rediss://localhost:{port}");
    let base = [("REDIS_URL", url.as_str()), ("SOCKRING_REDIS_TLS_CA_FILE", ca.as_str()), ("SOCKRING_SHARDS", "2")];
    let files = |of: &Certificates| ["client.pem", "client.key"].map(|name| of.path(name));
    let [certificate, key] = files(&certificates);
    let good = [("SOCKRING_REDIS_TLS_CERT_FILE", certificate.as_str()), ("SOCKRING_REDIS_TLS_KEY_FILE", key.as_str())];
    let server = Server::start(&[&base[..], &good].concat());
    assert_eq!(ready(&server), (200, "up".to_owned()));
    assert_eq!(emit_to(&server, "alice", "sealed"), (0, true));
    let [certificate, key] = files(&stranger);
    let wrong = [("SOCKRING_REDIS_TLS_CERT_FILE", certificate.as_str()), ("SOCKRING_REDIS_TLS_KEY_FILE", key.as_str())];
    for (more, reason) in [
        (&[][..], "TLS failed: it wants a certificate of ours"),
        (&wrong[..], "TLS failed: it does not know who has signed our certificate"),
    ] {
        let ended = run(&["check"], &[&base[..2], more].concat());
        assert!(ended.stdout.contains("FAIL  redis: ") && ended.stdout.contains(reason), "{ended:?}");
        assert!(ended.stdout.contains("redis_tls_cert_file"), "{ended:?}");
        let server = Server::start(&[&base[..], more].concat());
        until("the reason is logged", || server.log(), |log| log.contains(reason));
        assert_eq!(ready(&server), (200, "down".to_owned()));
    }
    // Without TLS where it is spoken, and with it where it is not.
    let ended = run(&["check"], &[("REDIS_HOST", "localhost"), ("REDIS_PORT", &port)]);
    assert!(ended.stdout.contains("hung up at the first words") && ended.stdout.contains("redis_tls"), "{ended:?}");
    let plain = redis.port.to_string();
    let encrypted = [("REDIS_HOST", "localhost"), ("REDIS_PORT", plain.as_str()), ("SOCKRING_REDIS_TLS", "true")];
    let ended = run(&["check"], &[&encrypted[..], &base[1..2]].concat());
    assert!(ended.stdout.contains("does not answer in time") && ended.stdout.contains("redis_tls"), "{ended:?}");
}

#[test]
fn a_wrong_password_is_named_and_not_repeated() {
    let redis = RedisServer::start_with_password("right");
    let port = redis.port.to_string();
    let server = instance_with(&redis, &[("REDIS_PASSWORD", "not-the-one")]);
    until("the reason is logged", || server.log(), |log| log.contains("WRONGPASS"));
    assert!(!server.log().contains("not-the-one"), "{}", server.log());
    assert_eq!(ready(&server), (200, "down".to_owned()));
    let own = [("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", port.as_str())];
    let ended = run(&["check"], &[&own[..], &[("REDIS_PASSWORD", "not-the-one")]].concat());
    assert!(ended.stdout.contains("FAIL  redis: ") && ended.stdout.contains("REDIS_PASSWORD"), "{ended:?}");
    assert!(!ended.stdout.contains("not-the-one"), "{ended:?}");
    let ended = run(&["check"], &[&own[..], &[("REDIS_PASSWORD", "right")]].concat());
    assert!(ended.stdout.contains("ok    redis: "), "{ended:?}");
}

#[test]
fn a_user_without_the_right_to_a_channel_is_told() {
    let user = ["--user", "app", "on", ">pass", "&socket.io*", "+@connection", "+@pubsub"];
    let redis = RedisServer::start(&user);
    let server = instance_with(&redis, &[("REDIS_USER", "app"), ("REDIS_PASSWORD", "pass")]);
    until("the reason is logged", || server.log(), |log| log.contains("no permissions"));
    assert_eq!(ready(&server), (200, "down".to_owned()));
    let port = redis.port.to_string();
    let own = [("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", port.as_str()), ("REDIS_USER", "app")];
    let ended = run(&["check"], &[&own[..], &[("REDIS_PASSWORD", "pass")]].concat());
    assert!(ended.stdout.contains("FAIL  redis: ") && ended.stdout.contains("allchannels"), "{ended:?}");
}

/// A user `app` with these rules, at an instance with this adapter: `/ready`, the log, and what `check` says.
struct Judged {
    ready: String,
    published: bool,
    check: String,
    server: Server,
}

fn judge(nodes: &[RedisServer], adapter: &str, rules: &str) -> Judged {
    for node in nodes {
        node.run::<()>(&format!("ACL SETUSER app reset on >pass {rules}"));
        node.run::<()>("SCRIPT FLUSH");
    }
    let redis = &nodes[0];
    let own = [
        ("REDIS_USER", "app"),
        ("REDIS_PASSWORD", "pass"),
        ("SOCKRING_REDIS_ADAPTER", adapter),
        ("SOCKRING_RECOVERY_WINDOW_S", "120"),
    ];
    let server = instance_with(redis, &own);
    let port = redis.port.to_string();
    let ended = run(&["check"], &[&own[..], &[("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", &port)]].concat());
    let published = emit_to(&server, "alice", "e").1;
    Judged { ready: ready(&server).1, published, check: ended.stdout, server }
}

/// What the other adapters need, and what the streams adapter does, with sessions that go on at any server.
const PUBSUB: &str = "&* ~sockring:* +@connection +@pubsub +eval +evalsha +get +set +lindex +llen +lpop +lrange +lrem \
                      +rpush +pexpire +pttl";
const STREAMS: &str = "&* ~socket.io ~sio:session:* ~sockring:* +@connection +@pubsub +eval +evalsha +get +set +lindex \
                       +llen +lpop +lrange +lrem +rpush +pexpire +pttl +xadd +xread +xrange +xrevrange +xlen";

/// What docs/redis.md lists is enough, and each right that lacks is named, by `check` and in the log.
#[test]
fn rights_that_are_listed_are_enough_and_the_one_that_lacks_is_named() {
    let redis = [RedisServer::start(&[])];
    let stream = STREAMS;
    for (adapter, rules) in [
        ("classic", PUBSUB),
        ("sharded", PUBSUB),
        ("streams", stream),
        // Only the name in `CLIENT LIST` lacks.
        ("classic", &format!("{PUBSUB} -client")),
    ] {
        let Judged { ready, published, check, server } = judge(&redis, adapter, rules);
        assert_eq!((ready.as_str(), published), ("up", true), "{adapter} {rules}: {}", server.log());
        assert_eq!(kept_by(&server), "redis", "{adapter} {rules}: {}", server.log());
        assert!(check.contains("ok    redis: "), "{adapter} {rules}: {check}");
        assert!(!server.log().contains("lacks a right"), "{}", server.log());
        let is_named = redis[0].run::<String>("CLIENT LIST").contains(" name=sockring-");
        assert_eq!(is_named, !rules.ends_with("-client"), "{rules}");
    }
    for (adapter, rules, is_up, command) in [
        ("classic", &format!("{PUBSUB} -publish"), true, "'publish'"),
        ("classic", &format!("{PUBSUB} -pubsub"), true, "'pubsub|numsub'"),
        ("classic", &format!("{PUBSUB} -psubscribe"), false, "'psubscribe'"),
        ("sharded", &format!("{PUBSUB} -spublish"), true, "'spublish'"),
        ("sharded", &format!("{PUBSUB} -ssubscribe"), false, "'ssubscribe'"),
        ("classic", &format!("{PUBSUB} -evalsha"), true, "'evalsha'"),
        ("classic", &format!("{PUBSUB} -eval"), true, "'eval'"),
        ("classic", &format!("{PUBSUB} -lrange"), true, "'lrange'"),
        ("streams", &format!("{stream} -xadd"), true, "'xadd'"),
        ("streams", &format!("{stream} -xread"), false, "'xread'"),
        ("streams", &format!("{stream} -xrevrange"), false, "'xrevrange'"),
        ("streams", &format!("{stream} -xrange"), false, "'xrange'"),
        ("streams", &format!("{stream} -xlen"), false, "'xlen'"),
        ("streams", &format!("{stream} -get"), false, "'get'"),
        ("streams", &format!("{stream} -set"), false, "'set'"),
        ("streams", &stream.replace("~socket.io", "~other"), false, "permissions"),
    ] {
        let Judged { ready, check, server, .. } = judge(&redis, adapter, rules);
        assert_eq!(ready, if is_up { "up" } else { "down" }, "{adapter} {rules}: {}", server.log());
        assert!(check.contains("FAIL  redis: ") && check.contains(command), "{adapter} {rules}: {check}");
        server.post("rooms/join", &json!({"user": "alice", "room": "r"}));
        drop(server.client("alice"));
        kept_by(&server);
        until(
            "the log names it",
            || server.log(),
            |log| log.contains("no permissions") || log.contains("No permissions"),
        );
        assert!(server.log().contains(command), "{adapter} {rules}: {}", server.log());
    }
}

/// Who keeps an event for somebody.
fn kept_by(server: &Server) -> String {
    let key = server.port().to_string();
    let body = json!({"user": "bob", "event": "e", "ttl": 60, "idempotencyKey": key, "conflateKey": "k"});
    server.post("emit", &body)["kept"].as_str().unwrap_or_default().to_owned()
}

/// What scripts may not do is named by `check`; the log says that something is, and the event is kept here.
#[test]
fn a_right_that_a_script_lacks_is_named_and_memory_keeps_events_meanwhile() {
    let redis = [RedisServer::start(&[])];
    for right in ["get", "set", "lindex", "llen", "lpop", "lrem", "rpush", "pexpire", "pttl"] {
        let Judged { check, server, .. } = judge(&redis, "classic", &format!("{PUBSUB} -{right}"));
        assert!(check.contains("FAIL  redis: ") && check.contains(&format!("'{right}'")), "{right}: {check}");
        // It is run only for what is over, and for what was received or replaced.
        if !["lpop", "lrem"].contains(&right) {
            assert_eq!(kept_by(&server), "memory", "{right}");
            until("the log says so", || server.log(), |log| log.contains("lacks a right"));
        }
    }
    let Judged { check, server, .. } = judge(&redis, "classic", &PUBSUB.replace("~sockring:*", ""));
    assert!(check.contains("FAIL  redis: ") && check.contains("permissions"), "{check}");
    assert_eq!(kept_by(&server), "memory");
}

/// Without `+cluster|slots` nobody knows which node has what.
#[test]
fn a_user_of_a_redis_cluster_who_may_not_see_its_slots_is_told() {
    let redis = RedisCluster::start();
    let rules = STREAMS;
    for adapter in ["classic", "sharded", "streams"] {
        let Judged { check, server, .. } = judge(&redis.nodes, adapter, rules);
        assert!(check.contains("FAIL  redis: ") && check.contains("'cluster|slots'"), "{adapter}: {check}");
        until("the log names it", || server.log(), |log| log.contains("'cluster|slots'"));
        drop(server);
        let Judged { check, server, .. } = judge(&redis.nodes, adapter, &format!("{rules} +cluster|slots"));
        assert!(check.contains("ok    redis: "), "{adapter}: {check}");
        until_redis_is(&server, "up");
        until("it publishes", || emit_to(&server, "alice", "e").1, |published| *published);
        assert!(!server.log().contains("lacks a right"), "{}", server.log());
    }
}
