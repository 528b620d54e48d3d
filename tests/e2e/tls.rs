//! TLS of our own: who is served and how, who is refused with which words, and what changes while the server runs.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustix::process::Signal;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore};
use serde_json::json;

use crate::client::{Client, POLLING, WebSocket};
use crate::command::{finish, run, sockring};
use crate::http::{Connection, request};
use crate::server::{API, Metrics, SECRET, Server, token_for};
use crate::until;

/// A folder with an authority and what it has signed; gone when the test ends.
struct Folder {
    path: PathBuf,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Folder {
    fn new() -> Folder {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("tls-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("a folder");
        let mut authority = CertificateParams::new(Vec::new()).expect("no names");
        authority.distinguished_name.push(DnType::CommonName, path.to_string_lossy().as_ref());
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key"));
        let folder = Folder { path, authority: authority.expect("signed by itself") };
        fs::write(folder.path.join("ca.pem"), folder.authority.pem()).expect("a file");
        folder
    }

    /// Signs a certificate for these names and writes it with its key; their paths.
    fn sign(&self, file: &str, names: &[&str]) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let certificate = params.and_then(|own| own.signed_by(&key, &self.authority)).expect("signed");
        (
            self.write(&format!("{file}.pem"), &certificate.pem()),
            self.write(&format!("{file}.key"), &key.serialize_pem()),
        )
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path.join(name);
        // Under another name first, as who renews certificates does it.
        let fresh = self.path.join(format!("{name}.fresh"));
        fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, &path)).expect("a file");
        path.to_string_lossy().into_owned()
    }

    fn path(&self, name: &str) -> String {
        self.path.join(name).to_string_lossy().into_owned()
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).expect("an authority");
        Arc::new(roots)
    }

    /// What a browser comes with.
    fn client_config(&self) -> ClientConfig {
        let mut config = ClientConfig::builder().with_root_certificates(self.roots()).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A server that speaks TLS to clients, with an address of the API that does not.
struct TlsScene {
    folder: Folder,
    server: Server,
    api: SocketAddr,
    config: Arc<ClientConfig>,
}

impl TlsScene {
    fn new(environment: &[(&str, &str)]) -> TlsScene {
        let folder = Folder::new();
        let (certificate, key) = folder.sign("own", &["localhost"]);
        TlsScene::of(
            folder,
            &[&[("SOCKRING_TLS_CERT_FILE", &*certificate), ("SOCKRING_TLS_KEY_FILE", &*key)], environment].concat(),
        )
    }

    fn of(folder: Folder, environment: &[(&str, &str)]) -> TlsScene {
        let server = Server::start(&[&[("SOCKRING_API_LISTEN", "127.0.0.1:0")], environment].concat());
        let api = server.api_address();
        let config = Arc::new(folder.client_config());
        TlsScene { folder, server, api, config }
    }

    fn connect(&self) -> Connection {
        self.connect_as("localhost", &self.config)
    }

    fn connect_as(&self, name: &str, config: &Arc<ClientConfig>) -> Connection {
        secured(self.server.address(), name, config)
    }

    fn client(&self, user: &str) -> Client {
        Client::greeted(WebSocket::open_on(self.connect()), &token_for(user))
    }

    fn emit(&self, user: &str, event: &str, args: &serde_json::Value) -> u64 {
        let body = json!({"user": user, "event": event, "args": args}).to_string();
        let answer = Connection::open(self.api).post(&format!("{API}/emit"), &body);
        answer.json()["data"]["delivered"].as_u64().unwrap_or_else(|| panic!("{answer:?}"))
    }

    fn refused(&self, reason: &str) -> u64 {
        self.metrics().sum("sockring_tls_refused_total", &format!("reason=\"{reason}\""))
    }

    fn handshakes(&self, version: &str, kind: &str) -> u64 {
        let label = format!("version=\"{version}\",kind=\"{kind}\"");
        self.metrics().sum("sockring_tls_handshakes_total", &label)
    }

    fn metrics(&self) -> Metrics {
        Metrics::ask(&mut Connection::open(self.api))
    }
}

fn secured(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> Connection {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    Connection::secured(address, ClientConnection::new(Arc::clone(config), name).expect("a client"))
}

#[test]
fn a_client_is_served_over_websocket_and_polling_and_its_requests_by_the_api() {
    let scene = TlsScene::new(&[("SOCKRING_SHARDS", "2")]);
    // Of users whose homes are at both shards, so that some move.
    let mut clients: Vec<_> =
        (0..8).map(|number| (format!("user-{number}"), scene.client(&format!("user-{number}")))).collect();
    for (user, client) in &mut clients {
        let large = "x".repeat(300_000);
        assert_eq!(scene.emit(user, "small", &json!([1])), 1);
        assert_eq!(scene.emit(user, "large", &json!([large])), 1);
        assert_eq!(client.event(), ("small".to_owned(), json!(1)));
        assert_eq!(client.event(), ("large".to_owned(), json!(large)));
        client.socket.round_trip();
    }
    // On one connection: a session, then the API, then the session again.
    let mut connection = scene.connect();
    let open = connection.get(POLLING).text();
    let sid = open.split('"').nth(3).expect("a sid");
    assert_eq!(connection.get("/health").text(), r#"{"status":"ok"}"#);
    connection.send(request(
        "POST",
        &format!("{POLLING}&sid={sid}"),
        &[],
        &format!(r#"40{{"token":"{}"}}"#, token_for("poller")),
    ));
    assert_eq!(connection.answer().text(), "ok");
    assert!(connection.get(&format!("{POLLING}&sid={sid}")).text().starts_with("40{"));
    assert_eq!(connection.tls().protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(connection.tls().alpn_protocol(), Some(&b"http/1.1"[..]));
    connection.leave();
    // With the first one's tickets.
    assert_eq!(scene.handshakes("1.3", "full") + scene.handshakes("1.3", "resumed"), 9);
    for (_, client) in clients {
        client.socket.connection.leave();
    }
    assert_eq!(scene.metrics().sum("sockring_tls_refused_total", ""), 0);
}

#[test]
fn who_does_not_speak_as_it_has_to_is_told_so_and_ends() {
    let scene = TlsScene::new(&[("SOCKRING_HEAD_TIMEOUT_MS", "300")]);
    let mut plain = scene.server.connect();
    let answer = plain.get("/health");
    assert_eq!((answer.status, answer.text()), (400, "this port speaks TLS: use https:// or wss://".to_owned()));
    plain.assert_ends();
    // A ClientHello of TLS 1.1.
    let hello = [&[3, 2][..], &[7; 32], &[0, 0, 2, 0xc0, 0x13, 1, 0]].concat();
    let mut old = scene.server.connect();
    let length = u8::try_from(hello.len()).expect("short");
    old.send([&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &hello].concat());
    // Fatal, `handshake_failure`: that version knows no lists of signatures.
    assert_eq!(old.rest(), [21, 3, 3, 0, 2, 2, 40]);
    let mut h2 = scene.folder.client_config();
    h2.alpn_protocols = vec![b"h2".to_vec()];
    let mut h2 = scene.connect_as("localhost", &Arc::new(h2));
    let error = h2.handshake().expect_err("only HTTP/1.1 is spoken");
    assert!(error.contains("NoApplicationProtocol"), "{error}");
    // Half a handshake has the time of a head.
    let mut half = scene.server.connect();
    half.send([22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3]);
    half.assert_ends();
    for (reason, count) in [("plain_http", 1), ("version", 1), ("protocol", 1), ("unfinished", 1), ("alert", 0)] {
        until(reason, || scene.refused(reason), |refused| *refused == count);
    }
    assert_eq!(scene.metrics().hits()["head_timeout_ms"], 1);
}

#[test]
fn half_a_record_and_a_thousand_tiny_ones_are_a_request_when_it_is_complete() {
    let scene = TlsScene::new(&[("SOCKRING_SHARDS", "1")]);
    let mut slow = scene.connect();
    slow.handshake().expect("a handshake");
    let request = request("GET", "/health", &[], "");
    let mut records = slow.sealed(&[request.as_bytes()]);
    let rest = records.split_off(records.len() / 2);
    slow.stream.write_all(&records).expect("the server takes bytes");
    assert_eq!(scene.connect().get("/health").status, 200, "others are served meanwhile");
    slow.stream.write_all(&rest).expect("the server takes bytes");
    assert_eq!(slow.answer().status, 200);
    let bytes: Vec<&[u8]> = request.as_bytes().chunks(1).collect();
    for _ in 0..1_000 / bytes.len() + 1 {
        let records = slow.sealed(&bytes);
        slow.stream.write_all(&records).expect("the server takes bytes");
        assert_eq!(slow.answer().status, 200);
    }
    slow.leave();
}

#[test]
fn early_data_is_not_offered_and_tls_1_2_resumes_too() {
    let scene = TlsScene::new(&[]);
    let mut eager = scene.folder.client_config();
    eager.enable_early_data = true;
    let eager = Arc::new(eager);
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let mut connection = scene.connect_as("localhost", &eager);
        assert!(connection.tls().early_data().is_none(), "a ticket that allows it");
        assert_eq!(connection.get("/health").status, 200);
        assert_eq!(connection.tls().handshake_kind(), Some(kind));
        connection.leave();
    }
    let versions = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS12]);
    let older = Arc::new(versions.with_root_certificates(scene.folder.roots()).with_no_client_auth());
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let mut connection = scene.connect_as("localhost", &older);
        assert_eq!(connection.get("/health").status, 200);
        assert_eq!(connection.tls().handshake_kind(), Some(kind));
        connection.leave();
    }
    let counts =
        ["1.3", "1.2"].map(|version| (scene.handshakes(version, "full"), scene.handshakes(version, "resumed")));
    assert_eq!(counts, [(1, 1), (1, 1)]);
}

#[test]
fn a_name_chooses_its_certificate_and_a_changed_file_is_taken_over_without_a_restart() {
    let folder = Folder::new();
    let (first, second) = (folder.sign("first", &["localhost"]), folder.sign("second", &["*.b.example", "b.example"]));
    let (certificates, keys) = (format!("{},{}", first.0, second.0), format!("{},{}", first.1, second.1));
    let scene = TlsScene::of(folder, &[("SOCKRING_TLS_CERT_FILE", &*certificates), ("SOCKRING_TLS_KEY_FILE", &*keys)]);
    // Without what is remembered: the certificate is shown each time.
    let shown = |name: &str| {
        let mut connection = scene.connect_as(name, &Arc::new(scene.folder.client_config()));
        connection.handshake()?;
        Ok::<_, String>(connection.tls().peer_certificates().expect("one")[0].to_vec())
    };
    let der = |path: &str| CertificateDer::from_pem_file(path).expect("a certificate").to_vec();
    assert_eq!(shown("localhost").as_ref(), Ok(&der(&first.0)));
    assert_eq!(shown("b.example").as_ref(), Ok(&der(&second.0)));
    assert_eq!(shown("www.b.example").as_ref(), Ok(&der(&second.0)));
    let error = shown("c.example").expect_err("the first one is not for it");
    assert!(error.contains("not valid for name"), "{error}");
    let mut client = Client::greeted(WebSocket::open_on(scene.connect()), &token_for("alice"));
    // By SIGHUP, and by the file alone.
    let before = der(&second.0);
    scene.folder.sign("second", &["b.example"]);
    scene.server.signal(Signal::HUP);
    let fresh = der(&second.0);
    assert_ne!(before, fresh);
    let _ = until("SIGHUP is followed", || shown("b.example"), |shown| shown.as_ref() == Ok(&fresh));
    assert!(shown("www.b.example").is_err());
    scene.folder.sign("first", &["localhost"]);
    let fresh = der(&first.0);
    let _ = until("the file is followed", || shown("localhost"), |shown| shown.as_ref() == Ok(&fresh));
    // What cannot be used changes nothing.
    scene.folder.write("first.key", "no key");
    let words = "the certificates have changed and cannot be used: those before stay";
    until("the mistake is logged", || scene.server.log(), |log| log.contains(words));
    assert_eq!(shown("localhost").as_ref(), Ok(&fresh));
    assert_eq!(scene.emit("alice", "still", &json!([1])), 1);
    assert_eq!(client.event(), ("still".to_owned(), json!(1)));
}

#[test]
fn tickets_are_good_at_every_instance_that_has_their_keys() {
    let folder = Folder::new();
    let (certificate, key) = folder.sign("own", &["localhost"]);
    let tickets = folder.write("tickets", "a key that all of the instances have in common\n");
    let base = [("SOCKRING_TLS_CERT_FILE", &*certificate), ("SOCKRING_TLS_KEY_FILE", &*key)];
    let shared = [&base[..], &[("SOCKRING_TLS_TICKET_KEYS_FILE", &*tickets)]].concat();
    let (one, other, stranger) = (Server::start(&shared), Server::start(&shared), Server::start(&base));
    let config = Arc::new(folder.client_config());
    let kind = |server: &Server| {
        let mut connection = secured(server.address(), "localhost", &config);
        assert_eq!(connection.get("/health").status, 200);
        let kind = connection.tls().handshake_kind();
        connection.leave();
        kind
    };
    assert_eq!(kind(&one), Some(HandshakeKind::Full));
    assert_eq!(kind(&other), Some(HandshakeKind::Resumed));
    assert_eq!(kind(&stranger), Some(HandshakeKind::Full));
}

#[test]
fn the_apis_address_wants_a_certificate_where_it_is_told_whose() {
    let folder = Folder::new();
    let (certificate, key) = folder.sign("own", &["localhost"]);
    let (client, client_key) = folder.sign("backend", &["backend"]);
    let base = [
        ("SOCKRING_TLS_CERT_FILE", &*certificate),
        ("SOCKRING_TLS_KEY_FILE", &*key),
        ("SOCKRING_API_LISTEN", "127.0.0.1:0"),
        ("SOCKRING_API_TLS_CLIENT_CA_FILE", &folder.path("ca.pem")),
    ];
    let server = Server::start(&base);
    let api = server.api_address();
    let stranger = Folder::new();
    let as_client = |pair: Option<(&str, &str)>| {
        let config = ClientConfig::builder().with_root_certificates(folder.roots());
        let config = match pair {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = vec![CertificateDer::from_pem_file(certificate).expect("a certificate")];
                let key = PrivateKeyDer::from_pem_file(key).expect("a key");
                config.with_client_auth_cert(chain, key).expect("a pair")
            }
        };
        secured(api, "localhost", &Arc::new(config))
    };
    // A ticket of the clients' port does not let anybody in.
    let config = Arc::new(folder.client_config());
    assert_eq!(secured(server.address(), "localhost", &config).get("/health").status, 200);
    for (mut refused, alert) in [
        (as_client(None), "CertificateRequired"),
        (secured(api, "localhost", &config), "CertificateRequired"),
        (
            as_client(Some({
                let (certificate, key) = stranger.sign("stranger", &["backend"]);
                (&*certificate.leak(), &*key.leak())
            })),
            "UnknownCA",
        ),
    ] {
        let error = refused.end_of_tls();
        assert!(error.contains(alert), "{alert}: {error}");
    }
    let mut backend = as_client(Some((&client, &client_key)));
    assert_eq!(backend.get("/health").status, 200);
    let metrics = Metrics::ask(&mut backend);
    backend.leave();
    let refused =
        |reason: &str| metrics.sum("sockring_tls_refused_total", &format!("entrance=\"api\",reason=\"{reason}\""));
    assert_eq!((refused("certificate"), refused("alert")), (3, 0));
    assert_eq!(metrics.sum("sockring_tls_handshakes_total", "entrance=\"api\",version=\"1.3\",kind=\"full\""), 1);
    // In words that it understands.
    assert_eq!(Connection::open(api).get("/health").status, 400);
}

