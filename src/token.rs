//! `sockring token`: makes tokens, and says of others whether clients with them are let in, and why not.

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use sockring::auth::keyring::{Fetch, Keyring};
use sockring::auth::{self, Expiry, TokenRules, Verifier};
use sockring::config::Settings;

use crate::jwks::KeySource;
use crate::out;

/// Makes a token for a user, signed with the secret of the settings.
pub(crate) fn mint(settings: &Settings, user: &str, ttl: Duration) -> Result<ExitCode, Box<dyn Error>> {
    let Some(secret) = settings.access_token_secret.clone() else {
        return Err("access_token_secret: must be set to sign a token (ACCESS_TOKEN_SECRET)".into());
    };
    if !auth::is_user_id(user) {
        return Err("--user: a user id has 1 to 128 bytes".into());
    }
    let verifier = Verifier::new(settings.token_rules(Some(secret)))?;
    out::line(verifier.mint(user, now()?.as_secs(), ttl.as_secs())?)?;
    Ok(ExitCode::SUCCESS)
}

/// Says whether a server with these settings lets a client with this token in; if not, all that is in its way, and which
/// setting would have it otherwise.
pub(crate) fn check(settings: &Settings, token: &str) -> Result<ExitCode, Box<dyn Error>> {
    let mut rules = settings.token_rules(settings.access_token_secret.clone());
    if let Some(jwks) = &settings.token_jwks {
        let keys = KeySource::new(jwks).fetch().map_err(|error| format!("{}: {error}", jwks.url))?;
        let (keyring, _wanted) = Keyring::new();
        keyring.on_fetched(Fetch::Ok, Some(keys));
        rules.keyring = Some(keyring);
    }
    if rules.keys.is_empty() && !settings.has_public_keys() {
        let settings = "ACCESS_TOKEN_SECRET, token_public_key_file, token_jwks_file or token_jwks_url";
        return Err(format!("there is no key to check it with: set {settings}").into());
    }
    let token = token.strip_prefix("Bearer ").unwrap_or(token).trim();
    let now_ms = u64::try_from(now()?.as_millis())?;
    match Verifier::new(rules.clone())?.verify(token, now_ms) {
        Ok(identity) => {
            let expires = claims_of(token).and_then(|claims| claims.get("exp").and_then(Value::as_f64)).map_or_else(
                || "it does not expire".to_owned(),
                |at| format!("it expires in {}", duration(at - seconds(now_ms))),
            );
            out::line(format_args!("valid: user `{}`; {expires}", identity.user))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            out::line(format_args!("refused: {error}"))?;
            for reason in reasons(&rules, token, now_ms)? {
                out::line(format_args!("  {reason}"))?;
            }
            Ok(ExitCode::FAILURE)
        }
    }
}

