//! Fuzz bodies: for every layer of `sockring-protocol` one function of bytes that asserts what must hold whatever they are.
//!
//! `fuzz_targets/` gives them to libFuzzer, `tests/replay.rs` gives them the committed seeds and changes of these.
#![forbid(unsafe_code)]

mod adapter;
#[cfg(feature = "server")]
mod api;
mod bugs;
mod engineio;
mod faults;
mod http;
mod json;
mod msgpack;
#[cfg(feature = "server")]
mod proxies;
mod random;
#[cfg(feature = "server")]
mod relay;
mod server;
mod session;
#[cfg(feature = "server")]
mod shard;
mod socketio;
#[cfg(feature = "server")]
mod tls;
#[cfg(feature = "server")]
mod tokens;
mod websocket;

pub use adapter::adapter;
#[cfg(feature = "server")]
pub use api::api;
pub use bugs::{BUGS, Bug};
pub use engineio::engineio;
pub use faults::{FAULTS, Fault, Invariant};
pub use http::http;
pub use json::json;
pub use msgpack::msgpack;
#[cfg(feature = "server")]
pub use proxies::proxies;
pub use random::Random;
#[cfg(feature = "server")]
pub use relay::relay;
pub use session::session;
#[cfg(feature = "server")]
pub use shard::shard;
pub use socketio::socketio;
#[cfg(feature = "server")]
pub use tls::tls;
#[cfg(feature = "server")]
pub use tokens::tokens;
pub use websocket::websocket;

/// What one body is fed with and what it does.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The folder of its seeds in `seeds/`, and the name that cargo-fuzz knows.
    pub name: &'static str,
    pub body: fn(&[u8]),
}

/// All of them, or without the feature `server` those over the protocol crate.
pub const TARGETS: &[Target] = &[
    Target { name: "http", body: http },
    Target { name: "websocket", body: websocket },
    Target { name: "engineio", body: engineio },
    Target { name: "session", body: session },
    Target { name: "socketio", body: socketio },
    Target { name: "json", body: json },
    Target { name: "msgpack", body: msgpack },
    Target { name: "adapter", body: adapter },
    #[cfg(feature = "server")]
    Target { name: "proxies", body: proxies },
    #[cfg(feature = "server")]
    Target { name: "tokens", body: tokens },
    #[cfg(feature = "server")]
    Target { name: "api", body: api },
    #[cfg(feature = "server")]
    Target { name: "shard", body: shard },
    #[cfg(feature = "server")]
    Target { name: "tls", body: tls },
    #[cfg(feature = "server")]
    Target { name: "relay", body: relay },
];

/// The longest beginning of `bytes` that is text.
fn text_of(bytes: &[u8]) -> &str {
    let valid = std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len);
    std::str::from_utf8(&bytes[..valid]).expect("cut where the text is valid")
}

/// Fails if `work` asks the allocator for anything.
#[track_caller]
fn assert_no_allocation(what: &str, work: impl FnOnce()) {
    let allocations = allocation_counter::measure(work);
    assert_eq!(allocations.count_total, 0, "{what}: {} bytes allocated", allocations.bytes_total);
}

/// Fails if `work` holds more than `bytes_max` of memory at any moment.
#[track_caller]
fn assert_memory(what: &str, bytes_max: usize, work: impl FnOnce()) {
    let allocations = allocation_counter::measure(work);
    let held = allocations.bytes_max;
    assert!(held <= bytes_max as u64, "{what}: {held} bytes held, at most {bytes_max} expected");
}
