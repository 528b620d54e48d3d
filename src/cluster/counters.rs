//! What the cluster's tasks count, and how `/metrics` sees it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sockring_protocol::adapter::MessageError;

use crate::shard::Histogram;

/// Why a message did not reach somebody whom it should have reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// Too much waited for a shard already.
    MailboxFull,
    /// Too much waited for Redis already.
    QueueFull,
    /// Redis was down, or went down before it answered.
    Down,
    /// Redis did not say in time that it has it.
    TimedOut,
    /// Redis did not want it.
    Refused,
}

impl Loss {
    pub(super) const ALL: [Loss; 5] = [Loss::MailboxFull, Loss::QueueFull, Loss::Down, Loss::TimedOut, Loss::Refused];

    pub(super) fn label(self) -> &'static str {
        match self {
            Loss::MailboxFull => "mailbox_full",
            Loss::QueueFull => "queue_full",
            Loss::Down => "redis_down",
            Loss::TimedOut => "timed_out",
            Loss::Refused => "redis_refused",
        }
    }
}

/// A limit that other servers, or questions to them, can hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BusLimit {
    Requests,
    RequestRooms,
    Acks,
    Questions,
    AnswersBytes,
}

impl BusLimit {
    const ALL: [BusLimit; 5] =
        [BusLimit::Requests, BusLimit::RequestRooms, BusLimit::Acks, BusLimit::Questions, BusLimit::AnswersBytes];

    /// The setting that holds it.
    fn setting(self) -> &'static str {
        match self {
            BusLimit::Requests => "redis_requests_max",
            BusLimit::RequestRooms => "redis_request_rooms_max",
            BusLimit::Acks => "redis_acks_max",
            BusLimit::Questions => "redis_questions_max",
            BusLimit::AnswersBytes => "redis_answers_bytes_max",
        }
    }
}

const MALFORMED: [MessageError; 9] = [
    MessageError::Channel,
    MessageError::Syntax,
    MessageError::TooLong,
    MessageError::TooDeep,
    MessageError::TooManyAttachments,
    MessageError::Shape,
    MessageError::Packet,
    MessageError::OtherNamespace,
    MessageError::UnknownType,
];

/// A number that is counted up, or set.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(super) fn take(&self, less: u64) {
        self.0.fetch_sub(less, Ordering::Relaxed);
    }

    pub(super) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(super) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Everything that is counted.
#[derive(Debug, Default)]
pub(super) struct BusCounters {
    pub(super) subscriber_is_up: Count,
    pub(super) subscriber_reconnects: Count,
    pub(super) subscriptions: Count,
    pub(super) received: Count,
    pub(super) received_bytes: Count,
    pub(super) streams_read: Count,
    pub(super) reader_reconnects: Count,
    pub(super) publisher_is_up: Count,
    pub(super) publisher_reconnects: Count,
    pub(super) published: Count,
    pub(super) published_bytes: Count,
    publish_micros: Mutex<Histogram>,
    malformed: [Count; MALFORMED.len()],
    lost: [Count; Loss::ALL.len()],
    hits: [Count; BusLimit::ALL.len()],
    pub(super) requests_answered: Count,
    pub(super) requests_refused: Count,
    pub(super) questions: Count,
    pub(super) questions_incomplete: Count,
    pub(super) kept: Count,
    pub(super) keeps_refused: Count,
    pub(super) mailboxes_read: Count,
    pub(super) duplicates: Count,
}

impl BusCounters {
    pub(super) fn lost(&self, reason: Loss, messages: u64) {
        if let Some(count) = self.lost.get(reason as usize) {
            count.add(messages);
        }
    }

    pub(super) fn hit(&self, limit: BusLimit) {
        if let Some(count) = self.hits.get(limit as usize) {
            count.add(1);
        }
    }

    pub(super) fn malformed(&self, reason: MessageError) {
        if let Some(count) = self.malformed.get(reason as usize) {
            count.add(1);
        }
    }

    /// Redis has taken a message after this time.
    pub(super) fn published(&self, bytes: usize, after: Duration) {
        self.published.add(1);
        self.published_bytes.add(bytes as u64);
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        self.publish_micros.lock().unwrap_or_else(PoisonError::into_inner).observe(micros);
    }

    pub(super) fn snapshot(&self) -> ClusterMetrics {
        ClusterMetrics {
            subscriber_is_up: self.subscriber_is_up.value(),
            subscriber_reconnects: self.subscriber_reconnects.value(),
            subscriptions: self.subscriptions.value(),
            received: self.received.value(),
            received_bytes: self.received_bytes.value(),
            streams_read: self.streams_read.value(),
            reader_reconnects: self.reader_reconnects.value(),
            unread: 0,
            publisher_is_up: self.publisher_is_up.value(),
            publisher_reconnects: self.publisher_reconnects.value(),
            published: self.published.value(),
            published_bytes: self.published_bytes.value(),
            publish_micros: self.publish_micros.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            queue_bytes: 0,
            answers_bytes: 0,
            acks_awaited: 0,
            silent: 0,
            hits: labelled(BusLimit::ALL.map(BusLimit::setting), &self.hits),
            malformed: labelled(MALFORMED.map(MessageError::label), &self.malformed),
            lost: labelled(Loss::ALL.map(Loss::label), &self.lost),
            requests_answered: self.requests_answered.value(),
            requests_refused: self.requests_refused.value(),
            questions: self.questions.value(),
            questions_incomplete: self.questions_incomplete.value(),
            kept: self.kept.value(),
            keeps_refused: self.keeps_refused.value(),
            mailboxes_read: self.mailboxes_read.value(),
            duplicates: self.duplicates.value(),
        }
    }
}

fn labelled<const N: usize>(labels: [&'static str; N], counts: &[Count; N]) -> Vec<(&'static str, u64)> {
    labels.into_iter().zip(counts).map(|(label, count)| (label, count.value())).collect()
}

/// What was counted so far.
#[derive(Clone, Debug, Default)]
pub struct ClusterMetrics {
    /// 1 or 0.
    pub subscriber_is_up: u64,
    pub subscriber_reconnects: u64,
    pub subscriptions: u64,
    pub received: u64,
    pub received_bytes: u64,
    /// Streams whose connection stands.
    pub streams_read: u64,
    pub reader_reconnects: u64,
    /// Own entries that were not read yet.
    pub unread: u64,
    /// 1 or 0.
    pub publisher_is_up: u64,
    pub publisher_reconnects: u64,
    pub published: u64,
    pub published_bytes: u64,
    pub publish_micros: Histogram,
    /// That wait for Redis to take them.
    pub queue_bytes: u64,
    /// Of questions that wait, of what was answered so far, and of early acknowledgements.
    pub answers_bytes: u64,
    /// Broadcasts of other servers whose acknowledgements are awaited.
    pub acks_awaited: u64,
    /// Connections on which Redis does not answer for the moment.
    pub silent: u64,
    /// How often a limit was reached, by its setting.
    pub hits: Vec<(&'static str, u64)>,
    /// By reason.
    pub malformed: Vec<(&'static str, u64)>,
    pub lost: Vec<(&'static str, u64)>,
    /// Of other instances, to us.
    pub requests_answered: u64,
    pub requests_refused: u64,
    /// Of ours, to other instances.
    pub questions: u64,
    pub questions_incomplete: u64,
    /// Events that Redis keeps for users, or has kept.
    pub kept: u64,
    /// Emits that it did not want to keep, or to remember.
    pub keeps_refused: u64,
    /// Mailboxes of users that were read.
    pub mailboxes_read: u64,
    /// Emits under a key under which Redis knew the same event.
    pub duplicates: u64,
}
