//! Who collects spans: a thread sends them there, so that no core waits for it.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use sockring::config::OtlpSettings;
use sockring::spans::{Batch, Span, SpanEnd, SpanSource, Spans, encode};

use crate::authorities::agent_for;

/// From connecting to the last byte of the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a batch is tried again; those that have ended meanwhile wait.
const BATCH_PATIENCE: Duration = Duration::from_secs(30);
/// Before it is tried for the second time; each pause is twice the one before it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How long the end of the process waits for what has still to be sent.
const FAREWELL: Duration = Duration::from_secs(2);
/// Of an answer that says which spans it did not take.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// A collector, and who speaks to it.
pub(crate) struct Collector {
    agent: ureq::Agent,
    url: String,
    resource: SpanSource,
}

/// Why a batch is not there.
#[derive(Debug)]
pub(crate) enum CollectorError {
    /// It may be taken later: after so long, if the collector says so.
    Later(String, Option<Duration>),
    /// It will never be.
    Refused(String),
}

impl fmt::Display for CollectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (CollectorError::Later(reason, _) | CollectorError::Refused(reason)) = self;
        f.write_str(reason)
    }
}

impl Error for CollectorError {}

/// Of a batch that was taken, how many spans were not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rejected(u64);

impl Collector {
    pub(crate) fn new(settings: &OtlpSettings, resource: SpanSource) -> Collector {
        Collector { agent: agent_for(&settings.url, PATIENCE), url: settings.url.clone(), resource }
    }

    /// One request, as the specification of OTLP wants it: which answers may be tried again is in its section on HTTP.
    pub(crate) fn send(&self, spans: &[Span]) -> Result<Rejected, CollectorError> {
        let body = encode(&self.resource, spans);
        let request = self.agent.post(&self.url).header("content-type", "application/json");
        let mut answer = request.send(&body).map_err(|error| CollectorError::Later(error.to_string(), None))?;
        let status = answer.status().as_u16();
        match status {
            200..300 => {}
            429 | 502 | 503 | 504 => {
                let after = answer.headers().get("retry-after").and_then(|after| after.to_str().ok()?.parse().ok());
                return Err(CollectorError::Later(format!("it answers {status}"), after.map(Duration::from_secs)));
            }
            _ => return Err(CollectorError::Refused(format!("it answers {status}"))),
        }
        let text = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string().unwrap_or_default();
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        // A 64-bit number is text in this JSON.
        let rejected = answer.pointer("/partialSuccess/rejectedSpans");
        let rejected = rejected.and_then(|count| count.as_u64().or_else(|| count.as_str()?.parse().ok()));
        Ok(Rejected(rejected.unwrap_or(0).min(spans.len() as u64)))
    }

    /// Sends what ends from now on, until the process does.
    pub(crate) fn collect(self, spans: Arc<Spans>) -> std::io::Result<Collecting> {
        let (done, finished) = sync_channel(1);
        let collecting = Collecting { spans: Arc::clone(&spans), finished };
        thread::Builder::new().name("spans".to_owned()).spawn(move || self.run(&spans, &done))?;
        Ok(collecting)
    }

    fn run(&self, spans: &Spans, done: &SyncSender<()>) {
        let mut is_away = false;
        while let Batch::Spans(batch) = spans.queue().take() {
            let count = batch.len() as u64;
            match self.send_at_last(spans, &batch) {
                Ok(Rejected(rejected)) => {
                    spans.queue().count(SpanEnd::Sent, count - rejected);
                    spans.queue().count(SpanEnd::Refused, rejected);
                    if std::mem::take(&mut is_away) {
                        tracing::info!(url = self.url, "the collector takes spans again");
                    }
                }
                Err(error) => {
                    let end =
                        if let CollectorError::Later(..) = error { SpanEnd::Unreachable } else { SpanEnd::Refused };
                    spans.queue().count(end, count);
                    // Once, until it is back.
                    if !std::mem::replace(&mut is_away, true) {
                        tracing::warn!(url = self.url, %error, "the collector does not take spans; they are dropped");
                    }
                }
            }
        }
        let _ = done.send(());
    }

    /// Tries it again, for as long as that may help.
    fn send_at_last(&self, spans: &Spans, batch: &[Span]) -> Result<Rejected, CollectorError> {
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.send(batch) {
                Err(error @ CollectorError::Later(..)) => error,
                result => return result,
            };
            let asked = if let CollectorError::Later(_, after) = &error { *after } else { None };
            let rest = asked.unwrap_or(pause);
            if spans.queue().is_closed() || begun.elapsed() + rest > BATCH_PATIENCE {
                return Err(error);
            }
            tracing::debug!(url = self.url, %error, "spans are sent again later");
            spans.queue().rest(rest);
            pause *= 2;
        }
    }
}

/// The thread that sends spans.
pub(crate) struct Collecting {
    spans: Arc<Spans>,
    finished: Receiver<()>,
}

impl Collecting {
    /// What it sends.
    pub(crate) fn spans(&self) -> Arc<Spans> {
        Arc::clone(&self.spans)
    }

    /// Waits a while for what has still to be sent.
    pub(crate) fn finish(self) {
        self.spans.queue().close();
        let _ = self.finished.recv_timeout(FAREWELL);
    }
}
