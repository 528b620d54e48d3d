//! Whom the program trusts when it asks others by TLS.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// Certificates of who may have signed that of a server.
pub(crate) struct TrustedAuthorities(Vec<CertificateDer<'static>>);

impl TrustedAuthorities {
    /// Those of the operating system.
    pub(crate) fn of_system() -> TrustedAuthorities {
        TrustedAuthorities(rustls_native_certs::load_native_certs().certs)
    }

    /// Those of a PEM file and no others; without one, of the operating system.
    pub(crate) fn of_file(file: Option<&Path>) -> Result<TrustedAuthorities, Box<dyn Error>> {
        let Some(file) = file else { return Ok(TrustedAuthorities::of_system()) };
        let wrong = |reason: String| format!("--ca-file: `{}` {reason}", file.display());
        let pem = std::fs::read(file).map_err(|error| wrong(format!("cannot be read: {error}")))?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let certificates = certificates.map_err(|error| wrong(format!("is no PEM file: {error}")))?;
        match certificates.is_empty() {
            true => Err(wrong("has no certificate in it".to_owned()).into()),
            false => Ok(TrustedAuthorities(certificates)),
        }
    }

    /// For requests, by the cryptography that the rest of the server has.
    pub(crate) fn for_requests(&self) -> TlsConfig {
        let roots = self.0.iter().map(|root| Certificate::from_der(root).to_owned()).collect();
        TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(default_provider()))
            .root_certs(RootCerts::Specific(Arc::new(roots)))
            .build()
    }

    /// For a connection.
    pub(crate) fn for_connection(&self) -> Result<Arc<ClientConfig>, Box<dyn Error>> {
        let mut roots = RootCertStore::empty();
        for root in &self.0 {
            // One of the system's that cannot be read is nobody's.
            let _ = roots.add(root.clone());
        }
        let config =
            ClientConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions()?;
        Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
    }
}

/// What asks at this address, within this time, and trusts whom the operating system does.
pub(crate) fn agent_for(url: &str, timeout: Duration) -> ureq::Agent {
    let is_https = url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(timeout))
        .http_status_as_error(false)
        // What is asked for by TLS is not asked without, wherever it is now.
        .https_only(is_https)
        .user_agent(concat!("sockring/", env!("CARGO_PKG_VERSION")));
    let config = match is_https {
        true => config.tls_config(TrustedAuthorities::of_system().for_requests()),
        false => config,
    };
    config.build().into()
}
