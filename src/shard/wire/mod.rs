//! The wire: connections, what is read from them and what is written to them, whichever client they carry.

pub(super) mod connection;
pub(super) mod flush;
mod frames;
pub(super) mod http;
mod input;
pub(super) mod parcel;
mod requests;
pub(super) mod room_making;
