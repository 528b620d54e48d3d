//! sockring: a standalone Socket.IO server on io_uring.
#![deny(unsafe_code)]

pub mod api;
pub mod app;
pub mod auth;
pub mod bus;
pub mod capacity;
pub mod cluster;
pub mod config;
pub mod events;
pub mod mailbox;
pub mod proxies;
pub mod ring;
pub mod shard;
pub mod worker;
