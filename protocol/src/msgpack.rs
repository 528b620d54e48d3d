//! msgpack, as Node's adapters write it with notepack: its tokens, one after the other, and what is one value.
//!
//! Whoever can publish can declare any length. Nothing is allocated by a declared length, and nothing recurses.

mod from_json;
mod javascript;
mod to_json;

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use rmp::Marker;

use crate::adapter::MessageError;
use crate::json::DEPTH_MAX;

pub use from_json::from_json;
pub use javascript::number_text;
pub use to_json::{ByteStrings, ToJson};

/// One value, or the beginning of an array or map.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MsgpackToken<'a> {
    /// `null`.
    Nil,
    /// `true` or `false`.
    Boolean(bool),
    /// An integer that is not below 0, however it is written.
    Unsigned(u64),
    /// An integer below 0.
    Negative(i64),
    /// A number with a fraction, or whatever else was written as one.
    Float(f64),
    /// Supposed to be UTF-8. What is not is read as U+FFFD, as Node's `Buffer.toString` does, so that an event with a
    /// broken character arrives here as it arrives there.
    Text(&'a [u8]),
    /// A byte string.
    Bytes(&'a [u8]),
    /// The beginning of an array of so many values.
    Array(u32),
    /// The beginning of a map of so many keys, each with a value.
    Map(u32),
    /// Its type and what is in it.
    Extension(i8, &'a [u8]),
}

impl<'a> MsgpackToken<'a> {
    /// JavaScript's `undefined`.
    pub fn is_undefined(self) -> bool {
        matches!(self, MsgpackToken::Extension(0, [_]))
    }

    /// As the key of an object, which in JavaScript is a text. `None` for what is no key anywhere.
    pub fn key(self) -> Option<Cow<'a, str>> {
        match self {
            MsgpackToken::Text(text) => Some(String::from_utf8_lossy(text)),
            MsgpackToken::Nil => Some("null".into()),
            MsgpackToken::Boolean(value) => Some(if value { "true" } else { "false" }.into()),
            MsgpackToken::Unsigned(number) => Some(number.to_string().into()),
            MsgpackToken::Negative(number) => Some(number.to_string().into()),
            MsgpackToken::Float(number) => Some(number_text(number).into()),
            MsgpackToken::Bytes(_) | MsgpackToken::Array(_) | MsgpackToken::Map(_) | MsgpackToken::Extension(..) => {
                None
            }
        }
    }
}

/// Walks over msgpack.
#[derive(Clone, Debug)]
pub struct MsgpackTokens<'a> {
    rest: &'a [u8],
}

impl<'a> MsgpackTokens<'a> {
    /// Begins at the first of these bytes.
    pub fn new(bytes: &'a [u8]) -> MsgpackTokens<'a> {
        MsgpackTokens { rest: bytes }
    }

    /// The next token. Of an array or map as many items as it declares may follow: a declaration that cannot be true,
    /// since each item takes a byte, is an error here.
    pub fn step(&mut self) -> Result<MsgpackToken<'a>, MessageError> {
        let [marker] = self.array()?;
        Ok(match Marker::from_u8(marker) {
            Marker::Null => MsgpackToken::Nil,
            Marker::True => MsgpackToken::Boolean(true),
            Marker::False => MsgpackToken::Boolean(false),
            Marker::FixPos(number) => MsgpackToken::Unsigned(number.into()),
            Marker::U8 => MsgpackToken::Unsigned(u8::from_be_bytes(self.array()?).into()),
            Marker::U16 => MsgpackToken::Unsigned(u16::from_be_bytes(self.array()?).into()),
            Marker::U32 => MsgpackToken::Unsigned(u32::from_be_bytes(self.array()?).into()),
            Marker::U64 => MsgpackToken::Unsigned(u64::from_be_bytes(self.array()?)),
            Marker::FixNeg(number) => signed(number.into()),
            Marker::I8 => signed(i8::from_be_bytes(self.array()?).into()),
            Marker::I16 => signed(i16::from_be_bytes(self.array()?).into()),
            Marker::I32 => signed(i32::from_be_bytes(self.array()?).into()),
            Marker::I64 => signed(i64::from_be_bytes(self.array()?)),
            Marker::F32 => MsgpackToken::Float(f32::from_be_bytes(self.array()?).into()),
            Marker::F64 => MsgpackToken::Float(f64::from_be_bytes(self.array()?)),
            Marker::FixStr(length) => MsgpackToken::Text(self.take(length.into())?),
            Marker::Str8 => MsgpackToken::Text(self.sized::<1>()?),
            Marker::Str16 => MsgpackToken::Text(self.sized::<2>()?),
            Marker::Str32 => MsgpackToken::Text(self.sized::<4>()?),
            Marker::Bin8 => MsgpackToken::Bytes(self.sized::<1>()?),
            Marker::Bin16 => MsgpackToken::Bytes(self.sized::<2>()?),
            Marker::Bin32 => MsgpackToken::Bytes(self.sized::<4>()?),
            Marker::FixArray(items) => self.array_of(items.into())?,
            Marker::Array16 => self.length::<2>().and_then(|items| self.array_of(items))?,
            Marker::Array32 => self.length::<4>().and_then(|items| self.array_of(items))?,
            Marker::FixMap(entries) => self.map_of(entries.into())?,
            Marker::Map16 => self.length::<2>().and_then(|entries| self.map_of(entries))?,
            Marker::Map32 => self.length::<4>().and_then(|entries| self.map_of(entries))?,
            Marker::FixExt1 => self.extension(1)?,
            Marker::FixExt2 => self.extension(2)?,
            Marker::FixExt4 => self.extension(4)?,
            Marker::FixExt8 => self.extension(8)?,
            Marker::FixExt16 => self.extension(16)?,
            Marker::Ext8 => self.sized_extension::<1>()?,
            Marker::Ext16 => self.sized_extension::<2>()?,
            Marker::Ext32 => self.sized_extension::<4>()?,
            Marker::Reserved => return Err(MessageError::Syntax),
        })
    }

