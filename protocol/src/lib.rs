//! HTTP, WebSocket, Engine.IO v4 and Socket.IO v5 as pure functions and small machines: bytes in, values out, and back.
//!
//! Nothing here opens a socket, reads a clock, starts a thread or allocates by a length that a peer merely claims.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

extern crate alloc;

pub mod adapter;
pub mod engineio;
pub mod http;
pub mod json;
mod millis;
pub mod msgpack;
pub mod socketio;
pub mod websocket;

pub use millis::Millis;
