//! Frames (RFC 6455 section 5.2): their headers decoded, whole frames encoded.

use alloc::vec::Vec;
use core::fmt;

#[cfg(feature = "client")]
use super::mask::unmask;

const FIN: u8 = 0x80;
const RESERVED_BITS: u8 = 0x70;
const OPCODE_BITS: u8 = 0x0f;
const MASKED: u8 = 0x80;
const LENGTH_BITS: u8 = 0x7f;
/// The value of the length bits that says: the length follows in two bytes.
const LENGTH_16: u8 = 126;
/// In eight bytes.
const LENGTH_64: u8 = 127;
/// RFC 6455 section 5.5: control frames are short, so that they can be handled at once.
const CONTROL_BYTES_MAX: usize = 125;

/// What a frame is (RFC 6455 section 5.2); the reserved ones are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum Opcode {
    /// 0x0: more of the message that a frame before it began.
    Continuation,
    /// 0x1: the (first) frame of a text.
    Text,
    /// 0x2: the (first) frame of a binary message.
    Binary,
    /// 0x8
    Close,
    /// 0x9
    Ping,
    /// 0xa
    Pong,
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Opcode> {
        match bits {
            0x0 => Some(Opcode::Continuation),
            0x1 => Some(Opcode::Text),
            0x2 => Some(Opcode::Binary),
            0x8 => Some(Opcode::Close),
            0x9 => Some(Opcode::Ping),
            0xa => Some(Opcode::Pong),
            _ => None,
        }
    }

    fn bits(self) -> u8 {
        match self {
            Opcode::Continuation => 0x0,
            Opcode::Text => 0x1,
            Opcode::Binary => 0x2,
            Opcode::Close => 0x8,
            Opcode::Ping => 0x9,
            Opcode::Pong => 0xa,
        }
    }

    pub(super) fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }
}

/// Whether a frame is the last of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum Fin {
    /// FIN is set.
    Last,
    /// Continuations follow.
    More,
}

/// What is wrong with the peer's frames. The connection is closed with `close_code` and cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// RSV1, RSV2 or RSV3 is set, and no extension was agreed on.
    ReservedBits,
    /// The opcode is 0x3 to 0x7 or above 0xa.
    ReservedOpcode,
    /// A frame of a client has no mask.
    Unmasked,
    /// A frame of a server has a mask.
    Masked,
    /// A control frame of more than 125 bytes.
    ControlTooLong,
    /// A control frame that is not the last of its message.
    ControlFragmented,
    /// A continuation of nothing.
    ContinuationUnexpected,
    /// A new message before the last frame of the one that has begun.
    ContinuationExpected,
    /// A text, or the reason of a close frame, is not UTF-8.
    InvalidUtf8,
    /// Over [`MessageLimits::message_bytes_max`](super::MessageLimits::message_bytes_max).
    MessageTooBig,
    /// Over [`MessageLimits::fragments_max`](super::MessageLimits::fragments_max).
    TooManyFragments,
    /// A close frame of one byte: a code has two.
    BadClosePayload,
    /// A code that must not be on the wire.
    BadCloseCode,
    /// A length in more bytes than it needs.
    LengthNotMinimal,
    /// A length of 2^63 or more, or beyond the address space.
    LengthTooLong,
}

impl FrameError {
    /// Every reason, in the order of its declaration.
    pub const ALL: [FrameError; 15] = [
        FrameError::ReservedBits,
        FrameError::ReservedOpcode,
        FrameError::Unmasked,
        FrameError::Masked,
        FrameError::ControlTooLong,
        FrameError::ControlFragmented,
        FrameError::ContinuationUnexpected,
        FrameError::ContinuationExpected,
        FrameError::InvalidUtf8,
        FrameError::MessageTooBig,
        FrameError::TooManyFragments,
        FrameError::BadClosePayload,
        FrameError::BadCloseCode,
        FrameError::LengthNotMinimal,
        FrameError::LengthTooLong,
    ];

