//! What the bodies of emits say, for those who read them without a server.

use sockring_protocol::adapter::Broadcast;

use super::answer::ApiError;
use super::emit::{self, KeepRules};
use super::fields::Fields;

/// As the settings have them by default.
const RULES: KeepRules = KeepRules { default_s: 0, ttl_max_s: 86_400 };

/// What is wrong with a body, or with one of its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyError {
    /// 400: it is not of the right kind; 422: one of its fields is not.
    pub status: u16,
    /// The field, as `rooms[2]`; empty: the body as a whole.
    pub path: String,
    pub message: String,
}

impl From<ApiError> for BodyError {
    fn from(error: ApiError) -> BodyError {
        let path = error.errors.into_iter().next().map(|error| error.path).unwrap_or_default();
        BodyError { status: error.status, path, message: error.message }
    }
}

/// The body of an emit that reaches the server of this name at this time.
pub fn decode_emit(body: &[u8], server: &str, now_unix_ms: u64) -> Result<Broadcast, BodyError> {
    Ok(emit::decode(&Fields::decode(body)?, server, RULES, now_unix_ms)?.broadcast)
}

/// A batch of at most so many, each of which may be wrong for itself.
pub fn decode_emits(
    body: &[u8],
    count_max: usize,
    server: &str,
    now_unix_ms: u64,
) -> Result<Vec<Result<Broadcast, BodyError>>, BodyError> {
    let entries = Fields::decode_list(body, count_max)?;
    Ok(entries.iter().map(|entry| Ok(emit::decode(entry, server, RULES, now_unix_ms)?.broadcast)).collect())
}
