//! `KeySet`: the public keys of a JSON Web Key Set (RFC 7517), by their ids. It fetches nothing.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use super::key::{ED_KEY_BYTES, RSA_KEY_BYTES_LEAST, TokenKey};

/// A document of more bytes is not read. A key of 4,096 bits with its certificate takes about 3 KiB.
pub const DOCUMENT_BYTES_MAX: usize = 256 << 10;
/// A document with more keys is not taken.
pub const KEYS_MAX: usize = 128;
/// `ring` verifies with no larger one.
const RSA_KEY_BYTES_MOST: usize = 8192 / 8;
/// A point that is not compressed (SEC 1 section 2.3.3).
const EC_POINT: u8 = 4;
const RSA: [Algorithm; 6] =
    [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];

/// The keys that a document has, those that can be used.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<NamedKey>,
    /// Why the others cannot be used, and how many each.
    refused: BTreeMap<&'static str, usize>,
}

#[derive(Clone, Debug)]
struct NamedKey {
    id: Option<Box<str>>,
    key: TokenKey,
}

/// Why a document is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySetError {
    TooLarge,
    TooManyKeys,
    /// No JSON object with a list `keys`.
    NotKeys,
    /// None of its keys can be used, for these reasons.
    NoneUsable(String),
}

impl fmt::Display for KeySetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeySetError::TooLarge => write!(f, "it has more than {DOCUMENT_BYTES_MAX} bytes"),
            KeySetError::TooManyKeys => write!(f, "it has more than {KEYS_MAX} keys"),
            KeySetError::NotKeys => f.write_str("it is no JSON object with a list `keys`"),
            KeySetError::NoneUsable(why) if why.is_empty() => f.write_str("it has no keys"),
            KeySetError::NoneUsable(why) => write!(f, "none of its keys can be used: {why}"),
        }
    }
}

impl std::error::Error for KeySetError {}

/// As RFC 7517 section 4 and RFC 7518 section 6 have them, those members that count here.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    used_for: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// The usable keys of a document. Those that we cannot use are passed over (RFC 7517 section 5), and counted.
    pub fn parse(document: &[u8]) -> Result<KeySet, KeySetError> {
        if document.len() > DOCUMENT_BYTES_MAX {
            return Err(KeySetError::TooLarge);
        }
        let Document { keys } = serde_json::from_slice(document).map_err(|_| KeySetError::NotKeys)?;
        if keys.len() > KEYS_MAX {
            return Err(KeySetError::TooManyKeys);
        }
        let mut set = KeySet::default();
        for key in keys {
            match Jwk::deserialize(key).map_err(|_| "no JSON Web Key").and_then(NamedKey::from_jwk) {
                Ok(key) => set.keys.push(key),
                Err(reason) => *set.refused.entry(reason).or_default() += 1,
            }
        }
        if set.keys.is_empty() { Err(KeySetError::NoneUsable(set.refused())) } else { Ok(set) }
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// The keys under an id.
    pub(super) fn named(&self, id: &str) -> impl Iterator<Item = &TokenKey> {
        self.keys.iter().filter(move |key| key.id.as_deref() == Some(id)).map(|key| &key.key)
    }

    /// The key that may have signed by this algorithm, if there is just one: a token without an id would else have
    /// any number of keys tried.
    pub(super) fn only_one_for(&self, algorithm: Algorithm) -> Option<&TokenKey> {
        let mut fitting = self.keys.iter().map(|key| &key.key).filter(|key| key.algorithms.contains(&algorithm));
        fitting.next().filter(|_| fitting.next().is_none())
    }

    /// Why keys cannot be used, as `2 symmetric keys`; empty: all can.
    pub fn refused(&self) -> String {
        let each: Vec<_> = self.refused.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        each.join(", ")
    }

    /// How many keys there are of each kind, as `2 RSA, 1 EC P-256`.
    pub fn kinds(&self) -> String {
        let mut kinds = BTreeMap::<_, usize>::new();
        for NamedKey { key, .. } in &self.keys {
            let kind = match key.algorithms.first() {
                Some(Algorithm::ES256) => "EC P-256",
                Some(Algorithm::ES384) => "EC P-384",
                Some(Algorithm::EdDSA) => "Ed25519",
                _ => "RSA",
            };
            *kinds.entry(kind).or_default() += 1;
        }
        let each: Vec<_> = kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        each.join(", ")
    }
}