    /// The reason as the label of a counter.
    pub fn label(self) -> &'static str {
        match self {
            FrameError::ReservedBits => "reserved_bits",
            FrameError::ReservedOpcode => "reserved_opcode",
            FrameError::Unmasked => "unmasked",
            FrameError::Masked => "masked",
            FrameError::ControlTooLong => "control_too_long",
            FrameError::ControlFragmented => "control_fragmented",
            FrameError::ContinuationUnexpected => "continuation_unexpected",
            FrameError::ContinuationExpected => "continuation_expected",
            FrameError::InvalidUtf8 => "invalid_utf8",
            FrameError::MessageTooBig => "message_too_big",
            FrameError::TooManyFragments => "too_many_fragments",
            FrameError::BadClosePayload => "bad_close_payload",
            FrameError::BadCloseCode => "bad_close_code",
            FrameError::LengthNotMinimal => "length_not_minimal",
            FrameError::LengthTooLong => "length_too_long",
        }
    }

    /// RFC 6455 section 7.4.1.
    pub fn close_code(self) -> u16 {
        match self {
            FrameError::InvalidUtf8 => 1007,
            FrameError::TooManyFragments => 1008,
            FrameError::MessageTooBig => 1009,
            FrameError::ReservedBits
            | FrameError::ReservedOpcode
            | FrameError::Unmasked
            | FrameError::Masked
            | FrameError::ControlTooLong
            | FrameError::ControlFragmented
            | FrameError::ContinuationUnexpected
            | FrameError::ContinuationExpected
            | FrameError::BadClosePayload
            | FrameError::BadCloseCode
            | FrameError::LengthNotMinimal
            | FrameError::LengthTooLong => 1002,
        }
    }

    /// The reason as a sentence, for the log.
    pub fn reason(self) -> &'static str {
        match self {
            FrameError::ReservedBits => "A reserved bit is set.",
            FrameError::ReservedOpcode => "The opcode is reserved.",
            FrameError::Unmasked => "A frame from a client must be masked.",
            FrameError::Masked => "A frame from a server must not be masked.",
            FrameError::ControlTooLong => "A control frame has at most 125 bytes.",
            FrameError::ControlFragmented => "A control frame must not be fragmented.",
            FrameError::ContinuationUnexpected => "A continuation without a beginning.",
            FrameError::ContinuationExpected => "A new message within a fragmented one.",
            FrameError::InvalidUtf8 => "The text is not valid UTF-8.",
            FrameError::MessageTooBig => "The message is too big.",
            FrameError::TooManyFragments => "The message has too many fragments.",
            FrameError::BadClosePayload => "The payload of a close frame begins with a code of two bytes.",
            FrameError::BadCloseCode => "The close code is not allowed.",
            FrameError::LengthNotMinimal => "The length of a frame must be written in the shortest form.",
            FrameError::LengthTooLong => "The length of a frame has its top bit set.",
        }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.reason())
    }
}

impl core::error::Error for FrameError {}

/// Who sends the frames that a decoder takes: a client masks every one of them, a server none (RFC 6455 section 5.1).
pub trait Sender: sealed::Sealed {
    #[doc(hidden)]
    const IS_MASKED: bool;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::FromClient {}
    impl Sealed for super::FromServer {}
}

/// The frames come from a client.
#[derive(Clone, Copy, Debug)]
pub struct FromClient;

/// The frames come from a server.
#[derive(Clone, Copy, Debug)]
pub struct FromServer;

impl Sender for FromClient {
    const IS_MASKED: bool = true;
}

impl Sender for FromServer {
    const IS_MASKED: bool = false;
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) fin: Fin,
    pub(super) opcode: Opcode,
    /// Zeros in a frame of a server.
    pub(super) mask: [u8; 4],
    pub(super) payload_length: usize,
}

crate::portable!(struct FrameHeader { fin, opcode, mask, payload_length });
crate::portable!(enum Fin { 0 Last, 1 More });
crate::portable!(enum Opcode { 0 Continuation, 1 Text, 2 Binary, 8 Close, 9 Ping, 10 Pong });

/// No header is longer: two bytes, eight of length, four of mask.
pub(super) const HEADER_LENGTH_MAX: usize = 14;

impl FrameHeader {
    /// Decodes a header from the front of `bytes`: the header and its length, or `None` while more bytes are needed.
    /// What is wrong is found with the byte that makes it wrong.
    pub(super) fn decode<S: Sender>(bytes: &[u8]) -> Result<Option<(FrameHeader, usize)>, FrameError> {
        let Some((&first, after)) = bytes.split_first() else { return Ok(None) };
        let (fin, opcode) = decode_first_byte(first)?;
        let Some((&second, after)) = after.split_first() else { return Ok(None) };
        if (second & MASKED != 0) != S::IS_MASKED {
            return Err(if S::IS_MASKED { FrameError::Unmasked } else { FrameError::Masked });
        }
        if opcode.is_control() && usize::from(second & LENGTH_BITS) > CONTROL_BYTES_MAX {
            return Err(FrameError::ControlTooLong);
        }
        let Some((payload_length, after)) = decode_length(second & LENGTH_BITS, after)? else { return Ok(None) };
        let (mask, after) = if S::IS_MASKED {
            let Some((mask, after)) = after.split_first_chunk::<4>() else { return Ok(None) };
            (*mask, after)
        } else {
            ([0; 4], after)
        };
        Ok(Some((FrameHeader { fin, opcode, mask, payload_length }, bytes.len() - after.len())))
    }
}

