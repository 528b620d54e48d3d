//! JSON strings: where one stops being plain, what its escapes stand for, and how one is written.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use memchr::memchr;

/// How many bytes from the start of `bytes` belong to a JSON string as they are: up to a quote, a backslash, a control
/// character or the end.
pub(super) fn plain_len(bytes: &[u8]) -> usize {
    let (words, tail) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let special = special_bytes(u64::from_le_bytes(*word));
        if special != 0 {
            return index * 8 + special.trailing_zeros() as usize / 8;
        }
    }
    words.len() * 8 + tail.iter().take_while(|&&byte| is_plain(byte)).count()
}

fn is_plain(byte: u8) -> bool {
    byte >= 0x20 && byte != b'"' && byte != b'\\'
}

/// Eight bytes at once: the top bit of each byte that is not plain. Exact for the lowest such byte, which is all that the
/// caller asks for: a borrow only runs into bytes above one that is found.
fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    let below = |word: u64, bound: u64| word.wrapping_sub(ONES * bound) & !word;
    let quote = below(word ^ (ONES * b'"' as u64), 1);
    let backslash = below(word ^ (ONES * b'\\' as u64), 1);
    (quote | backslash | below(word, 0x20)) & TOPS
}

/// What stands for the inside of a checked string. A lone surrogate becomes U+FFFD.
pub(super) fn unescape(inside: &str) -> Cow<'_, str> {
    if memchr(b'\\', inside.as_bytes()).is_none() {
        return Cow::Borrowed(inside);
    }
    let mut text = String::with_capacity(inside.len());
    let mut rest = inside;
    while let Some((plain, after)) = rest.split_once('\\') {
        text.push_str(plain);
        let (character, after) = unescape_one(after);
        text.push(character);
        rest = after;
    }
    text.push_str(rest);
    Cow::Owned(text)
}

/// Whether the inside of a checked string has a surrogate that is not one of a pair.
pub(super) fn has_lone_surrogate(inside: &str) -> bool {
    let mut rest = inside;
    while let Some((_, after)) = rest.split_once('\\') {
        // Of all escapes only such a one becomes this character without saying so.
        let is_itself = after.strip_prefix('u').and_then(split_unit).is_some_and(|(unit, _)| unit == 0xfffd);
        let (character, after) = unescape_one(after);
        if character == char::REPLACEMENT_CHARACTER && !is_itself {
            return true;
        }
        rest = after;
    }
    false
}

/// The character that an escape stands for (`after` begins behind the backslash), and what follows it.
fn unescape_one(after: &str) -> (char, &str) {
    let mut characters = after.chars();
    let character = match characters.next() {
        Some('b') => '\u{8}',
        Some('f') => '\u{c}',
        Some('n') => '\n',
        Some('r') => '\r',
        Some('t') => '\t',
        Some('u') => return unescape_unit(characters.as_str()),
        Some(itself) => itself,
        None => char::REPLACEMENT_CHARACTER,
    };
    (character, characters.as_str())
}

/// The character of four digits, or of eight with `\u` between, when they are the halves of a pair.
fn unescape_unit(digits: &str) -> (char, &str) {
    let Some((unit, rest)) = split_unit(digits) else {
        return (char::REPLACEMENT_CHARACTER, digits);
    };
    if (0xd800..0xdc00).contains(&unit)
        && let Some((low, rest)) = rest.strip_prefix("\\u").and_then(split_unit)
        && (0xdc00..0xe000).contains(&low)
    {
        let scalar = 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
        return (char::from_u32(scalar).unwrap_or(char::REPLACEMENT_CHARACTER), rest);
    }
    (char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER), rest)
}

fn split_unit(text: &str) -> Option<(u32, &str)> {
    let (digits, rest) = text.split_at_checked(4)?;
    Some((u32::from_str_radix(digits, 16).ok()?, rest))
}

/// Appends `text` as a JSON string with its quotes, escaped exactly as `JSON.stringify` does.
///
/// All control characters are escaped, 0x1e among them, so a string can never split a polling payload (H04).
pub fn encode_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    loop {
        let (plain, special) = rest.split_at_checked(plain_len(rest)).unwrap_or((rest, &[]));
        out.extend_from_slice(plain);
        let Some((&byte, after)) = special.split_first() else { break };
        encode_escape(byte, out);
        rest = after;
    }
    out.push(b'"');
}

fn encode_escape(byte: u8, out: &mut Vec<u8>) {
    let letter = match byte {
        0x08 => b'b',
        0x0c => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        b'"' | b'\\' => byte,
        _ => {
            let hex = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', letter]);
}
