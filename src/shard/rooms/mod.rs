//! Rooms: who is in which, here and at other shards, and how a broadcast reaches its receivers.

pub(super) mod acks;
mod announcing;
pub(super) mod broadcasts;
mod changes;
pub(super) mod deliver;
pub(super) mod fan_out;
mod homes;
mod keeping;
pub(super) mod kept;
pub(super) mod lingering;
mod manage;
pub(super) mod membership;
pub(super) mod once;
pub(super) mod receipts;
mod remembered;
pub(super) mod seats;
mod selected;
pub(super) mod sockets;
mod subscriptions;
pub(super) mod table;
pub(super) mod tally;
