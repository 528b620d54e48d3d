//! Worlds in which clients speak TLS: what servers and clients begin with. What is drawn by chance differs from run to run, but
//! never how long it is, so a seed stays the world that it is: signatures of Ed25519 have one length.

use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use sockring::tls::{Certificate, TlsServer, TlsTerms};

/// The name in the certificate.
pub const NAME: &str = "sockring.test";

static TERMS: LazyLock<(TlsTerms, Arc<ClientConfig>)> = LazyLock::new(|| {
    let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
    let own =
        CertificateParams::new(vec![NAME.to_owned()]).and_then(|own| own.self_signed(&key)).expect("a certificate");
    let certificate = Certificate::from_pem(own.pem().as_bytes(), key.serialize_pem().as_bytes(), SystemTime::now());
    let terms =
        TlsTerms { certificates: vec![certificate.expect("a pair")], ticket_keys: None, client_authorities: None };
    let mut roots = RootCertStore::empty();
    roots.add(own.der().clone()).expect("an authority");
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // What other worlds have left would change this one.
    config.resumption = Resumption::disabled();
    (terms, Arc::new(config))
});

pub fn server() -> Arc<TlsServer> {
    TlsServer::new(&TERMS.0).expect("a server")
}

pub fn client() -> Arc<ClientConfig> {
    Arc::clone(&TERMS.1)
}
