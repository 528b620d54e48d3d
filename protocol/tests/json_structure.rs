//! JSON documents made from seeds: whole ones are taken apart correctly, and no cut or changed one surprises the scanner.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

use std::borrow::Cow;

use sockring_protocol::json::{self, Kind, Value};

/// xorshift64*: enough to vary documents, and the same on every machine.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    fn choose<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    fn whitespace(&mut self) -> &'static str {
        self.choose(&["", "", "", " ", "\n", "\t \r\n"])
    }

    fn string(&mut self) -> String {
        let pieces = ["a", "event", "é", "日本", "😀", "\u{2028}", "\\n", "\\\"", "\\\\", "\\u001e", "\\ud83d\\ude00"];
        let more = ["\\ud800", "\\/", "0123456789abcdef", "{", "]", ",", ":", " "];
        let mut text = String::from("\"");
        for _ in 0..self.below(6) {
            text += if self.below(2) == 0 { self.choose(&pieces) } else { self.choose(&more) };
        }
        text + "\""
    }

    fn scalar(&mut self) -> String {
        match self.below(3) {
            0 => self.string(),
            1 => self.choose(&["0", "-0", "12", "-3.25", "1e9", "6.02E+23", "123456789012345678901234567890"]).into(),
            _ => self.choose(&["true", "false", "null"]).into(),
        }
    }

    fn value(&mut self, depth: usize) -> String {
        match self.below(if depth == 0 { 1 } else { 3 }) {
            0 => self.scalar(),
            1 => self.array(depth).0,
            _ => self.object(depth).0,
        }
    }

    /// An array and the texts of its elements.
    fn array(&mut self, depth: usize) -> (String, Vec<String>) {
        let elements: Vec<String> = (0..self.below(5)).map(|_| self.value(depth - 1)).collect();
        (self.join('[', &elements, ']'), elements)
    }

    /// An object, and the texts of its keys and values.
    fn object(&mut self, depth: usize) -> (String, Vec<(String, String)>) {
        let entries: Vec<(String, String)> =
            (0..self.below(5)).map(|_| (self.string(), self.value(depth - 1))).collect();
        let mut items = Vec::new();
        for (key, value) in &entries {
            items.push(format!("{key}{}:{}{value}", self.whitespace(), self.whitespace()));
        }
        (self.join('{', &items, '}'), entries)
    }

    fn join(&mut self, open: char, items: &[String], close: char) -> String {
        let mut text = format!("{}{open}{}", self.whitespace(), self.whitespace());
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            text += self.whitespace();
            text += item;
            text += self.whitespace();
        }
        text.push(close);
        text + self.whitespace()
    }
}

fn cuts(text: &str) -> impl Iterator<Item = &str> {
    (0..text.len()).filter_map(|at| text.get(..at))
}

#[test]
fn arrays_are_taken_apart_as_they_were_put_together() {
    for seed in 0..2000 {
        let (text, parts) = Random::new(seed).array(4);
        assert_eq!(json::check(&text), Ok(()), "seed {seed}: {text}");
        let found: Vec<&str> = json::Elements::of(&text).collect();
        let expected: Vec<&str> = parts.iter().map(|part| part.trim_ascii()).collect();
        assert_eq!(found, expected, "seed {seed}: {text}");
    }
}

