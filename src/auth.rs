//! Who a client is: tokens are verified and minted here. It reads no clock; the time is an argument.

pub mod key;
pub mod key_set;
pub mod keyring;
pub mod signatures;

use std::fmt;
use std::sync::Arc;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Map, Value, json};

use key::{HMAC, TokenKey};
use key_set::KeySet;
use keyring::{Keyring, Newer};

/// A token longer than this is refused unread.
const TOKEN_BYTES_MAX: usize = 8192;
/// A user id longer than this is refused.
pub const USER_BYTES_MAX: usize = 128;

/// Why a token was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthError {
    Missing,
    TooLong,
    /// Not a token, a wrong signature, an algorithm that does not go with the key, a wrong issuer or audience.
    Invalid,
    Expired,
    NotYetValid,
    /// It names a key that is not known. Another one may come.
    UnknownKey,
    /// No user id, or one that is neither a string of 1 to 128 bytes nor a whole number.
    NoUser,
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AuthError::Missing => "no token",
            AuthError::TooLong => "the token is too long",
            AuthError::Invalid => "the token is not valid",
            AuthError::UnknownKey => "the token's key is not known",
            AuthError::Expired => "the token has expired",
            AuthError::NotYetValid => "the token is not valid yet",
            AuthError::NoUser => "the token names no user",
        })
    }
}

impl std::error::Error for AuthError {}

/// What a valid token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub user: String,
    /// When its sockets have to end, as Unix time in milliseconds.
    pub ends_at_unix_ms: Option<u64>,
}

/// Why a token was not accepted, and whose it would have been, where its signature says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenDenial {
    pub error: AuthError,
    pub user: Option<String>,
}

impl From<AuthError> for TokenDenial {
    fn from(error: AuthError) -> TokenDenial {
        TokenDenial { error, user: None }
    }
}

/// Whether a token has to expire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expiry {
    #[default]
    Optional,
    Required,
}

/// What happens to a socket whose token expires while it is connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AfterExpiry {
    #[default]
    Stay,
    /// It is closed, and reconnects with a fresh token if it has one.
    Close,
}

/// What a token must satisfy.
#[derive(Clone, Debug, Default)]
pub struct TokenRules {
    /// Any of these may have signed it.
    pub keys: Vec<TokenKey>,
    /// Or that of these which it names.
    pub key_set: Arc<KeySet>,
    /// Or of these, which change.
    pub keyring: Option<Arc<Keyring>>,
    /// Signs the tokens that are minted here.
    pub minting_secret: Option<String>,
    pub expiry: Expiry,
    pub after_expiry: AfterExpiry,
    /// How far the clocks of whoever signs may be off.
    pub leeway_s: u64,
    /// The claim that holds the user's id, or the way to it, as `user.id`.
    pub user_claim: String,
    /// One of these must have issued it, and it must be for one of these; none: whoever it is.
    pub issuers: Vec<String>,
    pub audiences: Vec<String>,
}

/// Verifies and mints tokens.
#[derive(Clone)]
pub struct Verifier {
    keys: Vec<(DecodingKey, Validation)>,
    minting_key: Option<EncodingKey>,
    rules: TokenRules,
}

impl fmt::Debug for Verifier {
    /// Without the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("user_claim", &self.rules.user_claim).finish_non_exhaustive()
    }
}

impl Verifier {
    /// Mints and verifies a token where it can, so that a fault of the cryptography shows at start and not with the first
    /// client.
    pub fn new(rules: TokenRules) -> Result<Verifier, jsonwebtoken::errors::Error> {
        signatures::install();
        let keys = rules.keys.iter().map(|key| (key.decoding.clone(), validation(&rules, &key.algorithms))).collect();
        let minting_key = rules.minting_secret.as_ref().map(|secret| EncodingKey::from_secret(secret.as_bytes()));
        let verifier = Verifier { keys, minting_key, rules };
        if verifier.minting_key.is_some() {
            let token = verifier.mint("self-test", 0, 60)?;
            verifier.decode(&token).map_err(|_| jsonwebtoken::errors::ErrorKind::InvalidSignature)?;
        }
        Ok(verifier)
    }

