//! `tls`: what a peer sends where TLS is spoken, before a handshake and behind one.

use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use sockring::tls::{Certificate, TlsFlow, TlsRefusal, TlsServer, TlsStage, TlsTerms};

use crate::{Random, assert_memory};

/// Nobody's: with it goes a key that everybody has.
const CERTIFICATE: &[u8] = include_bytes!("tls_certificate.pem");
const KEY: &[u8] = include_bytes!("tls_key.pem");
/// What a handshake takes of memory, whatever begins it.
const HANDSHAKE_BYTES_MAX: usize = 256 << 10;

static SERVER: LazyLock<Arc<TlsServer>> = LazyLock::new(|| {
    let certificate = Certificate::from_pem(CERTIFICATE, KEY, SystemTime::now()).expect("a pair");
    let terms = TlsTerms { certificates: vec![certificate], ticket_keys: None, client_authorities: None };
    TlsServer::new(&terms).expect("a server")
});

static CLIENT: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(CERTIFICATE).expect("a certificate")).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Arc::new(config.expect("versions").with_root_certificates(roots).with_no_client_auth())
});

/// The first byte says where the others come: `h` is behind a handshake, and anything else before one.
pub fn tls(data: &[u8]) {
    let Some((place, bytes)) = data.split_first() else { return };
    // Made before memory is looked at.
    LazyLock::force(&SERVER);
    let limit = HANDSHAKE_BYTES_MAX + 8 * bytes.len();
    match place {
        b'h' => behind_a_handshake(bytes),
        _ => assert_memory("a peer before its handshake", limit, || before_a_handshake(bytes)),
    }
}

/// What came of all pieces: what the peer has said, and whether it may go on.
type Received = (Vec<u8>, Result<TlsFlow, TlsRefusal>);

fn receive<'d>(stage: &mut TlsStage, pieces: impl Iterator<Item = &'d [u8]>) -> Received {
    let (mut plain, mut flow, mut came) = (Vec::new(), Ok(TlsFlow::Open), 0);
    for piece in pieces {
        came += piece.len();
        flow = stage.receive(&mut piece.to_vec(), &mut plain);
        assert!(stage.held_bytes() <= 2 * came + 64, "{} bytes are held of {came}", stage.held_bytes());
        if flow.is_err() {
            assert_eq!(stage.held_bytes(), 0, "who is refused has nothing here");
            assert_eq!(stage.seal(b"more"), None, "and is told nothing more");
            break;
        }
    }
    (plain, flow)
}

/// Pieces of 1 to 64 bytes, which follow from the bytes.
fn cut(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut random = Random::new(bytes.iter().fold(7, |sum: u64, byte| sum.wrapping_mul(31) + u64::from(*byte)));
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (piece, behind) = rest.split_at(rest.len().min(1 + random.below(64)));
        rest = behind;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Any cut means the same, and nobody has said anything yet.
fn before_a_handshake(bytes: &[u8]) {
    let whole = receive(&mut SERVER.accept(), std::iter::once(bytes));
    assert!(whole.0.is_empty(), "nobody has shaken hands");
    let cut = receive(&mut SERVER.accept(), cut(bytes));
    assert_eq!(cut, whole, "a cut changes what it means");
}

/// What a client seals comes as it was, whatever the cut; what nobody has sealed is refused.
fn behind_a_handshake(bytes: &[u8]) {
    let (mut stage, mut client) = shaken();
    let mut sealed = Vec::new();
    for piece in cut(bytes) {
        std::io::Write::write_all(&mut client.writer(), piece).expect("it takes all");
        client.write_tls(&mut sealed).expect("a vector takes all");
    }
    let received = receive(&mut stage, cut(&sealed));
    assert_eq!(received, (bytes.to_vec(), Ok(TlsFlow::Open)), "it comes as it was sent");
    assert_eq!(stage.held_bytes(), 0, "an idle connection holds nothing");
    if !bytes.is_empty() {
        assert!(stage.seal(bytes).is_some_and(|sealed| sealed.len() > bytes.len()), "it may be told something");
    }
    // As what a stranger makes, whatever it begins with.
    let (plain, _) = receive(&mut stage, std::iter::once(bytes));
    assert!(plain.is_empty(), "nobody has sealed it");
}

/// Both sides of a connection that is open.
fn shaken() -> (TlsStage, ClientConnection) {
    let name = "localhost".try_into().expect("a name");
    let mut client = ClientConnection::new(Arc::clone(&CLIENT), name).expect("a client");
    let (mut stage, mut plain, mut bytes) = (SERVER.accept(), Vec::new(), Vec::new());
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
    (stage, client)
}