fn decode_first_byte(byte: u8) -> Result<(Fin, Opcode), FrameError> {
    if byte & RESERVED_BITS != 0 {
        return Err(FrameError::ReservedBits);
    }
    let opcode = Opcode::from_bits(byte & OPCODE_BITS).ok_or(FrameError::ReservedOpcode)?;
    let fin = if byte & FIN != 0 { Fin::Last } else { Fin::More };
    if opcode.is_control() && fin == Fin::More {
        return Err(FrameError::ControlFragmented);
    }
    Ok((fin, opcode))
}

/// The payload length and the bytes after it. A length in a longer form than needed is a violation (RFC 6455 section
/// 5.2).
fn decode_length(short: u8, after: &[u8]) -> Result<Option<(usize, &[u8])>, FrameError> {
    let (length, after) = match short {
        LENGTH_16 => {
            let Some((bytes, after)) = after.split_first_chunk::<2>() else { return Ok(None) };
            (u64::from(u16::from_be_bytes(*bytes)), after)
        }
        LENGTH_64 => {
            let Some((bytes, after)) = after.split_first_chunk::<8>() else { return Ok(None) };
            (u64::from_be_bytes(*bytes), after)
        }
        short => return Ok(Some((usize::from(short), after))),
    };
    if length < u64::from(LENGTH_16) || (short == LENGTH_64 && length <= u64::from(u16::MAX)) {
        return Err(FrameError::LengthNotMinimal);
    }
    if length > u64::MAX >> 1 {
        return Err(FrameError::LengthTooLong);
    }
    let length = usize::try_from(length).map_err(|_| FrameError::LengthTooLong)?;
    Ok(Some((length, after)))
}

/// Writes a frame of the server: whole and unmasked.
pub fn encode_frame(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    out.reserve(frame_header_length(payload.len()) + payload.len());
    encode_frame_header(opcode, payload.len(), out);
    out.extend_from_slice(payload);
}

/// Writes the header alone, for a payload that is written next.
pub fn encode_frame_header(opcode: Opcode, payload_length: usize, out: &mut Vec<u8>) {
    encode_header(FIN | opcode.bits(), 0, payload_length, out);
}

/// How many bytes `encode_frame_header` writes.
pub fn frame_header_length(payload_length: usize) -> usize {
    match payload_length {
        0..126 => 2,
        126..65_536 => 4,
        _ => 10,
    }
}

/// Writes a frame as clients send it.
#[cfg(feature = "client")]
pub fn encode_client_frame(opcode: Opcode, fin: Fin, mask: [u8; 4], payload: &[u8], out: &mut Vec<u8>) {
    let fin = if fin == Fin::Last { FIN } else { 0 };
    encode_header(fin | opcode.bits(), MASKED, payload.len(), out);
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    unmask(out.get_mut(start..).unwrap_or_default(), mask, 0);
}

fn encode_header(first: u8, masked: u8, payload_length: usize, out: &mut Vec<u8>) {
    match (u8::try_from(payload_length), u16::try_from(payload_length)) {
        (Ok(length), _) if length < LENGTH_16 => out.extend_from_slice(&[first, masked | length]),
        (_, Ok(length)) => {
            out.extend_from_slice(&[first, masked | LENGTH_16]);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.extend_from_slice(&[first, masked | LENGTH_64]);
            out.extend_from_slice(&(payload_length as u64).to_be_bytes());
        }
    }
}

/// The frames that [`encode_frame`] wrote one after another: an iterator.
///
/// Ends at the first byte that `encode_frame` would not have written there, and at a frame that is not whole.
#[derive(Clone, Debug)]
pub struct ServerFrames<'a> {
    rest: &'a [u8],
}

impl<'a> ServerFrames<'a> {
    /// Goes over them from the front.
    pub fn new(bytes: &'a [u8]) -> ServerFrames<'a> {
        ServerFrames { rest: bytes }
    }

    /// The bytes that no frame was found in yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn split_frame(&self) -> Option<(Opcode, &'a [u8], &'a [u8])> {
        let (&first, after) = self.rest.split_first()?;
        let (fin, opcode) = decode_first_byte(first).ok()?;
        let (&second, after) = after.split_first()?;
        if fin == Fin::More || opcode == Opcode::Continuation || second & MASKED != 0 {
            return None;
        }
        let (length, after) = decode_length(second, after).ok()??;
        let (payload, after) = after.split_at_checked(length)?;
        Some((opcode, payload, after))
    }
}

impl<'a> Iterator for ServerFrames<'a> {
    type Item = (Opcode, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (opcode, payload, after) = self.split_frame()?;
        self.rest = after;
        Some((opcode, payload))
    }
}

#[cfg(test)]
mod tests;