/// Signed by itself, for a key of 1024 bits.
const WEAK: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIB/DCCAWWgAwIBAgIUQXUTwpYY4VXyNH5Q0MDuxBVNCLQwDQYJKoZIhvcNAQEL\n\
BQAwDzENMAsGA1UEAwwEd2VhazAgFw0yNjExMjYxNDE2MjhaGA8yMTI2MTEwMjE0\n\
MTYyOFowDzENMAsGA1UEAwwEd2VhazCBnzANBgkqhkiG9w0BAQEFAAOBjQAwgYkC\n\
gYEAtKDHQB47vW2lDdlcCh08C/dFzg02rHQOzMI9jKtvgkRGs0fE3CpJorMruqq5\n\
GjjT4zqxkFl762LOV9pxffQmJlO7QcHVhUuPvSJ65tgR/Ogonad1V/vrs/UDzC61\n\
OiPmg/c1Sa3I+sXqQ42MDxTQbQpc/diHCST/3lvYynSCokUCAwEAAaNTMFEwHQYD\n\
VR0OBBYEFOK18h8Hxa/omz4kvIqMGVS+aPtMMB8GA1UdIwQYMBaAFOK18h8Hxa/o\n\
mz4kvIqMGVS+aPtMMA8GA1UdEwEB/wQFMAMBAf8wDQYJKoZIhvcNAQELBQADgYEA\n\
S+reaGDLdZeescyV9XCLbZ1h1CeZ94f/Bdd3rjH1dr1kRe6F5FA58vAk5pLnZng9\n\
0NoupGyCZJ6vGvAUVO16I7xN7CzVhM8axCDCJHBU4ClBccp6gi22ycVdSAfYXR4B\n\
6mXYygrT9jZpB+1aDaSdmPzaTiwoeiBhCemzpgV2zvU=\n\
-----END CERTIFICATE-----\n";

