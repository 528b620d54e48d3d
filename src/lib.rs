//! sockring: a standalone Socket.IO server on io_uring.
#![deny(unsafe_code)]
// As in the protocol's crate. Where an index is right by what a type knows of itself, one accessor says so.
#![deny(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::cast_possible_truncation,
        reason = "a test that fails says where"
    )
)]

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
pub mod spans;
pub mod tls;
pub mod tunnels;
pub mod worker;
