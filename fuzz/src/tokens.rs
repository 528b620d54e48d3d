//! `tokens`: who a token says its bearer is, and that nobody says so but who has the key.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::Value;
use sockring::auth::key::TokenKey;
use sockring::auth::{AuthError, TokenRules, USER_BYTES_MAX, Verifier, bearer};

use crate::text_of;

const SECRET: &str = "a secret of 32 bytes and a little";
const NOW_MS: u64 = 1_700_000_000_000;

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let rules = TokenRules {
        keys: vec![TokenKey::from_secret(SECRET)],
        minting_secret: Some(SECRET.to_owned()),
        user_claim: "userId".to_owned(),
        ..TokenRules::default()
    };
    Verifier::new(rules).expect("a verifier")
});

/// Takes the first line as a token's header and the rest as its claims, and all of the text as a token, and as a header
/// that brings one.
pub fn tokens(data: &[u8]) {
    let text = text_of(data);
    let stranger = VERIFIER.verify(text, NOW_MS);
    assert!(stranger.is_err(), "nobody has signed {text:?}");
    assert_eq!(stranger == Err(AuthError::Missing), text.is_empty());
    if let Some(credentials) = bearer(text) {
        assert!(text.len() > "bearer ".len() - 1 && text.ends_with(|_| true) && text.contains(credentials));
        assert!(text[..6].eq_ignore_ascii_case("bearer"));
    }
    let (header, claims) = text.split_once('\n').unwrap_or((r#"{"alg":"HS256"}"#, text));
    let unsigned = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let verdict = VERIFIER.verify(&sign(&unsigned, SECRET), NOW_MS);
    assert!(VERIFIER.verify(&sign(&unsigned, "another secret"), NOW_MS).is_err(), "signed by a stranger");
    assert!(VERIFIER.verify(&format!("{unsigned}."), NOW_MS).is_err(), "signed by nobody");
    let header: Option<Value> = serde_json::from_str(header).ok();
    let claims: Option<Value> = serde_json::from_str(claims).ok();
    if let Ok(identity) = &verdict {
        let (header, claims) = (header.expect("a header"), claims.expect("claims"));
        assert_eq!(header["alg"], "HS256", "what the key is for decides");
        assert!(header.get("crit").is_none_or(Value::is_null), "what is critical has to be known");
        let user = match &claims["userId"] {
            Value::String(user) => user.clone(),
            other => other.to_string(),
        };
        assert_eq!(identity.user, user);
        assert!((1..=USER_BYTES_MAX).contains(&user.len()));
        assert_eq!(identity.ends_at_unix_ms, None);
        times(&claims, &unsigned);
    } else if let (Some(Value::Object(header)), Some(Value::Object(claims))) = (header, claims) {
        let is_plain = header.len() == 1 && header.get("alg").is_some_and(|alg| alg == "HS256");
        let is_user = claims.get("userId").and_then(Value::as_str).is_some_and(|user| (1..=128).contains(&user.len()));
        assert!(!(is_plain && is_user && claims.len() == 1), "a token that says who it is, and nothing else");
    }
}

/// A token holds until the moment at which it expires, and from the one at which it begins.
fn times(claims: &Value, unsigned: &str) {
    let token = sign(unsigned, SECRET);
    if let Some(expires) = claims["exp"].as_u64().and_then(|seconds| seconds.checked_mul(1000)) {
        assert!(expires > NOW_MS);
        assert_eq!(VERIFIER.verify(&token, expires), Err(AuthError::Expired));
        assert!(VERIFIER.verify(&token, expires - 1).is_ok());
    }
    if let Some(begins) = claims["nbf"].as_u64().and_then(|seconds| seconds.checked_mul(1000)).filter(|at| *at > 0) {
        assert!(begins <= NOW_MS);
        assert_eq!(VERIFIER.verify(&token, begins - 1), Err(AuthError::NotYetValid));
    }
}

fn sign(unsigned: &str, secret: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    format!("{unsigned}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, unsigned.as_bytes())))
}
