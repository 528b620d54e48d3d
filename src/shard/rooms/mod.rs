//! Rooms: who is in which, here and at other shards, and how a broadcast reaches its receivers.

pub(super) mod acks;
mod announcing;
mod changes;
pub(super) mod deliver;
mod homes;
mod manage;
pub(super) mod membership;
pub(super) mod seats;
mod selected;
pub(super) mod sockets;
mod subscriptions;
pub(super) mod table;
