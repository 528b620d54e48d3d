//! `Message`: what instances tell each other, whichever adapter carries it.

use crate::broadcast::{Broadcast, Selection};
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