#[test]
fn check_says_when_a_certificate_ends_and_what_is_wrong_with_one() {
    let folder = Folder::new();
    let (certificate, key) = folder.sign("own", &["localhost"]);
    let (_, another) = folder.sign("another", &["localhost"]);
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    params.not_after = rcgen::date_time_ymd(2025, 2, 3);
    let old_key = KeyPair::generate().expect("a key");
    let old = params.self_signed(&old_key).expect("a certificate").pem();
    let (old, old_key) = (folder.write("old.pem", &old), folder.write("old.key", &old_key.serialize_pem()));
    let weak = folder.write("weak.pem", WEAK);
    let tickets = folder.write("tickets", "short");
    let check = |more: &[(&str, &str)]| run(&["check"], &[&[("PORT", "0")], more].concat());
    let (cert_file, key_file) = ("SOCKRING_TLS_CERT_FILE", "SOCKRING_TLS_KEY_FILE");
    let good = check(&[(cert_file, &certificate), (key_file, &key)]);
    assert!(good.stdout.contains(&format!("ok    tls: `{certificate}` ends at 4096-01-01T00:00:00Z, in ")), "{good:?}");
    for (settings, words) in [
        (
            vec![(cert_file, &*certificate), (key_file, &*another)],
            "tls_key_file: `{}/another.key` holds the key of another certificate",
        ),
        (
            vec![(cert_file, &*certificate), (key_file, "/nowhere")],
            "tls_key_file: `/nowhere` cannot be read: No such file",
        ),
        (vec![(cert_file, &*key), (key_file, &*key)], "tls_cert_file: `{}/own.key` holds no certificate in PEM"),
        (
            vec![(cert_file, &*old), (key_file, &*old_key)],
            "tls_cert_file: `{}/old.pem` holds a certificate that has expired, at 2025-02-03T00:00:00Z",
        ),
        (
            vec![(cert_file, &*weak), (key_file, &*key)],
            "tls_cert_file: `{}/weak.pem` holds a certificate for an RSA key of 1024 bits: browsers refuse fewer than 2048",
        ),
        (
            vec![(cert_file, &*certificate)],
            "tls_key_file: names 0 files and tls_cert_file 1 file: each certificate needs its key",
        ),
        (vec![(key_file, &*key)], "tls_key_file: needs a certificate: set tls_cert_file and tls_key_file"),
        (
            vec![("SOCKRING_API_TLS", "true"), (cert_file, &*certificate), (key_file, &*key)],
            "api_tls: is about the API's own address: set api_listen",
        ),
        (
            vec![(cert_file, &*certificate), (key_file, &*key), ("SOCKRING_TLS_TICKET_KEYS_FILE", &*tickets)],
            "tls_ticket_keys_file: `{}/tickets` has to hold a key of 32 characters or more per line",
        ),
    ] {
        let ended = check(&settings);
        let words = words.replace("{}", &folder.path.to_string_lossy());
        let mistakes = ended.stdout.lines().filter(|line| line.starts_with("FAIL") && line.contains("tls"));
        let mistakes: Vec<_> = mistakes.collect();
        assert!(matches!(mistakes.as_slice(), [one] if one.contains(&words)), "{words}: {ended:?}");
    }
}

