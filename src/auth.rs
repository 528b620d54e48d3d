//! Who a client is: tokens are verified and minted here. It reads no clock; the time is an argument.

use std::fmt;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Map, Value, json};

/// A token longer than this is refused unread.
const TOKEN_BYTES_MAX: usize = 8192;
/// A user id longer than this is refused.
pub const USER_BYTES_MAX: usize = 128;
const HMAC: [Algorithm; 3] = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];

/// Why a token was not accepted. The client hears only `Missing` or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthError {
    Missing,
    TooLong,
    /// Not a token, a wrong signature, an algorithm that does not go with the key, a wrong issuer or audience.
    Invalid,
    Expired,
    NotYetValid,
    /// No user id, or one that is not a string of 1 to 128 bytes.
    NoUser,
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AuthError::Missing => "no token",
            AuthError::TooLong => "the token is too long",
            AuthError::Invalid => "the token is not valid",
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
    /// When its sockets have to end, in Unix seconds.
    pub ends_at: Option<u64>,
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

/// A key that tokens may be signed with. The algorithms follow from it, never from the token.
#[derive(Clone)]
pub struct TokenKey {
    decoding: DecodingKey,
    algorithms: Vec<Algorithm>,
}

impl TokenKey {
    /// HS256, HS384 and HS512.
    pub fn from_secret(secret: &str) -> TokenKey {
        TokenKey { decoding: DecodingKey::from_secret(secret.as_bytes()), algorithms: HMAC.to_vec() }
    }

    /// RS256, ES256 or EdDSA, by what the PEM file of a public key holds. `None` if it holds none of these.
    pub fn from_pem(pem: &[u8]) -> Option<TokenKey> {
        let key = |decoding, algorithm| TokenKey { decoding, algorithms: vec![algorithm] };
        None.or_else(|| DecodingKey::from_rsa_pem(pem).ok().map(|decoding| key(decoding, Algorithm::RS256)))
            .or_else(|| DecodingKey::from_ec_pem(pem).ok().map(|decoding| key(decoding, Algorithm::ES256)))
            .or_else(|| DecodingKey::from_ed_pem(pem).ok().map(|decoding| key(decoding, Algorithm::EdDSA)))
    }
}

impl fmt::Debug for TokenKey {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").field("algorithms", &self.algorithms).finish_non_exhaustive()
    }
}

