//! `Effect`: what a shard wants done outside of it, as values. A worker performs them, a simulation plays them.

use sockring_protocol::adapter::StoredSession;

use super::clients::client::ConnectionKey;
use super::clients::outbox::Bytes;
use super::mail::{GivenEvent, MailboxQuestion, ReceivedEvents, Reply, RoomName, SiblingMail, Ticket};
use super::moving::sid::Instance;
use super::wire::parcel::Parcel;

/// Who takes over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The tasks of this core that serve everything but Engine.IO.
    Api,
    Shard(u16),
    /// Whoever takes what is for a session of this instance there.
    Instance(Instance),
}

/// One thing to do, in order.
#[derive(Debug)]
pub enum Effect {
    /// Receive once. Ignored for a settled connection, which is read whenever it has bytes.
    Read(ConnectionKey),
    /// Find out whether something has come that is not read yet; `on_looked` follows when all of that is.
    Look(ConnectionKey),
    /// The same for all connections, and those that wait to be accepted; `on_looked_around` follows. One at a time.
    LookAround,
    /// Send all of it; `on_sent` follows. Only one at a time per connection.
    Send(ConnectionKey, Bytes),
    /// The connection is a WebSocket now: make it as cheap as it can be.
    Settle(ConnectionKey),
    /// End our side; the peer may still send.
    ShutDown(ConnectionKey),
    /// Cancel what is under way and close; `on_closed` follows.
    Close(ConnectionKey),
    /// Give the connection away, after what is being sent; what is still received goes along. `on_closed` follows.
    HandOver(ConnectionKey, Destination, Box<Parcel>),
    /// Post this to another shard. Comes before whatever tells a client or a backend that it has happened.
    Mail(u16, Box<SiblingMail>),
    /// The answer to a mail that carried a ticket.
    Reply(Ticket, Box<Reply>),
    /// A room whose home is here has members now, on whichever shards: messages of other instances to it are wanted.
    /// `BusMail::Subscribed` follows, with the epoch of the room's last `Subscribe`.
    Subscribe(Box<RoomName>, u32),
    /// It has none any more.
    Unsubscribe(Box<RoomName>),
    /// A client has answered a broadcast that wanted an acknowledgement.
    Acknowledged(Box<Acknowledgement>),
    /// Ask other servers for a session; `BusMail::Session` follows.
    FindSession(Box<SessionQuestion>),
    /// Tell other servers of one.
    KeepSession(Box<KeptSession>),
    /// Ask what the bus keeps for a user; `BusMail::Mailbox` follows.
    ReadKept(Box<MailboxQuestion>),
    /// A user has received some of it; `BusMail::Confirmed` follows.
    ConfirmKept(Box<ReceivedEvents>),
    /// The bus is to keep what was kept here while it was away; `BusMail::Given` follows.
    GiveKept(Box<GivenEvent>),
}

/// Which session is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionQuestion {
    /// That the answer repeats.
    pub number: u64,
    /// What the client comes back with.
    pub pid: Box<str>,
}

/// A session as other servers are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptSession {
    pub session: StoredSession,
    pub for_ms: u64,
}

/// A client's answer to a `Mail::DeliverForAck`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// That of the mail.
    pub number: u64,
    /// A JSON array; binary arguments are placeholders.
    pub args: Box<[u8]>,
    pub attachments: Vec<Box<[u8]>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_effect_is_small() {
        // There is one for each receiver of a broadcast.
        assert!(size_of::<Effect>() <= 40, "{}", size_of::<Effect>());
    }
}
