//! What TLS costs a server: a handshake, in full and resumed, and a message that is sealed for one receiver. A whole handshake has
//! the client's side within what is measured; `answer_to_hello` is the server's alone, all of it but what it does about the client's
//! last flight: a key, a secret and a signature.

use std::sync::Arc;
use std::time::SystemTime;

use divan::{Bencher, black_box};
use rcgen::{CertificateParams, KeyPair};
use rustls::client::Resumption;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};
use sockring::tls::{Certificate, TlsServer, TlsStage, TlsTerms};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

/// A server with a certificate for a key of EC P-256, and its client.
fn scene(version: &'static SupportedProtocolVersion, resumption: Resumption) -> (Arc<TlsServer>, Arc<ClientConfig>) {
    let key = KeyPair::generate().expect("a key");
    let own =
        CertificateParams::new(vec!["localhost".to_owned()]).and_then(|own| own.self_signed(&key)).expect("signed");
    let certificate = Certificate::from_pem(own.pem().as_bytes(), key.serialize_pem().as_bytes(), SystemTime::now());
    let certificates = vec![certificate.expect("a pair")];
    let terms = TlsTerms { certificates, ticket_keys: None, client_authorities: None };
    let mut roots = RootCertStore::empty();
    roots.add(own.der().clone()).expect("an authority");
    let versions = ClientConfig::builder_with_protocol_versions(&[version]);
    let mut config = versions.with_root_certificates(roots).with_no_client_auth();
    config.resumption = resumption;
    (TlsServer::new(&terms).expect("a server"), Arc::new(config))
}

fn shake_hands(server: &Arc<TlsServer>, config: &Arc<ClientConfig>) -> TlsStage {
    let mut client =
        ClientConnection::new(Arc::clone(config), "localhost".try_into().expect("a name")).expect("a client");
    let (mut stage, mut plain, mut bytes) = (server.accept(), Vec::new(), Vec::new());
    for _ in 0..3 {
        bytes.clear();
        while client.wants_write() {
            client.write_tls(&mut bytes).expect("a vector takes all");
        }
        stage.receive(&mut bytes, &mut plain).expect("a handshake");
        let own = stage.take_own().unwrap_or_default();
        let mut rest = own.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).expect("a slice can be read");
            client.process_new_packets().expect("a handshake");
        }
    }
    assert!(!client.is_handshaking() && !stage.is_handshaking());
    stage
}

fn handshake(bencher: Bencher<'_, '_>, version: &'static SupportedProtocolVersion, resumption: Resumption) {
    let (server, config) = scene(version, resumption);
    shake_hands(&server, &config);
    bencher.bench_local(|| shake_hands(&server, &config));
}

#[divan::bench]
fn tls13_full(bencher: Bencher<'_, '_>) {
    handshake(bencher, &TLS13, Resumption::disabled());
}

#[divan::bench]
fn tls13_resumed(bencher: Bencher<'_, '_>) {
    handshake(bencher, &TLS13, Resumption::default());
}

#[divan::bench]
fn tls12_full(bencher: Bencher<'_, '_>) {
    handshake(bencher, &TLS12, Resumption::disabled());
}

#[divan::bench]
fn tls12_resumed(bencher: Bencher<'_, '_>) {
    handshake(bencher, &TLS12, Resumption::default());
}

#[divan::bench]
fn answer_to_hello(bencher: Bencher<'_, '_>) {
    let (server, config) = scene(&TLS13, Resumption::disabled());
    let hello = || {
        let name = "localhost".try_into().expect("a name");
        let mut client = ClientConnection::new(Arc::clone(&config), name).expect("a client");
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).expect("a vector takes all");
        bytes
    };
    bencher.with_inputs(hello).bench_local_values(|mut bytes| {
        let mut stage = server.accept();
        stage.receive(&mut bytes, &mut Vec::new()).expect("a handshake");
        assert!(stage.take_own().is_some());
        stage
    });
}

#[divan::bench(args = [200, 4_096, 65_536])]
fn seal(bencher: Bencher<'_, '_>, bytes: usize) {
    let (server, config) = scene(&TLS13, Resumption::disabled());
    let mut stage = shake_hands(&server, &config);
    let message = vec![7; bytes];
    bencher.bench_local(|| stage.seal(black_box(&message)).expect("sealed"));
}
