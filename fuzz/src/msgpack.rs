//! `msgpack`: what Node's adapters write, read by a second reader too; and JSON that becomes msgpack.

use serde_json::{Map, Number, Value};
use sockring_protocol::adapter::MessageError;
use sockring_protocol::json::{self, DEPTH_MAX};
use sockring_protocol::msgpack::{ByteStrings, MsgpackToken, MsgpackTokens, ToJson, check, from_json, number_text};

use crate::{assert_memory, text_of};

/// The levels that are open, while their list doubles as it grows.
const MEMORY_BYTES_MAX: usize = 3 * 16 * DEPTH_MAX;

/// Takes the bytes as one value of msgpack, and the text at their front as JSON.
pub fn msgpack(data: &[u8]) {
    assert_memory("msgpack::check", MEMORY_BYTES_MAX, || {
        let _ = check(data);
    });
    tokens_agree(data);
    if check(data).is_ok() {
        for end in 0..data.len() {
            assert!(check(&data[..end]).is_err(), "a value that is cut is none");
        }
        assert!(check(&[data, b"\xc0"].concat()).is_err(), "two values are not one");
        to_json(data, ByteStrings::Attach);
        to_json(data, ByteStrings::Spell);
    }
    written(text_of(data));
    numbers(data);
}

/// The text is JSON, and means what the second reader finds; written as msgpack again it becomes the same text.
fn to_json(data: &[u8], bytes: ByteStrings) {
    let mut json = ToJson::new(bytes);
    let written = json.append(data);
    let mut rest = Reader { rest: data, attachments: Vec::new(), bytes };
    let reference = rest.value();
    // Keys that no object has, too many byte strings, a placeholder that is none: the rest is found by the check.
    if let Err(error) = written {
        let is_left = matches!(error, MessageError::Shape | MessageError::TooManyAttachments | MessageError::Packet);
        assert!(is_left, "checked, and yet {error}");
        return;
    }
    let text = String::from_utf8(json.text).expect("JSON is text");
    assert_eq!(json::check(&text), Ok(()), "{text}");
    assert!(rest.rest.is_empty());
    assert_eq!(json.attachments, rest.attachments);
    let reference = reference.expect("what is written was a value");
    match serde_json::from_str(&text) {
        Ok(read) => assert!(is_same(&read, &reference), "{text}"),
        // It goes one level less deep.
        Err(error) => assert!(error.to_string().contains("recursion limit"), "{error}: {text}"),
    }
    if bytes == ByteStrings::Attach {
        let mut again = Vec::new();
        from_json(&text, &json.attachments, &mut again);
        let mut json_again = ToJson::new(bytes);
        json_again.append(&again).expect("what we write we read");
        assert_eq!(String::from_utf8_lossy(&json_again.text), text);
        assert_eq!(json_again.attachments, json.attachments);
    }
}

/// What is JSON is the same value as msgpack; what is none is `nil`.
fn written(text: &str) {
    let mut out = Vec::new();
    from_json::<&[u8]>(text, &[], &mut out);
    assert_eq!(check(&out), Ok(()));
    if json::check(text).is_err() {
        assert_eq!(out, b"\xc0");
        return;
    }
    let mut reader = Reader { rest: &out, attachments: Vec::new(), bytes: ByteStrings::Attach };
    let read = reader.value().expect("what we write has keys that are texts");
    // serde_json refuses halves of surrogate pairs, and numbers that no double holds.
    if let Ok(reference) = serde_json::from_str::<Value>(text) {
        assert!(is_same(&read, &reference), "{text} became {}", out.escape_ascii());
    }
}

/// A number's text reads back as it, in the shortest digits: those that Rust finds, too.
fn numbers(data: &[u8]) {
    let Some(first) = data.first_chunk() else { return };
    let number = f64::from_be_bytes(*first);
    let text = number_text(number);
    if !number.is_finite() {
        assert!(["NaN", "Infinity", "-Infinity"].contains(&text.as_str()));
        return;
    }
    assert!(text.parse::<f64>().is_ok_and(|read| read == number), "{text}");
    let digits = |text: &str| {
        let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
        let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
        digits.trim_matches('0').len()
    };
    assert_eq!(digits(&text), digits(&format!("{number:e}")), "{text}");
    let magnitude = number.abs();
    assert_eq!(text.contains('e'), magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude), "{text}");
}

/// Numbers by what they are, not by how they are written.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            one == other || one.as_f64().zip(other.as_f64()).is_some_and(|(one, other)| one == other)
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let has_same = |(key, one): (&String, &Value)| other.get(key).is_some_and(|other| is_same(one, other));
            one.len() == other.len() && one.iter().all(has_same)
        }
        (Value::String(one), Value::String(other)) => match other.strip_prefix(DATE) {
            Some(unix_ms) => is_date(one, unix_ms.parse().expect("milliseconds")),
            None => one == other,
        },
        _ => one == other,
    }
}

