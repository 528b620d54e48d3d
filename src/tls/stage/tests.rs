//! A stage against the library's own client: cut anywhere, in records of any size, and given what it must not take.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::SystemTime;

use rcgen::{CertificateParams, KeyPair};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, SupportedProtocolVersion};

use super::super::{Certificate, TlsServer, TlsTerms};
use super::*;

struct Scene {
    server: Arc<TlsServer>,
    roots: RootCertStore,
}

impl Scene {
    fn new() -> Scene {
        let key = KeyPair::generate().expect("a key");
        let own = CertificateParams::new(vec!["localhost".to_owned()]).and_then(|own| own.self_signed(&key));
        let own = own.expect("a certificate");
        let certificate =
            Certificate::from_pem(own.pem().as_bytes(), key.serialize_pem().as_bytes(), SystemTime::now());
        let certificates = vec![certificate.expect("a pair")];
        let terms = TlsTerms { certificates, ticket_keys: None, client_authorities: None };
        let mut roots = RootCertStore::empty();
        roots.add(own.der().clone()).expect("an authority");
        Scene { server: TlsServer::new(&terms).expect("a server"), roots }
    }

    fn config(&self, version: &'static SupportedProtocolVersion) -> ClientConfig {
        let versions = ClientConfig::builder_with_protocol_versions(&[version]);
        versions.with_root_certificates(self.roots.clone()).with_no_client_auth()
    }

    fn pair(&self, config: ClientConfig) -> Pair {
        let name = "localhost".try_into().expect("a name");
        let client = ClientConnection::new(Arc::new(config), name).expect("a client");
        Pair { client, stage: self.server.accept(), heard: Vec::new() }
    }

    fn refused(&self, reason: TlsRefusal) -> u64 {
        self.server.counts().all_refused().find(|(other, _)| *other == reason).map_or(0, |(_, count)| count)
    }
}

/// A client, its stage, and what that has heard.
struct Pair {
    client: ClientConnection,
    stage: TlsStage,
    heard: Vec<u8>,
}

impl Pair {
    fn client_bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).expect("a vector takes all");
        }
        bytes
    }

    fn tell(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut rest = bytes;
        let mut plain = Vec::new();
        while !rest.is_empty() {
            self.client.read_tls(&mut rest).expect("a slice can be read");
            let state = self.client.process_new_packets().expect("the stage keeps to the rules");
            let mut piece = vec![0; state.plaintext_bytes_to_read()];
            self.client.reader().read_exact(&mut piece).expect("what there is");
            plain.extend(piece);
        }
        plain
    }

    /// What the client has to say, in pieces of so many bytes.
    fn speak(&mut self, piece: usize) -> Result<TlsFlow, TlsRefusal> {
        let mut flow = Ok(TlsFlow::Open);
        for part in self.client_bytes().chunks_mut(piece) {
            flow = self.stage.receive(part, &mut self.heard);
            flow?;
        }
        flow
    }

    /// Until both have agreed.
    fn shake_hands(&mut self, piece: usize) {
        for _ in 0..4 {
            self.speak(piece).expect("a handshake");
            let own = self.stage.take_own().unwrap_or_default();
            assert_eq!(self.tell(&own), b"");
        }
        assert!(!self.client.is_handshaking() && !self.stage.is_handshaking());
    }
}

#[test]
fn what_is_said_is_heard_wherever_it_is_cut_in_both_versions() {
    let scene = Scene::new();
    let said: Vec<u8> = (0..40_000u32).map(|number| number.to_le_bytes()[0]).collect();
    for (version, number) in [(&TLS13, ProtocolVersion::TLSv1_3), (&TLS12, ProtocolVersion::TLSv1_2)] {
        for piece in [1, 2, 3, 5, 6, 17, 100, 4_096, usize::MAX] {
            let mut pair = scene.pair(scene.config(version));
            pair.shake_hands(piece);
            assert_eq!(pair.client.protocol_version(), Some(number));
            pair.client.writer().write_all(&said).expect("it takes them");
            pair.speak(piece).expect("records");
            assert!(pair.heard == said, "{version:?} in pieces of {piece}");
            assert_eq!(pair.stage.held_bytes(), 0, "an idle one holds nothing");
            let sealed = pair.stage.seal(&said).expect("sealed");
            assert!(sealed.len() < said.len() + 3 * RECORD_OVERHEAD);
            assert!(pair.tell(&sealed) == said);
            assert_eq!(pair.stage.take_own(), None);
        }
    }
}

#[test]
fn half_a_record_says_nothing_and_does_not_keep_the_peer_from_being_told_something() {
    let scene = Scene::new();
    let mut pair = scene.pair(scene.config(&TLS13));
    pair.shake_hands(usize::MAX);
    pair.client.writer().write_all(b"a request").expect("it takes them");
    let mut record = pair.client_bytes();
    for cut in 1..record.len() {
        let (begun, _) = record.split_at_mut(cut);
        let mut begun = begun[cut - 1..].to_vec();
        assert_eq!(pair.stage.receive(&mut begun, &mut pair.heard), Ok(TlsFlow::Open));
        assert!(pair.heard.is_empty() && pair.stage.held_bytes() > 0);
        let sealed = pair.stage.seal(b"meanwhile").expect("sealed");
        assert_eq!(pair.tell(&sealed), b"meanwhile");
    }
    let last = record.len() - 1;
    pair.stage.receive(&mut record[last..], &mut pair.heard).expect("the rest");
    assert_eq!(pair.heard, b"a request");
}

