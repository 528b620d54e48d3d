//! The product: clients prove who they are, join their user's room and are greeted; what they send is ignored.

use std::sync::Arc;

use arc_swap::ArcSwap;
use simd_json::prelude::ValueAsScalar;
use simd_json::prelude::ValueObjectAccess;

use crate::auth::keyring::Newer;
use crate::auth::{AuthError, TokenDenial, Verifier, bearer};
use crate::events::{self, Connected};

use super::{Action, Actions, Admission, Application, ConnectRequest, Refusal, RefusalReason, SocketInfo};

/// How long a CONNECT waits for the key of its token to be fetched.
const KEY_PATIENCE_MS: u64 = 2_000;

/// Notifications to users. Events from clients do nothing, whatever they are called.
#[derive(Clone, Debug)]
pub struct Notifications {
    /// Replaced when the operator replaces the secrets.
    verifier: Arc<ArcSwap<Verifier>>,
    /// What `server` is in every payload: the environment's name.
    server: Arc<str>,
    /// simd-json parses in place and destroys what it parses.
    scratch: Vec<u8>,
}

impl Notifications {
    pub fn new(verifier: Arc<ArcSwap<Verifier>>, server: Arc<str>) -> Notifications {
        Notifications { verifier, server, scratch: Vec::new() }
    }

    /// The token of the CONNECT payload, else the bearer of the handshake.
    fn token<'s>(&'s mut self, request: &ConnectRequest<'s>) -> Result<String, AuthError> {
        if let Some(payload) = request.payload {
            self.scratch.clear();
            self.scratch.extend_from_slice(payload.as_bytes());
            let value = simd_json::to_borrowed_value(&mut self.scratch).map_err(|_| AuthError::Invalid)?;
            match value.get("token") {
                None => {}
                Some(token) => match token.as_str() {
                    Some("") => {}
                    Some(token) => return Ok(token.to_owned()),
                    None if is_null(token) => {}
                    None => return Err(AuthError::Invalid),
                },
            }
        }
        let bearer = request.authorization.and_then(bearer).filter(|token| !token.is_empty());
        bearer.map(str::to_owned).ok_or(AuthError::Missing)
    }
}

impl Application for Notifications {
    fn admit(&mut self, request: &ConnectRequest<'_>) -> Result<Admission, Refusal> {
        let verifier = self.verifier.load();
        let token = self.token(request).map_err(TokenDenial::from);
        let identify =
            || token.as_ref().map_err(Clone::clone).and_then(|token| verifier.identify(token, request.now_unix_ms));
        let mut identity = identify();
        let mut wait_ms = 0;
        if identity.as_ref().is_err_and(|denial| denial.error == AuthError::UnknownKey) {
            match verifier.want_newer_keys() {
                Newer::Coming => wait_ms = KEY_PATIENCE_MS,
                // They may have come since they were looked at.
                Newer::NotYet => identity = identify(),
            }
        }
        match identity {
            Ok(identity) => Ok(Admission { user: Some(identity.user), ends_at_unix_ms: identity.ends_at_unix_ms }),
            Err(TokenDenial { error, user }) => {
                tracing::trace!(%error, "a token was refused");
                Err(Refusal { wait_ms, user, ..refusal(error) })
            }
        }
    }

    fn connected(&mut self, socket: &SocketInfo<'_>, _: &ConnectRequest<'_>, actions: &mut Actions) {
        let payload = Connected {
            message: "Connected to the notification server",
            user_id: socket.user.unwrap_or_default(),
            socket_id: socket.sid,
            timestamp: events::iso_8601(socket.now_unix_ms),
            server: &self.server,
            recovered: socket.is_recovered,
        };
        let args = events::args(events::CONNECTED, &payload);
        actions.push(Action::Emit { ack: None, args, attachments: Vec::new() });
    }
}

