//! `Span`: what happened, from when to when, within what.

use std::borrow::Cow;
use std::time::Instant;

use sockring_protocol::adapter::TraceContext;

/// Whose side of something a span is (OpenTelemetry's `SpanKind`, by its numbers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// A request that somebody made to us.
    Server = 2,
    /// One that we made to Redis.
    Client = 3,
    /// An event that was emitted here.
    Producer = 4,
    /// One that is delivered here.
    Consumer = 5,
}

/// What happened, from when to when, within what.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub(super) context: TraceContext,
    pub(super) parent: Option<u64>,
    /// Which span of another process brought it about.
    pub(super) link: Option<TraceContext>,
    pub(super) kind: SpanKind,
    pub(super) name: Cow<'static, str>,
    pub(super) begun_unix_ns: u64,
    pub(super) ended_unix_ns: u64,
    pub(super) begun: Instant,
    pub(super) attributes: Vec<(&'static str, AttributeValue)>,
    pub(super) outcome: SpanOutcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SpanOutcome {
    Fine,
    Failed,
}

/// What a span says of itself. No payload, token, session id or user is ever among it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeValue {
    Text(Cow<'static, str>),
    Whole(u64),
    Truth(bool),
}

impl From<&'static str> for AttributeValue {
    fn from(text: &'static str) -> AttributeValue {
        AttributeValue::Text(text.into())
    }
}

impl From<String> for AttributeValue {
    fn from(text: String) -> AttributeValue {
        AttributeValue::Text(text.into())
    }
}

impl From<u64> for AttributeValue {
    fn from(number: u64) -> AttributeValue {
        AttributeValue::Whole(number)
    }
}

impl From<bool> for AttributeValue {
    fn from(truth: bool) -> AttributeValue {
        AttributeValue::Truth(truth)
    }
}

impl Span {
    /// By which others say that they are within it.
    pub fn context(&self) -> &TraceContext {
        &self.context
    }

    pub fn named(mut self, name: impl Into<Cow<'static, str>>) -> Span {
        self.name = name.into();
        self
    }

    pub fn with(mut self, key: &'static str, value: impl Into<AttributeValue>) -> Span {
        self.attributes.push((key, value.into()));
        self
    }

    /// It did not do what it was there for, and that is ours.
    pub fn failed(mut self) -> Span {
        self.outcome = SpanOutcome::Failed;
        self
    }
}
