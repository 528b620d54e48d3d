//! JSON without a tree: is a text what `JSON.parse` accepts, and where do its top-level parts begin and end.

use alloc::vec::Vec;

mod error;
mod scanner;
mod string;
mod token;

use alloc::borrow::Cow;

pub use error::{DEPTH_MAX, JsonError};
pub(crate) use scanner::{ArrayWalk, Ignore, Observer};
use scanner::{ObjectWalk, Scanner};
pub use string::encode_string;
use string::unescape;
pub(crate) use token::skip_scalar;

/// Whether `text` is one JSON value, with nothing but whitespace around it.
pub fn check(text: &str) -> Result<(), JsonError> {
    Value::decode(text).map(|_| ())
}

/// A checked JSON value, as the text that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    text: &'a str,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `{...}`
    Object,
    /// `[...]`
    Array,
    /// `"..."`
    String,
    /// `-1.5e3`
    Number,
    /// `true` or `false`
    Boolean,
    /// `null`
    Null,
}

impl<'a> Value<'a> {
    /// Checks all of `text`; whitespace around the value is not part of it.
    pub fn decode(text: &'a str) -> Result<Value<'a>, JsonError> {
        let mut scanner = Scanner::new(text);
        let text = scanner.value(&mut Ignore)?;
        scanner.end()?;
        Ok(Value { text })
    }

    /// What it is, by its first character.
    pub fn kind(self) -> Kind {
        match self.text.as_bytes().first() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::String,
            Some(b't' | b'f') => Kind::Boolean,
            Some(b'n') => Kind::Null,
            _ => Kind::Number,
        }
    }

    /// The JSON text itself: a string has its quotes and escapes.
    pub fn as_str(self) -> &'a str {
        self.text
    }

    /// Whether it is `{...}`.
    pub fn is_object(self) -> bool {
        self.kind() == Kind::Object
    }

    /// Whether it is `[...]`.
    pub fn is_array(self) -> bool {
        self.kind() == Kind::Array
    }

    /// What a JSON string stands for; `None` for other values. A lone surrogate, which Rust's strings cannot hold, becomes
    /// U+FFFD.
    pub fn string(self) -> Option<Cow<'a, str>> {
        string_of(self.text)
    }
}

/// Whether the checked JSON string `raw` has a lone surrogate: then no other text stands for it, and [`Value::string`] is the
/// same for several of its kind.
pub fn has_lone_surrogate(raw: &str) -> bool {
    string::has_lone_surrogate(raw)
}

/// What the JSON string `raw`, quotes included, stands for; `None` for another value.
pub(crate) fn string_of(raw: &str) -> Option<Cow<'_, str>> {
    raw.strip_prefix('"')?.strip_suffix('"').map(unescape)
}

/// The texts of the elements of an array, in order: an iterator.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    /// `None` when there is nothing more.
    walk: Option<ArrayWalk<'a>>,
}

impl<'a> Elements<'a> {
    /// Of a checked array. Of an unchecked text: the elements before the first error.
    pub fn of(array: &'a str) -> Elements<'a> {
        Elements { walk: ArrayWalk::begin(array).ok() }
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let element = self.walk.as_mut()?.step(&mut Ignore).ok().flatten();
        if element.is_none() {
            self.walk = None;
        }
        element
    }
}

/// The keys and the texts of the values of an object, in the order of the text: an iterator.
///
/// A key may come twice; `JSON.parse` keeps its last value.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    /// `None` when there is nothing more.
    walk: Option<ObjectWalk<'a>>,
}

impl<'a> Entries<'a> {
    /// Of a checked object. Of an unchecked text: the entries before the first error.
    pub fn of(object: &'a str) -> Entries<'a> {
        Entries { walk: ObjectWalk::begin(object).ok() }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = (Cow<'a, str>, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.walk.as_mut()?.step(&mut Ignore).ok().flatten();
        let Some((key, value)) = entry else {
            self.walk = None;
            return None;
        };
        Some((string_of(key).unwrap_or_default(), value))
    }
}

/// Appends `value` in decimal.
pub fn encode_integer(value: u64, out: &mut Vec<u8>) {
    // 20 digits hold u64::MAX. Filled from the end, then appended at once.
    let mut digits = [b'0'; 20];
    let mut rest = value;
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        // A remainder of ten fits in a byte.
        *digit += u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        used += 1;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - used..).unwrap_or_default());
}
