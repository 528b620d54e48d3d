//! `Message`: what instances tell each other, whichever adapter carries it.

use sockring_protocol::adapter::{Broadcast, Selection};

use crate::shard::{Ending, SocketDescription};

/// Names a question among instances, as its asker chose it.
pub type RequestId = Box<str>;

/// A message with its sender.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// The adapter's, of one instance and namespace. Emitters have a constant one, or none.
    pub uid: Option<Box<str>>,
    pub namespace: Box<str>,
    pub message: Message,
}

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    Broadcast(Broadcast),
    /// Answered by `Answer::Receivers`, and by an `Answer::Acknowledgement` for each client that answers in time.
    BroadcastForAck {
        request: RequestId,
        broadcast: Broadcast,
        timeout_ms: u64,
    },
    /// The sids of sockets in any of these rooms; of all without rooms. Answered by `Answer::Ids`.
    Ids {
        request: RequestId,
        rooms: Vec<Box<str>>,
    },
    /// Answered by `Answer::Rooms`.
    Rooms {
        request: RequestId,
    },
    /// Answered by `Answer::Sockets`.
    Fetch {
        request: RequestId,
        selection: Selection,
    },
    Join {
        selection: Selection,
        rooms: Vec<Box<str>>,
        confirm: Option<RequestId>,
    },
    Leave {
        selection: Selection,
        rooms: Vec<Box<str>>,
        confirm: Option<RequestId>,
    },
    /// `confirm`: who has done it to a socket answers `Answer::Done`. Only old instances ask for that, about a single socket.
    Disconnect {
        selection: Selection,
        ending: Ending,
        confirm: Option<RequestId>,
    },
    /// For the other servers' own code. With a request it is answered by `Answer::ServerSide`.
    ServerSide {
        request: Option<RequestId>,
        args: Box<[u8]>,
    },
    Answer {
        /// The adapter uid of who asked, whose own channel carries it. `None`: the channel on which all instances listen for
        /// answers, which the sharded adapter does not have.
        asker: Option<Box<str>>,
        request: RequestId,
        answer: Answer,
    },
}

/// What one instance answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Ids(Vec<Box<str>>),
    Rooms(Vec<Box<str>>),
    /// An empty list may be the answer to `Message::Ids` just as well: the classic adapter does not tell them apart.
    Sockets(Vec<SocketDescription>),
    Done,
    /// A JSON value.
    ServerSide(Box<[u8]>),
    /// How many clients will be asked for an acknowledgement.
    Receivers(u64),
    /// A client's: the first of its arguments, as a JSON value with placeholders, and its attachments. `None`: it had none.
    Acknowledgement {
        value: Option<Box<[u8]>>,
        attachments: Vec<Box<[u8]>>,
    },
}

impl Message {
    /// About what a question takes while it waits to be answered.
    pub(super) fn question_bytes(&self) -> usize {
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
    pub(super) fn bytes(&self) -> usize {
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
pub(super) fn blobs_bytes(blobs: &[Box<[u8]>]) -> usize {
    blobs.iter().map(|blob| size_of::<Box<[u8]>>() + blob.len()).sum()
}
