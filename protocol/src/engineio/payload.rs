//! The body of a polling request or response: packets with 0x1e between them, binary ones as `b` and base64.

use alloc::vec::Vec;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use memchr::memchr;

use super::packet::{EnginePacket, EnginePacketError, SEPARATOR};

/// The packets of a polling payload, in order: an iterator.
///
/// After an error it ends, as the reference does: what stood before the error has been received, the rest is not looked
/// at. An empty body is one empty packet, which is an error (T31).
#[derive(Clone, Debug)]
pub struct Payload<'a> {
    /// What has not been looked at; `None` after the last packet or an error.
    rest: Option<&'a str>,
    packets_left: usize,
}

impl<'a> Payload<'a> {
    /// Decodes the body of a POST, or of the answer to a GET, packet by packet. After `packets_max` packets comes
    /// [`EnginePacketError::TooManyPackets`].
    pub fn decode(body: &'a str, packets_max: usize) -> Payload<'a> {
        Payload { rest: Some(body), packets_left: packets_max }
    }

    /// What has not been looked at: the packets behind the last one; `None` if it was the last, or an error.
    pub fn rest(&self) -> Option<&'a str> {
        self.rest
    }
}

impl<'a> Iterator for Payload<'a> {
    type Item = Result<EnginePacket<'a>, EnginePacketError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.take()?;
        let Some(packets_left) = self.packets_left.checked_sub(1) else {
            return Some(Err(EnginePacketError::TooManyPackets));
        };
        self.packets_left = packets_left;
        let (piece, rest) = split_at_separator(rest);
        let packet = EnginePacket::decode(piece);
        if packet.is_ok() {
            self.rest = rest;
        }
        Some(packet)
    }
}

impl core::iter::FusedIterator for Payload<'_> {}

/// What stands before the first separator, and after it, if there is one.
fn split_at_separator(text: &str) -> (&str, Option<&str>) {
    match memchr(SEPARATOR, text.as_bytes()).and_then(|at| text.split_at_checked(at)) {
        Some((piece, rest)) => (piece, rest.get(1..)),
        None => (text, None),
    }
}

/// Writes the body of a response to a GET: packets are pushed, separators come by themselves.
#[derive(Debug)]
pub struct PayloadEncoder<'o> {
    pub(super) out: &'o mut Vec<u8>,
    packets: usize,
}

impl<'o> PayloadEncoder<'o> {
    /// Appends to what `out` already holds.
    pub fn new(out: &'o mut Vec<u8>) -> PayloadEncoder<'o> {
        PayloadEncoder { out, packets: 0 }
    }

    /// Appends one packet that is text already, its type included: `4hello`, `2`, `6`.
    pub fn push_text(&mut self, packet: &[u8]) {
        self.separate();
        self.out.extend_from_slice(packet);
    }

    /// Appends a message of bytes as `b` and padded base64.
    pub fn push_binary(&mut self, data: &[u8]) {
        self.separate();
        self.out.push(b'b');
        let from = self.out.len();
        // Text of exactly this length; a `None` means that it would exceed the address space, which `data` itself fits in.
        let Some(length) = base64::encoded_len(data.len(), true) else { return };
        self.out.resize(from + length, 0);
        if let Some(space) = self.out.get_mut(from..) {
            let written = BASE64_STANDARD.encode_slice(data, space);
            debug_assert_eq!(written, Ok(length));
        }
    }

    /// True until the first packet is pushed.
    pub fn is_empty(&self) -> bool {
        self.packets == 0
    }

    pub(super) fn separate(&mut self) {
        if self.packets > 0 {
            self.out.push(SEPARATOR);
        }
        self.packets += 1;
    }
}
