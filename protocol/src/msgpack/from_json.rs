//! JSON text becomes msgpack, byte for byte what notepack makes of the parsed value.

use alloc::vec::Vec;
use core::mem;

use rmp::encode::{ByteBuf, write_array_len, write_bin, write_f64, write_map_len, write_sint, write_str, write_uint};

use crate::json::{Value, check, skip_scalar};

/// One bound of what a double holds as a 64-bit integer: 2^64 above, and half of it below.
const UNSIGNED_END: f64 = 18_446_744_073_709_551_616.0;

/// Appends the value that `text` is; `nil` if it is none, so that nobody has to read what is not msgpack. Placeholders that
/// number an attachment become that byte string.
pub fn from_json<A: AsRef<[u8]>>(text: &str, attachments: &[A], out: &mut Vec<u8>) {
    if check(text).is_err() {
        out.push(0xc0);
        return;
    }
    // Writing to this cannot fail, and the compiler knows.
    let mut buffer = ByteBuf::from_vec(mem::take(out));
    encode(text, attachments, &mut buffer);
    *out = buffer.into_vec();
}

fn encode<A: AsRef<[u8]>>(text: &str, attachments: &[A], out: &mut ByteBuf) {
    let mut lengths = lengths(text).into_iter();
    let mut tokens = JsonTokens { rest: text };
    while let Some(token) = tokens.next() {
        match token {
            JsonToken::Array => {
                let Ok(_) = write_array_len(out, lengths.next().unwrap_or(0));
            }
            JsonToken::Object => {
                let length = lengths.next().unwrap_or(0) / 2;
                let placeholder = if attachments.is_empty() { None } else { placeholder(tokens.clone()) };
                match placeholder.and_then(|(number, after)| Some((attachments.get(number)?, after))) {
                    Some((bytes, after)) => {
                        let Ok(()) = write_bin(out, bytes.as_ref());
                        tokens = after;
                    }
                    None => {
                        let Ok(_) = write_map_len(out, length);
                    }
                }
            }
            JsonToken::End => {}
            JsonToken::Scalar(scalar) => encode_scalar(scalar, out),
        }
    }
}

fn encode_scalar(scalar: &str, out: &mut ByteBuf) {
    match scalar {
        "null" => out.as_mut_vec().push(0xc0),
        "false" => out.as_mut_vec().push(0xc2),
        "true" => out.as_mut_vec().push(0xc3),
        _ if scalar.starts_with('"') => {
            let text = Value::decode(scalar).ok().and_then(Value::string).unwrap_or_default();
            let Ok(()) = write_str(out, &text);
        }
        _ => encode_number(scalar, out),
    }
}

/// Integers in their shortest form, whichever way they are written in JSON; those of 64 bits as they are, although
/// JavaScript would round them.
fn encode_number(text: &str, out: &mut ByteBuf) {
    if let Ok(number) = text.parse::<u64>() {
        let Ok(_) = write_uint(out, number);
        return;
    }
    if let Ok(number) = text.parse::<i64>() {
        let Ok(_) = write_sint(out, number);
        return;
    }
    let number: f64 = text.parse().unwrap_or(f64::NAN);
    let is_whole = number % 1.0 == 0.0;
    #[expect(clippy::cast_possible_truncation, reason = "they are used where nothing is cut off")]
    let (unsigned, signed) = (number as u64, number as i64);
    if is_whole && (0.0..UNSIGNED_END).contains(&number) {
        let Ok(_) = write_uint(out, unsigned);
    } else if is_whole && (-UNSIGNED_END / 2.0..0.0).contains(&number) {
        let Ok(_) = write_sint(out, signed);
    } else {
        let Ok(()) = write_f64(out, number);
    }
}

/// The number of a placeholder and what follows it, if the object whose inside begins here is one: `_placeholder` is true,
/// and nothing in it is nested.
fn placeholder(mut tokens: JsonTokens<'_>) -> Option<(usize, JsonTokens<'_>)> {
    let (mut is_marked, mut number) = (false, None);
    loop {
        let key = match tokens.next()? {
            JsonToken::Scalar(key) => Value::decode(key).ok()?.string()?,
            JsonToken::End => break,
            JsonToken::Array | JsonToken::Object => return None,
        };
        let Some(JsonToken::Scalar(value)) = tokens.next() else { return None };
        match &*key {
            "_placeholder" => is_marked = value == "true",
            "num" => number = value.parse().ok(),
            _ => {}
        }
    }
    number.filter(|_| is_marked).map(|number| (number, tokens))
}

/// How many values follow in each array and object, keys counted too, in the order in which these begin: msgpack says that
/// first.
fn lengths(text: &str) -> Vec<u32> {
    let (mut lengths, mut open) = (Vec::new(), Vec::new());
    for token in (JsonTokens { rest: text }) {
        if token != JsonToken::End
            && let Some(parent) = open.last().copied().and_then(|parent: usize| lengths.get_mut(parent))
        {
            *parent += 1;
        }
        match token {
            JsonToken::Array | JsonToken::Object => {
                open.push(lengths.len());
                lengths.push(0);
            }
            JsonToken::End => drop(open.pop()),
            JsonToken::Scalar(_) => {}
        }
    }
    lengths
}

/// The parts of checked JSON text.
#[derive(Clone, Debug)]
struct JsonTokens<'a> {
    rest: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JsonToken<'a> {
    Array,
    Object,
    /// Of an array or object.
    End,
    /// A string with its quotes, a number, `true`, `false` or `null`; keys are strings too.
    Scalar(&'a str),
}

impl<'a> Iterator for JsonTokens<'a> {
    type Item = JsonToken<'a>;

    fn next(&mut self) -> Option<JsonToken<'a>> {
        let text = self.rest.trim_start_matches([' ', '\t', '\n', '\r', ',', ':']);
        let (token, length) = match text.as_bytes().first()? {
            b'[' => (JsonToken::Array, 1),
            b'{' => (JsonToken::Object, 1),
            b']' | b'}' => (JsonToken::End, 1),
            _ => {
                let length = text.len() - skip_scalar(text.as_bytes())?.len();
                (JsonToken::Scalar(text.get(..length)?), length)
            }
        };
        self.rest = text.get(length..)?;
        Some(token)
    }
}
