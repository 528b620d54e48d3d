//! The product's events: their names, and the payloads of those that sockring itself sends.

use std::borrow::Cow;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

#[cfg(test)]
mod typescript;

/// The names that front end and back end share: constant and event.
pub const EVENTS: [(&str, &str); 10] = [
    ("ANALYSIS_STARTED", "analysis:started"),
    ("ANALYSIS_PROGRESS", "analysis:progress"),
    ("ANALYSIS_COMPLETED", "analysis:completed"),
    ("ANALYSIS_FAILED", "analysis:failed"),
    ("INTERVIEW_UPDATED", "interview:updated"),
    ("INTERVIEW_DELETED", "interview:deleted"),
    ("REPORT_GENERATED", "report:generated"),
    ("REPORT_UPDATED", "report:updated"),
    ("SERVER_SHUTDOWN", SERVER_SHUTDOWN),
    ("MAINTENANCE_MODE", MAINTENANCE_MODE),
];

/// The event that greets a socket.
pub const CONNECTED: &str = "connected";

/// The event that announces the end.
pub const SERVER_SHUTDOWN: &str = "server:shutdown";

/// The event that says whether the product is under maintenance.
pub const MAINTENANCE_MODE: &str = "maintenance:mode";

/// `connected`: the first event of every socket.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Connected<'a> {
    pub message: &'a str,
    pub user_id: &'a str,
    pub socket_id: &'a str,
    pub timestamp: String,
    pub server: &'a str,
    /// It has come back and got what it missed; absent where it has not.
    #[serde(skip_serializing_if = "is_false")]
    #[cfg_attr(test, ts(optional, as = "Option<bool>"))]
    pub recovered: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// What all events about one analysis begin with.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Analysis<'a, D> {
    pub interview_id: &'a str,
    pub message: &'a str,
    pub status: &'a str,
    #[serde(flatten)]
    pub details: D,
    pub timestamp: String,
    pub server: &'a str,
}

/// `analysis:started` says nothing more.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Started {}

/// `analysis:progress`: 0 to 100.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Progress {
    pub progress: u8,
}

/// `analysis:completed`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Completed<'a> {
    pub analysis: Summary<'a>,
}

/// What an analysis found.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Summary<'a> {
    pub summary: &'a str,
    pub analyzed_at: String,
    /// Bytes of the video.
    #[cfg_attr(test, ts(type = "number"))]
    pub file_size: u64,
}

/// `analysis:failed`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Failed<'a> {
    pub error: &'a str,
    pub retryable: bool,
    pub failed_at: String,
}

/// `server:shutdown`: all clients are closed next, and come back by themselves.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Shutdown<'a> {
    pub message: &'a str,
    #[cfg_attr(test, ts(type = "number"))]
    pub reconnect_in_ms: u64,
    pub timestamp: String,
    pub server: &'a str,
}

/// `maintenance:mode`
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Maintenance<'a> {
    pub enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub message: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub until: Option<Cow<'a, str>>,
    pub timestamp: String,
    pub server: &'a str,
}

/// A message to a user, as the test endpoint sends it.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct TestMessage<'a> {
    pub message: &'a str,
    pub timestamp: String,
    pub server: &'a str,
}

/// The constants as a JSON object, as front ends import them.
pub fn constants() -> serde_json::Map<String, serde_json::Value> {
    EVENTS.iter().map(|(constant, event)| ((*constant).to_owned(), (*event).into())).collect()
}

/// ISO 8601 in UTC with milliseconds, as `Date.prototype.toISOString` writes it.
pub fn iso_8601(unix_ms: u64) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(unix_ms)).to_string()
}

/// The arguments of an event: a JSON array of its name and one payload.
pub fn args(event: &str, payload: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(&(event, payload)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_written_as_javascript_writes_them() {
        assert_eq!(iso_8601(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(iso_8601(1_705_314_600_007), "2024-01-15T10:30:00.007Z");
    }

    #[test]
    fn payloads_have_the_fields_of_the_guide_in_their_order() {
        let started = Analysis {
            interview_id: "i",
            message: "m",
            status: "processing",
            details: Started {},
            timestamp: "t".to_owned(),
            server: "s",
        };
        assert_eq!(
            args("analysis:started", &started),
            br#"["analysis:started",{"interviewId":"i","message":"m","status":"processing","timestamp":"t","server":"s"}]"#
        );
        let failed = Failed { error: "e", retryable: true, failed_at: "f".to_owned() };
        assert_eq!(serde_json::to_string(&failed).unwrap(), r#"{"error":"e","retryable":true,"failedAt":"f"}"#);
    }
}
