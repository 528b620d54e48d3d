//! `Outbound`: what the hub wants of others, in lists that are worked off at the end of the turn. Nothing is done at once.

use crate::shard::clients::client::ConnectionKey;
use crate::shard::clients::outbox::Outbox;
use crate::shard::effects::Effect;
use crate::shard::mail::{Reply, SiblingMail, Ticket};
use crate::shard::moving::emigrant::Departed;

/// What others are wanted to do, each list in order.
#[derive(Default)]
pub(crate) struct Outbound {
    pub(crate) orders: Vec<Order>,
    /// Connections to look at, for what has come and is not read.
    pub(crate) looks: Vec<ConnectionKey>,
    /// For other shards.
    pub(crate) mails: Vec<(u16, SiblingMail)>,
    pub(crate) replies: Vec<(Ticket, Reply)>,
    /// What the bus is wanted to do.
    pub(crate) for_bus: Vec<Effect>,
    /// A client that has just moved to another shard; its connections are still here, and see to it before anything else
    /// happens on them.
    pub(crate) departed: Option<Departed>,
}

/// What the hub wants of a connection.
pub(crate) enum Order {
    /// Answer the held GET with this payload.
    AnswerPoll(ConnectionKey, Vec<u8>),
    /// Answer the held GET with 400 code 3.
    RefusePoll(ConnectionKey),
    /// Send what is queued, then a close frame with this code, then close.
    CloseWebSocket(ConnectionKey, Outbox, Option<u16>),
    /// The peer is silent: a close frame is all that it is sent, and not even that if it takes nothing.
    GiveUp(ConnectionKey),
    /// Close without sending what is queued: the peer does not read.
    Abort(ConnectionKey),
}
