//! Rooms: who is in which, here and at other shards, and how a broadcast reaches its receivers.

pub(super) mod acks;
pub(super) mod changes;
pub(super) mod deliver;
pub(super) mod homes;
mod manage;
pub(super) mod seats;
mod selected;
pub(super) mod sockets;
pub(super) mod subscriptions;
pub(super) mod table;