/// What a text begins with that stands for a date.
const DATE: &str = "\u{0}date ";

/// Whether this is the ISO text of that time, by counting days of years and months.
fn is_date(text: &str, unix_ms: i64) -> bool {
    let (date, time) = text.split_once('T').expect("a date and a time");
    let (year, month_day) = date.split_at(date.len() - "-MM-DD".len());
    let number = |text: &str| text.parse::<i64>().expect("digits");
    let (year, month, day) = (number(year), number(&month_day[1..3]), number(&month_day[4..6]));
    assert!((1..=12).contains(&month) && (1..=31).contains(&day) && time.ends_with('Z'), "{text}");
    // Years and months from March on, so that a leap day is the last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days_of_years = 365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days = days_of_years + (153 * month + 2) / 5 + day - 1 - 719_468;
    let of_day = number(&time[..2]) * 3_600_000 + number(&time[3..5]) * 60_000 + number(&time[6..8]) * 1000;
    days * 86_400_000 + of_day + number(&time[9..12]) == unix_ms
}

/// The second reader: over our tokens, but by recursion, and into a tree.
struct Reader<'a> {
    rest: &'a [u8],
    attachments: Vec<&'a [u8]>,
    bytes: ByteStrings,
}

impl<'a> Reader<'a> {
    fn token(&mut self) -> MsgpackToken<'a> {
        let (token, length) = read_token(self.rest);
        self.rest = &self.rest[length..];
        token
    }

    /// `None` where a key is none.
    fn value(&mut self) -> Option<Value> {
        let token = self.token();
        Some(match token {
            MsgpackToken::Nil => Value::Null,
            MsgpackToken::Boolean(value) => value.into(),
            MsgpackToken::Unsigned(number) => number.into(),
            MsgpackToken::Negative(number) => number.into(),
            MsgpackToken::Float(number) => Number::from_f64(number).map_or(Value::Null, Value::Number),
            MsgpackToken::Text(text) => String::from_utf8_lossy(text).into_owned().into(),
            MsgpackToken::Bytes(bytes) => self.byte_string(bytes),
            MsgpackToken::Array(items) => {
                let mut list = Vec::new();
                for _ in 0..items {
                    list.push(self.value()?);
                }
                list.into()
            }
            MsgpackToken::Map(entries) => {
                let mut map = Map::new();
                let mut is_whole = true;
                for _ in 0..entries {
                    let key = self.key();
                    let is_undefined = self.rest.starts_with(b"\xd4\x00");
                    let value = self.value()?;
                    match key {
                        _ if is_undefined => {}
                        Some(key) => drop(map.insert(key, value)),
                        None => is_whole = false,
                    }
                }
                if !is_whole {
                    return None;
                }
                map.into()
            }
            MsgpackToken::Extension(0, [_]) => Value::Null,
            MsgpackToken::Extension(kind, bytes) => match date(kind, bytes) {
                Some(Some(unix_ms)) => format!("{DATE}{unix_ms}").into(),
                Some(None) => Value::Null,
                None => Value::Array(vec![kind.into(), self.byte_string(bytes)]),
            },
        })
    }

    fn key(&mut self) -> Option<String> {
        match self.token() {
            MsgpackToken::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
            MsgpackToken::Nil => Some("null".to_owned()),
            MsgpackToken::Boolean(value) => Some(value.to_string()),
            MsgpackToken::Unsigned(number) => Some(number.to_string()),
            MsgpackToken::Negative(number) => Some(number.to_string()),
            MsgpackToken::Float(number) => Some(number_text(number)),
            // Refused, but only where the value is not `undefined`: what is in it belongs to nobody.
            MsgpackToken::Array(items) => {
                (0..items).for_each(|_| drop(self.value()));
                None
            }
            MsgpackToken::Map(entries) => {
                (0..2 * u64::from(entries)).for_each(|_| drop(self.value()));
                None
            }
            MsgpackToken::Bytes(_) | MsgpackToken::Extension(..) => None,
        }
    }

    fn byte_string(&mut self, bytes: &'a [u8]) -> Value {
        if self.bytes == ByteStrings::Spell {
            return serde_json::json!({ "type": "Buffer", "data": bytes });
        }
        self.attachments.push(bytes);
        serde_json::json!({ "_placeholder": true, "num": self.attachments.len() - 1 })
    }
}