#[test]
fn objects_are_taken_apart_as_they_were_put_together() {
    for seed in 0..2000 {
        let (text, parts) = Random::new(seed).object(4);
        let value = Value::decode(&text).unwrap();
        assert_eq!((value.kind(), value.as_str()), (Kind::Object, text.trim_ascii()), "seed {seed}");
        let found: Vec<(Cow<'_, str>, &str)> = json::Entries::of(&text).collect();
        let expected: Vec<(Cow<'_, str>, &str)> = parts
            .iter()
            .map(|(key, value)| (Value::decode(key).unwrap().string().unwrap(), value.trim_ascii()))
            .collect();
        assert_eq!(found, expected, "seed {seed}: {text}");
    }
}

#[test]
fn every_cut_of_a_document_is_refused() {
    let fixed = [
        r#"{"a":[1,"2",{"3":[true]}],"b":"\u00e9\ud83d\ude00","c":{"_placeholder":true,"num":0}}"#,
        r#"["message",-1.5e-7,null,false,"日本😀",[[[]]],{}]"#,
        r#""a string with \"escapes\" and é""#,
    ];
    let random = (0..300).map(|seed| Random::new(seed).array(3).0.trim_ascii().to_owned());
    for text in fixed.into_iter().map(String::from).chain(random) {
        assert_eq!(json::check(&text), Ok(()), "{text}");
        for cut in cuts(&text) {
            assert!(json::check(cut).is_err(), "{cut}");
        }
    }
}

/// A changed document may be valid or not, but what is said about it must agree with itself, and nothing may panic.
#[test]
fn changed_documents_are_judged_alike_by_all_functions() {
    for seed in 0..20_000 {
        let mut random = Random::new(seed);
        let mut text: Vec<char> = random.value(3).chars().collect();
        for _ in 0..=random.below(3) {
            let at = random.below(text.len());
            match random.below(3) {
                0 => drop(text.remove(at)),
                1 => text.insert(at, random.choose(&["\"", "\\", ",", "[", "}", "0", "\u{1}"]).chars().next().unwrap()),
                _ => text[at] = random.choose(&["{", "]", ":", "-", "e", " ", "é"]).chars().next().unwrap(),
            }
            if text.is_empty() {
                break;
            }
        }
        let text: String = text.into_iter().collect();
        let checked = json::check(&text);
        assert_eq!(json::check(&format!(" {text}\n")), checked, "seed {seed}: {text}");
        for element in json::Elements::of(&text) {
            assert_eq!(json::check(element), Ok(()), "seed {seed}: {text}");
        }
        for (_key, value) in json::Entries::of(&text) {
            assert_eq!(json::check(value), Ok(()), "seed {seed}: {text}");
        }
    }
}

/// The scanner looks at eight bytes at once: every byte at every offset, against the definition.
#[test]
fn every_character_of_a_string_is_judged_at_every_offset() {
    for character in ('\0'..'\u{180}').chain("\u{2028}\u{ffff}😀".chars()) {
        for before in 0..20 {
            for after in [0, 3, 11] {
                let text = format!("\"{}{character}{}\"", "x".repeat(before), "é".repeat(after));
                let plain = character >= ' ' && character != '"' && character != '\\';
                assert_eq!(json::check(&text).is_ok(), plain, "{text:?}");
            }
        }
    }
}

#[test]
fn any_text_survives_encode_string() {
    let characters: Vec<char> = ('\0'..'\u{300}').chain("\u{2028}\u{ffff}😀".chars()).collect();
    for seed in 0..5000 {
        let mut random = Random::new(seed);
        let text: String = (0..random.below(40)).map(|_| characters[random.below(characters.len())]).collect();
        let mut out = Vec::new();
        json::encode_string(&text, &mut out);
        let encoded = String::from_utf8(out).unwrap();
        assert_eq!(Value::decode(&encoded).unwrap().string().unwrap(), text, "seed {seed}");
        assert!(!encoded.contains(char::is_control) || text.contains('\u{7f}') || text.contains(|c| c >= '\u{80}'));
    }
}

#[test]
fn integers_are_written_in_decimal() {
    for value in [0, 1, 9, 10, 99, 100, 25_000, 1_000_000, (1 << 53) - 1, u64::MAX - 1, u64::MAX] {
        let mut out = b"x".to_vec();
        json::encode_integer(value, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), format!("x{value}"));
    }
}

/// Unchecked text yields what stands before the first error and no panic.
#[test]
fn parts_of_unchecked_texts_end_early() {
    let elements = |text| json::Elements::of(text).collect::<Vec<_>>();
    assert_eq!(elements(r#"[1,"a",{}"#), ["1", "\"a\"", "{}"]);
    assert_eq!(elements("[1,]"), ["1"]);
    assert_eq!(elements("[] x"), [""; 0]);
    assert_eq!(elements("{}"), [""; 0]);
    assert_eq!(elements(""), [""; 0]);
    assert_eq!(json::Entries::of(r#"{"a":1,"b":}"#).collect::<Vec<_>>(), [(Cow::Borrowed("a"), "1")]);
    assert_eq!(json::Entries::of("[]").count() + json::Entries::of("null").count() + json::Entries::of("").count(), 0);
}
