//! `POST /emit`: from a body to a broadcast.

use std::sync::Arc;

use sockring_protocol::adapter::{Broadcast, Delivery};
use sockring_protocol::json::{self, Kind, Value};

use crate::auth::USER_BYTES_MAX;
use crate::events::iso_8601;
use crate::shard::{Inquiry, InquiryKey, InquiryKind, USER_PREFIX};

use super::answer::ApiError;
use super::fields::Fields;
use super::prints;
use super::shape::{Field, FieldForm, Rule, Shape, optional, required};

/// Bytes of the name of an event, a room or a namespace.
pub(super) const NAME_BYTES_MAX: usize = 256;
/// Rooms or users of one emit.
const TARGETS_MAX: usize = 1000;

/// Bytes of an idempotency key.
const KEY_BYTES_MAX: usize = 255;

pub(super) const EVENT: Field = required("event", FieldForm::EventName(NAME_BYTES_MAX), "its name");
const DATA: Field = optional(
    "data",
    FieldForm::Anything,
    "its payload; an object gets `timestamp` and `server` where it has none, all else is passed on byte by byte",
);
const ARGS: Field = optional("args", FieldForm::List, "its arguments, in place of `data`");
pub(super) const USER: Field = optional("user", FieldForm::Id(USER_BYTES_MAX), "all sockets of this user");
pub(super) const USER_ID: Field = optional("userId", FieldForm::Id(USER_BYTES_MAX), "the same as `user`");
const USERS: Field = optional("users", FieldForm::Ids(TARGETS_MAX, USER_BYTES_MAX), "all sockets of these users");
pub(super) const ROOM: Field = optional("room", FieldForm::Name(NAME_BYTES_MAX), "all sockets in this room");
const ROOMS: Field =
    optional("rooms", FieldForm::Names(TARGETS_MAX, NAME_BYTES_MAX), "all sockets in one of these rooms, once each");
const BROADCAST: Field = optional("broadcast", FieldForm::Boolean, "`true`: all sockets");
const EXCEPT: Field =
    optional("except", FieldForm::Names(TARGETS_MAX, NAME_BYTES_MAX), "but to nobody in one of these rooms");
pub(super) const NAMESPACE: Field =
    optional("namespace", FieldForm::Namespace(NAME_BYTES_MAX), "in this namespace; default: `/`");
const VOLATILE: Field = optional("volatile", FieldForm::Boolean, "dropped for who cannot take it at once");
const TTL: Field =
    optional("ttl", FieldForm::Seconds, "seconds for which it is kept for users who have not received it");
const IDEMPOTENCY_KEY: Field =
    optional("idempotencyKey", FieldForm::Name(KEY_BYTES_MAX), "all emits with one key, to one target, are one event");
const CONFLATE_KEY: Field = optional(
    "conflateKey",
    FieldForm::Name(NAME_BYTES_MAX),
    "what still waits for a client under this key is dropped, and this goes behind all else that waits",
);

const TIMEOUT: Field = required(
    "timeoutMs",
    FieldForm::Whole(100, 30_000),
    "the answer comes when all have, or after so many milliseconds",
);
const RESPONSES: Field =
    optional("responses", FieldForm::Boolean, "`true`: the answer has what they have called back with");
const ACK: Field =
    optional("ack", FieldForm::Inner(&[TIMEOUT, RESPONSES]), "the answer says how many sockets have called back");
const RECEIPT: Field =
    optional("receipt", FieldForm::Inner(&[TIMEOUT]), "the answer says how many sockets of this instance have it");

/// What is said by so many is in an answer.
const RESPONSES_MAX: usize = 100;

const TARGETS: &[&str] = &["user", "userId", "users", "room", "rooms", "broadcast"];

/// The body of an emit.
pub(super) const EMIT: Shape = Shape {
    fields: &[
        EVENT,
        DATA,
        ARGS,
        USER,
        USER_ID,
        USERS,
        ROOM,
        ROOMS,
        BROADCAST,
        EXCEPT,
        NAMESPACE,
        VOLATILE,
        TTL,
        IDEMPOTENCY_KEY,
        CONFLATE_KEY,
        ACK,
        RECEIPT,
    ],
    rules: &[
        Rule::OneOf(TARGETS),
        Rule::NotBoth("data", "args"),
        Rule::Beside("ttl", &["user", "userId", "users"]),
        Rule::Unless("ttl", "volatile"),
        Rule::Unless("conflateKey", "volatile"),
        Rule::NotBoth("ack", "ttl"),
    ],
};