impl NamedKey {
    fn from_jwk(jwk: Jwk) -> Result<NamedKey, &'static str> {
        if jwk.used_for.as_deref().is_some_and(|used_for| used_for != "sig")
            || jwk.key_ops.as_ref().is_some_and(|all| all.iter().all(|operation| operation != "verify"))
        {
            return Err("for something else than signatures");
        }
        let bytes = |text: &Option<String>| text.as_ref().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        let (decoding, mut algorithms) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            // Whoever can read it can sign with it.
            ("oct", _) => return Err("symmetric"),
            ("RSA", _) => {
                let (n, e) = bytes(&jwk.n).zip(bytes(&jwk.e)).ok_or("incomplete")?;
                (DecodingKey::from_rsa_der(&rsa_der(&n, &e)?), RSA.to_vec())
            }
            ("EC", Some(curve @ ("P-256" | "P-384"))) => {
                let (algorithm, length) =
                    if curve == "P-256" { (Algorithm::ES256, 32) } else { (Algorithm::ES384, 48) };
                let (x, y) = bytes(&jwk.x).zip(bytes(&jwk.y)).ok_or("incomplete")?;
                if x.len() != length || y.len() != length {
                    return Err("of another length than its curve's");
                }
                (DecodingKey::from_ec_der(&[&[EC_POINT], x.as_slice(), &y].concat()), vec![algorithm])
            }
            ("OKP", Some("Ed25519")) => {
                let x = bytes(&jwk.x).filter(|x| x.len() == ED_KEY_BYTES).ok_or("incomplete")?;
                (DecodingKey::from_ed_der(&x), vec![Algorithm::EdDSA])
            }
            _ => return Err("of an unknown kind"),
        };
        if let Some(alg) = &jwk.alg {
            algorithms.retain(|algorithm| format!("{algorithm:?}") == *alg);
        }
        match algorithms.is_empty() {
            true => Err("for an algorithm that it is no key of"),
            false => Ok(NamedKey { id: jwk.kid.map(String::into), key: TokenKey { decoding, algorithms } }),
        }
    }
}

/// `RSAPublicKey` (RFC 8017 appendix A.1.1) of a modulus and an exponent.
fn rsa_der(n: &[u8], e: &[u8]) -> Result<Vec<u8>, &'static str> {
    let number = |bytes: &[u8]| {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        bytes.get(zeros..).unwrap_or_default().to_vec()
    };
    let (n, e) = (number(n), number(e));
    match n.len() {
        length if length < RSA_KEY_BYTES_LEAST => return Err("RSA of less than 2048 bits"),
        length if length > RSA_KEY_BYTES_MOST => return Err("RSA of more than 8192 bits"),
        _ => {}
    }
    if e.is_empty() || e.len() > 8 {
        return Err("incomplete");
    }
    let integer = |number: &[u8]| {
        // It is not negative.
        let sign = if number.first().is_some_and(|byte| *byte >= 0x80) { &[0][..] } else { &[] };
        der(0x02, &[sign, number].concat())
    };
    Ok(der(0x30, &[integer(&n), integer(&e)].concat()))
}

/// A tag, a length and a value (X.690 sections 8.1.2 and 8.1.3), of less than 64 KiB.
fn der(tag: u8, value: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes();
    let head: &[u8] = match (high, low) {
        (0, 0..=0x7f) => &[tag, low],
        (0, _) => &[tag, 0x81, low],
        _ => &[tag, 0x82, high, low],
    };
    [head, value].concat()
}

#[cfg(test)]
mod tests;