    /// Says who the token's bearer is at this time.
    pub fn verify(&self, token: &str, now_unix_ms: u64) -> Result<Identity, AuthError> {
        self.identify(token, now_unix_ms).map_err(|denial| denial.error)
    }

    /// The same, and of a token that is not valid now, whose it is.
    pub fn identify(&self, token: &str, now_unix_ms: u64) -> Result<Identity, TokenDenial> {
        if token.is_empty() {
            return Err(AuthError::Missing.into());
        }
        if token.len() > TOKEN_BYTES_MAX {
            return Err(AuthError::TooLong.into());
        }
        let claims = self.decode(token)?;
        let leeway_ms = self.rules.leeway_s.saturating_mul(1000);
        let user = || claim_at(&claims, &self.rules.user_claim).and_then(user_id);
        let denied = |error| TokenDenial { error, user: user() };
        let expires_at = unix_ms(&claims, "exp")?.map(|at| at.saturating_add(leeway_ms));
        match expires_at {
            Some(at) if at <= now_unix_ms => return Err(denied(AuthError::Expired)),
            None if self.rules.expiry == Expiry::Required => return Err(denied(AuthError::Invalid)),
            _ => {}
        }
        let begins_at = unix_ms(&claims, "nbf")?.map(|at| at.saturating_sub(leeway_ms));
        if begins_at.is_some_and(|at| at > now_unix_ms) {
            return Err(denied(AuthError::NotYetValid));
        }
        let user = user().ok_or(AuthError::NoUser)?;
        let ends_at_unix_ms = expires_at.filter(|_| self.rules.after_expiry == AfterExpiry::Close);
        Ok(Identity { user, ends_at_unix_ms })
    }

    /// Whether one of the keys has signed it, for the issuer and audience of the rules; whatever else it says.
    pub fn has_signed(&self, token: &str) -> bool {
        self.decode(token).is_ok()
    }

    /// Whether newer keys are on their way, for a token whose key is not known.
    pub fn want_newer_keys(&self) -> Newer {
        self.rules.keyring.as_ref().map_or(Newer::NotYet, |keyring| keyring.want_newer())
    }

    /// The claims of a token that one of the keys has signed.
    fn decode(&self, token: &str) -> Result<Map<String, Value>, AuthError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| AuthError::Invalid)?;
        // RFC 7515 section 4.1.11: extensions that we do not know are critical to whoever signed.
        if header.crit.is_some() {
            return Err(AuthError::Invalid);
        }
        let fitting = self.keys.iter().filter(|(_, validation)| validation.algorithms.contains(&header.alg));
        let mut decoded = fitting.map(|(key, validation)| jsonwebtoken::decode(token, key, validation));
        if let Some(token) = decoded.find_map(Result::ok) {
            return Ok(token.claims);
        }
        let TokenRules { key_set, keyring, .. } = &self.rules;
        let fixed = match key_set.is_empty() {
            true => Err(AuthError::Invalid),
            false => self.decode_by_set(token, &header, key_set),
        };
        match keyring {
            Some(keyring) if fixed.is_err() => self.decode_by_set(token, &header, &keyring.keys()),
            _ => fixed,
        }
    }

    /// The same by the key of a set that the token names.
    fn decode_by_set(&self, token: &str, header: &Header, keys: &KeySet) -> Result<Map<String, Value>, AuthError> {
        if HMAC.contains(&header.alg) {
            return Err(AuthError::Invalid);
        }
        let decode = |key: &TokenKey| {
            let is_its = key.algorithms.contains(&header.alg);
            let validation = is_its.then(|| validation(&self.rules, &[header.alg]))?;
            jsonwebtoken::decode(token, &key.decoding, &validation).ok().map(|token| token.claims)
        };
        match &header.kid {
            Some(id) => {
                let mut named = keys.named(id).peekable();
                named.peek().ok_or(AuthError::UnknownKey)?;
                named.find_map(decode).ok_or(AuthError::Invalid)
            }
            None if keys.is_empty() => Err(AuthError::UnknownKey),
            None => keys.only_one_for(header.alg).and_then(decode).ok_or(AuthError::Invalid),
        }
    }

    /// Makes a token for a user, valid for `ttl_s` seconds from `now_s`. Needs a secret.
    pub fn mint(&self, user: &str, now_s: u64, ttl_s: u64) -> Result<String, jsonwebtoken::errors::Error> {
        let key = self.minting_key.as_ref().ok_or(jsonwebtoken::errors::ErrorKind::InvalidKeyFormat)?;
        let mut claims = claim_of(&self.rules.user_claim, user);
        claims.insert("iat".to_owned(), json!(now_s));
        claims.insert("exp".to_owned(), json!(now_s.saturating_add(ttl_s)));
        for (name, allowed) in [("iss", &self.rules.issuers), ("aud", &self.rules.audiences)] {
            if let Some(first) = allowed.first() {
                claims.insert(name.to_owned(), json!(first));
            }
        }
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, key)
    }
}