/// The words of the guide, and a code for those who want to know more.
fn refusal(error: AuthError) -> Refusal {
    let (message, reason) = match error {
        AuthError::Missing => ("Authentication token required", RefusalReason::TokenMissing),
        AuthError::Expired => ("Authentication failed", RefusalReason::TokenExpired),
        AuthError::UnknownKey => ("Authentication failed", RefusalReason::KeyUnknown),
        AuthError::NoUser => ("Authentication failed", RefusalReason::UserMissing),
        AuthError::TooLong | AuthError::Invalid | AuthError::NotYetValid => {
            ("Authentication failed", RefusalReason::TokenInvalid)
        }
    };
    Refusal { message: message.into(), reason, wait_ms: 0, user: None }
}

fn is_null(value: &simd_json::BorrowedValue<'_>) -> bool {
    value.as_null().is_some()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::TokenRules;
    use crate::auth::key::TokenKey;

    fn rules() -> TokenRules {
        TokenRules {
            keys: vec![TokenKey::from_secret("secret")],
            minting_secret: Some("secret".to_owned()),
            user_claim: "_id".to_owned(),
            ..TokenRules::default()
        }
    }

    fn admit(payload: Option<&str>, authorization: Option<&str>) -> Result<Admission, Refusal> {
        let mut app =
            Notifications::new(Arc::new(ArcSwap::from_pointee(Verifier::new(rules()).unwrap())), "test".into());
        app.admit(&ConnectRequest { namespace: "/", payload, authorization, now_unix_ms: 1_000_000 })
    }

    fn token() -> String {
        Verifier::new(rules()).unwrap().mint("alice", 1_000, 60).unwrap()
    }

    #[test]
    fn the_token_is_looked_for_in_the_payload_and_then_in_the_header() {
        let alice = Ok(Admission { user: Some("alice".to_owned()), ends_at_unix_ms: None });
        let payload = format!(r#"{{"token":"{}"}}"#, token());
        let header = format!("Bearer {}", token());
        assert_eq!(admit(Some(&payload), None), alice);
        assert_eq!(admit(None, Some(&header)), alice);
        assert_eq!(admit(Some(r#"{"token":null}"#), Some(&header)), alice);
        assert_eq!(admit(Some(r#"{"token":""}"#), Some(&header)), alice);
        // A wrong one in the payload is not healed by the header.
        assert!(admit(Some(r#"{"token":"x"}"#), Some(&header)).is_err());
    }

    #[test]
    fn refusals_have_the_words_of_the_guide() {
        let words = |result: Result<Admission, Refusal>| result.unwrap_err().message.into_owned();
        let code = |claims: serde_json::Value| {
            crate::auth::signatures::install();
            let key = jsonwebtoken::EncodingKey::from_secret(b"secret");
            let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
            let refusal = admit(Some(&format!(r#"{{"token":"{token}"}}"#)), None).unwrap_err();
            assert_eq!(refusal.message, "Authentication failed");
            refusal.reason.code()
        };
        for (claims, expected) in [
            (json!({"_id": "a", "exp": 999}), "token_expired"),
            (json!({"_id": "a", "nbf": 1001}), "token_invalid"),
            (json!({"_id": "a", "exp": "soon"}), "token_invalid"),
            (json!({"sub": "a"}), "user_missing"),
            (json!({"_id": ""}), "user_missing"),
        ] {
            assert_eq!(code(claims.clone()), Some(expected), "{claims}");
        }
        assert_eq!(admit(None, None).unwrap_err().reason.code(), Some("token_missing"));
        assert_eq!(admit(None, Some("Bearer x")).unwrap_err().reason.code(), Some("token_invalid"));
        for payload in [None, Some("{}"), Some(r#"{"token":""}"#), Some(r#"{"token":null}"#)] {
            assert_eq!(words(admit(payload, None)), "Authentication token required", "{payload:?}");
        }
        for payload in [r#"{"token":"x"}"#, r#"{"token":7}"#, r#"{"token":{}}"#, r#"{"token":"\ud800"}"#] {
            assert_eq!(words(admit(Some(payload), None)), "Authentication failed", "{payload}");
        }
        assert_eq!(words(admit(None, Some("Basic abc"))), "Authentication token required");
        assert_eq!(words(admit(None, Some("Bearer abc"))), "Authentication failed");
    }
}
