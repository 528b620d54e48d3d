//! `/maintenance`: whether the product is under maintenance, as this instance tells its clients.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use serde_json::{Value, json};
use sockring_protocol::adapter::{Broadcast, TraceContext};

use crate::events::{self, Maintenance};
use crate::shard::Mail;

use super::answer::{ApiAnswer, ApiError};
use super::fields::Fields;
use super::operations::{ENABLED, MAINTENANCE, MESSAGE};
use super::{Api, unix_ms};

/// Before this, in 1973, a number of milliseconds is one of seconds.
pub(super) const UNIX_MS_LEAST: u64 = 100_000_000_000;
/// The end of the year 9999.
pub(super) const UNIX_MS_MOST: u64 = 253_402_300_799_999;

/// What there is to say about it, as the API says it.
pub(super) type MaintenanceState = tokio::sync::Mutex<Value>;

/// As it is at start.
pub(super) fn off() -> MaintenanceState {
    MaintenanceState::new(json!({"enabled": false}))
}

/// `GET /maintenance`
pub(super) async fn get(api: &Api) -> ApiAnswer {
    let state = api.maintenance.lock().await.clone();
    let message = if state.get("enabled").is_some_and(|is_on| *is_on == true) {
        "Maintenance mode is on"
    } else {
        "Maintenance mode is off"
    };
    ApiAnswer::ok(state, message)
}

/// `POST /maintenance`
pub(super) async fn set(api: &Api, body: &[u8], trace: Option<&TraceContext>) -> Result<ApiAnswer, ApiError> {
    let fields = Fields::decode(body)?;
    fields.only(&MAINTENANCE)?;
    let enabled = fields.boolean(&ENABLED)?.ok_or_else(|| fields.refuse("enabled", "is required"))?;
    let payload = Maintenance {
        enabled,
        message: fields.text(&MESSAGE)?,
        until: until(&fields)?.map(Into::into),
        timestamp: events::iso_8601(unix_ms()),
        server: &api.server,
    };
    let args: Arc<[u8]> = events::args(events::MAINTENANCE_MODE, &payload).into();
    // One after the other, so that what is said is what new clients are told.
    let mut state = api.maintenance.lock().await;
    *state = match enabled {
        true => json!({
            "enabled": true,
            "message": payload.message,
            "until": payload.until,
            "since": payload.timestamp,
        }),
        false => json!({"enabled": false}),
    };
    // Who connects while this is under way gets it twice rather than not at all.
    api.change(|| Mail::Stand(enabled.then(|| Arc::clone(&args)))).await?;
    let namespaces = api.engine.namespaces.iter();
    let everywhere = namespaces.map(|namespace| Broadcast::new(namespace, Vec::new(), Arc::clone(&args)));
    let mut everywhere: Vec<_> = everywhere.collect();
    let span = api.begin_emit(trace, everywhere.iter_mut());
    let emitted = api.emit_all(everywhere).await;
    api.end_emit(span, emitted.as_deref().ok());
    let emitted = emitted?;
    let delivered: u64 = emitted.iter().map(|emitted| emitted.delivered).sum();
    let published = emitted.iter().all(|emitted| emitted.published);
    let data = json!({"enabled": enabled, "delivered": delivered, "published": published});
    Ok(ApiAnswer::ok(data, if enabled { "Maintenance mode is on" } else { "Maintenance mode is off" }))
}

/// When it is over, as ISO 8601 in UTC, whichever way it was written.
fn until(fields: &Fields<'_>) -> Result<Option<String>, ApiError> {
    const WORDS: &str =
        "has to be a date: ISO 8601 with a time zone, as 2026-01-31T18:00:00Z, or milliseconds since 1970";
    let Some(raw) = fields.raw("until") else { return Ok(None) };
    let at = match raw.parse::<u64>() {
        Ok(number) => Some(number),
        Err(_) => serde_json::from_str::<Value>(raw).ok().as_ref().and_then(Value::as_str).and_then(date),
    };
    let at = at.filter(|at| (UNIX_MS_LEAST..=UNIX_MS_MOST).contains(at));
    at.map(|at| Some(events::iso_8601(at))).ok_or_else(|| fields.refuse("until", WORDS))
}

