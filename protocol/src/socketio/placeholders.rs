//! `Placeholders`: checks that the placeholders of a binary packet point at its attachments.

use super::Args;
use crate::json::{Observer, string_of};

/// Watches a packet's arguments for `{"_placeholder":true,"num":N}` at any depth (socket.io-protocol v5, "Packet
/// encoding"; A16).
///
/// As the reference sees them after `JSON.parse`: keys in any order, further keys allowed, of several same keys the last
/// one counts. Stricter in two ways: N is an integer (it takes 0.5), and placeholders inside a placeholder or under a key
/// that is overwritten later are checked too (it never looks there).
pub(super) struct Placeholders {
    attachments: u8,
    /// One bit per open object, the innermost lowest: `_placeholder` is `true`.
    marked: u128,
    /// Likewise: `num` points at an attachment.
    valid: u128,
    found_any: bool,
    found_bad: bool,
}

impl Args<'_> {
    /// Whether they refer to attachments at all. A header may announce attachments that nothing refers to: they are
    /// received and dropped (P21).
    pub fn has_placeholders(&self) -> bool {
        let mut placeholders = Placeholders::new(u8::MAX);
        Args::decode_observed(self.text(), &mut placeholders).is_ok() && placeholders.found_any
    }
}

impl Placeholders {
    pub(super) fn new(attachments: u8) -> Placeholders {
        Placeholders { attachments, marked: 0, valid: 0, found_any: false, found_bad: false }
    }

    /// A placeholder was seen that points at no attachment.
    pub(super) fn found_bad(&self) -> bool {
        self.found_bad
    }

    fn points_at_attachment(&self, number: &str) -> bool {
        // Both round decimal text to the nearest double, so that this is the number that JSON.parse gives.
        let number: f64 = number.parse().unwrap_or(f64::NAN);
        // Out of its range, and from no number, the cast is the nearest index, which then is another number.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "what it loses is compared")]
        let index = number as u8;
        f64::from(index) == number && index < self.attachments
    }
}

impl Observer for Placeholders {
    fn object_begins(&mut self) {
        self.marked <<= 1;
        self.valid <<= 1;
    }

    fn member(&mut self, key: &str, value: &str) {
        if is_key(key, "_placeholder") {
            self.marked = self.marked & !1 | u128::from(value == "true");
        } else if is_key(key, "num") {
            self.valid = self.valid & !1 | u128::from(self.points_at_attachment(value));
        }
    }

    fn object_ends(&mut self) {
        self.found_any |= self.marked & 1 == 1;
        self.found_bad |= self.marked & !self.valid & 1 == 1;
        self.marked >>= 1;
        self.valid >>= 1;
    }
}

/// Whether a key, with its quotes and possibly escapes, is `name`.
fn is_key(key: &str, name: &str) -> bool {
    string_of(key).is_some_and(|key| key == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_marked_objects_are_placeholders() {
        for (text, expected) in [
            (r#"["a",{"_placeholder":true,"num":0}]"#, true),
            (r#"["a",[{"x":{"num":0,"_placeholder":true}}]]"#, true),
            (r#"["a",{"\u005fplaceholder":true,"num":0}]"#, true),
            (r#"["a","_placeholder",{"_placeholder":false,"num":0}]"#, false),
            (r#"["a"]"#, false),
        ] {
            assert_eq!(Args::decode(text).unwrap().has_placeholders(), expected, "{text}");
        }
    }
}