/// For how long events may be kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeepRules {
    /// Of emits to users that do not say so; 0: not at all.
    pub(super) default_s: u64,
    pub(super) ttl_max_s: u64,
}

/// What a body asks to be emitted.
#[derive(Debug)]
pub(super) struct EmitBody {
    pub(super) broadcast: Broadcast,
    pub(super) targets: Targets,
    /// For so many seconds; `None`: it is for who is there.
    pub(super) ttl_s: Option<u64>,
    /// `None`: however often it comes.
    pub(super) once: Option<OnceUnder>,
    /// What its sockets are to say.
    pub(super) wishes: Wishes,
}

/// What is to be known of the sockets that have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    /// That they call back.
    pub(super) ack: Option<AckWish>,
    /// That they have received it, within so many milliseconds.
    pub(super) receipt_ms: Option<u64>,
    /// By which what they say is found.
    pub(super) number: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AckWish {
    pub(super) timeout_ms: u64,
    /// Of so many what they have said; `None`: of none.
    pub(super) responses_max: Option<usize>,
}

impl Wishes {
    pub(super) fn are_none(&self) -> bool {
        self.ack.is_none() && self.receipt_ms.is_none()
    }

    pub(super) fn ack_key(&self) -> InquiryKey {
        InquiryKey(self.number * 2)
    }

    pub(super) fn receipt_key(&self) -> InquiryKey {
        InquiryKey(self.number * 2 + 1)
    }

    /// What shards are told of them.
    pub(super) fn inquiries(&self) -> Vec<Inquiry> {
        let ack = self.ack.map(|AckWish { timeout_ms, responses_max }| {
            let kind = InquiryKind::Ack { responses_max: responses_max.unwrap_or(0) };
            Inquiry { key: self.ack_key(), kind, timeout_ms }
        });
        let receipt = self.receipt_ms.map(|timeout_ms| {
            let (key, kind) = (self.receipt_key(), InquiryKind::Receipt);
            Inquiry { key, kind, timeout_ms }
        });
        ack.into_iter().chain(receipt).collect()
    }
}

/// What is remembered of an emit by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Targets {
    /// Each of its users.
    Users,
    /// All that it is emitted to.
    Whole,
}

/// A key under which an event comes once.
#[derive(Debug)]
pub(super) struct OnceUnder {
    pub(super) key: Box<str>,
    /// Of the event, as the body has it: what the server adds differs each time.
    pub(super) print: u64,
}

impl EmitBody {
    /// Whether nothing of it is remembered.
    pub(super) fn is_plain(&self) -> bool {
        self.once.is_none() && self.ttl_s.is_none() && self.wishes.are_none()
    }
}

/// What a body asks to be emitted.
pub(super) fn decode(
    fields: &Fields<'_>,
    server: &str,
    rules: KeepRules,
    now_unix_ms: u64,
) -> Result<EmitBody, ApiError> {
    fields.only(&EMIT)?;
    let event = fields.required(&EVENT)?;
    let namespace = fields.text(&NAMESPACE)?.unwrap_or("/".into());
    let mut except = Vec::new();
    for room in fields.texts(&EXCEPT)?.unwrap_or_default() {
        except.push(room.into());
    }
    let delivery = match fields.boolean(&VOLATILE)? {
        Some(true) => Delivery::Volatile,
        _ => Delivery::Queue,
    };
    let conflate = fields.text(&CONFLATE_KEY)?.map(Box::from);
    if conflate.is_some() && delivery == Delivery::Volatile {
        return Err(
            fields.refuse("conflateKey", "has no use for a volatile event, which is never queued behind others")
        );
    }
    let args = Arc::from(arguments(fields, &event, server, now_unix_ms)?);
    let broadcast = Broadcast { except, delivery, conflate, ..Broadcast::new(&namespace, targets(fields)?, args) };
    let targets = match fields.has("user") || fields.has("userId") || fields.has("users") {
        true => Targets::Users,
        false => Targets::Whole,
    };
    let wishes = wishes(fields)?;
    // Who is not there cannot call back, whatever is kept by default.
    let default_s = if wishes.ack.is_some() { 0 } else { rules.default_s };
    let ttl_s = ttl_s(fields, KeepRules { default_s, ..rules }, targets, delivery)?;
    Ok(EmitBody { once: once(fields, &event, &broadcast, targets)?, ttl_s, broadcast, targets, wishes })
}

