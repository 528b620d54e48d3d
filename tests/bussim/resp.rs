//! RESP: what Redis and its clients write, as far as publishing, subscribing and streams need it.

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(Vec<u8>),
    Integer(i64),
    /// An array or, unasked, a push; a map, as keys and values; nothing, as none.
    List(Vec<Value>),
}

impl Value {
    /// The bytes of a text.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Value::Text(bytes) => bytes,
            _ => &[],
        }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }
}

/// Takes one whole value from the front of `bytes`.
pub fn take(bytes: &mut Vec<u8>) -> Option<Value> {
    let mut at = 0;
    let value = read(bytes, &mut at)?;
    bytes.drain(..at);
    Some(value)
}

fn read(bytes: &[u8], at: &mut usize) -> Option<Value> {
    let rest = bytes.get(*at..)?;
    let end = rest.windows(2).position(|window| window == b"\r\n")?;
    let line = std::str::from_utf8(&rest[..end]).expect("lines are ASCII");
    *at += end + 2;
    let (kind, words) = line.split_at(1);
    let number = || words.parse::<i64>().expect("a number");
    match kind {
        "+" | "-" => Some(Value::Text(words.as_bytes().to_vec())),
        ":" => Some(Value::Integer(number())),
        "$" => {
            let length = usize::try_from(number()).expect("no null here");
            let text = bytes.get(*at..*at + length)?.to_vec();
            bytes.get(*at + length..*at + length + 2)?;
            *at += length + 2;
            Some(Value::Text(text))
        }
        "_" => Some(Value::List(Vec::new())),
        "%" => (0..2 * number()).map(|_| read(bytes, at)).collect::<Option<Vec<_>>>().map(Value::List),
        "*" | ">" => (0..number()).map(|_| read(bytes, at)).collect::<Option<Vec<_>>>().map(Value::List),
        other => panic!("a value of an unknown kind: {other}"),
    }
}

/// A command, or the parts of a push behind `kind`.
pub fn list(kind: char, parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("{kind}{}\r\n", parts.len()).into_bytes();
    parts.iter().for_each(|part| bytes.extend(bulk(part)));
    bytes
}

pub fn command(parts: &[&[u8]]) -> Vec<u8> {
    list('*', parts)
}

pub fn bulk(part: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat()
}

pub fn array(parts: &[Vec<u8>]) -> Vec<u8> {
    [format!("*{}\r\n", parts.len()).into_bytes(), parts.concat()].concat()
}

/// An entry of a stream.
pub fn entry(id: usize, fields: &[Vec<u8>]) -> Vec<u8> {
    let fields: Vec<_> = fields.iter().map(|field| bulk(field)).collect();
    array(&[bulk(format!("{id}-0").as_bytes()), array(&fields)])
}

/// Whether a name fits a pattern, as Redis compares them.
pub fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match pattern {
        [] => name.is_empty(),
        [b'*', rest @ ..] => (0..=name.len()).any(|skipped| fits(rest, &name[skipped..])),
        [b'?', rest @ ..] => !name.is_empty() && fits(rest, &name[1..]),
        [b'[', rest @ ..] => {
            let Some((first, name)) = name.split_first() else { return false };
            let (is_not, set) = rest.strip_prefix(b"^").map_or((false, rest), |set| (true, set));
            let end = set.iter().position(|byte| *byte == b']').expect("a set ends");
            set[..end].contains(first) != is_not && fits(&set[end + 1..], name)
        }
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => {
            name.split_first().is_some_and(|(first, name)| first == literal && fits(rest, name))
        }
    }
}

#[test]
fn patterns_are_those_of_redis() {
    for (pattern, name, expected) in [
        ("a*#", "a#", true),
        ("a*#", "abc#", true),
        ("a*#", "abc", false),
        ("a[^u]*", "au", false),
        ("a[^u]*", "ax", true),
        ("a[^u]*", "a", false),
        ("a\\*b", "a*b", true),
        ("a\\*b", "axb", false),
        ("?[xy]", "ay", true),
    ] {
        assert_eq!(fits(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
    }
}
