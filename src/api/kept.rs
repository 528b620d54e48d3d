//! What is kept for a user: the list of it, and taking it back.

use std::sync::Arc;

use serde_json::{Value, json};
use sockring_protocol::adapter::Broadcast;
use sockring_protocol::http::Query;

use crate::events::iso_8601;
use crate::shard::{EventId, KeptBy, KeptMark, KeptView, Mail, Reply, home_of};

use super::answer::{ApiAnswer, ApiError};
use super::emit::user_room;
use super::fields::{decode_user, limit_of};
use super::shape::{Field, FieldForm, optional};
use super::{Api, gone, unix_ms};

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
    let kept = api.kept_for(&user).await?;
    let mut events = kept.iter().filter(|event| after.is_none_or(|after| event.id > after));
    let listed: Vec<_> = events.by_ref().take(limit).map(describe).collect();
    let (has_more, events) = (events.next().is_some(), listed);
    let message = if events.is_empty() { "Nothing is kept for the user" } else { "Kept events" };
    Ok(ApiAnswer::ok(json!({"events": events, "more": has_more}), message))
}

/// `DELETE /user/:userId/kept` and `DELETE /user/:userId/kept/:id`.
pub(super) async fn take_back(api: &Api, user: &str, id: Option<&str>) -> Result<ApiAnswer, ApiError> {
    let user = decode_user(user)?;
    let id = id.map(|id| parse_id("id", id)).transpose()?;
    let events = api.unkeep(&user, id).await?;
    let message = if events == 0 { "Nothing of this is kept" } else { "Taken back" };
    Ok(ApiAnswer::ok(json!({"events": events}), message))
}

fn parse_id(name: &str, text: &str) -> Result<EventId, ApiError> {
    EventId::parse(text).ok_or_else(|| ApiError::field(name, "is no id of an event"))
}

fn describe(event: &KeptView) -> Value {
    let KeptView { id, namespace, args, emitted_unix_ms, expires_unix_ms, is_sent, .. } = event;
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
    let room = user_room(user);
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
        Ok(self.kept_for(user).await?.len() as u64)
    }

    /// What is kept for a user, by Redis and here, in the order in which it was emitted.
    async fn kept_for(&self, user: &str) -> Result<Vec<KeptView>, ApiError> {
        let reply = ask_home(self, user, |room| Mail::Kept { room, after: None, limit: usize::MAX }).await?;
        let Reply::Kept { events: mut kept, .. } = reply else { return Err(gone()) };
        let Some(cluster) = &self.cluster else { return Ok(kept) };
        let (room, now) = (user_room(user), unix_ms());
        for namespace in &self.engine.namespaces {
            let Some(found) = cluster.kept_for(namespace, &room).await else { continue };
            let found: Vec<_> = found.iter().filter_map(|event| view(event, now)).collect();
            // What Redis does not have any more was received elsewhere.
            let is_kept = |view: &KeptView| view.by != KeptBy::Bus || found.iter().any(|other| other.id == view.id);
            kept.retain(|view| *view.namespace != **namespace || is_kept(view));
            let is_new = |event: &KeptView, kept: &[KeptView]| !kept.iter().any(|view| view.id == event.id);
            for event in found {
                if is_new(&event, &kept) {
                    kept.push(event);
                }
            }
        }
        kept.sort_by_key(|event| event.id);
        Ok(kept)
    }

    /// Takes back what is kept for a user: one event, or all; says how many were kept.
    async fn unkeep(&self, user: &str, id: Option<EventId>) -> Result<u64, ApiError> {
        let mut in_redis = None;
        if let Some(cluster) = &self.cluster {
            let (room, now) = (user_room(user), unix_ms());
            for namespace in &self.engine.namespaces {
                let Some(found) = cluster.kept_for(namespace, &room).await else { continue };
                let ids = found.iter().filter_map(|event| Some(view(event, now)?.id));
                let ids: Vec<_> = ids.filter(|kept| id.is_none_or(|id| *kept == id)).collect();
                let taken = if ids.is_empty() { Some(0) } else { cluster.unkeep(namespace, &room, &ids).await };
                in_redis = in_redis.or(Some(0)).zip(taken).map(|(before, taken)| before + taken).or(in_redis);
            }
        }
        match ask_home(self, user, |room| Mail::Unkeep { room, id }).await? {
            Reply::Unkept { here, by_bus } => Ok(here + in_redis.unwrap_or(by_bus)),
            _ => Err(gone()),
        }
    }
}

/// An event that Redis keeps. `None`: its time is over.
fn view(event: &Broadcast, now_unix_ms: u64) -> Option<KeptView> {
    let KeptMark { id, expires_unix_ms, .. } = KeptMark::parse(event.kept.as_deref()?)?;
    let (namespace, args) = (event.namespace.clone(), Arc::clone(&event.args));
    let (emitted_unix_ms, by) = (id.unix_ms(), KeptBy::Bus);
    let view = KeptView { id, namespace, args, emitted_unix_ms, expires_unix_ms, is_sent: false, by };
    (expires_unix_ms > now_unix_ms).then_some(view)
}
