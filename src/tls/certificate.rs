//! `Certificate`: a chain with its key, read from PEM, and refused where every client would refuse it or ought to.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::verify_server_name;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate};
use rustls::sign::CertifiedKey;

use super::der::{facts, has_passed};

/// Shorter keys are within reach of who can pay for it (NIST SP 800-57).
const RSA_BITS_LEAST: usize = 2048;

/// One that a client would accept now, as far as can be said without knowing whom it trusts.
#[derive(Clone, Debug)]
pub struct Certificate {
    certified: Arc<CertifiedKey>,
    ends: SystemTime,
    rsa_bits: Option<usize>,
}

/// Why a pair of files is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateError {
    NoCertificate,
    BrokenCertificate(String),
    NoKey,
    UnknownKey(String),
    WeakKey(usize),
    KeyOfAnother,
    Expired(SystemTime),
    NotValidYet(SystemTime),
}

impl CertificateError {
    /// Whether it is to be mended in the file of the key.
    pub fn is_about_key(&self) -> bool {
        matches!(self, CertificateError::NoKey | CertificateError::UnknownKey(_) | CertificateError::KeyOfAnother)
    }
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |time: &SystemTime| humantime::format_rfc3339_seconds(*time);
        match self {
            CertificateError::NoCertificate => f.write_str("holds no certificate in PEM"),
            CertificateError::BrokenCertificate(why) => write!(f, "holds a certificate that cannot be read: {why}"),
            CertificateError::NoKey => {
                f.write_str("holds no private key in PEM (PKCS#8, PKCS#1 or SEC1, not encrypted)")
            }
            CertificateError::UnknownKey(why) => {
                write!(
                    f,
                    "holds a key that cannot be used: {why}; RSA from 2048 bits, EC P-256 or P-384, or Ed25519 can"
                )
            }
            CertificateError::WeakKey(bits) => write!(
                f,
                "holds a certificate for an RSA key of {bits} bits: browsers refuse fewer than {RSA_BITS_LEAST}; EC P-256 \
                 is the better choice"
            ),
            CertificateError::KeyOfAnother => f.write_str("holds the key of another certificate"),
            CertificateError::Expired(end) => write!(f, "holds a certificate that has expired, at {}", at(end)),
            CertificateError::NotValidYet(begin) => {
                write!(f, "holds a certificate that is not valid before {}", at(begin))
            }
        }
    }
}

impl Certificate {
    /// The chain in `pem`, the server's own certificate first, with its key.
    pub fn from_pem(pem: &[u8], key: &[u8], now: SystemTime) -> Result<Certificate, CertificateError> {
        let chain = certificates_in(pem)?;
        let own = chain.first().ok_or(CertificateError::NoCertificate)?;
        let broken = || CertificateError::BrokenCertificate("it is not in the form of X.509".to_owned());
        let facts = facts(own).ok_or_else(broken)?;
        // First, since the library would only say that it cannot use the key.
        if let Some(bits) = facts.rsa_bits.filter(|bits| *bits < RSA_BITS_LEAST) {
            return Err(CertificateError::WeakKey(bits));
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| CertificateError::NoKey)?;
        let key = any_supported_type(&key).map_err(|error| CertificateError::UnknownKey(error.to_string()))?;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => CertificateError::KeyOfAnother,
            other => CertificateError::BrokenCertificate(other.to_string()),
        })?;
        if has_passed(facts.ends, now) {
            return Err(CertificateError::Expired(facts.ends));
        }
        if facts.begins > now {
            return Err(CertificateError::NotValidYet(facts.begins));
        }
        Ok(Certificate { certified: Arc::new(certified), ends: facts.ends, rsa_bits: facts.rsa_bits })
    }

    /// When it ends.
    pub fn ends(&self) -> SystemTime {
        self.ends
    }

    /// The length of its key, if that is one of RSA: signing with it takes several times as long.
    pub fn rsa_bits(&self) -> Option<usize> {
        self.rsa_bits
    }

    pub(super) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }

    /// Whether it can answer this peer, whatever name that asks for.
    pub(super) fn suits(&self, hello: &ClientHello<'_>) -> bool {
        self.certified.key.choose_scheme(hello.signature_schemes()).is_some()
    }

    pub(super) fn is_for(&self, name: &ServerName<'_>) -> bool {
        let own = self.certified.cert.first().and_then(|own| ParsedCertificate::try_from(own).ok());
        own.is_some_and(|own| verify_server_name(&own, name).is_ok())
    }
}

/// All certificates of a file.
pub(super) fn certificates_in(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| CertificateError::BrokenCertificate(error.to_string()))?;
    if certificates.is_empty() { Err(CertificateError::NoCertificate) } else { Ok(certificates) }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn signed(key: &KeyPair, begins: i32, ends: i32) -> String {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).expect("a name");
        params.not_before = date_time_ymd(begins, 1, 1);
        params.not_after = date_time_ymd(ends, 1, 1);
        params.self_signed(key).expect("a certificate").pem()
    }

    #[test]
    fn a_pair_is_refused_for_what_is_wrong_with_it() {
        let [key, other] = [(); 2].map(|()| KeyPair::generate().expect("a key"));
        let now = humantime::parse_rfc3339("2026-06-01T00:00:00Z").expect("a time");
        let (good, own) = (signed(&key, 2026, 2027), key.serialize_pem());
        let read = |pem: &str, key: &str| Certificate::from_pem(pem.as_bytes(), key.as_bytes(), now);
        let certificate = read(&good, &own).expect("a good one");
        assert_eq!(humantime::format_rfc3339(certificate.ends()).to_string(), "2027-01-01T00:00:00Z");
        let time = |text| humantime::parse_rfc3339(text).expect("a time");
        let broken = good.replace('M', "!");
        for (pem, key, expected) in [
            ("", own.as_str(), CertificateError::NoCertificate),
            (&own, &own, CertificateError::NoCertificate),
            (&good, "", CertificateError::NoKey),
            (&good, &good, CertificateError::NoKey),
            (&good, &other.serialize_pem(), CertificateError::KeyOfAnother),
            (&signed(&key, 2024, 2026), &own, CertificateError::Expired(time("2026-01-01T00:00:00Z"))),
            (&signed(&key, 2027, 2028), &own, CertificateError::NotValidYet(time("2027-01-01T00:00:00Z"))),
        ] {
            assert_eq!(read(pem, key).expect_err("a bad one"), expected);
        }
        assert!(matches!(read(&broken, &own), Err(CertificateError::BrokenCertificate(_))));
    }
}
