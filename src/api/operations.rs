//! Every route of the API, what its body or query may be, and what it answers.

use super::answers::{
    CHANGED, DISCONNECTED, EMITTED, INSTANCES, KEPT, MAINTENANCE_SET, MAINTENANCE_STATE, MINTED, STATS, STATUS,
    TEST_EMITTED, TEST_STARTED, UNKEPT, USERS,
};
use super::emit::{EMIT, NAME_BYTES_MAX, USER, USER_ID};
use super::fields::TEXT_BYTES_MAX;
use super::kept::{AFTER, LIMIT};
use super::minting::TOKEN;
use super::shape::{Field, FieldForm, Rule, Shape, optional, required};
use super::users::{FROM, INSTANCE, LIMIT as USERS_LIMIT};
use crate::auth::USER_BYTES_MAX;
use crate::config::Strictness;

/// What all routes begin with.
pub(super) const API: &str = "/api/v1/websocket/";

/// A route with its method.
#[derive(Clone, Copy, Debug)]
pub struct ApiOperation {
    /// As `POST rooms/join`; behind the prefix of the API, and with `:name` for what differs.
    pub route: &'static str,
    /// What it does, in a line.
    pub summary: &'static str,
    pub query: &'static [Field],
    pub body: BodyShape,
    pub answer: AnswerShape,
    pub place: Place,
}

