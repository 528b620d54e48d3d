//! The wire: connections, what is read from them and what is written to them, whichever client they carry.

mod answers;
mod connection;
pub(super) mod flush;
mod frames;
mod http;
pub(super) mod idlers;
mod input;
pub(super) mod parcel;
mod requests;
mod room_making;
pub(super) mod stage;
