//! `Application`: what a product built on the engine decides, and the actions that it asks for.
//!
//! An application is called with values and returns actions; it never performs them, and it knows no connection.

pub mod notifications;

use sockring_protocol::portable;
use std::borrow::Cow;

use sockring_protocol::engineio::Data;
use sockring_protocol::socketio::{AckId, Args};

/// A product on top of the engine. One value per shard; all methods but `admit` do nothing unless written.
pub trait Application {
    /// What its clients speak. The compiler leaves out what the others would take.
    const LAYER: Layer = Layer::SocketIo;

    /// May this CONNECT pass?
    fn admit(&mut self, request: &ConnectRequest<'_>) -> Result<Admission, Refusal>;

    /// A socket has been admitted and is in its rooms.
    fn connected(&mut self, socket: &SocketInfo<'_>, request: &ConnectRequest<'_>, actions: &mut Actions) {
        let _ = (socket, request, actions);
    }

    /// A client sent an event.
    fn event(&mut self, socket: &SocketInfo<'_>, event: &ReceivedEvent<'_>, actions: &mut Actions) {
        let _ = (socket, event, actions);
    }

    /// The time that `Action::WakeAfter` asked for has passed.
    fn woken(&mut self, socket: &SocketInfo<'_>, actions: &mut Actions) {
        let _ = (socket, actions);
    }

    /// A client answered an emit that carried an id. Ids below 2^30 are the application's own; a client may answer any.
    fn acknowledged(&mut self, socket: &SocketInfo<'_>, ack: AckId, args: &Args<'_>, actions: &mut Actions) {
        let _ = (socket, ack, args, actions);
    }

    /// A socket is gone.
    fn disconnected(&mut self, socket: &SocketInfo<'_>) {
        let _ = socket;
    }

    /// A message of a client, for an application on a layer below Socket.IO.
    fn message(&mut self, message: Data<'_>, actions: &mut Actions) {
        let _ = (message, actions);
    }
}

/// Which protocol the application speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    SocketIo,
    /// Engine.IO messages, without Socket.IO packets.
    EngineIo,
    /// WebSocket messages on any path.
    WebSocket,
}

/// A CONNECT packet and what came with the session's first request.
pub struct ConnectRequest<'a> {
    pub namespace: &'a str,
    /// A checked JSON object.
    pub payload: Option<&'a str>,
    /// The handshake's `Authorization` header.
    pub authorization: Option<&'a str>,
    /// Unix time in milliseconds.
    pub now_unix_ms: u64,
}

/// A CONNECT may pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// Who it is: the socket joins `user:<id>`.
    pub user: Option<String>,
    /// When the session has to end, as Unix time in milliseconds.
    pub ends_at_unix_ms: Option<u64>,
}

portable!(struct Admission { user, ends_at_unix_ms });

/// A CONNECT may not pass: the words of the CONNECT_ERROR, and their reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub message: Cow<'static, str>,
    pub reason: RefusalReason,
    /// It is asked about again at `Mail::Reconsider`, and this is the answer only when that has not changed it within so many
    /// milliseconds; 0: it is the answer.
    pub wait_ms: u64,
    /// Who it would have been, where that is certain: for the log.
    pub user: Option<String>,
}

/// Why a CONNECT may not pass: the label of a counter, and what a client is told as `data.code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalReason {
    TokenMissing,
    /// Not a token, not yet valid, or of somebody else.
    TokenInvalid,
    TokenExpired,
    /// It may be valid, by a key that the server does not know.
    KeyUnknown,
    /// The token names no user.
    UserMissing,
    /// Sockets of a user, namespaces of a client, or refusals.
    TooMany,
    /// The server has no such namespace.
    UnknownNamespace,
}

impl RefusalReason {
    pub const ALL: [RefusalReason; 7] = [
        RefusalReason::TokenMissing,
        RefusalReason::TokenInvalid,
        RefusalReason::TokenExpired,
        RefusalReason::KeyUnknown,
        RefusalReason::UserMissing,
        RefusalReason::TooMany,
        RefusalReason::UnknownNamespace,
    ];

    pub fn label(self) -> &'static str {
        match self {
            RefusalReason::TokenMissing => "token_missing",
            RefusalReason::TokenInvalid => "token_invalid",
            RefusalReason::TokenExpired => "token_expired",
            RefusalReason::KeyUnknown => "key_unknown",
            RefusalReason::UserMissing => "user_missing",
            RefusalReason::TooMany => "too_many",
            RefusalReason::UnknownNamespace => "unknown_namespace",
        }
    }

    /// What a client is told; of an unknown namespace no more than the reference tells.
    pub fn code(self) -> Option<&'static str> {
        (self != RefusalReason::UnknownNamespace).then(|| self.label())
    }
}

/// The socket that a call is about.
pub struct SocketInfo<'a> {
    pub namespace: &'a str,
    pub sid: &'a str,
    pub user: Option<&'a str>,
    /// It has just come back, and gets all that it has missed.
    pub is_recovered: bool,
    /// Unix time in milliseconds.
    pub now_unix_ms: u64,
}

/// An event from a client.
pub struct ReceivedEvent<'a> {
    /// The whole array, the event's name first. Binary arguments are placeholders in it.
    pub args: Args<'a>,
    /// The client wants an answer.
    pub ack: Option<AckId>,
    pub attachments: &'a [Box<[u8]>],
}

/// What an application wants done, in order.
#[derive(Debug, Default)]
pub struct Actions {
    list: Vec<Action>,
}

/// One thing to do for the socket that the call was about.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// An event to this socket: a JSON array whose first element is its name.
    Emit {
        ack: Option<AckId>,
        args: Vec<u8>,
        attachments: Vec<Box<[u8]>>,
    },
    /// The answer to an event that wanted one: a JSON array.
    Acknowledge {
        ack: AckId,
        args: Vec<u8>,
        attachments: Vec<Box<[u8]>>,
    },
    Join(String),
    Leave(String),
    /// `Application::woken` is called in so many milliseconds, if the socket is still there.
    WakeAfter(u64),
    /// A Socket.IO DISCONNECT: the client does not come back by itself.
    Disconnect,
    /// The end of the whole session: the client reconnects.
    CloseSession,
    /// A message on a layer below Socket.IO.
    SendText(Vec<u8>),
    SendBinary(Vec<u8>),
}

impl Actions {
    pub fn push(&mut self, action: Action) {
        self.list.push(action);
    }

    pub fn drain(&mut self) -> impl Iterator<Item = Action> + '_ {
        self.list.drain(..)
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}
