//! `ToJson`: msgpack becomes JSON text in one pass, without a tree of values.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::adapter::{ATTACHMENTS_MAX, MessageError};
use crate::json::{DEPTH_MAX, encode_integer, encode_string};

use super::javascript::{encode_date, encode_number};
use super::{MsgpackToken, MsgpackTokens};

/// What becomes of byte strings, which JSON does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteStrings {
    /// They stay aside, and placeholders say where they belong: what a Socket.IO client understands.
    Attach,
    /// `{"type":"Buffer","data":[1,2]}`, as JSON.stringify writes a Buffer.
    Spell,
}

/// JSON text that is made of msgpack.
#[derive(Debug)]
pub struct ToJson<'a> {
    /// What has been written so far.
    pub text: Vec<u8>,
    /// The byte strings that the placeholders of the text number.
    pub attachments: Vec<&'a [u8]>,
    bytes: ByteStrings,
    has_fake_placeholder: bool,
}

/// An array or map that is open.
struct Level {
    left: u32,
    is_first: bool,
    end: u8,
}

impl<'a> ToJson<'a> {
    /// Begins with nothing.
    pub fn new(bytes: ByteStrings) -> ToJson<'a> {
        ToJson { text: Vec::new(), attachments: Vec::new(), bytes, has_fake_placeholder: false }
    }

    /// Appends the one value that `bytes` are. What cannot stand in JSON stands there as in JSON.stringify: `NaN` and
    /// `undefined` are `null` (in maps `undefined` is left out), and a date is its ISO text.
    pub fn append(&mut self, bytes: &'a [u8]) -> Result<(), MessageError> {
        let mut tokens = MsgpackTokens::new(bytes);
        let mut open: Vec<Level> = Vec::new();
        loop {
            let level = match tokens.step()? {
                MsgpackToken::Array(left) => Some((b'[', Level { left, is_first: true, end: b']' })),
                MsgpackToken::Map(left) => Some((b'{', Level { left, is_first: true, end: b'}' })),
                scalar => {
                    self.scalar(scalar)?;
                    None
                }
            };
            if let Some((begin, level)) = level {
                if open.len() == DEPTH_MAX {
                    return Err(MessageError::TooDeep);
                }
                self.text.push(begin);
                open.push(level);
            }
            if !self.go_on(&mut tokens, &mut open)? {
                break;
            }
        }
        if !tokens.is_at_end() {
            return Err(MessageError::Syntax);
        }
        // A client's parser would take such a map for one of the byte strings, and fail if there are not that many.
        if self.has_fake_placeholder && !self.attachments.is_empty() {
            return Err(MessageError::Packet);
        }
        Ok(())
    }

    /// Closes what is complete, and goes to where the next value stands; false when there is none.
    fn go_on(&mut self, tokens: &mut MsgpackTokens<'a>, open: &mut Vec<Level>) -> Result<bool, MessageError> {
        loop {
            let Some(level) = open.last_mut() else { return Ok(false) };
            if level.left == 0 {
                self.text.push(level.end);
                open.pop();
                continue;
            }
            level.left -= 1;
            if level.end == b']' {
                self.comma(level);
                return Ok(true);
            }
            let key = tokens.step()?;
            let mut after = tokens.clone();
            let value = after.step()?;
            if value.is_undefined() {
                *tokens = after;
                continue;
            }
            self.comma(level);
            let key = key.key().ok_or(MessageError::Shape)?;
            let is_placeholder = key == "_placeholder" && value == MsgpackToken::Boolean(true);
            self.has_fake_placeholder |= self.bytes == ByteStrings::Attach && is_placeholder;
            encode_string(&key, &mut self.text);
            self.text.push(b':');
            return Ok(true);
        }
    }

    fn comma(&mut self, level: &mut Level) {
        if !core::mem::take(&mut level.is_first) {
            self.text.push(b',');
        }
    }

    fn scalar(&mut self, token: MsgpackToken<'a>) -> Result<(), MessageError> {
        let out = &mut self.text;
        match token {
            MsgpackToken::Nil | MsgpackToken::Extension(0, [_]) => out.extend_from_slice(b"null"),
            MsgpackToken::Boolean(true) => out.extend_from_slice(b"true"),
            MsgpackToken::Boolean(false) => out.extend_from_slice(b"false"),
            MsgpackToken::Unsigned(number) => encode_integer(number, out),
            MsgpackToken::Negative(number) => {
                out.push(b'-');
                encode_integer(number.unsigned_abs(), out);
            }
            MsgpackToken::Float(number) => encode_number(number, out),
            MsgpackToken::Text(text) => encode_string(&String::from_utf8_lossy(text), out),
            MsgpackToken::Bytes(bytes) => self.byte_string(bytes)?,
            MsgpackToken::Extension(kind, bytes) => self.extension(kind, bytes)?,
            // Not scalars: the caller has opened them.
            MsgpackToken::Array(_) | MsgpackToken::Map(_) => {}
        }
        Ok(())
    }

    fn byte_string(&mut self, bytes: &'a [u8]) -> Result<(), MessageError> {
        if self.bytes == ByteStrings::Spell {
            self.text.extend_from_slice(b"{\"type\":\"Buffer\",\"data\":[");
            for (index, byte) in bytes.iter().enumerate() {
                if index > 0 {
                    self.text.push(b',');
                }
                encode_integer(u64::from(*byte), &mut self.text);
            }
            self.text.extend_from_slice(b"]}");
            return Ok(());
        }
        if self.attachments.len() == ATTACHMENTS_MAX {
            return Err(MessageError::TooManyAttachments);
        }
        self.text.extend_from_slice(b"{\"_placeholder\":true,\"num\":");
        encode_integer(self.attachments.len() as u64, &mut self.text);
        self.text.push(b'}');
        self.attachments.push(bytes);
        Ok(())
    }

    /// Dates, and what notepack wrote before msgpack had dates; the rest is `[type, bytes]`, as notepack reads it.
    fn extension(&mut self, kind: i8, bytes: &'a [u8]) -> Result<(), MessageError> {
        match (kind, bytes.len()) {
            (-1, 4 | 8 | 12) => encode_date(timestamp_ms(bytes), &mut self.text),
            (0, 8) => {
                encode_date(i128::from(bytes.iter().fold(0, |ms, byte| ms << 8 | i64::from(*byte))), &mut self.text)
            }
            _ => {
                self.text.extend_from_slice(format!("[{kind},").as_bytes());
                self.byte_string(bytes)?;
                self.text.push(b']');
            }
        }
        Ok(())
    }
}

/// A timestamp of 32, 64 or 96 bits (msgpack specification, "Timestamp extension type") in milliseconds since 1970. What is
/// below a millisecond is cut off towards zero, as `new Date` does.
fn timestamp_ms(bytes: &[u8]) -> i128 {
    let number = bytes.iter().fold(0, |number: u128, byte| number << 8 | u128::from(*byte));
    let (seconds, nanoseconds) = match bytes.len() {
        4 => (number as i128, 0),
        8 => ((number & 0x3_ffff_ffff) as i128, number >> 34),
        _ => (bytes.last_chunk().map_or(0, |seconds| i64::from_be_bytes(*seconds)).into(), number >> 64),
    };
    (seconds * 1_000_000_000 + nanoseconds as i128) / 1_000_000
}
