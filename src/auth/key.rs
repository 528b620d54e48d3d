//! `TokenKey`: what a token may be signed with, and by which algorithms.

use std::fmt;
use std::ops::RangeInclusive;

use jsonwebtoken::{Algorithm, DecodingKey};

/// What a public key takes: in DER, as a point of P-256, and as one of Ed25519.
pub(super) const RSA_KEY_BYTES_LEAST: usize = 2048 / 8;
pub(super) const EC_KEY_BYTES: usize = 65;
pub(super) const ED_KEY_BYTES: usize = 32;
pub(super) const HMAC: [Algorithm; 3] = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];

/// A key that tokens may be signed with. The algorithms follow from it, never from the token.
#[derive(Clone)]
pub struct TokenKey {
    pub(super) decoding: DecodingKey,
    pub(super) algorithms: Vec<Algorithm>,
}

impl TokenKey {
    /// HS256, HS384 and HS512.
    pub fn from_secret(secret: &str) -> TokenKey {
        TokenKey { decoding: DecodingKey::from_secret(secret.as_bytes()), algorithms: HMAC.to_vec() }
    }

    /// RS256, ES256 or EdDSA, by what the PEM file of a public key holds. `None` if it holds none of these, or an RSA key of
    /// less than 2,048 bits (RFC 7518 section 3.3), or one of another curve than P-256.
    pub fn from_pem(pem: &[u8]) -> Option<TokenKey> {
        let key = |decoding: DecodingKey, algorithm, sizes: RangeInclusive<usize>| {
            let size = decoding.try_get_as_bytes().map_or(0, <[u8]>::len);
            sizes.contains(&size).then(|| TokenKey { decoding, algorithms: vec![algorithm] })
        };
        if let Ok(decoding) = DecodingKey::from_rsa_pem(pem) {
            return key(decoding, Algorithm::RS256, RSA_KEY_BYTES_LEAST..=usize::MAX);
        }
        if let Ok(decoding) = DecodingKey::from_ec_pem(pem) {
            return key(decoding, Algorithm::ES256, EC_KEY_BYTES..=EC_KEY_BYTES);
        }
        key(DecodingKey::from_ed_pem(pem).ok()?, Algorithm::EdDSA, ED_KEY_BYTES..=ED_KEY_BYTES)
    }
}

impl fmt::Debug for TokenKey {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").field("algorithms", &self.algorithms).finish_non_exhaustive()
    }
}
