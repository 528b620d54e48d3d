//! Tokens for the page: in development whoever may use the API gets one for any user.

use serde_json::json;

use crate::events::iso_8601;

use super::answer::{ApiAnswer, ApiError};
use super::emit::{USER, USER_ID};
use super::fields::Fields;
use super::shape::{Field, FieldForm, Rule, Shape, optional};
use super::{Api, unix_ms};

/// Of a token, where nothing else is said, and at the most.
const TTL_S: u64 = 3_600;
const TTL_S_MAX: u64 = 7 * 24 * 3_600;

const TTL: Field = optional("ttl", FieldForm::Whole(1, TTL_S_MAX), "seconds for which it is valid; default: 3600");
pub(super) const TOKEN: Shape = Shape { fields: &[USER_ID, USER, TTL], rules: &[Rule::OneOf(&["userId", "user"])] };

/// `POST /test/token`.
pub(super) fn mint(api: &Api, body: &[u8]) -> Result<ApiAnswer, ApiError> {
    let fields = Fields::decode(body)?;
    fields.only(&TOKEN)?;
    let user = fields.either_id(&USER_ID, &USER)?.ok_or_else(|| fields.refuse("userId", "is required"))?;
    let ttl_s = fields.seconds(&TTL, TTL_S_MAX)?.unwrap_or(TTL_S);
    let now_s = unix_ms() / 1_000;
    let token = api.verifier.as_ref().and_then(|verifier| verifier.load().mint(&user, now_s, ttl_s).ok());
    let elsewhere = "the tokens of this server are signed elsewhere: it has no access_token_secret";
    let token = token.ok_or_else(|| ApiError::new(409, elsewhere))?;
    let expires_at = iso_8601((now_s + ttl_s) * 1_000);
    Ok(ApiAnswer::ok(json!({"userId": user, "token": token, "expiresAt": expires_at}), "Token minted"))
}
