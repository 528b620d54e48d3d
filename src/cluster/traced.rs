//! What a trace is told of an event between instances: that Redis took it, and that one of them delivered it.

use std::sync::Arc;

use redis::Value;
use sockring_protocol::adapter::{Adapter, Message, TraceContext};

use crate::spans::{Span, SpanKind, Spans, TracedDelivery};

use super::Cluster;
use super::counters::Loss;
use super::publisher::PublishError;

impl Cluster {
    /// `None`: nobody traces it.
    pub(super) fn begin_publishing(&self, message: &Message) -> Option<Span> {
        let spans = self.spans.as_ref()?;
        let (Message::Broadcast(broadcast) | Message::BroadcastForAck { broadcast, .. }) = message else { return None };
        let span = spans.within(broadcast.trace.as_deref()?, SpanKind::Client, "publish");
        Some(span.with("messaging.system", "redis").with("sockring.adapter", self.adapter_name()))
    }

    pub(super) fn end_publishing(&self, span: Option<Span>, result: &Result<Value, PublishError>) {
        let (Some(spans), Some(span)) = (&self.spans, span) else { return };
        spans.end(match result {
            Ok(_) => span,
            Err(error) => span.with("error.type", Loss::from(*error).label()).failed(),
        });
    }

    /// Of an event of another instance. `None`: nobody traces it.
    pub(super) fn begin_delivery(&self, emit: Option<Box<TraceContext>>) -> Option<TracedDelivery> {
        let spans = self.spans.as_ref()?;
        let span = spans.linked(&*emit?, "deliver")?;
        Some(self.delivery(spans, span))
    }

    /// Of one that was emitted here, and has come back.
    pub(super) fn begin_own_delivery(&self, emit: Option<Box<TraceContext>>) -> Option<TracedDelivery> {
        let spans = self.spans.as_ref()?;
        let span = spans.within(&*emit?, SpanKind::Consumer, "deliver");
        Some(self.delivery(spans, span))
    }

    fn delivery(&self, spans: &Arc<Spans>, span: Span) -> TracedDelivery {
        let span = span.with("messaging.system", "redis").with("sockring.adapter", self.adapter_name());
        TracedDelivery::new(spans, span)
    }

    fn adapter_name(&self) -> &'static str {
        match self.adapter() {
            Adapter::Classic => "classic",
            Adapter::Sharded => "sharded",
            Adapter::Streams => "streams",
        }
    }
}
