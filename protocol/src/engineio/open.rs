//! `OpenPacket`: the first packet of a session, which tells a client its sid and the server's times and limits.

use crate::json;
use alloc::vec::Vec;

/// The handshake (engine.io-protocol v4, "Handshake"). Exactly five keys, in the order of the reference (T20).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct OpenPacket<'a> {
    /// The session's id: what every later request of it names as `sid`.
    pub sid: &'a str,
    /// Where the client may move the session to.
    pub upgrades: Upgrades,
    /// `pingInterval`: milliseconds from one ping of the server to its next.
    pub ping_interval_ms: u64,
    /// `pingTimeout`: milliseconds that a client has for its pong.
    pub ping_timeout_ms: u64,
    /// `maxPayload`: bytes of one message or of one polling body.
    pub payload_bytes_max: u64,
}

/// Where a session may move from the transport that it began on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum Upgrades {
    /// From polling to a WebSocket, by a probe.
    WebSocket,
    /// The session is on WebSocket already, or the server serves polling only.
    None,
}

impl OpenPacket<'_> {
    /// Appends the whole packet, its type `0` included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"0{\"sid\":");
        json::encode_string(self.sid, out);
        out.extend_from_slice(b",\"upgrades\":");
        out.extend_from_slice(match self.upgrades {
            Upgrades::WebSocket => b"[\"websocket\"]",
            Upgrades::None => b"[]",
        });
        out.extend_from_slice(b",\"pingInterval\":");
        json::encode_integer(self.ping_interval_ms, out);
        out.extend_from_slice(b",\"pingTimeout\":");
        json::encode_integer(self.ping_timeout_ms, out);
        out.extend_from_slice(b",\"maxPayload\":");
        json::encode_integer(self.payload_bytes_max, out);
        out.push(b'}');
    }
}