/// Unix time in milliseconds of `2026-01-31`, `2026-01-31T18:00Z`, `2026-01-31T19:00:00.5+01:00`.
fn date(text: &str) -> Option<u64> {
    let (day, rest) = text.split_at_checked(10)?;
    let (clock, zone) = match rest.strip_prefix(['T', 't', ' ']) {
        None if rest.is_empty() => ("00:00:00", "Z"),
        None => return None,
        Some(rest) => rest.split_at_checked(rest.find(['Z', 'z', '+', '-'])?)?,
    };
    let seconds = if clock.len() == 5 { ":00" } else { "" };
    let at = humantime::parse_rfc3339(&format!("{day}T{clock}{seconds}Z")).ok()?;
    let at = i64::try_from(at.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()?;
    u64::try_from(at - offset_ms(zone)?).ok()
}

/// How far a time zone is ahead of UTC: `Z`, `+01:00`, `-0530`.
fn offset_ms(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, digits) = match zone.strip_prefix('+') {
        Some(digits) => (1, digits),
        None => (-1, zone.strip_prefix('-')?),
    };
    let digits = digits.replacen(':', "", 1);
    let (hours, minutes) = digits.split_at_checked(2).filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    let minutes = match minutes.len() {
        0 => 0,
        2 => minutes.parse::<i64>().ok()?,
        _ => return None,
    };
    let hours = hours.parse::<i64>().ok().filter(|hours| *hours < 24 && minutes < 60)?;
    Some(sign * (hours * 60 + minutes) * 60_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until_of(value: &str) -> Result<Option<String>, ApiError> {
        until(&Fields::decode(format!("{{\"until\":{value}}}").as_bytes()).unwrap())
    }

    #[test]
    fn dates_are_read_as_they_are_written() {
        for (value, expected) in [
            (r#""2026-01-31""#, "2026-01-31T00:00:00.000Z"),
            (r#""2026-01-31T18:00:00Z""#, "2026-01-31T18:00:00.000Z"),
            (r#""2026-01-31T18:00:00.125z""#, "2026-01-31T18:00:00.125Z"),
            (r#""2026-01-31 18:00Z""#, "2026-01-31T18:00:00.000Z"),
            (r#""2026-01-31T00:30:00+01:00""#, "2026-01-30T23:30:00.000Z"),
            (r#""2026-01-31T18:00-0530""#, "2026-01-31T23:30:00.000Z"),
            (r#""2026-01-31T18:00:00+02""#, "2026-01-31T16:00:00.000Z"),
            ("1769882400000", "2026-01-31T18:00:00.000Z"),
        ] {
            assert_eq!(until_of(value).unwrap().as_deref(), Some(expected), "{value}");
        }
        assert_eq!(until_of("null").unwrap(), None);
        for value in [
            r#""tomorrow""#,
            r#""""#,
            r#""18:00""#,
            r#""2026-02-30""#,
            r#""2026-13-01T00:00Z""#,
            r#""2026-01-31T25:00:00Z""#,
            // In whose time zone?
            r#""2026-01-31T18:00:00""#,
            r#""2026-01-31T18:00:00+1:00""#,
            r#""2026-01-31T18:00:00+01:99""#,
            r#""2026-01-31T18:00:00Z+01:00""#,
            r#""2026-01-31é""#,
            // Seconds.
            "1769882400",
            "1769882400000.5",
            "99999999999999999999",
            "-1",
            "true",
            "[]",
        ] {
            let error = until_of(value).unwrap_err();
            assert_eq!((error.status, &*error.errors[0].path), (422, "until"), "{value}");
        }
    }
}