#[test]
fn commands_ask_a_server_by_tls_and_trust_whom_they_are_told_to() {
    let folder = Folder::new();
    let (certificate, key) = folder.sign("own", &["localhost"]);
    let tls = [("SOCKRING_TLS_CERT_FILE", &*certificate), ("SOCKRING_TLS_KEY_FILE", &*key)];
    let server = Server::start(&[&tls[..], &[("SOCKRING_SHARDS", "1")]].concat());
    let config = Arc::new(folder.client_config());
    let connection = || secured(server.address(), "localhost", &config);
    let mut alice = Client::greeted(WebSocket::open_on(connection()), &token_for("alice"));
    let (port, authority) = (server.port().to_string(), folder.path("ca.pem"));
    // Where it is follows from the settings, TLS too.
    let settings = [&tls[..], &[("PORT", &*port), ("ACCESS_TOKEN_SECRET", SECRET)]].concat();
    let emit = ["emit", "--user", "alice", "news", "1", "--ca-file", &*authority];
    let emitted = run(&emit, &settings);
    assert_eq!(emitted.code, Some(0), "{emitted:?}");
    assert_eq!(alice.event(), ("news".to_owned(), json!(1)));
    let url = format!("https://localhost:{port}/");
    let stats = run(&["stats", "--server", &url, "--ca-file", &authority], &[]);
    assert!(stats.stdout.lines().any(|line| line == "connected       1"), "{stats:?}");
    // The authorities of the operating system have not signed it.
    for command in [&["emit", "--user", "alice", "news"][..], &["tail", "--user", "bob"]] {
        let refused = run(command, &settings);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains("UnknownIssuer"), "{refused:?}");
    }
    let nothing = run(&["stats", "--server", &url, "--ca-file", &key], &[]);
    assert!(nothing.stderr.contains("has no certificate in it"), "{nothing:?}");
    let tail = ["tail", "news", "--user", "bob", "--count", "1", "--ca-file", &*authority];
    let tail = sockring(&tail, &settings).spawn().expect("the binary starts");
    let body = json!({"user": "bob", "event": "news", "args": [2]}).to_string();
    let delivered = || connection().post(&format!("{API}/emit"), &body).json()["data"]["delivered"].clone();
    until("bob listens", delivered, |delivered| *delivered == 1);
    let tailed = finish(tail);
    assert!(tailed.code == Some(0) && tailed.stdout.ends_with(" news 2\n"), "{tailed:?}");
}

#[test]
fn an_idle_client_costs_at_most_eight_kilobytes_more_than_without_tls() {
    const CLIENTS: u64 = 300;
    // Both behind the same beginning: what the first clients bring about is there.
    let scene = TlsScene::new(&[("SOCKRING_SHARDS", "1")]);
    let plain = Server::start(&[("SOCKRING_SHARDS", "1")]);
    let grown = |server: &Server, connect: &dyn Fn(u64) -> Client| {
        let first: Vec<_> = (0..50).map(|number| connect(1_000 + number)).collect();
        let before = server.resident_kib();
        let clients: Vec<_> = (0..CLIENTS).map(connect).collect();
        let grown = server.resident_kib() - before;
        drop((first, clients));
        grown
    };
    let sealed = grown(&scene.server, &|number| scene.client(&format!("user-{number}")));
    let open = grown(&plain, &|number| plain.client(&format!("user-{number}")));
    let more = (sealed.saturating_sub(open)) * 1024 / CLIENTS;
    println!("{more} bytes more for each of {CLIENTS}");
    assert!(more <= 8_192, "{more} bytes more for each: {sealed} and {open} KiB");
    assert!(more >= 500, "it is measured: {sealed} and {open} KiB");
}