/// What a request brings along.
#[derive(Clone, Copy, Debug)]
pub enum BodyShape {
    None,
    One(&'static Shape),
    /// The same; nothing is as good as `{}`.
    IfAny(&'static Shape),
    /// A list of 1 to so many.
    Many(&'static Shape, usize),
}

/// What `data` is in an answer.
#[derive(Clone, Copy, Debug)]
pub enum AnswerShape {
    Object(&'static [Field]),
    /// One for each, or what was wrong with it.
    Each(&'static [Field]),
    Texts,
    /// The whole body is this description.
    Description,
}

/// Where it is to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Everywhere,
    /// Not in production.
    Development,
}

impl ApiOperation {
    const fn get(route: &'static str, summary: &'static str, answer: AnswerShape) -> ApiOperation {
        ApiOperation { route, summary, query: &[], body: BodyShape::None, answer, place: Place::Everywhere }
    }

    const fn post(route: &'static str, summary: &'static str, body: BodyShape, answer: AnswerShape) -> ApiOperation {
        ApiOperation { route, summary, query: &[], body, answer, place: Place::Everywhere }
    }

    const fn in_development(self) -> ApiOperation {
        ApiOperation { place: Place::Development, ..self }
    }

    pub fn method(&self) -> &'static str {
        self.route.split_once(' ').map_or("", |(method, _)| method)
    }

    pub fn path(&self) -> &'static str {
        self.route.split_once(' ').map_or("", |(_, path)| path)
    }
}

/// Emits of one batch.
pub(super) const BATCH_MAX: usize = 1000;

/// In the order in which they are told.
pub const OPERATIONS: &[ApiOperation] = &[
    ApiOperation::post("POST emit", "Emit an event", BodyShape::One(&EMIT), AnswerShape::Object(EMITTED)),
    ApiOperation::post(
        "POST emit/batch",
        "Emit several events",
        BodyShape::Many(&EMIT, BATCH_MAX),
        AnswerShape::Each(EMITTED),
    ),
    ApiOperation::post(
        "POST rooms/join",
        "Put sockets into a room",
        BodyShape::One(&ROOM_CHANGE),
        AnswerShape::Object(CHANGED),
    ),
    ApiOperation::post(
        "POST rooms/leave",
        "Take sockets out of a room",
        BodyShape::One(&ROOM_CHANGE),
        AnswerShape::Object(CHANGED),
    ),
    ApiOperation::post(
        "POST disconnect",
        "End sockets or sessions",
        BodyShape::One(&DISCONNECT),
        AnswerShape::Object(DISCONNECTED),
    ),
    ApiOperation::post(
        "POST maintenance",
        "Say whether there is maintenance",
        BodyShape::One(&MAINTENANCE),
        AnswerShape::Object(MAINTENANCE_SET),
    ),
    ApiOperation::get("GET maintenance", "Whether there is maintenance", AnswerShape::Object(MAINTENANCE_STATE)),
    ApiOperation::get("GET stats", "What this instance is doing", AnswerShape::Object(STATS)),
    ApiOperation::get("GET instances", "What all instances are doing", AnswerShape::Object(INSTANCES)),
    ApiOperation {
        query: &[FROM, USERS_LIMIT, INSTANCE],
        ..ApiOperation::get("GET users", "Who is connected", AnswerShape::Object(USERS))
    },
    ApiOperation::get("GET events", "The shared event names", AnswerShape::Texts),
    ApiOperation::get("GET openapi.json", "This description", AnswerShape::Description),
    ApiOperation::get("GET user/:userId/status", "Where a user is connected", AnswerShape::Object(STATUS)),
    ApiOperation {
        query: &[AFTER, LIMIT],
        ..ApiOperation::get("GET user/:userId/kept", "What is kept for a user", AnswerShape::Object(KEPT))
    },
    ApiOperation::get("DELETE user/:userId/kept", "Keep nothing more for a user", AnswerShape::Object(UNKEPT)),
    ApiOperation::get("DELETE user/:userId/kept/:id", "Keep one event no longer", AnswerShape::Object(UNKEPT)),
    ApiOperation::post(
        "POST test/token",
        "Mint a token for a user",
        BodyShape::One(&TOKEN),
        AnswerShape::Object(MINTED),
    )
    .in_development(),
    ApiOperation::post(
        "POST test/emit-to-user",
        "Send a test message",
        BodyShape::One(&TEST_EMIT),
        AnswerShape::Object(TEST_EMITTED),
    )
    .in_development(),
    ApiOperation::post(
        "POST test/analysis-events/:userId",
        "Send the events of an analysis",
        BodyShape::IfAny(&TEST_ANALYSIS),
        AnswerShape::Object(TEST_STARTED),
    )
    .in_development(),
];

/// The operations that there are.
pub(super) fn operations(strictness: Strictness) -> impl Iterator<Item = &'static ApiOperation> {
    OPERATIONS
        .iter()
        .filter(move |operation| operation.place == Place::Everywhere || strictness == Strictness::Development)
}

/// The user of a path.
pub(super) const PATH_USER: Field = required("userId", FieldForm::Id(USER_BYTES_MAX), "the user");
/// The event of a path.
pub(super) const PATH_EVENT: Field = required("id", FieldForm::EventId, "the event");

pub(super) const SOCKET_ID: Field = optional("socketId", FieldForm::Name(NAME_BYTES_MAX), "this socket");
const ONE_TARGET: &[Rule] = &[Rule::OneOf(&["user", "userId", "socketId"])];

pub(super) const ROOM: Field =
    required("room", FieldForm::RoomName(NAME_BYTES_MAX), "the room; those of users are closed");
pub(super) const ROOM_CHANGE: Shape = Shape { fields: &[USER, USER_ID, SOCKET_ID, ROOM], rules: ONE_TARGET };

pub(super) const RECONNECT: Field =
    optional("reconnect", FieldForm::Boolean, "the session ends, and the client comes back by itself");
pub(super) const DISCONNECT: Shape = Shape { fields: &[USER, USER_ID, SOCKET_ID, RECONNECT], rules: ONE_TARGET };

pub(super) const ENABLED: Field = required("enabled", FieldForm::Boolean, "whether there is maintenance");
pub(super) const MESSAGE: Field = optional("message", FieldForm::Text(TEXT_BYTES_MAX), "for people to read");
pub(super) const UNTIL: Field = optional("until", FieldForm::Moment, "when it is over");
pub(super) const MAINTENANCE: Shape = Shape { fields: &[ENABLED, MESSAGE, UNTIL], rules: &[] };

pub(super) const TEST_EVENT: Field = required("event", FieldForm::EventName(NAME_BYTES_MAX), "its name");
pub(super) const TEST_MESSAGE: Field = required("message", FieldForm::Text(TEXT_BYTES_MAX), "what the payload says");
pub(super) const TEST_EMIT: Shape =
    Shape { fields: &[USER_ID, USER, TEST_EVENT, TEST_MESSAGE], rules: &[Rule::OneOf(&["userId", "user"])] };

pub(super) const INTERVIEW_ID: Field =
    optional("interviewId", FieldForm::Id(NAME_BYTES_MAX), "the interview; default: `test-interview`");
pub(super) const TEST_ANALYSIS: Shape = Shape { fields: &[INTERVIEW_ID], rules: &[] };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_and_a_field_are_told_once() {
        for (at, operation) in OPERATIONS.iter().enumerate() {
            assert!(OPERATIONS[..at].iter().all(|other| other.route != operation.route), "{}", operation.route);
            let shape = match operation.body {
                BodyShape::None => continue,
                BodyShape::One(shape) | BodyShape::IfAny(shape) | BodyShape::Many(shape, _) => shape,
            };
            let names: Vec<_> = shape.names().collect();
            for (at, name) in names.iter().enumerate() {
                assert!(!names[..at].contains(name), "{}: {name}", operation.route);
            }
            for rule in shape.rules {
                let (first, others): (_, &[&str]) = match rule {
                    Rule::OneOf(others) => (others[0], others),
                    Rule::Beside(first, others) => (*first, others),
                    Rule::NotBoth(first, other) | Rule::Unless(first, other) => (*first, std::slice::from_ref(other)),
                };
                assert!(
                    others.iter().chain([&first]).all(|name| names.contains(name)),
                    "{}: {rule:?}",
                    operation.route
                );
            }
        }
    }
}
