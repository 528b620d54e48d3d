//! Spans of the requests that were let in, and within them of what becomes of their events.

use std::time::Duration;

use sockring_protocol::adapter::{Broadcast, TraceContext};
use sockring_protocol::http::Head;

use crate::spans::{Span, SpanKind};

use super::Api;
use super::across::Emitted;
use super::answer::ApiAnswer;
use super::crowd::Class;
use super::operations::API;
use super::routes::Route;

impl Api {
    /// Begins the span of a request whose head came so long ago. Who has no key has none: strangers would fill what waits.
    pub(super) fn begin_request(&self, route: Route<'_>, head: &Head<'_>, ago: Duration) -> Option<Span> {
        let spans = self.spans.as_ref().filter(|_| route.class() == Class::Keyed)?;
        let span = spans.of_request(head.header("traceparent"), ago)?;
        let (method, behind) = route.label().split_once(' ')?;
        let path = [API, behind].concat();
        let span = span.named(format!("{method} {path}"));
        Some(span.with("http.request.method", method).with("http.route", path))
    }

    /// `None`: nobody is answered any more.
    pub(super) fn end_request(&self, span: Option<Span>, answer: Option<&ApiAnswer>) {
        let (Some(spans), Some(span)) = (&self.spans, span) else { return };
        let span = match answer.map(|answer| answer.status) {
            None => span.with("error.type", "connection_lost").failed(),
            Some(status) => {
                let span = span.with("http.response.status_code", u64::from(status));
                if status >= 500 { span.with("error.type", status.to_string()).failed() } else { span }
            }
        };
        spans.end(span);
    }

    /// Begins the span of an emit within its request's. The events say of which they are, wherever they go.
    pub(super) fn begin_emit<'b>(
        &self,
        request: Option<&TraceContext>,
        broadcasts: impl Iterator<Item = &'b mut Broadcast>,
    ) -> Option<Span> {
        let span = self.spans.as_ref()?.within(request?, SpanKind::Producer, "emit");
        let mut count = 0;
        for broadcast in broadcasts {
            broadcast.trace = Some(Box::new(*span.context()));
            count += 1;
        }
        Some(span.with("messaging.batch.message_count", count))
    }

    /// `None`: it was refused, or not done by all.
    pub(super) fn end_emit(&self, span: Option<Span>, emitted: Option<&[Emitted]>) {
        let (Some(spans), Some(span)) = (&self.spans, span) else { return };
        let Some(emitted) = emitted else { return spans.end(span.failed()) };
        let delivered: u64 = emitted.iter().map(|emitted| emitted.delivered).sum();
        let published = emitted.iter().filter(|emitted| emitted.published).count() as u64;
        spans.end(span.with("sockring.delivered", delivered).with("sockring.published", published));
    }

    /// Begins the span of what the shards here do about some events. They need not know of it.
    pub(super) fn begin_delivery(&self, broadcasts: &mut [Broadcast]) -> Option<Span> {
        self.spans.as_ref()?;
        let traces = broadcasts.iter_mut().filter_map(|broadcast| broadcast.trace.take());
        // Those of one request are of one emit.
        self.begin_delivery_of(traces.reduce(|first, _| first).as_deref())
    }

    pub(super) fn begin_delivery_of(&self, emit: Option<&TraceContext>) -> Option<Span> {
        Some(self.spans.as_ref()?.within(emit?, SpanKind::Consumer, "deliver"))
    }

    /// `None`: a shard has not done it in time.
    pub(super) fn end_delivery(&self, span: Option<Span>, delivered: Option<u64>) {
        let (Some(spans), Some(span)) = (&self.spans, span) else { return };
        spans.end(match delivered {
            Some(delivered) => span.with("sockring.delivered", delivered),
            None => span.failed(),
        });
    }
}
