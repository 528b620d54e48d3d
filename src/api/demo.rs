//! The test analysis: the guide's events to one user, a little apart, as a worker would send them.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::events::{self, Analysis, Completed, Failed, Progress, Started, Summary};

use super::crowd::Counted;
use super::emit::to_rooms;
use super::{Api, unix_ms};

/// Between two events.
const STEP: Duration = Duration::from_millis(300);
/// Analyses that may run at once.
pub(super) const DEMOS_MAX: usize = 100;

/// Runs an analysis for the members of a user's room, unless there are too many already.
pub(super) fn start(api: &Arc<Api>, room: Box<str>, interview_id: String) -> bool {
    let Some(counted) = Counted::below(&api.demos, DEMOS_MAX) else { return false };
    // The count is given back by the task.
    std::mem::forget(counted);
    let api = Arc::clone(api);
    tokio_uring::spawn(async move {
        let _counted = Counted::taken(&api.demos);
        run(&api, room, &interview_id).await;
    });
    true
}

async fn run(api: &Api, room: Box<str>, interview_id: &str) {
    send(api, &room, "analysis:started", interview_id, "processing", "Video analysis has started", Started {}).await;
    for progress in [0, 25, 50, 75, 100] {
        tokio::time::sleep(STEP).await;
        let message = format!("Video analysis is {progress} % done");
        let details = Progress { progress };
        send(api, &room, "analysis:progress", interview_id, "processing", &message, details).await;
    }
    tokio::time::sleep(STEP).await;
    let summary = Summary {
        summary: "The candidate demonstrated strong technical skills and communicated clearly.",
        analyzed_at: events::iso_8601(unix_ms()),
        file_size: 15_728_640,
    };
    let message = "Video analysis completed successfully";
    let details = Completed { analysis: summary };
    send(api, &room, "analysis:completed", interview_id, "completed", message, details).await;
    tokio::time::sleep(STEP).await;
    let details = Failed { error: "Video processing timeout", retryable: true, failed_at: events::iso_8601(unix_ms()) };
    send(api, &room, "analysis:failed", interview_id, "failed", "Video analysis failed", details).await;
}

async fn send(
    api: &Api,
    room: &str,
    event: &str,
    interview_id: &str,
    status: &str,
    message: &str,
    details: impl Serialize,
) {
    let timestamp = events::iso_8601(unix_ms());
    let payload = Analysis { interview_id, message, status, details, timestamp, server: &api.server };
    let broadcast = to_rooms(vec![room.into()], events::args(event, &payload).into());
    if let Err(error) = api.emit(broadcast).await {
        tracing::warn!(message = error.message, "a test event was not sent");
    }
}
