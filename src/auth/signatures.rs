//! The cryptography of tokens: that of the crate `ring`, in the form in which `jsonwebtoken` wants it.
//!
//! Its own choices are crates in plain Rust, which take several times as long for a public key, and one more C library to
//! build. Whoever may connect may have signatures verified, so this time is what an attack is made of.

use ::ring::hmac;
use ::ring::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519};
use ::ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512};
use ::ring::signature::{RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512};
use ::ring::signature::{UnparsedPublicKey, VerificationAlgorithm};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::signature::{self, Signer, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey};

static RING: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    // Keys come as PEM or as a secret; of a JWK we make what a PEM file would hold.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Has all tokens of this process signed and verified here. Done by whoever makes a `Verifier`; others that use
/// `jsonwebtoken` beside one, as tests do, call it first.
pub fn install() {
    // It is there already when this is not the first call.
    let _ = RING.install_default();
}

/// HS256, HS384 and HS512: what is minted here.
fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    match key.family() {
        AlgorithmFamily::Hmac => Ok(Box::new(HmacSecret::new(*algorithm, key.as_bytes())?)),
        _ => Err(ErrorKind::InvalidKeyFormat.into()),
    }
}

/// What a secret or a public key may have signed.
fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    let bytes = key.try_get_as_bytes()?;
    let verification: &'static dyn VerificationAlgorithm = match (key.family(), algorithm) {
        (AlgorithmFamily::Hmac, _) => return Ok(Box::new(HmacSecret::new(*algorithm, bytes)?)),
        (AlgorithmFamily::Rsa, Algorithm::RS256) => &RSA_PKCS1_2048_8192_SHA256,
        (AlgorithmFamily::Rsa, Algorithm::RS384) => &RSA_PKCS1_2048_8192_SHA384,
        (AlgorithmFamily::Rsa, Algorithm::RS512) => &RSA_PKCS1_2048_8192_SHA512,
        (AlgorithmFamily::Rsa, Algorithm::PS256) => &RSA_PSS_2048_8192_SHA256,
        (AlgorithmFamily::Rsa, Algorithm::PS384) => &RSA_PSS_2048_8192_SHA384,
        (AlgorithmFamily::Rsa, Algorithm::PS512) => &RSA_PSS_2048_8192_SHA512,
        (AlgorithmFamily::Ec, Algorithm::ES256) => &ECDSA_P256_SHA256_FIXED,
        (AlgorithmFamily::Ec, Algorithm::ES384) => &ECDSA_P384_SHA384_FIXED,
        (AlgorithmFamily::Ed, Algorithm::EdDSA) => &ED25519,
        _ => return Err(ErrorKind::InvalidAlgorithm.into()),
    };
    Ok(Box::new(PublicKey { algorithm: *algorithm, key: UnparsedPublicKey::new(verification, bytes.to_vec()) }))
}

/// A secret, which signs and verifies alike.
struct HmacSecret {
    algorithm: Algorithm,
    key: hmac::Key,
}

impl HmacSecret {
    fn new(algorithm: Algorithm, secret: &[u8]) -> Result<HmacSecret, Error> {
        let digest = match algorithm {
            Algorithm::HS256 => hmac::HMAC_SHA256,
            Algorithm::HS384 => hmac::HMAC_SHA384,
            Algorithm::HS512 => hmac::HMAC_SHA512,
            _ => return Err(ErrorKind::InvalidAlgorithm.into()),
        };
        Ok(HmacSecret { algorithm, key: hmac::Key::new(digest, secret) })
    }
}

impl Signer<Vec<u8>> for HmacSecret {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        Ok(hmac::sign(&self.key, message).as_ref().to_vec())
    }
}

impl JwtSigner for HmacSecret {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for HmacSecret {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        // In a time that does not depend on where it differs.
        hmac::verify(&self.key, message, signature).map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for HmacSecret {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

/// A key whose holder signs elsewhere.
struct PublicKey {
    algorithm: Algorithm,
    key: UnparsedPublicKey<Vec<u8>>,
}

impl Verifier<Vec<u8>> for PublicKey {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        self.key.verify(message, signature).map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for PublicKey {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
