//! `json`: the scanner, with serde_json for a second opinion.

use serde_json::value::RawValue;
use sockring_protocol::json::{self, DEPTH_MAX, JsonError, Kind, Value};
use sockring_protocol::socketio::Args;

use crate::{Random, assert_no_allocation, text_of};

/// Takes the text at the front of the bytes as a JSON text, and as what a string is to hold.
pub fn json(data: &[u8]) {
    let text = text_of(data);
    assert_no_allocation("json::check", || {
        let _ = json::check(text);
    });
    verdict(text);
    arguments(text);
    for span in json::Elements::of(text) {
        check_span(text, span);
    }
    for (_, span) in json::Entries::of(text) {
        check_span(text, span);
    }
    if let Ok(value) = Value::decode(text) {
        kind(value);
        parts(value);
        prefixes(value, &mut Random::of(data));
    }
    string(text);
    integer(data);
}

/// A `RawValue` is checked without recursion and without making numbers or strings of anything: it takes what
/// `JSON.parse` takes, at any depth.
fn verdict(text: &str) {
    let reference = serde_json::from_str::<&RawValue>(text);
    match (json::check(text), reference) {
        (Ok(()), Ok(reference)) => {
            assert!(depth(text) <= DEPTH_MAX);
            assert_eq!(Value::decode(text).map(Value::as_str), Ok(reference.get()));
        }
        (Err(JsonError::TooDeep), _) => assert!(brackets(text) > DEPTH_MAX),
        (Err(JsonError::Syntax), Err(_)) => {}
        (verdict, reference) => panic!("{verdict:?}, but serde_json says {reference:?}"),
    }
}

/// The arguments of a packet are checked by another walk, element by element: its verdict is the same.
fn arguments(text: &str) {
    let args = Args::decode(text).map(|args| args.text());
    if text.trim_ascii_start().starts_with('[') {
        assert_eq!(args, Value::decode(text).map(Value::as_str));
    } else {
        assert_eq!(args, Err(JsonError::Syntax));
    }
}

/// How deep the brackets of a valid text are nested.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth -= 1,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

fn brackets(text: &str) -> usize {
    text.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count()
}

/// A part of a text, also of one that goes wrong further on, is a value of its own.
fn check_span(text: &str, span: &str) {
    assert_eq!(Value::decode(span).map(Value::as_str), Ok(span));
    let from = (span.as_ptr() as usize).checked_sub(text.as_ptr() as usize).expect("lent out of the text");
    assert_eq!(text.get(from..from + span.len()), Some(span));
}

fn kind(value: Value<'_>) {
    // serde_json refuses what no f64 or String can hold, and a depth of 128.
    if let Ok(reference) = serde_json::from_str::<serde_json::Value>(value.as_str()) {
        let expected = match reference {
            serde_json::Value::Object(_) => Kind::Object,
            serde_json::Value::Array(_) => Kind::Array,
            serde_json::Value::String(_) => Kind::String,
            serde_json::Value::Number(_) => Kind::Number,
            serde_json::Value::Bool(_) => Kind::Boolean,
            serde_json::Value::Null => Kind::Null,
        };
        assert_eq!(value.kind(), expected);
    }
    let string = value.string();
    assert_eq!(string.is_some(), value.kind() == Kind::String);
    if let Some(string) = string {
        assert_eq!(string, reference_string(value.as_str()));
        if let Ok(reference) = serde_json::from_str::<String>(value.as_str()) {
            assert_eq!(string, reference);
        }
    }
}

/// What a valid JSON string stands for in the units of UTF-16 that JavaScript's strings are of; serde_json refuses those
/// with half a surrogate pair.
fn reference_string(quoted: &str) -> String {
    let mut units = Vec::new();
    let mut characters = quoted[1..quoted.len() - 1].chars();
    while let Some(character) = characters.next() {
        let plain = match character {
            '\\' => match characters.next().expect("an escape") {
                'u' => {
                    let digits: String = characters.by_ref().take(4).collect();
                    units.push(u16::from_str_radix(&digits, 16).expect("four digits"));
                    continue;
                }
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                itself => itself,
            },
            itself => itself,
        };
        units.extend_from_slice(plain.encode_utf16(&mut [0; 2]));
    }
    String::from_utf16_lossy(&units)
}

/// The parts of a whole array or object are those that serde_json finds.
fn parts(value: Value<'_>) {
    let text = value.as_str();
    let elements: Vec<&str> = json::Elements::of(text).collect();
    let entries: Vec<_> = json::Entries::of(text).collect();
    match value.kind() {
        Kind::Array => {
            let reference: Vec<&RawValue> = serde_json::from_str(text).expect("an array");
            assert_eq!(elements, reference.into_iter().map(RawValue::get).collect::<Vec<_>>());
            assert!(entries.is_empty());
        }
        Kind::Object => {
            assert!(elements.is_empty());
            if let Ok(reference) = serde_json::from_str::<serde_json::Value>(text) {
                let entries = entries.into_iter().map(|(key, value)| {
                    (key.into_owned(), serde_json::from_str(value).expect("a part of what serde_json takes"))
                });
                assert_eq!(serde_json::Value::Object(entries.collect()), reference);
            }
        }
        _ => assert!(elements.is_empty() && entries.is_empty()),
    }
}

/// What ends with its last byte is nothing without it.
fn prefixes(value: Value<'_>, random: &mut Random) {
    let text = value.as_str();
    if matches!(value.kind(), Kind::Number) {
        return;
    }
    for at in [text.len() - 1, random.below(text.len()), random.below(text.len())] {
        if let Some(prefix) = text.get(..at) {
            assert_eq!(json::check(prefix), Err(JsonError::Syntax), "{prefix:?}");
        }
    }
}

/// Any text, as a string, is what `JSON.stringify` makes of it, and is read back as it was.
fn string(text: &str) {
    let mut encoded = Vec::new();
    json::encode_string(text, &mut encoded);
    let encoded = String::from_utf8(encoded).expect("text stays text");
    assert_eq!(encoded, serde_json::to_string(text).expect("a string"));
    assert_eq!(Value::decode(&encoded).expect("a string").string().as_deref(), Some(text));
    assert!(!encoded.bytes().any(|byte| byte < 0x20));
}

fn integer(data: &[u8]) {
    let mut bytes = [0; 8];
    for (place, byte) in bytes.iter_mut().zip(data) {
        *place = *byte;
    }
    let number = u64::from_le_bytes(bytes);
    for number in [number, number >> (number & 63), 0, u64::MAX] {
        let mut encoded = b"x".to_vec();
        json::encode_integer(number, &mut encoded);
        assert_eq!(encoded, format!("x{number}").into_bytes());
    }
}
