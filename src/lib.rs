//! sockring: a standalone Socket.IO server on io_uring.
#![deny(unsafe_code)]

pub mod app;
pub mod broadcast;
pub mod mailbox;
pub mod ring;
pub mod shard;
pub mod worker;
