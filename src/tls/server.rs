//! `TlsServer`: what each connection at a port begins TLS with. All shards have the same; certificates are replaced under it.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::pki_types::ServerName;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, UnbufferedServerConnection,
    WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{Error, RootCertStore, ServerConfig};

use super::certificate::{Certificate, CertificateError, certificates_in};
use super::counts::TlsCounts;
use super::stage::TlsStage;
use super::tickets::TicketKeys;

/// HTTP/1.1 alone: with it no browser tries HTTP/2 (RFC 7301).
const PROTOCOL: &[u8] = b"http/1.1";
/// Each costs a peer that does not resume some hundred bytes.
const TICKETS: usize = 1;

/// What the operator wants.
#[derive(Clone, Debug)]
pub struct TlsTerms {
    /// For whoever asks for a name that is none of theirs, the first.
    pub certificates: Vec<Certificate>,
    /// `None`: tickets are of use at this instance alone.
    pub ticket_keys: Option<Arc<TicketKeys>>,
    /// Peers have to show a certificate that one of these has signed.
    pub client_authorities: Option<Arc<RootCertStore>>,
}

impl TlsTerms {
    /// The authorities in `pem`.
    pub fn authorities(pem: &[u8]) -> Result<Arc<RootCertStore>, CertificateError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates_in(pem)? {
            roots.add(certificate).map_err(|error| CertificateError::BrokenCertificate(error.to_string()))?;
        }
        Ok(Arc::new(roots))
    }

    /// When the first of its certificates ends.
    pub fn ends(&self) -> Option<SystemTime> {
        self.certificates.iter().map(Certificate::ends).min()
    }

    fn config(&self, provider: &Arc<CryptoProvider>, own: &Arc<dyn ProducesTickets>) -> Result<ServerConfig, Error> {
        let versions =
            ServerConfig::builder_with_provider(Arc::clone(provider)).with_protocol_versions(&[&TLS13, &TLS12])?;
        let verified = match &self.client_authorities {
            None => versions.with_no_client_auth(),
            Some(roots) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider));
                let verifier = verifier.build().map_err(|error| Error::General(error.to_string()))?;
                versions.with_client_cert_verifier(verifier)
            }
        };
        let mut config = verified.with_cert_resolver(Arc::new(BySni(self.certificates.clone())));
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        // Sessions are with clients, in tickets, and with no one else.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = TICKETS;
        match (&self.client_authorities, &self.ticket_keys) {
            // A ticket says that somebody was let in, but not by whom: where that is asked, it is asked each time.
            (Some(_), _) => config.send_tls13_tickets = 0,
            (None, Some(keys)) => config.ticketer = Arc::<TicketKeys>::clone(keys),
            (None, None) => config.ticketer = Arc::clone(own),
        }
        Ok(config)
    }
}

/// One port's.
pub struct TlsServer {
    config: ArcSwap<ServerConfig>,
    ends: ArcSwap<Option<SystemTime>>,
    provider: Arc<CryptoProvider>,
    /// Of keys that nobody else has.
    own_tickets: Arc<dyn ProducesTickets>,
    counts: Arc<TlsCounts>,
}

impl TlsServer {
    pub fn new(terms: &TlsTerms) -> Result<Arc<TlsServer>, Error> {
        let provider = Arc::new(default_provider());
        let own_tickets = Ticketer::new()?;
        let config = terms.config(&provider, &own_tickets)?;
        // A stage is made of it whenever a connection comes.
        let config = Arc::new(config);
        UnbufferedServerConnection::new(Arc::clone(&config))?;
        Ok(Arc::new(TlsServer {
            config: ArcSwap::new(config),
            ends: ArcSwap::from_pointee(terms.ends()),
            provider,
            own_tickets,
            counts: Arc::default(),
        }))
    }

    /// From now on connections begin with these; those that have begun go on as they are.
    pub fn replace(&self, terms: &TlsTerms) -> Result<(), Error> {
        self.config.store(Arc::new(terms.config(&self.provider, &self.own_tickets)?));
        self.ends.store(Arc::new(terms.ends()));
        Ok(())
    }

    /// The stage of a connection that has come.
    pub fn accept(&self) -> TlsStage {
        let Ok(connection) = UnbufferedServerConnection::new(self.config.load_full()) else {
            unreachable!("another connection was made of the same when it was new")
        };
        TlsStage::new(connection, Arc::clone(&self.counts))
    }

    pub fn counts(&self) -> &TlsCounts {
        &self.counts
    }

    /// When the first of its certificates ends.
    pub fn ends(&self) -> Option<SystemTime> {
        **self.ends.load()
    }
}

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServer").field("ends", &self.ends()).field("counts", &self.counts).finish_non_exhaustive()
    }
}

/// Chooses by the name that a peer asks for, and by the signatures that it knows.
#[derive(Debug)]
struct BySni(Vec<Certificate>);

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let suiting = || self.0.iter().filter(|certificate| certificate.suits(&hello));
        let named = name.and_then(|name| suiting().find(|certificate| certificate.is_for(&name)));
        // Where none suits the library says what is not in common.
        named.or_else(|| suiting().next()).or(self.0.first()).map(Certificate::certified)
    }
}
