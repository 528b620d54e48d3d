//! Numbers and dates as JavaScript writes them into JSON.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Furthest from 1970 that a `Date` can be, in milliseconds (ECMA-262, "Time Values and Time Range").
const DATE_MS_MAX: i128 = 8_640_000_000_000_000;

const DAY_MS: i64 = 86_400_000;

/// Appends what `JSON.stringify` makes of a number: the shortest digits that read back as it, and `null` for what is none.
pub(super) fn encode_number(number: f64, out: &mut Vec<u8>) {
    let text = if number.is_finite() { number_text(number) } else { "null".to_owned() };
    out.extend_from_slice(text.as_bytes());
}

/// What `String(number)` gives (ECMA-262, "Number::toString").
pub fn number_text(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    let sign = if number < 0.0 { "-" } else { "" };
    if number.is_infinite() {
        return format!("{sign}Infinity");
    }
    // The shortest digits, as d.ddde7.
    let scientific = format!("{:e}", number.abs());
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    // Where the point stands in the digits.
    let point = exponent + 1;
    let length = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    match point {
        _ if length <= point && point <= 21 => format!("{sign}{digits}{}", zeros(point - length)),
        1..=21 => {
            let (whole, fraction) = digits.split_at(usize::try_from(point).unwrap_or(0));
            format!("{sign}{whole}.{fraction}")
        }
        -5..=0 => format!("{sign}0.{}{digits}", zeros(-point)),
        _ => format!("{sign}{mantissa}e{exponent:+}"),
    }
}

/// Appends a time as `Date.prototype.toJSON` does, in quotes; `null` for what no `Date` can hold.
pub(super) fn encode_date(unix_ms: i128, out: &mut Vec<u8>) {
    let in_range = i64::try_from(unix_ms).ok().filter(|ms| i128::from(*ms).abs() <= DATE_MS_MAX);
    let Some(unix_ms) = in_range else {
        out.extend_from_slice(b"null");
        return;
    };
    let (days, ms) = (unix_ms.div_euclid(DAY_MS), unix_ms.rem_euclid(DAY_MS));
    let (year, month, day) = civil(days);
    let year = match year {
        0..=9999 => format!("{year:04}"),
        _ => format!("{year:+07}"),
    };
    let (hour, minute, second, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
    let text = format!("\"{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z\"");
    out.extend_from_slice(text.as_bytes());
}

/// Year, month and day of a day since 1970-01-01 in the Gregorian calendar. Years are counted from March, so that the leap
/// day is their last, and in periods of 400 years, which all have the same days.
fn civil(days_since_1970: i64) -> (i64, i64, i64) {
    const DAYS_OF_400_YEARS: i64 = 146_097;
    // From 0000-03-01.
    let days = days_since_1970 + 719_468;
    let (period, day) = (days.div_euclid(DAYS_OF_400_YEARS), days.rem_euclid(DAYS_OF_400_YEARS));
    // The days of its leap years taken off, the year follows by division.
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (period * 400 + year + i64::from(month <= 2), month, day_of_month)
}
