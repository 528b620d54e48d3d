//! What is kept for a user: the list of it, and taking it back.

use serde_json::{Value, json};
use sockring_protocol::http::Query;

use crate::events::iso_8601;
use crate::shard::{EventId, KeptView, Mail, Reply, USER_PREFIX, home_of};

use super::answer::{ApiAnswer, ApiError};
use super::fields::{decode_user, limit_of};
use super::shape::{Field, FieldForm, optional};
use super::{Api, gone};

/// Events of one answer.
const LISTED_MAX: u64 = 1000;
const LISTED: u64 = 100;

pub(super) const AFTER: Field = optional("after", FieldForm::EventId, "what is behind this event");
pub(super) const LIMIT: Field =
    optional("limit", FieldForm::Whole(1, LISTED_MAX), "up to so many events; default: 100");

/// `GET /user/:userId/kept`.
pub(super) async fn list(api: &Api, user: &str, query: Query<'_>) -> Result<ApiAnswer, ApiError> {
    let user = decode_user(user)?;
    let after = query.value("after").map(|id| parse_id("after", &id)).transpose()?;
    let limit = limit_of(query, LISTED_MAX, LISTED)?;
    let reply = ask_home(api, &user, |room| Mail::Kept { room, after, limit }).await?;
    let Reply::Kept { events, has_more, .. } = reply else { return Err(gone()) };
    let events: Vec<_> = events.iter().map(describe).collect();
    let message = if events.is_empty() { "Nothing is kept for the user" } else { "Kept events" };
    Ok(ApiAnswer::ok(json!({"events": events, "more": has_more}), message))
}

/// `DELETE /user/:userId/kept` and `DELETE /user/:userId/kept/:id`.
pub(super) async fn take_back(api: &Api, user: &str, id: Option<&str>) -> Result<ApiAnswer, ApiError> {
    let user = decode_user(user)?;
    let id = id.map(|id| parse_id("id", id)).transpose()?;
    let Reply::Changed(events) = ask_home(api, &user, |room| Mail::Unkeep { room, id }).await? else {
        return Err(gone());
    };
    let message = if events == 0 { "Nothing of this is kept" } else { "Taken back" };
    Ok(ApiAnswer::ok(json!({"events": events}), message))
}

fn parse_id(name: &str, text: &str) -> Result<EventId, ApiError> {
    EventId::parse(text).ok_or_else(|| ApiError::field(name, "is no id of an event"))
}

fn describe(event: &KeptView) -> Value {
    let KeptView { id, namespace, args, emitted_unix_ms, expires_unix_ms, is_sent } = event;
    let mut args = serde_json::from_slice::<Vec<Value>>(args).unwrap_or_default().into_iter();
    let event = args.next();
    json!({
        "id": id.text(),
        "namespace": namespace,
        "event": event,
        "args": args.collect::<Vec<_>>(),
        "emittedAt": iso_8601(*emitted_unix_ms),
        "expiresAt": iso_8601(*expires_unix_ms),
        "sent": is_sent,
    })
}

async fn ask_home(api: &Api, user: &str, mail: impl FnOnce(Box<str>) -> Mail) -> Result<Reply, ApiError> {
    let room: Box<str> = [USER_PREFIX, user].concat().into();
    let shards = u16::try_from(api.shards.len()).unwrap_or(u16::MAX);
    let home = api.shards.get(usize::from(home_of(&room, shards))).ok_or_else(gone)?;
    let answers = api.ask(vec![(home, vec![mail(room)])]).await;
    match answers.error {
        Some(error) => Err(error),
        None => answers.replies.into_iter().flatten().next().ok_or_else(gone),
    }
}

impl Api {
    /// How many events are kept for a user.
    pub(super) async fn kept_count(&self, user: &str) -> Result<u64, ApiError> {
        match ask_home(self, user, |room| Mail::Kept { room, after: None, limit: 0 }).await? {
            Reply::Kept { total, .. } => Ok(total),
            _ => Err(gone()),
        }
    }
}
