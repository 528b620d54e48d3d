//! `Mail`: what others tell a shard or ask of it, and what it answers.

use crate::broadcast::Broadcast;

/// Names a question, so that its answer finds who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// One message to a shard.
#[derive(Debug)]
pub enum Mail {
    /// Deliver to the members that this shard has; answered by `Reply::Delivered`.
    Emit(Broadcast),
    /// Answered by `Reply::Stats`.
    Stats,
    /// How many sockets this user id has here; answered by `Reply::Sockets`.
    UserStatus(String),
}

/// A shard's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Sockets that have it queued.
    Delivered(u64),
    Stats(ShardStats),
    Sockets(u64),
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
}