/// How one key's tokens are checked.
fn validation(rules: &TokenRules, algorithms: &[Algorithm]) -> Validation {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.algorithms = algorithms.to_vec();
    validation.leeway = 0;
    // Times are checked by `verify`, against the time that the caller gives.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    let mut required: Vec<&str> = Vec::new();
    if !rules.issuers.is_empty() {
        validation.set_issuer(&rules.issuers);
        required.push("iss");
    }
    validation.validate_aud = !rules.audiences.is_empty();
    if validation.validate_aud {
        validation.set_audience(&rules.audiences);
        required.push("aud");
    }
    validation.set_required_spec_claims(&required);
    validation
}

/// The credentials of `Authorization: Bearer ...`.
pub fn bearer(header: &str) -> Option<&str> {
    let (scheme, credentials) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| credentials.trim())
}

/// Whether a text may be a user's id.
pub fn is_user_id(user: &str) -> bool {
    !user.is_empty() && user.len() <= USER_BYTES_MAX
}

/// A claim by its name, or by the way to it through objects, its steps separated by dots. The name goes first: that of a
/// claim is often an address, with dots of its own.
pub fn claim_at<'c>(claims: &'c Map<String, Value>, path: &str) -> Option<&'c Value> {
    claims.get(path).or_else(|| {
        let (first, rest) = path.split_once('.')?;
        rest.split('.').try_fold(claims.get(first)?, |value, step| value.get(step))
    })
}

/// Claims that have a user's id where it is looked for.
fn claim_of(path: &str, user: &str) -> Map<String, Value> {
    let (first, rest) = match path.split_once('.') {
        Some((first, rest)) if !path.contains("://") => (first, Some(rest)),
        _ => (path, None),
    };
    let within = rest.into_iter().flat_map(|rest| rest.rsplit('.'));
    let value = within.fold(json!(user), |value, step| Value::Object(Map::from_iter([(step.to_owned(), value)])));
    Map::from_iter([(first.to_owned(), value)])
}

/// A claim as a user's id: databases that count their users write a number, which is the same user as its digits.
fn user_id(claim: &Value) -> Option<String> {
    match claim {
        Value::String(user) => is_user_id(user).then(|| user.clone()),
        Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        _ => None,
    }
}

/// A claim that is a time: a number of seconds since 1970, perhaps with a fraction (RFC 7519 section 2, NumericDate), here in
/// milliseconds. Times before 1970 are as good as that. Anything else under the name is refused.
fn unix_ms(claims: &Map<String, Value>, name: &str) -> Result<Option<u64>, AuthError> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    match value.as_u64() {
        Some(seconds) => Ok(Some(seconds.saturating_mul(1000))),
        #[expect(clippy::cast_possible_truncation, reason = "what is out of bounds is taken as the bound")]
        None => value.as_f64().map(|seconds| Some((seconds * 1000.0) as u64)).ok_or(AuthError::Invalid),
    }
}

#[cfg(test)]
mod tests;