/// What is in the way of a token.
fn reasons(rules: &TokenRules, token: &str, now_ms: u64) -> Result<Vec<String>, Box<dyn Error>> {
    let (Some(header), Some(claims)) = (part(token, 0), claims_of(token)) else {
        return Ok(vec![
            "it is no JSON Web Token: three parts of base64url, separated by dots, the first two JSON".to_owned(),
        ]);
    };
    let mut reasons = Vec::new();
    let of_anybody = TokenRules { issuers: Vec::new(), audiences: Vec::new(), ..rules.clone() };
    if !Verifier::new(of_anybody)?.has_signed(token) {
        let algorithm = header.get("alg").and_then(Value::as_str).unwrap_or("none");
        let has_set = rules.keyring.is_some() || !rules.key_set.is_empty();
        let setting = match algorithm.starts_with("HS") {
            true => "access_token_secret",
            false if has_set => "token_jwks_url and token_jwks_file",
            false => "token_public_key_file",
        };
        let id = header.get("kid").and_then(Value::as_str).map(|id| format!(", kid `{id}`")).unwrap_or_default();
        reasons.push(format!("its signature ({algorithm}{id}) is of no key of the settings: see {setting}"));
    }
    for (claim, wanted, setting) in
        [("iss", &rules.issuers, "token_issuer"), ("aud", &rules.audiences, "token_audience")]
    {
        if wanted.is_empty() {
            continue;
        }
        let is_it = |value: &Value| value.as_str().is_some_and(|value| wanted.iter().any(|wanted| wanted == value));
        let fits = match claims.get(claim) {
            Some(Value::Array(values)) => values.iter().any(is_it),
            value => value.is_some_and(is_it),
        };
        if !fits {
            let there = claims.get(claim).map_or_else(|| "missing".to_owned(), |value| format!("{value}"));
            let wanted: Vec<_> = wanted.iter().map(|wanted| format!("\"{wanted}\"")).collect();
            reasons.push(format!("its `{claim}` is {there}, and {setting} wants {}", wanted.join(" or ")));
        }
    }
    let leeway = rules.leeway_s;
    match claims.get("exp").map(Value::as_f64) {
        None if rules.expiry == Expiry::Required => {
            reasons.push("it has no `exp`, and token_require_exp wants one".to_owned())
        }
        None => {}
        Some(None) => reasons.push("its `exp` is no number of seconds since 1970".to_owned()),
        Some(Some(at)) if at + leeway_seconds(leeway) <= seconds(now_ms) => {
            let ago = duration(seconds(now_ms) - at);
            reasons.push(format!("it expired {ago} ago; token_leeway_s forgives {leeway} s"));
        }
        Some(Some(at)) if at > 1e11 => reasons.push("its `exp` is in milliseconds, and means seconds".to_owned()),
        Some(Some(_)) => {}
    }
    match claims.get("nbf").map(Value::as_f64) {
        None => {}
        Some(None) => reasons.push("its `nbf` is no number of seconds since 1970".to_owned()),
        Some(Some(at)) if at - leeway_seconds(leeway) > seconds(now_ms) => {
            reasons.push(format!(
                "it is valid in {} only (`nbf`): does a clock go wrong?",
                duration(at - seconds(now_ms))
            ));
        }
        Some(Some(_)) => {}
    }
    match auth::claim_at(&claims, &rules.user_claim) {
        None => {
            let others: Vec<&str> = claims.keys().map(String::as_str).filter(|name| !is_registered(name)).collect();
            let hint = match others.as_slice() {
                [] => "it has none that could be one".to_owned(),
                names => format!("user_claim may be one of those that it has: {}", names.join(", ")),
            };
            reasons.push(format!("the claim `{}`, the user's id, is missing; {hint}", rules.user_claim));
        }
        Some(Value::String(user)) if auth::is_user_id(user) => {}
        Some(user) if user.is_i64() || user.is_u64() => {}
        Some(_) => {
            let said = "is neither a text of 1 to 128 bytes nor a whole number";
            reasons.push(format!("its `{}` {said}", rules.user_claim));
        }
    }
    Ok(reasons)
}

/// Claims that are no user's id (RFC 7519 section 4.1); `sub` may well be one.
fn is_registered(claim: &str) -> bool {
    matches!(claim, "iss" | "aud" | "exp" | "nbf" | "iat" | "jti")
}

fn claims_of(token: &str) -> Option<Map<String, Value>> {
    token.split('.').nth(2)?;
    part(token, 1)
}

/// A part of a token as JSON, unverified.
fn part(token: &str, index: usize) -> Option<Map<String, Value>> {
    let bytes = URL_SAFE_NO_PAD.decode(token.split('.').nth(index)?).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn now() -> Result<Duration, std::time::SystemTimeError> {
    SystemTime::now().duration_since(UNIX_EPOCH)
}

fn seconds(unix_ms: u64) -> f64 {
    Duration::from_millis(unix_ms).as_secs_f64()
}

fn leeway_seconds(leeway_s: u64) -> f64 {
    Duration::from_secs(leeway_s).as_secs_f64()
}

/// As `2h 5m`; of what is too long to be meant, the number of seconds.
fn duration(seconds: f64) -> String {
    Duration::try_from_secs_f64(seconds.round())
        .map_or_else(|_| format!("{seconds} s"), |time| humantime::format_duration(time).to_string())
}