/// The first token of checked msgpack and its length, by the table of the specification.
fn read_token(bytes: &[u8]) -> (MsgpackToken<'_>, usize) {
    let number = |from: usize, length: usize| bytes[from..from + length].iter().fold(0, |n, b| n << 8 | u64::from(*b));
    let signed = |length: usize| (number(1, length) << (64 - 8 * length)).cast_signed() >> (64 - 8 * length);
    let integer = |number: i64| u64::try_from(number).map_or(MsgpackToken::Negative(number), MsgpackToken::Unsigned);
    let size = |from: usize, length: usize| usize::try_from(number(from, length)).expect("within the input");
    let count = |length: usize| u32::try_from(number(1, length)).expect("at most four bytes");
    let text = |from: usize, length: usize| (MsgpackToken::Text(&bytes[from..from + length]), from + length);
    let blob = |from: usize, length: usize| (MsgpackToken::Bytes(&bytes[from..from + length]), from + length);
    let extension = |kind_at: usize, length: usize| {
        let end = kind_at + 1 + length;
        let content = &bytes[kind_at + 1..end];
        match bytes[kind_at].cast_signed() {
            0 if kind_at > 1 => (MsgpackToken::Bytes(content), end),
            kind => (MsgpackToken::Extension(kind, content), end),
        }
    };
    match bytes[0] {
        byte @ 0..=0x7f => (MsgpackToken::Unsigned(byte.into()), 1),
        byte @ 0x80..=0x8f => (MsgpackToken::Map(u32::from(byte & 15)), 1),
        byte @ 0x90..=0x9f => (MsgpackToken::Array(u32::from(byte & 15)), 1),
        byte @ 0xa0..=0xbf => text(1, usize::from(byte & 31)),
        0xc0 => (MsgpackToken::Nil, 1),
        0xc1 => panic!("never used"),
        byte @ 0xc2..=0xc3 => (MsgpackToken::Boolean(byte == 0xc3), 1),
        byte @ 0xc4..=0xc6 => blob(1 + (1 << (byte - 0xc4)), size(1, 1 << (byte - 0xc4))),
        byte @ 0xc7..=0xc9 => extension(1 + (1 << (byte - 0xc7)), size(1, 1 << (byte - 0xc7))),
        0xca => (MsgpackToken::Float(f32::from_bits(count(4)).into()), 5),
        0xcb => (MsgpackToken::Float(f64::from_bits(number(1, 8))), 9),
        byte @ 0xcc..=0xcf => (MsgpackToken::Unsigned(number(1, 1 << (byte - 0xcc))), 1 + (1 << (byte - 0xcc))),
        byte @ 0xd0..=0xd3 => (integer(signed(1 << (byte - 0xd0))), 1 + (1 << (byte - 0xd0))),
        byte @ 0xd4..=0xd8 => extension(1, 1 << (byte - 0xd4)),
        byte @ 0xd9..=0xdb => text(1 + (1 << (byte - 0xd9)), size(1, 1 << (byte - 0xd9))),
        byte @ 0xdc..=0xdd => (MsgpackToken::Array(count(2 << (byte - 0xdc))), 1 + (2 << (byte - 0xdc))),
        byte @ 0xde..=0xdf => (MsgpackToken::Map(count(2 << (byte - 0xde))), 1 + (2 << (byte - 0xde))),
        byte @ 0xe0..=0xff => (MsgpackToken::Negative(byte.cast_signed().into()), 1),
    }
}

/// Milliseconds of a date; `Some(None)`: one that no `Date` can be.
fn date(kind: i8, bytes: &[u8]) -> Option<Option<i64>> {
    let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let (seconds, nanoseconds) = match (kind, bytes.len()) {
        (-1, 4) => (i128::from(number(bytes)), 0),
        (-1, 8) => (i128::from(number(bytes) % (1 << 34)), i128::from(number(bytes) >> 34)),
        (-1, 12) => (i128::from(number(&bytes[4..]).cast_signed()), i128::from(number(&bytes[..4]))),
        (0, 8) => {
            let ms = number(bytes).cast_signed();
            return Some((ms.unsigned_abs() <= 8_640_000_000_000_000).then_some(ms));
        }
        _ => return None,
    };
    let ms = (seconds * 1_000_000_000 + nanoseconds) / 1_000_000;
    Some(i64::try_from(ms).ok().filter(|ms| ms.unsigned_abs() <= 8_640_000_000_000_000))
}

/// What `MsgpackTokens` says is what the table says.
fn tokens_agree(data: &[u8]) {
    let mut tokens = MsgpackTokens::new(data);
    let mut at = 0;
    while let Ok(token) = tokens.step() {
        let (expected, length) = read_token(&data[at..]);
        let is_same_number = match (token, expected) {
            (MsgpackToken::Float(one), MsgpackToken::Float(other)) => one.to_bits() == other.to_bits(),
            (one, other) => one == other,
        };
        assert!(is_same_number, "{token:?} is {expected:?}");
        at += length;
    }
}