/// What its sockets are to say.
fn wishes(fields: &Fields<'_>) -> Result<Wishes, ApiError> {
    let ack = match fields.inner(&ACK)? {
        None => None,
        Some(_) if fields.has("ttl") => {
            return Err(fields.refuse("ack", "does not go with ttl: who is not there cannot call back"));
        }
        Some(ack) => {
            let responses_max = ack.boolean(&RESPONSES)?.filter(|wants| *wants).map(|_| RESPONSES_MAX);
            Some(AckWish { timeout_ms: ack.required_whole(&TIMEOUT)?, responses_max })
        }
    };
    let receipt_ms = fields.inner(&RECEIPT)?.map(|receipt| receipt.required_whole(&TIMEOUT)).transpose()?;
    Ok(Wishes { ack, receipt_ms, number: 0 })
}

/// For how long it is kept.
fn ttl_s(fields: &Fields<'_>, rules: KeepRules, targets: Targets, delivery: Delivery) -> Result<Option<u64>, ApiError> {
    let Some(ttl_s) = fields.seconds(&TTL, rules.ttl_max_s)? else {
        let is_for_users = targets == Targets::Users && delivery == Delivery::Queue;
        return Ok((is_for_users && rules.default_s > 0).then_some(rules.default_s));
    };
    match (targets, delivery) {
        (Targets::Whole, _) => Err(fields.refuse("ttl", "keeps events for users: give user or users")),
        (Targets::Users, Delivery::Volatile) => Err(fields.refuse("ttl", "keeps what volatile would drop")),
        (Targets::Users, Delivery::Queue) => Ok(Some(ttl_s)),
    }
}

/// The key of an emit, and what tells its event from others.
fn once(
    fields: &Fields<'_>,
    event: &str,
    broadcast: &Broadcast,
    targets: Targets,
) -> Result<Option<OnceUnder>, ApiError> {
    let Some(key) = fields.text(&IDEMPOTENCY_KEY)? else { return Ok(None) };
    let texts = [event, fields.raw("data").unwrap_or_default(), fields.raw("args").unwrap_or_default()];
    let rooms = if targets == Targets::Users { &[][..] } else { &*broadcast.rooms };
    let (except, rooms) = (broadcast.except.iter().map(|room| &**room), rooms.iter().map(|room| &**room));
    let print = prints::short(texts.into_iter().chain(except).chain([""]).chain(rooms));
    Ok(Some(OnceUnder { key: key.into(), print }))
}

/// Refuses namespaces that the server has not.
pub(super) fn check_namespace(fields: &Fields<'_>, known: &[String], emit: &EmitBody) -> Result<(), ApiError> {
    if known.iter().any(|namespace| **namespace == *emit.broadcast.namespace) {
        return Ok(());
    }
    Err(fields.refuse("namespace", "is not one of the server's namespaces"))
}

/// Exactly one kind of target, each room once. No rooms: everybody.
fn targets(fields: &Fields<'_>) -> Result<Vec<Box<str>>, ApiError> {
    let mut rooms = rooms_named(fields)?;
    rooms.sort_unstable();
    rooms.dedup();
    Ok(rooms)
}

fn rooms_named(fields: &Fields<'_>) -> Result<Vec<Box<str>>, ApiError> {
    let user = fields.either_id(&USER, &USER_ID)?;
    let users = fields.texts(&USERS)?;
    let room = fields.text(&ROOM)?;
    let rooms = fields.texts(&ROOMS)?;
    let everybody = fields.boolean(&BROADCAST)?.unwrap_or(false);
    match (user, users, room, rooms, everybody) {
        (Some(user), None, None, None, false) => Ok(vec![user_room(&user)]),
        (None, Some(users), None, None, false) => Ok(users.iter().map(|user| user_room(user)).collect()),
        (None, None, Some(room), None, false) => Ok(vec![room.into()]),
        (None, None, None, Some(rooms), false) => Ok(rooms.into_iter().map(Into::into).collect()),
        (None, None, None, None, true) => Ok(Vec::new()),
        (None, None, None, None, false) => {
            Err(fields.refuse("user", "a target is required: user, users, room, rooms, or broadcast: true"))
        }
        _ => Err(fields.refuse("user", "only one of user, users, room, rooms and broadcast may be given")),
    }
}

/// An event to rooms of the main namespace.
pub(super) fn to_rooms(rooms: Vec<Box<str>>, args: Arc<[u8]>) -> Broadcast {
    Broadcast::new("/", rooms, args)
}

/// The room of a user.
pub(super) fn user_room(user: &str) -> Box<str> {
    [USER_PREFIX, user].concat().into()
}