#[test]
fn what_is_kept_waits_until_somebody_receives_and_what_is_said_meanwhile_goes_out() {
    let scene = Scene::new();
    let mut pair = scene.pair(scene.config(&TLS13));
    for _ in 0..4 {
        let hello = pair.client_bytes();
        pair.stage.keep(&hello);
        assert_eq!(pair.stage.receive(&mut [], &mut pair.heard), Ok(TlsFlow::Open));
        let own = pair.stage.take_own().unwrap_or_default();
        pair.tell(&own);
    }
    pair.client.writer().write_all(b"one request").expect("it takes them");
    let records = pair.client_bytes();
    pair.stage.keep(&records);
    let sealed = pair.stage.seal(b"an earlier answer").expect("sealed");
    assert_eq!(pair.tell(&sealed), b"an earlier answer");
    assert!(pair.stage.has_more() && pair.heard.is_empty());
    pair.client.writer().write_all(b", and another").expect("it takes them");
    pair.speak(usize::MAX).expect("records");
    assert_eq!(pair.heard, b"one request, and another");
}

#[test]
fn keys_that_change_and_thousands_of_tiny_records_are_followed() {
    let scene = Scene::new();
    let mut pair = scene.pair(scene.config(&TLS13));
    pair.shake_hands(usize::MAX);
    for number in 0..2_000 {
        pair.client.writer().write_all(b"x").expect("it takes them");
        if number % 500 == 0 {
            pair.client.refresh_traffic_keys().expect("TLS 1.3");
        }
    }
    pair.speak(700).expect("records");
    assert_eq!(pair.heard.len(), 2_000);
    let sealed = pair.stage.seal(b"with new keys").expect("sealed");
    assert_eq!(pair.tell(&sealed), b"with new keys");
}

#[test]
fn an_end_is_said_once_and_heard() {
    let scene = Scene::new();
    for version in [&TLS13, &TLS12] {
        let mut pair = scene.pair(scene.config(version));
        pair.shake_hands(usize::MAX);
        pair.client.writer().write_all(b"last words").expect("it takes them");
        pair.client.send_close_notify();
        assert_eq!(pair.speak(usize::MAX), Ok(TlsFlow::PeerEnded));
        assert_eq!(pair.heard, b"last words");
        let sealed = pair.stage.seal(b"an answer").expect("our side is open");
        assert_eq!(pair.tell(&sealed), b"an answer");
        pair.stage.close();
        pair.stage.close();
        let own = pair.stage.take_own().expect("a farewell");
        assert_eq!(pair.tell(&own), b"");
        assert_eq!((pair.client.reader().read(&mut [0]).expect("a proper end"), pair.stage.seal(b"more")), (0, None));
        assert_eq!(pair.stage.take_own(), None);
    }
}

#[test]
fn who_is_refused_is_told_why() {
    let scene = Scene::new();
    let alert = |stage: &mut TlsStage| stage.take_own().unwrap_or_default();
    let mut plain = Vec::new();
    let mut stage = scene.server.accept();
    let said = stage.receive(&mut b"GET / HTTP/1.1\r\n\r\n".to_vec(), &mut plain);
    assert_eq!((said, alert(&mut stage)), (Err(TlsRefusal::PlainHttp), Vec::new()));
    let mut config = scene.config(&TLS13);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut pair = scene.pair(config);
    assert_eq!(pair.speak(100), Err(TlsRefusal::Protocol));
    let mut own = &*alert(&mut pair.stage);
    pair.client.read_tls(&mut own).expect("a slice can be read");
    let told = rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol);
    assert_eq!(pair.client.process_new_packets(), Err(told));
    // TLS 1.1 with one cipher and no extensions. Fatal, `handshake_failure`: it knows no lists of signatures.
    let mut hello = [&[22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 2][..], &[7; 32], &[0, 0, 2, 0xc0, 0x13, 1, 0]].concat();
    let mut old = scene.server.accept();
    assert_eq!(old.receive(&mut hello, &mut plain), Err(TlsRefusal::Version));
    assert_eq!(alert(&mut old), [21, 3, 3, 0, 2, 2, 40]);
    // A record that is no one's.
    let mut pair = scene.pair(scene.config(&TLS13));
    pair.shake_hands(usize::MAX);
    let mut record = [&[23, 3, 3, 0, 40][..], &[7; 40]].concat();
    assert_eq!(pair.stage.receive(&mut record, &mut plain), Err(TlsRefusal::Malformed));
    assert!(!alert(&mut pair.stage).is_empty() && pair.stage.seal(b"more").is_none() && plain.is_empty());
    let mut pair = scene.pair(scene.config(&TLS13));
    pair.speak(50).expect("a first step");
    drop(pair);
    let counts = [TlsRefusal::PlainHttp, TlsRefusal::Protocol, TlsRefusal::Version, TlsRefusal::Malformed];
    assert_eq!(counts.map(|reason| scene.refused(reason)), [1; 4]);
    assert_eq!(scene.refused(TlsRefusal::Unfinished), 1);
}

#[test]
fn a_message_that_never_ends_is_bounded() {
    let scene = Scene::new();
    let mut stage = scene.server.accept();
    // Records of one byte each, of a message that is to have 65,000.
    let mut first = vec![22, 3, 1, 0, 5, 1, 0, 0xfd, 0xe8, 3];
    let mut plain = Vec::new();
    assert_eq!(stage.receive(&mut first, &mut plain), Ok(TlsFlow::Open));
    let mut most = 0;
    let refused = (0..65_000).find_map(|_| {
        most = most.max(stage.held_bytes());
        stage.receive(&mut [22, 3, 1, 0, 1, 3], &mut plain).err()
    });
    assert_eq!(refused, Some(TlsRefusal::Malformed));
    assert!(most <= 2 * INPUT_BYTES_MAX, "{most}");
}
