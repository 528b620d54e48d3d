//! The tokens of JSON, each a function from the bytes before it to the bytes after it.

use super::string::plain_len;

/// Only the four of RFC 8259: no byte order mark, no other space of Unicode.
pub(super) fn skip_whitespace(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b'\n' | b'\r', after @ ..] = bytes {
        bytes = after;
    }
    bytes
}

/// After a string, a number, `true`, `false` or `null`.
pub(crate) fn skip_scalar(bytes: &[u8]) -> Option<&[u8]> {
    match bytes.first()? {
        b'"' => skip_string(bytes),
        b'-' | b'0'..=b'9' => skip_number(bytes),
        b't' => bytes.strip_prefix(b"true"),
        b'f' => bytes.strip_prefix(b"false"),
        b'n' => bytes.strip_prefix(b"null"),
        _ => None,
    }
}

pub(super) fn skip_string(bytes: &[u8]) -> Option<&[u8]> {
    let [b'"', rest @ ..] = bytes else { return None };
    let mut rest = rest;
    loop {
        rest = match rest.get(plain_len(rest)..)? {
            [b'"', after @ ..] => return Some(after),
            [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', after @ ..] => after,
            // Any four digits: JSON.parse takes halves of surrogate pairs.
            [b'\\', b'u', a, b, c, d, after @ ..] if [a, b, c, d].into_iter().all(u8::is_ascii_hexdigit) => after,
            // The end, a bare control character, or no escape of JSON.
            _ => return None,
        };
    }
}

fn skip_number(bytes: &[u8]) -> Option<&[u8]> {
    let integer = if let [b'-', after @ ..] = bytes { after } else { bytes };
    let rest = if let [b'0', after @ ..] = integer { after } else { skip_digits(integer)? };
    let rest = if let [b'.', after @ ..] = rest { skip_digits(after)? } else { rest };
    match rest {
        [b'e' | b'E', b'+' | b'-', after @ ..] | [b'e' | b'E', after @ ..] => skip_digits(after),
        _ => Some(rest),
    }
}

/// One digit or more.
fn skip_digits(bytes: &[u8]) -> Option<&[u8]> {
    let [b'0'..=b'9', rest @ ..] = bytes else { return None };
    let mut rest = rest;
    while let [b'0'..=b'9', after @ ..] = rest {
        rest = after;
    }
    Some(rest)
}
