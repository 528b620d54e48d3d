//! Spans: what a trace is told of a request and of what became of its events, on the way to who collects them.

mod ids;
mod otlp;
mod queue;
mod span;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sockring_protocol::adapter::TraceContext;

use ids::{Ids, Ratio};
use span::SpanOutcome;

pub use otlp::{SpanSource, encode};
pub use queue::{Batch, SpanCounts, SpanEnd, SpanQueue};
pub use span::{AttributeValue, Span, SpanKind};

/// What is recorded, and how much may wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpanRules {
    /// Which part of the traces that begin here, from 0 to 1. Those of others are recorded where they are.
    pub sample_ratio: f64,
    /// Spans that wait to be sent.
    pub spans_max: usize,
}

/// Begins spans, and passes on those that have ended.
#[derive(Debug)]
pub struct Spans {
    ids: Ids,
    ratio: Ratio,
    queue: SpanQueue,
}

/// An event on its way to those here, as its trace is told of it.
#[derive(Debug)]
pub struct TracedDelivery {
    spans: Arc<Spans>,
    span: Span,
}

impl TracedDelivery {
    pub fn new(spans: &Arc<Spans>, span: Span) -> TracedDelivery {
        TracedDelivery { spans: Arc::clone(spans), span }
    }

    /// So many sockets have it.
    pub fn end(self, sockets: u64) {
        self.spans.end(self.span.with("sockring.delivered", sockets));
    }
}

impl Spans {
    /// With ids that follow from this number, which differs between processes.
    pub fn new(rules: SpanRules, seed: u128) -> Arc<Spans> {
        let SpanRules { sample_ratio, spans_max } = rules;
        Arc::new(Spans { ids: Ids::new(seed), ratio: Ratio::new(sample_ratio), queue: SpanQueue::new(spans_max) })
    }

    /// A span of what began so long ago: of the trace that this header names, or of a new one. `None`: it is not recorded.
    pub fn of_request(&self, traceparent: Option<&str>, ago: Duration) -> Option<Span> {
        let caller = traceparent.and_then(TraceContext::decode);
        let trace = caller.map_or_else(|| self.ids.trace(), |caller| caller.trace);
        let is_sampled = caller.map_or_else(|| self.ratio.takes(trace), |caller| caller.is_sampled);
        is_sampled.then(|| self.begin(SpanKind::Server, trace, caller.map(|caller| caller.span), ago))
    }

    /// A span within another one.
    pub fn within(&self, parent: &TraceContext, kind: SpanKind, name: &'static str) -> Span {
        let span = self.begin(kind, parent.trace, Some(parent.span), Duration::ZERO);
        Span { name: name.into(), ..span }
    }

    /// A span of what another process has brought about. `None`: nobody records what it is a part of.
    pub fn linked(&self, emit: &TraceContext, name: &'static str) -> Option<Span> {
        let span = || Span { link: Some(*emit), ..self.within(emit, SpanKind::Consumer, name) };
        emit.is_sampled.then(span)
    }

    fn begin(&self, kind: SpanKind, trace: u128, parent: Option<u64>, ago: Duration) -> Span {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(ago);
        let now = Instant::now();
        let begun_unix_ns = nanoseconds(unix);
        Span {
            context: TraceContext { trace, span: self.ids.span(), is_sampled: true },
            parent,
            link: None,
            kind,
            name: Cow::Borrowed(""),
            begun_unix_ns,
            ended_unix_ns: begun_unix_ns,
            begun: now.checked_sub(ago).unwrap_or(now),
            attributes: Vec::new(),
            outcome: SpanOutcome::Fine,
        }
    }

    /// It is over now. Beyond what may wait it is dropped, and counted.
    pub fn end(&self, span: Span) {
        let ended_unix_ns = span.begun_unix_ns.saturating_add(nanoseconds(span.begun.elapsed()));
        self.queue.push(Span { ended_unix_ns, ..span });
    }

    /// Where those wait that have ended.
    pub fn queue(&self) -> &SpanQueue {
        &self.queue
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn spans(sample_ratio: f64) -> Arc<Spans> {
        Spans::new(SpanRules { sample_ratio, spans_max: 10 }, 7)
    }

    #[test]
    fn who_calls_decides_whether_its_trace_is_recorded_and_else_the_ratio_does() {
        let unsampled = CALLER.replace("-01", "-00");
        for (header, ratio, expected) in [
            (Some(CALLER), 0.0, true),
            (Some(unsampled.as_str()), 1.0, false),
            (Some("nonsense"), 1.0, true),
            (Some("nonsense"), 0.0, false),
            (None, 1.0, true),
            (None, 0.0, false),
        ] {
            let span = spans(ratio).of_request(header, Duration::ZERO);
            assert_eq!(span.is_some(), expected, "{header:?} {ratio}");
        }
    }

    #[test]
    fn a_span_is_of_its_callers_trace_and_within_its_callers_span() {
        let caller = TraceContext::decode(CALLER).unwrap();
        let spans = spans(1.0);
        let request = spans.of_request(Some(CALLER), Duration::from_secs(5)).unwrap();
        assert_eq!((request.context.trace, request.parent), (caller.trace, Some(caller.span)));
        let emit = spans.within(request.context(), SpanKind::Producer, "emit");
        assert_eq!((emit.context.trace, emit.parent, emit.link), (caller.trace, Some(request.context.span), None));
        let elsewhere = spans.linked(emit.context(), "deliver").unwrap();
        assert_eq!(
            (elsewhere.context.trace, elsewhere.parent, elsewhere.link),
            (caller.trace, Some(emit.context.span), Some(emit.context))
        );
        let unrecorded = TraceContext { is_sampled: false, ..emit.context };
        assert_eq!(spans.linked(&unrecorded, "deliver"), None);
        let ids = [request.context.span, emit.context.span, elsewhere.context.span, caller.span];
        assert!(ids.iter().enumerate().all(|(at, id)| !ids[..at].contains(id)), "{ids:x?}");
        spans.end(request);
        let Batch::Spans(ended) = spans.queue().take() else { panic!("one has ended") };
        let took = ended[0].ended_unix_ns - ended[0].begun_unix_ns;
        assert!((5_000_000_000..65_000_000_000).contains(&took), "{took} ns");
    }
}
