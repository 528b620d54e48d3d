//! What answers say: their fields, by route.

use super::shape::{Field, FieldForm, optional, required};

pub(super) const EMITTED: &[Field] = &[
    required("delivered", FieldForm::Count, "sockets of this instance that have it queued"),
    required("published", FieldForm::Boolean, "it went on to other instances"),
    optional("id", FieldForm::EventId, "what it is called, if it is remembered"),
    optional("duplicate", FieldForm::Boolean, "it had come before, and is not emitted again"),
    optional("kept", FieldForm::WordOrFalse(&["redis", "memory", "state"]), "where it is kept"),
    optional("keptReason", FieldForm::Word(&["user_full", "memory_full"]), "why it is not"),
    optional("expiresAt", FieldForm::Time, "until when it is"),
    optional("acked", FieldForm::Count, "sockets that have called back, those of other servers among them"),
    optional("timedOut", FieldForm::Count, "sockets that have it queued and have not called back"),
    optional("responses", FieldForm::List, "the first argument of up to 100 of those that have"),
    optional(
        "missing",
        FieldForm::CountOrNull,
        "with Redis, beside `acked`: servers that have not said how many sockets they ask; `null`: Redis does not say",
    ),
    optional("received", FieldForm::Count, "sockets of this instance that have received it"),
];

const SOCKETS: Field = required("sockets", FieldForm::Count, "sockets of this instance to which it was done");
const PUBLISHED: Field = required("published", FieldForm::Boolean, "other instances have been told");

pub(super) const CHANGED: &[Field] = &[
    required("room", FieldForm::String, "the room"),
    SOCKETS,
    PUBLISHED,
    optional(
        "confirmed",
        FieldForm::Boolean,
        "with Redis, of a join: all instances that have such sockets hear the room",
    ),
];

pub(super) const DISCONNECTED: &[Field] = &[SOCKETS, PUBLISHED];

pub(super) const MAINTENANCE_SET: &[Field] = &[
    required("enabled", FieldForm::Boolean, "whether there is maintenance"),
    required("delivered", FieldForm::Count, "sockets of this instance that have it queued"),
    PUBLISHED,
];

pub(super) const MAINTENANCE_STATE: &[Field] = &[
    required("enabled", FieldForm::Boolean, "whether there is maintenance"),
    optional("message", FieldForm::StringOrNull, "for people to read"),
    optional("until", FieldForm::TimeOrNull, "when it is over"),
    optional("since", FieldForm::Time, "when it was said"),
];

pub(super) const STATS: &[Field] = &[
    required("connected", FieldForm::Count, "sockets"),
    required("users", FieldForm::Count, "users with a socket"),
    required("rooms", FieldForm::Count, "rooms whose home is here"),
    required("transports", FieldForm::Object(TRANSPORTS), "clients by transport"),
    required("instances", FieldForm::Count, "all servers on Redis, this one included"),
    required("recovery", FieldForm::Object(RECOVERY), "what is remembered for clients that come back"),
    required("kept", FieldForm::Object(KEPT_STATS), "what is kept for users"),
    required("shards", FieldForm::Objects(SHARD), "the same by shard"),
    required("maintenance", FieldForm::Object(MAINTENANCE_STATE), "as `GET maintenance` says it"),
    required("uptimeSeconds", FieldForm::Count, "since this instance began"),
    required("timestamp", FieldForm::Time, "when this was so"),
];

const TRANSPORTS: &[Field] =
    &[required("websocket", FieldForm::Count, "by WebSocket"), required("polling", FieldForm::Count, "by polling")];

const RECOVERY: &[Field] = &[
    required("events", FieldForm::Count, "events"),
    required("bytes", FieldForm::Count, "what they take"),
    required("oldestSeconds", FieldForm::CountOrNull, "age of the oldest"),
];

const KEPT_STATS: &[Field] = &[
    required("events", FieldForm::Count, "events"),
    required("users", FieldForm::Count, "users for whom they are"),
    required("bytes", FieldForm::Count, "what they take"),
];

