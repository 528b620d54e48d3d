//! Spans that have ended and wait to be sent: as many as may, in batches.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::span::Span;

/// Spans of one request.
const BATCH_MAX: usize = 512;
/// How long the first of them waits for others.
const BATCH_WAIT: Duration = Duration::from_secs(1);

/// What becomes of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanEnd {
    Sent,
    /// Too many others waited.
    QueueFull,
    /// Nobody took it for too long.
    Unreachable,
    /// The collector did not want it.
    Refused,
}

impl SpanEnd {
    pub const ALL: [SpanEnd; 4] = [SpanEnd::Sent, SpanEnd::QueueFull, SpanEnd::Unreachable, SpanEnd::Refused];

    pub fn label(self) -> &'static str {
        match self {
            SpanEnd::Sent => "sent",
            SpanEnd::QueueFull => "queue_full",
            SpanEnd::Unreachable => "unreachable",
            SpanEnd::Refused => "refused",
        }
    }
}

/// How many spans came to which end, and how many wait for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanCounts {
    ends: [u64; SpanEnd::ALL.len()],
    pub waiting: u64,
}

impl SpanCounts {
    pub fn of(&self, end: SpanEnd) -> u64 {
        self.ends.get(end as usize).copied().unwrap_or(0)
    }
}

/// What is to be sent next.
#[derive(Debug, PartialEq)]
pub enum Batch {
    Spans(Vec<Span>),
    /// There is nothing any more, and nothing will come.
    End,
}

#[derive(Debug, Default)]
struct EndedSpans {
    spans: VecDeque<Span>,
    is_closed: bool,
}

#[derive(Debug)]
pub struct SpanQueue {
    spans_max: usize,
    waiting: Mutex<EndedSpans>,
    /// The first is there, or as many as go together, or it is over.
    changed: Condvar,
    ends: [AtomicU64; SpanEnd::ALL.len()],
}

impl SpanQueue {
    pub(super) fn new(spans_max: usize) -> SpanQueue {
        SpanQueue { spans_max, waiting: Mutex::default(), changed: Condvar::new(), ends: Default::default() }
    }

    fn lock(&self) -> MutexGuard<'_, EndedSpans> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never waits: who serves clients comes first.
    pub(super) fn push(&self, span: Span) {
        let mut waiting = self.lock();
        if waiting.spans.len() >= self.spans_max {
            drop(waiting);
            return self.count(SpanEnd::QueueFull, 1);
        }
        waiting.spans.push_back(span);
        let is_worth_waking = matches!(waiting.spans.len(), 1 | BATCH_MAX);
        drop(waiting);
        if is_worth_waking {
            self.changed.notify_one();
        }
    }

    /// Waits for spans, and then a while for more.
    pub fn take(&self) -> Batch {
        let is_empty = |waiting: &mut EndedSpans| waiting.spans.is_empty() && !waiting.is_closed;
        let waiting = self.changed.wait_while(self.lock(), is_empty).unwrap_or_else(PoisonError::into_inner);
        let has_room = |waiting: &mut EndedSpans| waiting.spans.len() < BATCH_MAX && !waiting.is_closed;
        let waited = self.changed.wait_timeout_while(waiting, BATCH_WAIT, has_room);
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let count = waiting.spans.len().min(BATCH_MAX);
        if count == 0 { Batch::End } else { Batch::Spans(waiting.spans.drain(..count).collect()) }
    }

    /// Rests for so long, but only to the end.
    pub fn rest(&self, pause: Duration) {
        let goes_on = |waiting: &mut EndedSpans| !waiting.is_closed;
        drop(self.changed.wait_timeout_while(self.lock(), pause, goes_on));
    }

    /// What waits now is the last.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Whether nothing more will come.
    pub fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    pub fn count(&self, end: SpanEnd, spans: u64) {
        if let Some(count) = self.ends.get(end as usize) {
            count.fetch_add(spans, Ordering::Relaxed);
        }
    }

    pub fn counts(&self) -> SpanCounts {
        let ends = self.ends.each_ref().map(|count| count.load(Ordering::Relaxed));
        SpanCounts { ends, waiting: self.lock().spans.len() as u64 }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::super::{SpanRules, Spans};
    use super::*;

    #[test]
    fn what_is_too_much_is_dropped_and_counted_and_what_waits_at_the_end_is_taken() {
        let spans = Spans::new(SpanRules { sample_ratio: 1.0, spans_max: 600 }, 1);
        let end = || spans.end(spans.of_request(None, Duration::ZERO).unwrap());
        (0..602).for_each(|_| end());
        let counts = spans.queue().counts();
        assert_eq!((counts.of(SpanEnd::QueueFull), counts.waiting), (2, 600));
        let taken = || if let Batch::Spans(batch) = spans.queue().take() { batch.len() } else { 0 };
        assert_eq!(taken(), BATCH_MAX);
        spans.queue().close();
        assert_eq!((taken(), taken()), (600 - BATCH_MAX, 0));
        spans.queue().rest(Duration::from_secs(3600));
    }

    #[test]
    fn who_waits_is_woken_by_the_first_and_at_the_end() {
        let spans = Spans::new(SpanRules { sample_ratio: 1.0, spans_max: 10 }, 1);
        thread::scope(|scope| {
            let taken = scope.spawn(|| (spans.queue().take(), spans.queue().take()));
            spans.end(spans.of_request(None, Duration::ZERO).unwrap().named("one"));
            spans.queue().close();
            let (first, second) = taken.join().unwrap();
            assert!(matches!(first, Batch::Spans(batch) if batch.len() == 1));
            assert_eq!(second, Batch::End);
        });
    }
}
