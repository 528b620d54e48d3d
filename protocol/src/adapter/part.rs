//! `Part`: a part of a message, as the JSON text or the msgpack bytes that it is, and what it can be read as.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use crate::json::{self, JsonError, Value};
use crate::msgpack::{self, ByteStrings, MsgpackToken, MsgpackTokens, ToJson};

use super::error::MessageError;
use super::room;

/// A value within a checked message.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part<'a> {
    Json(&'a str),
    Msgpack(&'a [u8]),
}

impl<'a> Part<'a> {
    /// A whole message in JSON.
    pub(super) fn json(text: &'a str) -> Result<Part<'a>, MessageError> {
        match Value::decode(text) {
            Ok(value) => Ok(Part::Json(value.as_str())),
            Err(JsonError::Syntax) => Err(MessageError::Syntax),
            Err(JsonError::TooDeep) => Err(MessageError::TooDeep),
        }
    }

    /// A whole message in msgpack.
    pub(super) fn msgpack(bytes: &'a [u8]) -> Result<Part<'a>, MessageError> {
        msgpack::check(bytes).map(|()| Part::Msgpack(bytes))
    }

    /// The keys and values of an object. A key may come twice; the last one counts.
    pub(super) fn members(self) -> Result<PartMembers<'a>, MessageError> {
        match self {
            Part::Json(text) if text.starts_with('{') => Ok(PartMembers::Json(json::Entries::of(text))),
            Part::Json(_) => Err(MessageError::Shape),
            Part::Msgpack(bytes) => {
                let mut tokens = MsgpackTokens::new(bytes);
                match tokens.step()? {
                    MsgpackToken::Map(left) => Ok(PartMembers::Msgpack(tokens, left)),
                    _ => Err(MessageError::Shape),
                }
            }
        }
    }

    pub(super) fn elements(self) -> Result<PartElements<'a>, MessageError> {
        match self {
            Part::Json(text) if text.starts_with('[') => Ok(PartElements::Json(json::Elements::of(text))),
            Part::Json(_) => Err(MessageError::Shape),
            Part::Msgpack(bytes) => {
                let mut tokens = MsgpackTokens::new(bytes);
                match tokens.step()? {
                    MsgpackToken::Array(left) => Ok(PartElements::Msgpack(tokens, left)),
                    _ => Err(MessageError::Shape),
                }
            }
        }
    }

    pub(super) fn text(self) -> Option<Cow<'a, str>> {
        match self {
            Part::Json(text) => Value::decode(text).ok()?.string(),
            Part::Msgpack(bytes) => match MsgpackTokens::new(bytes).step().ok()? {
                MsgpackToken::Text(text) => Some(String::from_utf8_lossy(text)),
                _ => None,
            },
        }
    }

    /// A room. In JavaScript it may be a number.
    pub(super) fn room(self) -> Option<Box<str>> {
        match self.text() {
            Some(text) => Some(text.into()),
            None => self.number().map(room::of_number),
        }
    }

    pub(super) fn number(self) -> Option<f64> {
        match self {
            Part::Json(text) if text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) => {
                text.parse().ok()
            }
            Part::Json(_) => None,
            Part::Msgpack(bytes) => match MsgpackTokens::new(bytes).step().ok()? {
                MsgpackToken::Unsigned(number) => Some(number as f64),
                MsgpackToken::Negative(number) => Some(number as f64),
                MsgpackToken::Float(number) => Some(number),
                _ => None,
            },
        }
    }

    /// A count or a time: what is below 0 or a fraction is cut off.
    pub(super) fn count(self) -> Option<u64> {
        #[expect(clippy::cast_possible_truncation, reason = "a cast ends at the bounds of u64, and makes 0 of NaN")]
        self.number().map(|number| number as u64)
    }

    pub(super) fn is_true(self) -> bool {
        match self {
            Part::Json(text) => text == "true",
            Part::Msgpack(bytes) => matches!(MsgpackTokens::new(bytes).step(), Ok(MsgpackToken::Boolean(true))),
        }
    }

    /// `null`, or `undefined`.
    pub(super) fn is_nothing(self) -> bool {
        match self {
            Part::Json(text) => text == "null",
            Part::Msgpack(bytes) => match MsgpackTokens::new(bytes).step() {
                Ok(token) => token == MsgpackToken::Nil || token.is_undefined(),
                Err(_) => true,
            },
        }
    }

    /// As JSON text and byte strings, for those who pass it on.
    pub(super) fn to_json(self, bytes: ByteStrings) -> Result<(Cow<'a, str>, Vec<&'a [u8]>), MessageError> {
        match self {
            Part::Json(text) => Ok((text.into(), Vec::new())),
            Part::Msgpack(value) => {
                let mut json = ToJson::new(bytes);
                json.append(value)?;
                let text = String::from_utf8(json.text).map_err(|_| MessageError::Syntax)?;
                Ok((text.into(), json.attachments))
            }
        }
    }
}

/// Iterator over the entries of an object, from [`Part::members`].
pub(super) enum PartMembers<'a> {
    Json(json::Entries<'a>),
    Msgpack(MsgpackTokens<'a>, u32),
}

impl<'a> Iterator for PartMembers<'a> {
    type Item = (Cow<'a, str>, Part<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            PartMembers::Json(entries) => entries.next().map(|(key, value)| (key, Part::Json(value))),
            PartMembers::Msgpack(tokens, left) => loop {
                *left = left.checked_sub(1)?;
                let key = MsgpackTokens::new(tokens.value().ok()?).step().ok()?.key();
                let value = Part::Msgpack(tokens.value().ok()?);
                if let Some(key) = key {
                    return Some((key, value));
                }
            },
        }
    }
}

/// Iterator over the elements of an array, from [`Part::elements`].
pub(super) enum PartElements<'a> {
    Json(json::Elements<'a>),
    Msgpack(MsgpackTokens<'a>, u32),
}

impl<'a> Iterator for PartElements<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        match self {
            PartElements::Json(elements) => elements.next().map(Part::Json),
            PartElements::Msgpack(tokens, left) => {
                *left = left.checked_sub(1)?;
                tokens.value().ok().map(Part::Msgpack)
            }
        }
    }
}
