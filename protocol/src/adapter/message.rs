//! `Message`: what instances tell each other, whichever adapter carries it.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::broadcast::{Broadcast, Selection};

/// The longest message that is looked at. Answers that describe tens of thousands of sockets are the longest there are.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Names a question among instances, as its asker chose it.
pub type RequestId = Box<str>;

/// What is published: with PUBLISH for the classic adapter, with SPUBLISH for the sharded one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Where it is published.
    pub channel: String,
    /// What is published: JSON or msgpack.
    pub body: Vec<u8>,
}

/// A message with its sender.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// The adapter's, of one instance and namespace. Emitters have a constant one, or none.
    pub uid: Option<Box<str>>,
    /// The namespace that it is about, as its channel says.
    pub namespace: Box<str>,
    /// What is said.
    pub message: Message,
}

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Deliver an event.
    Broadcast(Broadcast),
    /// Deliver an event, and ask for acknowledgements. Answered by `Answer::Receivers`, and by an
    /// `Answer::Acknowledgement` for each client that answers in time.
    BroadcastForAck {
        /// What the answers name.
        request: RequestId,
        /// The event.
        broadcast: Broadcast,
        /// How long clients have for acknowledging it.
        timeout_ms: u64,
    },
    /// Which sids are here? Answered by `Answer::Ids`.
    Ids {
        /// What the answer names.
        request: RequestId,
        /// The sids of sockets in any of these; of all without rooms.
        rooms: Vec<Box<str>>,
    },
    /// Which rooms are there? Answered by `Answer::Rooms`.
    Rooms {
        /// What the answer names.
        request: RequestId,
    },
    /// Who is there? Answered by `Answer::Sockets`.
    Fetch {
        /// What the answer names.
        request: RequestId,
        /// The sockets that are asked about.
        selection: Selection,
    },
    /// Put sockets into rooms.
    Join {
        /// The sockets.
        selection: Selection,
        /// Which rooms they join.
        rooms: Vec<Box<str>>,
        /// As in `Message::Disconnect`.
        confirm: Option<RequestId>,
    },
    /// Take sockets out of rooms.
    Leave {
        /// The sockets.
        selection: Selection,
        /// Which rooms they leave.
        rooms: Vec<Box<str>>,
        /// As in `Message::Disconnect`.
        confirm: Option<RequestId>,
    },
    /// End sockets.
    Disconnect {
        /// The sockets.
        selection: Selection,
        /// How they end.
        ending: Ending,
        /// Who has done it to a socket answers `Answer::Done` under this name. Only old instances ask for that, about a
        /// single socket.
        confirm: Option<RequestId>,
    },
    /// For the other servers' own code.
    ServerSide {
        /// `Some`: it is answered by `Answer::ServerSide` under this name.
        request: Option<RequestId>,
        /// A JSON array, the event's name first.
        args: Box<[u8]>,
    },
    /// What an instance says to a question.
    Answer {
        /// The adapter uid of who asked, whose own channel carries it. `None`: the channel on which all instances listen for
        /// answers, which the sharded adapter does not have.
        asker: Option<Box<str>>,
        /// The question's name.
        request: RequestId,
        /// What is answered.
        answer: Answer,
    },
}

/// What one instance answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Sids of sockets.
    Ids(Vec<Box<str>>),
    /// Names of rooms.
    Rooms(Vec<Box<str>>),
    /// Who is there. An empty list may be the answer to `Message::Ids` just as well: the classic adapter does not tell them
    /// apart.
    Sockets(Vec<SocketDescription>),
    /// What was ordered has been done.
    Done,
    /// A JSON value.
    ServerSide(Box<[u8]>),
    /// How many clients will be asked for an acknowledgement.
    Receivers(u64),
    /// A client's acknowledgement.
    Acknowledgement {
        /// The first of its arguments, as a JSON value with placeholders. `None`: it had none.
        value: Option<Box<[u8]>>,
        /// The byte strings that the placeholders number.
        attachments: Vec<Box<[u8]>>,
    },
}

/// How a socket is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A Socket.IO DISCONNECT: the client does not come back by itself.
    Socket,
    /// That for all sockets of its client, and then the session: none of them comes back by itself.
    Client,
    /// The session alone: the client reconnects.
    Session,
}

/// A socket as other instances see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketDescription {
    /// Its Socket.IO sid.
    pub id: Box<str>,
    /// The room of its own sid first.
    pub rooms: Vec<Box<str>>,
    /// The id of its user, where it has one.
    pub user: Option<Box<str>>,
}

crate::portable!(struct SocketDescription { id, rooms, user });
crate::portable!(enum Ending { 0 Socket, 1 Client, 2 Session });

impl SocketDescription {
    /// About what it takes.
    pub fn bytes(&self) -> usize {
        let rooms: usize = self.rooms.iter().map(|room| size_of::<Box<str>>() + room.len()).sum();
        size_of::<SocketDescription>() + self.id.len() + rooms + self.user.as_ref().map_or(0, |user| user.len())
    }
}

impl Message {
    /// About what a question takes while it waits to be answered.
    pub fn question_bytes(&self) -> usize {
        let names = match self {
            Message::Ids { rooms, .. } => names_bytes(rooms),
            Message::Fetch { selection, .. } => names_bytes(&selection.rooms) + names_bytes(&selection.except),
            _ => 0,
        };
        size_of::<Envelope>() + names
    }
}

impl Answer {
    /// About what it takes.
    pub fn bytes(&self) -> usize {
        let more = match self {
            Answer::Ids(names) | Answer::Rooms(names) => names_bytes(names),
            Answer::Sockets(sockets) => sockets.iter().map(SocketDescription::bytes).sum(),
            Answer::ServerSide(value) => value.len(),
            Answer::Acknowledgement { value, attachments } => {
                value.as_ref().map_or(0, |value| value.len()) + blobs_bytes(attachments)
            }
            Answer::Done | Answer::Receivers(_) => 0,
        };
        size_of::<Answer>() + more
    }
}

fn names_bytes(names: &[Box<str>]) -> usize {
    names.iter().map(|name| size_of::<Box<str>>() + name.len()).sum()
}

/// What attachments take.
pub fn blobs_bytes(blobs: &[Box<[u8]>]) -> usize {
    blobs.iter().map(|blob| size_of::<Box<[u8]>>() + blob.len()).sum()
}
