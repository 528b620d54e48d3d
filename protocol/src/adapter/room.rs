//! Rooms that are numbers. In JavaScript `5` and `"5"` are two rooms, although both have one channel; here a room is a text,
//! and that of a number begins with a character that texts do not have.

use alloc::boxed::Box;
use alloc::string::String;

use crate::msgpack::number_text;

/// Unicode keeps it for uses within a program.
const MARK: char = '\u{fdd0}';

/// The room that is this number.
pub(super) fn of_number(number: f64) -> Box<str> {
    let mut room = String::from(MARK);
    // The two zeros are one key.
    room.push_str(&number_text(if number == 0.0 { 0.0 } else { number }));
    room.into()
}

/// How JavaScript writes the number that a room is; `None`: it is a text.
pub fn number_of(room: &str) -> Option<&str> {
    room.strip_prefix(MARK).filter(|digits| as_number(digits).is_some())
}

/// What channels call a room.
pub(super) fn name_in_channel(room: &str) -> &str {
    number_of(room).unwrap_or(room)
}

/// The other room that channels call the same: the number for its digits, as JavaScript writes them, and the digits for it.
pub fn namesake_of(room: &str) -> Option<Box<str>> {
    match number_of(room) {
        Some(digits) => Some(digits.into()),
        None => as_number(room).map(of_number),
    }
}

/// The number that JavaScript writes like this.
fn as_number(digits: &str) -> Option<f64> {
    if !digits.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return None;
    }
    let number: f64 = digits.parse().ok()?;
    (number.is_finite() && number_text(number) == digits).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_not_its_digits_and_shares_their_channel() {
        for (number, digits) in [(5.0, "5"), (-1.5, "-1.5"), (-0.0, "0"), (1e21, "1e+21"), (0.1, "0.1"), (1e-7, "1e-7")]
        {
            let room = of_number(number);
            assert_eq!((number_of(&room), number_of(digits)), (Some(digits), None));
            assert_eq!((name_in_channel(&room), name_in_channel(digits)), (digits, digits));
            assert_eq!(namesake_of(digits).as_ref(), Some(&room));
            assert_eq!(namesake_of(&room).as_deref(), Some(digits));
        }
    }

    #[test]
    fn what_javascript_would_not_write_is_a_text() {
        for text in [
            "",
            "user:5",
            "05",
            "5.0",
            "+5",
            "-",
            "1e5",
            "-0",
            "NaN",
            "Infinity",
            "5 ",
            "inf",
            "\u{fdd0}",
            "\u{fdd0}05",
        ] {
            assert_eq!((number_of(text), namesake_of(text), name_in_channel(text)), (None, None, text), "{text}");
        }
    }
}
