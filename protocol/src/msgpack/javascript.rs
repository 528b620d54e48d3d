//! Numbers and dates as JavaScript writes them into JSON.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use time::Date;

/// Furthest from 1970 that a `Date` can be, in milliseconds (ECMA-262, "Time Values and Time Range").
const DATE_MS_MAX: i128 = 8_640_000_000_000_000;

const DAY_MS: i64 = 86_400_000;

/// The day 1970-01-01 as astronomers count.
const JULIAN_1970: i64 = 2_440_588;

/// Appends what `JSON.stringify` makes of a number: the shortest digits that read back as it, and `null` for what is none.
pub(super) fn encode_number(number: f64, out: &mut Vec<u8>) {
    let mut buffer = ryu_js::Buffer::new();
    let text = if number.is_finite() { buffer.format_finite(number) } else { "null" };
    out.extend_from_slice(text.as_bytes());
}

/// What `String(number)` gives (ECMA-262, "Number::toString").
pub fn number_text(number: f64) -> String {
    ryu_js::Buffer::new().format(number).to_owned()
}

/// Appends a time as `Date.prototype.toJSON` does, in quotes; `null` for what no `Date` can hold.
pub(super) fn encode_date(unix_ms: i128, out: &mut Vec<u8>) {
    let in_range = i64::try_from(unix_ms).ok().filter(|ms| i128::from(*ms).abs() <= DATE_MS_MAX);
    let date = in_range.and_then(|ms| i32::try_from(ms.div_euclid(DAY_MS) + JULIAN_1970).ok());
    let date = date.and_then(|day| Date::from_julian_day(day).ok());
    let (Some(unix_ms), Some(date)) = (in_range, date) else {
        out.extend_from_slice(b"null");
        return;
    };
    let ms = unix_ms.rem_euclid(DAY_MS);
    let (year, month, day) = date.to_calendar_date();
    let month = u8::from(month);
    let year = match year {
        0..=9999 => format!("{year:04}"),
        _ => format!("{year:+07}"),
    };
    let (hour, minute, second, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
    let text = format!("\"{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z\"");
    out.extend_from_slice(text.as_bytes());
}
