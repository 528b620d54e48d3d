//! `Mail`: what others tell a shard or ask of it, and what it answers.

use std::sync::Arc;

use crate::broadcast::Broadcast;

use super::metrics::Counters;

/// Names a question, so that its answer finds who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// One message to a shard.
#[derive(Debug)]
pub enum Mail {
    /// Deliver to the members that this shard has; answered by `Reply::Delivered`.
    Emit(Broadcast),
    /// Puts sockets into a room; answered by `Reply::Changed`.
    Join(Target, Box<str>),
    /// Takes sockets out of a room; answered by `Reply::Changed`. A user's own room is never left.
    Leave(Target, Box<str>),
    /// Ends sockets or their sessions; answered by `Reply::Changed`.
    Disconnect(Target, Ending),
    /// From now on every new socket gets this event behind its greeting: a JSON array, its name first. `None`: no more.
    /// Answered by `Reply::Changed(0)`.
    Stand(Option<Arc<[u8]>>),
    /// Answered by `Reply::Stats`.
    Stats,
    /// Answered by `Reply::Metrics`.
    Metrics,
    /// How many sockets this user id has here; answered by `Reply::Sockets`.
    UserStatus(String),
}

/// The sockets that a mail is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// All sockets of a user.
    User(Box<str>),
    /// The socket with this Socket.IO sid.
    Socket(Box<str>),
}

/// How a socket is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A Socket.IO DISCONNECT: the client does not come back by itself.
    Socket,
    /// The whole session: the client reconnects.
    Session,
}

/// A shard's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Sockets that have it queued.
    Delivered(u64),
    /// Sockets that it was done to.
    Changed(u64),
    Stats(ShardStats),
    Metrics(Box<ShardMetrics>),
    Sockets(u64),
}

/// Everything that a shard counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardMetrics {
    pub stats: ShardStats,
    pub counters: Counters,
}

/// How many of each there are in a shard now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardStats {
    /// TCP connections that the shard holds.
    pub connections: u64,
    /// Engine.IO sessions, those without a socket among them.
    pub clients: u64,
    /// Clients that have a socket.
    pub connected: u64,
    /// Sockets over all namespaces.
    pub sockets: u64,
    pub users: u64,
    pub rooms: u64,
    /// Of the connected clients: those whose transport is a WebSocket, and the others.
    pub websocket: u64,
    pub polling: u64,
    /// Bytes that wait for clients.
    pub queued_bytes: u64,
    /// Half open: clients that have sent no CONNECT that was accepted.
    pub unclaimed: u64,
    /// Half open: clients with a probe that is not their transport yet.
    pub probing: u64,
    /// Half open: clients whose attachments have not all come.
    pub assembling: u64,
    /// Polling clients that are over and have still to fetch how.
    pub leaving: u64,
    /// Connections that wait for their peer to end its side.
    pub closing: u64,
}
