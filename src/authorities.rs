//! Whom the program trusts when it asks others by HTTPS.

use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring::default_provider;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// The authorities of the operating system, by the cryptography that the rest of the server has.
pub(crate) fn of_system() -> TlsConfig {
    let roots = rustls_native_certs::load_native_certs().certs;
    trusting(roots.iter().map(|root| Certificate::from_der(root).to_owned()).collect())
}

fn trusting(roots: Vec<Certificate<'static>>) -> TlsConfig {
    TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(default_provider()))
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .build()
}