    /// Passes over one value and gives its bytes.
    pub fn value(&mut self) -> Result<&'a [u8], MessageError> {
        let from = self.rest;
        // For each open array or map what is still to come of it.
        let mut open: Vec<u64> = Vec::new();
        loop {
            let items = match self.step()? {
                MsgpackToken::Array(items) => items.into(),
                MsgpackToken::Map(entries) => 2 * u64::from(entries),
                _ => 0,
            };
            if items > 0 {
                open.push(items);
            }
            if open.len() > DEPTH_MAX {
                return Err(MessageError::TooDeep);
            }
            while open.last() == Some(&0) {
                open.pop();
            }
            match open.last_mut() {
                Some(left) => *left -= 1,
                None => return from.get(..from.len() - self.rest.len()).ok_or(MessageError::Syntax),
            }
        }
    }

    /// Whether nothing is left.
    pub fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], MessageError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(MessageError::Syntax)?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn take(&mut self, length: u32) -> Result<&'a [u8], MessageError> {
        let (bytes, rest) = self.rest.split_at_checked(length as usize).ok_or(MessageError::Syntax)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// A length in `N` bytes.
    fn length<const N: usize>(&mut self) -> Result<u32, MessageError> {
        let bytes: [u8; N] = self.array()?;
        Ok(bytes.into_iter().fold(0, |length, byte| length << 8 | u32::from(byte)))
    }

    fn sized<const N: usize>(&mut self) -> Result<&'a [u8], MessageError> {
        let length = self.length::<N>()?;
        self.take(length)
    }

    fn array_of(&self, items: u32) -> Result<MsgpackToken<'a>, MessageError> {
        if u64::from(items) > self.rest.len() as u64 {
            Err(MessageError::Syntax)
        } else {
            Ok(MsgpackToken::Array(items))
        }
    }

    fn map_of(&self, entries: u32) -> Result<MsgpackToken<'a>, MessageError> {
        if 2 * u64::from(entries) > self.rest.len() as u64 {
            Err(MessageError::Syntax)
        } else {
            Ok(MsgpackToken::Map(entries))
        }
    }

    fn extension(&mut self, length: u32) -> Result<MsgpackToken<'a>, MessageError> {
        let [kind] = self.array()?;
        Ok(MsgpackToken::Extension(i8::from_be_bytes([kind]), self.take(length)?))
    }

    /// An extension that says its length. Of type 0 it is what notepack once made of an ArrayBuffer.
    fn sized_extension<const N: usize>(&mut self) -> Result<MsgpackToken<'a>, MessageError> {
        let length = self.length::<N>()?;
        match self.extension(length)? {
            MsgpackToken::Extension(0, bytes) => Ok(MsgpackToken::Bytes(bytes)),
            other => Ok(other),
        }
    }
}

fn signed(number: i64) -> MsgpackToken<'static> {
    u64::try_from(number).map_or(MsgpackToken::Negative(number), MsgpackToken::Unsigned)
}

/// Whether these bytes are one value, and nothing behind it.
pub fn check(bytes: &[u8]) -> Result<(), MessageError> {
    let mut tokens = MsgpackTokens::new(bytes);
    tokens.value()?;
    if tokens.is_at_end() { Ok(()) } else { Err(MessageError::Syntax) }
}

#[cfg(test)]
mod tests;