const SHARD: &[Field] = &[
    required("shard", FieldForm::Count, "its number"),
    required("connections", FieldForm::Count, "TCP connections"),
    required("clients", FieldForm::Count, "sessions"),
    required("connected", FieldForm::Count, "sockets that are connected"),
    required("sockets", FieldForm::Count, "all sockets"),
    required("users", FieldForm::Count, "users"),
    required("rooms", FieldForm::Count, "rooms whose home it is"),
    required("queuedBytes", FieldForm::Count, "bytes that wait for clients"),
];

pub(super) const INSTANCES: &[Field] = &[
    required("instances", FieldForm::Objects(INSTANCE), "this one first"),
    required("timestamp", FieldForm::Time, "when this was so"),
    optional(
        "missing",
        FieldForm::CountOrNull,
        "with Redis: how many servers have not answered within a second, Node servers among them; `null`: Redis does not say",
    ),
    optional("missingInstances", FieldForm::Strings, "which those are"),
];

const INSTANCE: &[Field] = &[
    required("id", FieldForm::StringOrNull, "what the others know it by; `null`: there is no Redis"),
    required("name", FieldForm::String, "its machine and port"),
    required("version", FieldForm::String, "of sockring"),
    required("shards", FieldForm::Count, "cores that serve clients"),
    required("connected", FieldForm::Count, "clients with a socket"),
    required("users", FieldForm::Count, "users with a socket"),
    required("rooms", FieldForm::Count, "rooms"),
    required("websocket", FieldForm::Count, "clients by WebSocket"),
    required("polling", FieldForm::Count, "clients by polling"),
    required("queuedBytes", FieldForm::Count, "bytes that wait for clients"),
    required("keptEvents", FieldForm::Count, "events that are kept for users"),
    required("uptimeSeconds", FieldForm::Count, "since it began"),
];

pub(super) const USERS: &[Field] = &[
    required("users", FieldForm::Objects(USER), "some of the users that have a socket of the instance"),
    required(
        "next",
        FieldForm::CursorOrNull,
        "`from` of the request for those behind them; `null`: they were the last",
    ),
];

const USER: &[Field] = &[
    required("userId", FieldForm::String, "the user"),
    required("sockets", FieldForm::Count, "sockets of the instance, over all namespaces"),
];

pub(super) const STATUS: &[Field] = &[
    required("userId", FieldForm::String, "the user"),
    required("connected", FieldForm::Boolean, "whether a socket is"),
    required("sockets", FieldForm::Count, "sockets, over all instances"),
    required("instances", FieldForm::Count, "instances with some of them"),
    required("kept", FieldForm::Count, "events that are kept for the user"),
    optional(
        "missing",
        FieldForm::CountOrNull,
        "with Redis: how many have not answered within a second; `null`: Redis does not say",
    ),
    optional("missingInstances", FieldForm::Strings, "which those are"),
];

pub(super) const KEPT: &[Field] = &[
    required("events", FieldForm::Objects(KEPT_EVENT), "in the order in which they were emitted"),
    required("more", FieldForm::Boolean, "whether there are more behind them"),
];

const KEPT_EVENT: &[Field] = &[
    required("id", FieldForm::EventId, "what it is called"),
    required("namespace", FieldForm::String, "where it was emitted"),
    required("event", FieldForm::String, "its name"),
    required("args", FieldForm::List, "what it says"),
    required("emittedAt", FieldForm::Time, "when it was emitted"),
    required("expiresAt", FieldForm::Time, "until when it is kept"),
    required("sent", FieldForm::Boolean, "a client has it queued and has not said that it has received it"),
];

pub(super) const UNKEPT: &[Field] = &[required("events", FieldForm::Count, "how many were kept")];

pub(super) const MINTED: &[Field] = &[
    required("userId", FieldForm::String, "the user"),
    required("token", FieldForm::String, "as a client sends it"),
    required("expiresAt", FieldForm::Time, "until when it is valid"),
];

pub(super) const TEST_EMITTED: &[Field] = &[
    required("userId", FieldForm::String, "the user"),
    required("event", FieldForm::String, "its name"),
    required("delivered", FieldForm::Count, "sockets of this instance that have it queued"),
    PUBLISHED,
];

pub(super) const TEST_STARTED: &[Field] =
    &[required("userId", FieldForm::String, "the user"), required("interviewId", FieldForm::String, "the interview")];
