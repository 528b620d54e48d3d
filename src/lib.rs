//! sockring: a standalone Socket.IO server on io_uring.
#![deny(unsafe_code)]

pub mod ring;
