//! Query strings and percent-encoding: names and values as the sender meant them.

use alloc::borrow::Cow;
use core::fmt;

use percent_encoding::percent_decode_str;

/// The part of a target after `?`, still encoded.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Query<'b>(&'b str);

impl<'b> Query<'b> {
    /// Of the text behind the `?`, as it stands in the target.
    pub fn new(text: &'b str) -> Query<'b> {
        Query(text)
    }

    /// The text as it came.
    pub fn as_str(&self) -> &'b str {
        self.0
    }

    /// The first value with that name, decoded. `None` also when it is not UTF-8: a replaced character could make two
    /// different session ids equal.
    pub fn value(&self, name: &str) -> Option<Cow<'b, str>> {
        self.raw_pairs()
            .find(|(raw, _)| decode_form(raw).is_some_and(|decoded| decoded == name))
            .and_then(|(_, value)| decode_form(value))
    }

    /// All pairs in order, decoded; those that are not UTF-8 are left out.
    pub fn pairs(&self) -> impl Iterator<Item = (Cow<'b, str>, Cow<'b, str>)> + use<'b> {
        self.raw_pairs().filter_map(|(name, value)| Some((decode_form(name)?, decode_form(value)?)))
    }

    fn raw_pairs(&self) -> impl Iterator<Item = (&'b str, &'b str)> + use<'b> {
        self.0.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }
}

/// Without the text: it holds session ids, which no log may show.
impl fmt::Debug for Query<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Query({} bytes)", self.0.len())
    }
}

/// Decodes `%41` and the like, for path segments. Broken escapes stay as they are; `None` when the result is not UTF-8.
pub fn decode_percent(text: &str) -> Option<Cow<'_, str>> {
    decode(text, Plus::Literal)
}

fn decode_form(text: &str) -> Option<Cow<'_, str>> {
    decode(text, Plus::Space)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Plus {
    Literal,
    Space,
}

fn decode(text: &str, plus: Plus) -> Option<Cow<'_, str>> {
    let is_special = |byte: &u8| *byte == b'%' || (*byte == b'+' && plus == Plus::Space);
    if !text.as_bytes().iter().any(is_special) {
        return Some(Cow::Borrowed(text));
    }
    // Before the escapes: a plus that is written as one stays a plus.
    let spaced = if plus == Plus::Space { Cow::Owned(text.replace('+', " ")) } else { Cow::Borrowed(text) };
    let decoded = percent_decode_str(&spaced).decode_utf8().ok()?;
    Some(Cow::Owned(decoded.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_first_value_and_decodes_it() {
        let rows = [
            ("EIO=4&transport=polling", "transport", Some("polling")),
            ("EIO=4&transport=polling", "sid", None),
            ("", "sid", None),
            ("a", "a", Some("")),
            ("a=", "a", Some("")),
            ("&&a=b=c&", "a", Some("b=c")),
            ("sid=x&sid=y", "sid", Some("x")),
            ("s%69d=%41+b%2Bc", "sid", Some("A b+c")),
            // A broken escape stays as it is.
            ("a=%4", "a", Some("%4")),
            ("a=%zz%41", "a", Some("%zzA")),
            ("a=%+", "a", Some("% ")),
            ("a=%e2%82%ac", "a", Some("€")),
            // Not UTF-8: refused, not repaired.
            ("a=%ff&a=b", "a", None),
            ("%ff=1&a=b", "a", Some("b")),
            ("a=%00", "a", Some("\0")),
        ];
        for (text, name, expected) in rows {
            assert_eq!(Query::new(text).value(name).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn lends_what_is_not_encoded() {
        assert!(matches!(Query::new("sid=abc").value("sid"), Some(Cow::Borrowed("abc"))));
        assert!(matches!(decode_percent("room+1"), Some(Cow::Borrowed("room+1"))));
    }

    #[test]
    fn lists_pairs() {
        let pairs: Vec<_> = Query::new("a=1&b&c=%ff&d=%20").pairs().collect();
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(pairs, [("a", "1"), ("b", ""), ("d", " ")]);
    }

    #[test]
    fn decodes_path_segments() {
        let rows = [
            ("user%3A1", Some("user:1")),
            ("a+b", Some("a+b")),
            ("a%2fb%2Fc", Some("a/b/c")),
            ("%", Some("%")),
            ("%4g", Some("%4g")),
            ("%c3%28", None),
        ];
        for (text, expected) in rows {
            assert_eq!(decode_percent(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn debug_shows_no_value() {
        assert_eq!(format!("{:?}", Query::new("sid=secret")), "Query(10 bytes)");
    }
}
