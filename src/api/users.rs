//! Who is connected: the users that have sockets of an instance, a part at a time.

use serde_json::json;
use sockring_protocol::http::Query;

use crate::cluster::{ListedUsers, UsersPart};
use crate::shard::{Mail, Reply};

use super::answer::{ApiAnswer, ApiError};
use super::fields::limit_of;
use super::shape::{Field, FieldForm, optional};
use super::{Api, gone};

/// Users of one answer.
const LISTED_MAX: u64 = 1000;
const LISTED: u64 = 100;
/// Looks of shards for one answer. Where users are few and rooms are many, an answer has fewer users than it may.
const LOOKS_MAX: usize = 32;

/// Of an instance's id.
const ID_BYTES_MAX: usize = 64;
/// Digits of the numbers in a cursor.
const SHARD_DIGITS: usize = 4;
const PLACE_DIGITS: usize = 10;

pub(super) const FROM: Field =
    optional("from", FieldForm::Cursor, "where an answer before has ended; default: the first");
pub(super) const INSTANCE: Field = optional(
    "instance",
    FieldForm::Name(ID_BYTES_MAX),
    "those of this one, by its `id`; default: the one that is asked",
);
pub(super) const LIMIT: Field = optional("limit", FieldForm::Whole(1, LISTED_MAX), "up to so many users; default: 100");

/// Users with their sockets, and what is behind them.
type Listed = (Vec<(Box<str>, u64)>, Option<Cursor>);

/// Where in the list: in which shard, and from where on there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cursor {
    shard: u16,
    from: u32,
}

impl Cursor {
    fn parse(text: &str) -> Option<Cursor> {
        let (shard, from) = text.split_once('.')?;
        let (shard, from) = (number(shard, SHARD_DIGITS)?, number(from, PLACE_DIGITS)?);
        // Where nothing is, the list is over.
        Some(Cursor { shard: u16::try_from(shard).ok()?, from: u32::try_from(from).unwrap_or(u32::MAX) })
    }

    fn text(self) -> String {
        format!("{}.{}", self.shard, self.from)
    }
}

/// A number that is written in the one way, in so many digits at the most.
fn number(text: &str, digits_max: usize) -> Option<u64> {
    let is_one = (1..=digits_max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_one && (text == "0" || !text.starts_with('0')))
}

/// `GET /users`.
pub(super) async fn list(api: &Api, query: Query<'_>) -> Result<ApiAnswer, ApiError> {
    let cursor = match query.value("from") {
        None => Cursor::default(),
        Some(text) => Cursor::parse(&text)
            .ok_or_else(|| ApiError::field("from", "has to be what `next` was in the answer before"))?,
    };
    let limit = limit_of(query, LISTED_MAX, LISTED)?;
    let instance = query.value("instance");
    if instance.as_ref().is_some_and(|id| !(1..=ID_BYTES_MAX).contains(&id.len())) {
        return Err(ApiError::field("instance", format!("has to have 1 to {ID_BYTES_MAX} bytes")));
    }
    let (users, next) = match instance {
        Some(id) if api.cluster.as_deref().is_none_or(|cluster| *cluster.id() != *id) => {
            api.users_of(&id, cursor, limit).await?
        }
        _ => api.users_from(cursor, limit).await?,
    };
    let users: Vec<_> = users.iter().map(|(user, sockets)| json!({"userId": user, "sockets": sockets})).collect();
    let message =
        if users.is_empty() && next.is_none() { "No user is connected from here on" } else { "Connected users" };
    Ok(ApiAnswer::ok(json!({"users": users, "next": next.map(Cursor::text)}), message))
}

impl Api {
    /// Asks another instance.
    async fn users_of(&self, id: &str, cursor: Cursor, limit: usize) -> Result<Listed, ApiError> {
        let part = UsersPart { shard: cursor.shard, from: cursor.from, limit };
        let listed = match &self.cluster {
            None => None,
            Some(cluster) => cluster.users_of(id, part).await,
        };
        let nobody = || ApiError::new(404, "no instance of this id has answered: see GET instances");
        let ListedUsers { users, next } = listed.ok_or_else(nobody)?;
        Ok((users, next.map(|(shard, from)| Cursor { shard, from })))
    }

    /// Asks one shard after the other, a part of it at a time, until there are so many users, or it was asked often enough.
    async fn users_from(&self, mut cursor: Cursor, limit: usize) -> Result<Listed, ApiError> {
        let mut users = Vec::new();
        for _ in 0..LOOKS_MAX {
            let Some(shard) = self.shards.get(usize::from(cursor.shard)) else { return Ok((users, None)) };
            if users.len() == limit {
                break;
            }
            let mail = Mail::Users { from: cursor.from, limit: limit - users.len() };
            let answers = self.ask(vec![(shard, vec![mail])]).await;
            if let Some(error) = answers.error {
                return Err(error);
            }
            let Some(Reply::Users { users: more, next }) = answers.replies.into_iter().flatten().next() else {
                return Err(gone());
            };
            users.extend(more);
            cursor = match next {
                Some(from) => Cursor { from, ..cursor },
                None => Cursor { shard: cursor.shard.saturating_add(1), from: 0 },
            };
        }
        let has_more = usize::from(cursor.shard) < self.shards.len();
        Ok((users, Some(cursor).filter(|_| has_more)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_written_in_one_way() {
        for cursor in [Cursor::default(), Cursor { shard: 9_999, from: u32::MAX }] {
            assert_eq!(Cursor::parse(&cursor.text()), Some(cursor));
        }
        assert_eq!(Cursor::parse("1.9999999999"), Some(Cursor { shard: 1, from: u32::MAX }));
        for wrong in
            ["", ".", "1", "1.", ".1", "01.1", "1.01", "+1.1", "1.1.1", "10000.0", "0.10000000000", "a.1", "-1.0"]
        {
            assert_eq!(Cursor::parse(wrong), None, "{wrong}");
        }
    }
}