/// The event's arguments as a JSON array. Values are passed on as they came.
fn arguments(fields: &Fields<'_>, event: &str, server: &str, now_unix_ms: u64) -> Result<Vec<u8>, ApiError> {
    let mut args = vec![b'['];
    json::encode_string(event, &mut args);
    match (fields.raw("data"), fields.list(&ARGS)?) {
        (Some(_), Some(_)) => return Err(fields.refuse("args", "says the same as data: give one of them")),
        (Some(data), None) => {
            args.push(b',');
            enrich(data, server, now_unix_ms, &mut args);
        }
        (None, Some(list)) => {
            for element in list {
                args.push(b',');
                args.extend_from_slice(element.as_bytes());
            }
        }
        (None, None) => {}
    }
    args.push(b']');
    Ok(args)
}

/// Copies a value; an object gets `timestamp` and `server` behind its own fields, where it has none.
fn enrich(data: &str, server: &str, now_unix_ms: u64, args: &mut Vec<u8>) {
    let is_object = Value::decode(data).is_ok_and(|value| value.kind() == Kind::Object);
    let Some(inside) = data.strip_suffix('}').filter(|_| is_object) else {
        return args.extend_from_slice(data.as_bytes());
    };
    let mut names = Vec::new();
    names.extend(json::Entries::of(data).map(|(name, _)| name));
    args.extend_from_slice(inside.trim_end().as_bytes());
    let mut separator: &[u8] = if names.is_empty() { b"" } else { b"," };
    for (name, value) in [("timestamp", iso_8601(now_unix_ms)), ("server", server.to_owned())] {
        if !names.iter().any(|known| known == name) {
            args.extend_from_slice(separator);
            json::encode_string(name, args);
            args.push(b':');
            json::encode_string(&value, args);
            separator = b",";
        }
    }
    args.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emit(body: &str) -> Result<Broadcast, ApiError> {
        Ok(decode(&Fields::decode(body.as_bytes())?, "test", KeepRules { default_s: 0, ttl_max_s: 60 }, 0)?.broadcast)
    }

    fn args_of(body: &str) -> String {
        String::from_utf8(emit(body).unwrap().args.to_vec()).unwrap()
    }

    #[test]
    fn data_is_passed_on_as_it_came() {
        let stamp = r#""timestamp":"1970-01-01T00:00:00.000Z","server":"test""#;
        for (data, expected) in [
            ("null", "".to_owned()),
            ("7", ",7".to_owned()),
            ("[1, 2]", ",[1, 2]".to_owned()),
            ("\"x\\u001e\"", ",\"x\\u001e\"".to_owned()),
            ("123456789012345678901234567890", ",123456789012345678901234567890".to_owned()),
            ("{}", format!(",{{{stamp}}}")),
            ("{ \"a\" : 1.50 }", format!(",{{ \"a\" : 1.50,{stamp}}}")),
            (r#"{"timestamp":1,"server":2}"#, r#",{"timestamp":1,"server":2}"#.to_owned()),
            (r#"{"server":null}"#, r#",{"server":null,"timestamp":"1970-01-01T00:00:00.000Z"}"#.to_owned()),
        ] {
            let body = format!(r#"{{"event":"e","user":"u","data":{data}}}"#);
            assert_eq!(args_of(&body), format!("[\"e\"{expected}]"), "{data}");
        }
        assert_eq!(args_of(r#"{"event":"e","user":"u","args":[1,{"a":2},"3"]}"#), r#"["e",1,{"a":2},"3"]"#);
    }

    #[test]
    fn targets_are_rooms() {
        let rooms = |target: &str| -> Vec<String> {
            let broadcast = emit(&format!(r#"{{"event":"e",{target}}}"#)).unwrap();
            broadcast.rooms.into_iter().map(String::from).collect()
        };
        assert_eq!(rooms(r#""user":"a""#), ["user:a"]);
        assert_eq!(rooms(r#""userId":"a""#), ["user:a"]);
        assert_eq!(rooms(r#""users":["a","b"]"#), ["user:a", "user:b"]);
        assert_eq!(rooms(r#""users":[7,"7",-7]"#), ["user:-7", "user:7"]);
        assert_eq!(rooms(r#""userId":18446744073709551615"#), ["user:18446744073709551615"]);
        assert_eq!(rooms(r#""user":"\ud83d\ude00\ufffd""#), ["user:\u{1f600}\u{fffd}"]);
        assert_eq!(rooms(r#""room":"news""#), ["news"]);
        assert_eq!(rooms(r#""rooms":["news","a","news","news"]"#), ["a", "news"], "rooms are a set");
        assert!(rooms(r#""broadcast":true"#).is_empty());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, status, path) in [
            ("{", 400, ""),
            ("[]", 400, ""),
            ("\u{feff}{}", 400, ""),
            ("{}", 422, "event"),
            (r#"{"event":"e"}"#, 422, "user"),
            (r#"{"event":"e","broadcast":false}"#, 422, "user"),
            (r#"{"event":"","user":"a"}"#, 422, "event"),
            (r#"{"event":5,"user":"a"}"#, 422, "event"),
            (r#"{"event":"connect","user":"a"}"#, 422, "event"),
            (r#"{"event":"e","user":"a","room":"b"}"#, 422, "user"),
            (r#"{"event":"e","user":"a","userId":"a"}"#, 422, "userId"),
            (r#"{"event":"e","user":["a"]}"#, 422, "user"),
            (r#"{"event":"e","rooms":["a",7]}"#, 422, "rooms[1]"),
            // Two users would be one if what is no character were replaced.
            (r#"{"event":"e","user":"\ud800"}"#, 422, "user"),
            (r#"{"event":"e","users":["a","b\udc00"]}"#, 422, "users[1]"),
            (r#"{"event":"e","room":"\ud800\ud800"}"#, 422, "room"),
            (r#"{"event":"e","user":7.5}"#, 422, "user"),
            (r#"{"event":"e","user":7e0}"#, 422, "user"),
            (r#"{"event":"e","user":-0}"#, 422, "user"),
            (r#"{"event":"e","user":18446744073709551616}"#, 422, "user"),
            (r#"{"event":"e","user":true}"#, 422, "user"),
            (r#"{"event":"e","rooms":[]}"#, 422, "rooms"),
            (r#"{"event":"e","user":"a","ttl":0}"#, 422, "ttl"),
            (r#"{"event":"e","user":"a","ttl":61}"#, 422, "ttl"),
            (r#"{"event":"e","user":"a","ttl":1.5}"#, 422, "ttl"),
            (r#"{"event":"e","user":"a","ttl":"5"}"#, 422, "ttl"),
            (r#"{"event":"e","user":"a","ttl":18446744073709551616}"#, 422, "ttl"),
            (r#"{"event":"e","user":"a","ttl":5,"volatile":true}"#, 422, "ttl"),
            (r#"{"event":"e","room":"a","ttl":5}"#, 422, "ttl"),
            (r#"{"event":"e","rooms":["a"],"ttl":5}"#, 422, "ttl"),
            (r#"{"event":"e","broadcast":true,"ttl":5}"#, 422, "ttl"),
            (r#"{"event":"e","user":"a","ack":5}"#, 422, "ack"),
            (r#"{"event":"e","user":"a","ack":{}}"#, 422, "ack.timeoutMs"),
            (r#"{"event":"e","user":"a","ack":{"timeoutMs":99}}"#, 422, "ack.timeoutMs"),
            (r#"{"event":"e","user":"a","ack":{"timeoutMs":30001}}"#, 422, "ack.timeoutMs"),
            (r#"{"event":"e","user":"a","ack":{"timeoutMs":"500"}}"#, 422, "ack.timeoutMs"),
            (r#"{"event":"e","user":"a","ack":{"timeoutMs":500,"responses":1}}"#, 422, "ack.responses"),
            (r#"{"event":"e","user":"a","ack":{"timeoutMs":500,"response":true}}"#, 422, "ack.response"),
            (r#"{"event":"e","user":"a","ack":{"timeoutMs":500},"ttl":5}"#, 422, "ack"),
            (r#"{"event":"e","user":"a","receipt":{"timeoutMs":500,"responses":true}}"#, 422, "receipt.responses"),
            (r#"{"event":"e","user":"a","receipt":{"timeoutMs":-1}}"#, 422, "receipt.timeoutMs"),
            (r#"{"event":"e","user":"a","colour":5}"#, 422, "colour"),
            (r#"{"event":"e","user":"a","volatile":"yes"}"#, 422, "volatile"),
            (r#"{"event":"e","user":"a","namespace":"x"}"#, 422, "namespace"),
            (r#"{"event":"e","user":"a","data":1,"args":[]}"#, 422, "args"),
        ] {
            let error = emit(body).unwrap_err();
            assert_eq!((error.status, error.errors[0].path.as_str()), (status, path), "{body}");
        }
        let long = format!(r#"{{"event":"{}","user":"a"}}"#, "e".repeat(257));
        assert!(emit(&long).unwrap_err().message.contains("at most 256"));
    }
}
