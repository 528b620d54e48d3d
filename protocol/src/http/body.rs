//! Request bodies: takes the bytes as they arrive and hands out the payload, by length or chunked, within limits.

use super::{Framing, RequestError};
use alloc::vec::Vec;

/// A chunk size with more digits is padded for no good reason.
const SIZE_DIGITS_MAX: u32 = 16;
/// Chunk extensions carry nothing that we know; this many bytes of them are read over in one body.
const EXTENSION_BYTES_MAX: usize = 4096;
/// Trailers are read over as well, up to this many bytes.
const TRAILER_BYTES_MAX: usize = 4096;

/// Decodes the body of one request (RFC 9112 sections 6 and 7.1).
#[derive(Debug)]
pub struct BodyDecoder {
    state: State,
    /// Payload bytes that may still come before the body is over the limit.
    allowance: usize,
    extension_bytes: usize,
    trailer_bytes: usize,
}

/// Whether a body has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyState {
    /// All of it has come: what follows is the next request.
    Complete,
    /// More bytes are needed.
    More,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A body with a length: bytes still to come.
    Length(usize),
    Size {
        digits: u32,
        size: u64,
    },
    /// Blanks after a chunk size: some peers pad it.
    SizeBlank(u64),
    Extension(u64),
    SizeLineFeed(u64),
    Data(usize),
    DataReturn,
    DataLineFeed,
    TrailerStart,
    Trailer,
    TrailerLineFeed,
    LastLineFeed,
    Complete,
}

crate::portable!(struct BodyDecoder { state, allowance, extension_bytes, trailer_bytes });
crate::portable!(enum State {
    0 Length(left),
    1 Size { digits, size },
    2 SizeBlank(size),
    3 Extension(size),
    4 SizeLineFeed(size),
    5 Data(left),
    6 DataReturn,
    7 DataLineFeed,
    8 TrailerStart,
    9 Trailer,
    10 TrailerLineFeed,
    11 LastLineFeed,
    12 Complete,
});

impl BodyDecoder {
    /// A declared length over `body_bytes_max` is refused at once.
    pub fn new(framing: Framing, body_bytes_max: usize) -> Result<BodyDecoder, RequestError> {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Complete,
            Framing::Length(length) => match usize::try_from(length) {
                Ok(length) if length <= body_bytes_max => State::Length(length),
                _ => return Err(RequestError::BodyTooLarge),
            },
            Framing::Chunked => State::Size { digits: 0, size: 0 },
        };
        Ok(BodyDecoder { state, allowance: body_bytes_max, extension_bytes: 0, trailer_bytes: 0 })
    }

    /// Takes bytes from the front of `input` and appends the payload among them to `body`; returns how many bytes were
    /// consumed and whether the body is complete. Never consumes past the end of the body.
    pub fn decode(&mut self, input: &[u8], body: &mut Vec<u8>) -> Result<(usize, BodyState), RequestError> {
        let mut rest = input;
        while self.state != State::Complete {
            match self.state {
                State::Length(remaining) | State::Data(remaining) => {
                    let Some((payload, after)) = rest.split_at_checked(remaining.min(rest.len())) else { break };
                    if payload.is_empty() {
                        break;
                    }
                    body.extend_from_slice(payload);
                    rest = after;
                    self.state = self.after_payload(remaining - payload.len());
                }
                _ => {
                    let Some((byte, after)) = rest.split_first() else { break };
                    rest = after;
                    self.state = self.after_byte(*byte)?;
                }
            }
        }
        let state = if self.state == State::Complete { BodyState::Complete } else { BodyState::More };
        Ok((input.len() - rest.len(), state))
    }

    fn after_payload(&self, remaining: usize) -> State {
        match (self.state, remaining) {
            (State::Data(_), 0) => State::DataReturn,
            (State::Data(_), remaining) => State::Data(remaining),
            (_, 0) => State::Complete,
            (_, remaining) => State::Length(remaining),
        }
    }

    /// The framing around the chunks. Every line ends with CR and LF: a lone line feed that we took for a line end and
    /// a proxy did not, or the other way round, is how requests are smuggled in chunk extensions.
    fn after_byte(&mut self, byte: u8) -> Result<State, RequestError> {
        match (self.state, byte) {
            (State::Size { digits, size }, byte) if byte.is_ascii_hexdigit() => add_digit(digits, size, byte),
            (State::Size { digits, size }, b'\r') if digits > 0 => Ok(State::SizeLineFeed(size)),
            (State::Size { digits, size }, b';') if digits > 0 => self.extension(size),
            (State::Size { digits, size }, b' ' | b'\t') if digits > 0 => self.blank(size),
            (State::SizeBlank(size), b' ' | b'\t') => self.blank(size),
            (State::SizeBlank(size), b';') => self.extension(size),
            (State::SizeBlank(size) | State::Extension(size), b'\r') => Ok(State::SizeLineFeed(size)),
            (State::Extension(size), byte) if is_text(byte) => self.extension(size),
            (State::SizeLineFeed(size), b'\n') => self.chunk(size),
            (State::DataReturn, b'\r') => Ok(State::DataLineFeed),
            (State::DataLineFeed, b'\n') => Ok(State::Size { digits: 0, size: 0 }),
            (State::TrailerStart, b'\r') => Ok(State::LastLineFeed),
            (State::TrailerStart | State::Trailer, byte) if is_text(byte) => self.trailer(),
            (State::Trailer, b'\r') => Ok(State::TrailerLineFeed),
            (State::TrailerLineFeed, b'\n') => Ok(State::TrailerStart),
            (State::LastLineFeed, b'\n') => Ok(State::Complete),
            _ => Err(RequestError::BodyMalformed),
        }
    }

    /// A chunk begins: its size is held against the limit before any of it arrives.
    fn chunk(&mut self, size: u64) -> Result<State, RequestError> {
        if size == 0 {
            return Ok(State::TrailerStart);
        }
        let size = usize::try_from(size).map_err(|_| RequestError::BodyTooLarge)?;
        self.allowance = self.allowance.checked_sub(size).ok_or(RequestError::BodyTooLarge)?;
        Ok(State::Data(size))
    }

    fn extension(&mut self, size: u64) -> Result<State, RequestError> {
        self.count_extension()?;
        Ok(State::Extension(size))
    }

    fn blank(&mut self, size: u64) -> Result<State, RequestError> {
        self.count_extension()?;
        Ok(State::SizeBlank(size))
    }

    fn count_extension(&mut self) -> Result<(), RequestError> {
        self.extension_bytes += 1;
        if self.extension_bytes > EXTENSION_BYTES_MAX { Err(RequestError::BodyTooLarge) } else { Ok(()) }
    }

    fn trailer(&mut self) -> Result<State, RequestError> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILER_BYTES_MAX { Err(RequestError::HeadTooLarge) } else { Ok(State::Trailer) }
    }
}

fn add_digit(digits: u32, size: u64, byte: u8) -> Result<State, RequestError> {
    let value = char::from(byte).to_digit(16).ok_or(RequestError::BodyMalformed)?;
    if digits >= SIZE_DIGITS_MAX {
        return Err(RequestError::BodyMalformed);
    }
    Ok(State::Size { digits: digits + 1, size: (size << 4) | u64::from(value) })
}

/// What may stand in an extension or a trailer: everything but control characters.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

#[cfg(test)]
mod tests;