/// What a token must satisfy.
#[derive(Clone, Debug, Default)]
pub struct TokenRules {
    /// Any of these may have signed it.
    pub keys: Vec<TokenKey>,
    /// Signs the tokens that are minted here.
    pub minting_secret: Option<String>,
    pub expiry: Expiry,
    pub after_expiry: AfterExpiry,
    /// How far the clocks of whoever signs may be off.
    pub leeway_s: u64,
    /// The claim that holds the user's id.
    pub user_claim: String,
    pub issuer: Option<String>,
    pub audience: Option<String>,
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
        if token.is_empty() {
            return Err(AuthError::Missing);
        }
        if token.len() > TOKEN_BYTES_MAX {
            return Err(AuthError::TooLong);
        }
        let claims = self.decode(token)?;
        let expires_at = seconds(&claims, "exp")?.map(|at| at.saturating_add(self.rules.leeway_s));
        match expires_at {
            Some(at) if at.saturating_mul(1000) <= now_unix_ms => return Err(AuthError::Expired),
            None if self.rules.expiry == Expiry::Required => return Err(AuthError::Invalid),
            _ => {}
        }
        let begins_at = seconds(&claims, "nbf")?.map(|at| at.saturating_sub(self.rules.leeway_s));
        if begins_at.is_some_and(|at| at.saturating_mul(1000) > now_unix_ms) {
            return Err(AuthError::NotYetValid);
        }
        match claims.get(&self.rules.user_claim) {
            Some(Value::String(user)) if is_user_id(user) => {
                let ends_at = expires_at.filter(|_| self.rules.after_expiry == AfterExpiry::Close);
                Ok(Identity { user: user.clone(), ends_at })
            }
            _ => Err(AuthError::NoUser),
        }
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
        decoded.find_map(Result::ok).map(|token| token.claims).ok_or(AuthError::Invalid)
    }

    /// Makes a token for a user, valid for `ttl_s` seconds from `now_s`. Needs a secret.
    pub fn mint(&self, user: &str, now_s: u64, ttl_s: u64) -> Result<String, jsonwebtoken::errors::Error> {
        let key = self.minting_key.as_ref().ok_or(jsonwebtoken::errors::ErrorKind::InvalidKeyFormat)?;
        let mut claims = Map::new();
        claims.insert(self.rules.user_claim.clone(), json!(user));
        claims.insert("iat".to_owned(), json!(now_s));
        claims.insert("exp".to_owned(), json!(now_s.saturating_add(ttl_s)));
        if let Some(issuer) = &self.rules.issuer {
            claims.insert("iss".to_owned(), json!(issuer));
        }
        if let Some(audience) = &self.rules.audience {
            claims.insert("aud".to_owned(), json!(audience));
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
    match &rules.issuer {
        Some(issuer) => {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        None => validation.iss = None,
    }
    match &rules.audience {
        Some(audience) => {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        None => validation.validate_aud = false,
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

/// A claim in whole seconds; anything else under that name is refused.
fn seconds(claims: &Map<String, Value>, name: &str) -> Result<Option<u64>, AuthError> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or(AuthError::Invalid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    const NOW_S: u64 = 1_700_000_000;

    fn rules() -> TokenRules {
        TokenRules {
            keys: vec![TokenKey::from_secret("secret")],
            minting_secret: Some("secret".to_owned()),
            user_claim: "_id".to_owned(),
            ..TokenRules::default()
        }
    }

    fn sign(header: Header, claims: Value, secret: &str) -> String {
        jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    }

    fn verify(token: &str) -> Result<String, AuthError> {
        Verifier::new(rules()).unwrap().verify(token, NOW_S * 1000).map(|identity| identity.user)
    }

    #[test]
    fn a_minted_token_is_valid_until_the_second_it_expires() {
        let verifier = Verifier::new(rules()).unwrap();
        let token = verifier.mint("alice", NOW_S, 60).unwrap();
        let identity = Identity { user: "alice".to_owned(), ends_at: None };
        assert_eq!(verifier.verify(&token, (NOW_S + 60) * 1000 - 1), Ok(identity));
        assert_eq!(verifier.verify(&token, (NOW_S + 60) * 1000), Err(AuthError::Expired));
    }

    #[test]
    fn leeway_moves_both_ends_and_a_socket_may_have_to_end_with_its_token() {
        let rules = TokenRules { leeway_s: 5, after_expiry: AfterExpiry::Close, ..rules() };
        let verifier = Verifier::new(rules).unwrap();
        let claims = json!({"_id": "a", "nbf": NOW_S + 10, "exp": NOW_S + 60});
        let token = sign(Header::new(Algorithm::HS256), claims, "secret");
        let at = |seconds: u64| verifier.verify(&token, (NOW_S + seconds) * 1000);
        assert_eq!(at(4), Err(AuthError::NotYetValid));
        let identity = Identity { user: "a".to_owned(), ends_at: Some(NOW_S + 65) };
        assert_eq!((at(5), at(64), at(65)), (Ok(identity.clone()), Ok(identity), Err(AuthError::Expired)));
    }

    #[test]
    fn all_hmac_sizes_pass_and_nothing_else() {
        for algorithm in HMAC {
            let token = sign(Header::new(algorithm), json!({"_id": "a"}), "secret");
            assert_eq!(verify(&token), Ok("a".to_owned()), "{algorithm:?}");
        }
        let none = format!(
            "{}.{}.",
            URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#),
            URL_SAFE_NO_PAD.encode(r#"{"_id":"a"}"#)
        );
        let other_secret = sign(Header::new(Algorithm::HS256), json!({"_id": "a"}), "other");
        for token in [none.as_str(), other_secret.as_str(), "a.b.c", "..", "x", "\u{0}"] {
            assert_eq!(verify(token), Err(AuthError::Invalid), "{token}");
        }
        assert_eq!(verify(""), Err(AuthError::Missing));
        assert_eq!(verify(&"a".repeat(1 << 20)), Err(AuthError::TooLong));
    }

    #[test]
    fn a_previous_secret_stays_valid_and_new_tokens_use_the_new_one() {
        let old = Verifier::new(rules()).unwrap().mint("a", NOW_S, 60).unwrap();
        let keys = vec![TokenKey::from_secret("new"), TokenKey::from_secret("secret")];
        let rotated = Verifier::new(TokenRules { keys, minting_secret: Some("new".to_owned()), ..rules() }).unwrap();
        let new = rotated.mint("a", NOW_S, 60).unwrap();
        assert!(rotated.verify(&old, NOW_S * 1000).is_ok() && rotated.verify(&new, NOW_S * 1000).is_ok());
        assert_eq!(verify(&new), Err(AuthError::Invalid));
    }

    #[test]
    fn a_public_key_brings_its_algorithm_and_no_other() {
        const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
            MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n\
            -----END PUBLIC KEY-----\n";
        // The private key of RFC 8032 section 7.1, test 1.
        const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n\
            MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
            -----END PRIVATE KEY-----\n";
        let key = TokenKey::from_pem(PUBLIC.as_bytes()).unwrap();
        let verifier = Verifier::new(TokenRules { keys: vec![key], minting_secret: None, ..rules() }).unwrap();
        let signed = jsonwebtoken::encode(
            &Header::new(Algorithm::EdDSA),
            &json!({"_id": "a"}),
            &EncodingKey::from_ed_pem(PRIVATE.as_bytes()).unwrap(),
        );
        assert!(verifier.verify(&signed.unwrap(), NOW_S * 1000).is_ok());
        // The public key is no secret: a token "signed" with its text must not pass.
        let confused = sign(Header::new(Algorithm::HS256), json!({"_id": "a"}), PUBLIC);
        assert_eq!(verifier.verify(&confused, NOW_S * 1000), Err(AuthError::Invalid));
        assert!(TokenKey::from_pem(b"nonsense").is_none());
    }

    #[test]
    fn tokens_that_never_expire_pass_unless_that_is_required() {
        let forever = sign(Header::new(Algorithm::HS256), json!({"_id": "a"}), "secret");
        assert!(verify(&forever).is_ok());
        let strict = Verifier::new(TokenRules { expiry: Expiry::Required, ..rules() }).unwrap();
        assert_eq!(strict.verify(&forever, NOW_S * 1000), Err(AuthError::Invalid));
    }

    #[test]
    fn critical_extensions_are_refused() {
        let header = Header { crit: Some(vec!["exp-v2".to_owned()]), ..Header::new(Algorithm::HS256) };
        assert_eq!(verify(&sign(header, json!({"_id": "a"}), "secret")), Err(AuthError::Invalid));
    }

    #[test]
    fn claims_of_the_wrong_type_are_refused() {
        let header = || Header::new(Algorithm::HS256);
        let table = [
            (json!({"_id": "a", "exp": "2999999999"}), AuthError::Invalid),
            (json!({"_id": "a", "exp": 2_999_999_999.5}), AuthError::Invalid),
            (json!({"_id": "a", "exp": -1}), AuthError::Invalid),
            (json!({"_id": "a", "exp": 1}), AuthError::Expired),
            (json!({"_id": "a", "exp": null}), AuthError::Invalid),
            (json!({"_id": "a", "nbf": NOW_S + 1}), AuthError::NotYetValid),
            (json!({"_id": ""}), AuthError::NoUser),
            (json!({"_id": 7}), AuthError::NoUser),
            (json!({"sub": "a"}), AuthError::NoUser),
            (json!({"_id": "a".repeat(129)}), AuthError::NoUser),
        ];
        for (claims, error) in table {
            assert_eq!(verify(&sign(header(), claims.clone(), "secret")), Err(error), "{claims}");
        }
        assert_eq!(verify(&sign(header(), json!({"_id": "a", "exp": u64::MAX}), "secret")), Ok("a".to_owned()));
    }

    #[test]
    fn issuer_and_audience_count_once_they_are_set() {
        let strict = TokenRules { issuer: Some("us".to_owned()), audience: Some("app".to_owned()), ..rules() };
        let strict = Verifier::new(strict).unwrap();
        let header = || Header::new(Algorithm::HS256);
        for (claims, passes) in [
            (json!({"_id": "a", "iss": "us", "aud": "app"}), true),
            (json!({"_id": "a", "iss": "us"}), false),
            (json!({"_id": "a", "aud": "app"}), false),
            (json!({"_id": "a", "iss": "them", "aud": "app"}), false),
        ] {
            let token = sign(header(), claims.clone(), "secret");
            assert_eq!(strict.verify(&token, NOW_S * 1000).is_ok(), passes, "{claims}");
        }
        // Unset, any audience passes.
        assert!(verify(&sign(header(), json!({"_id": "a", "aud": "x", "iss": "y"}), "secret")).is_ok());
    }
}
