//! `TlsStages`: the TLS of a shard's connections, and which of them wait for the next step of their handshake.

use std::collections::VecDeque;

use crate::shard::clients::client::ConnectionKey;
use crate::shard::clients::outbox::Bytes;
use crate::tls::TlsStage;

/// What one turn has opened is kept for the next one up to this size.
pub(crate) const PLAIN_BYTES_KEPT: usize = 64 << 10;

/// The stages of the connections that have one, by the connections' slots.
#[derive(Default)]
pub(crate) struct TlsStages {
    stages: Vec<Option<Box<TlsStage>>>,
    /// Who waits for the next step of its handshake.
    pub(crate) waiting: VecDeque<ConnectionKey>,
    /// Steps that may still be made in this turn.
    pub(crate) steps_left: usize,
    /// What has just been opened.
    pub(crate) plain: Vec<u8>,
}

/// Whether a connection has something to say behind what it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastWord {
    NotYet,
    Now,
}

impl LastWord {
    pub(crate) fn of(is_closing: bool) -> LastWord {
        if is_closing { LastWord::Now } else { LastWord::NotYet }
    }
}

impl TlsStages {
    pub(crate) fn on_turn(&mut self, steps_max: usize) {
        self.steps_left = steps_max;
    }

    pub(crate) fn insert(&mut self, key: ConnectionKey, stage: Box<TlsStage>) {
        let index = key.0.index as usize;
        if index >= self.stages.len() {
            self.stages.resize_with(index + 1, || None);
        }
        if let Some(place) = self.stages.get_mut(index) {
            *place = Some(stage);
        }
    }

    pub(crate) fn take(&mut self, key: ConnectionKey) -> Option<Box<TlsStage>> {
        self.stages.get_mut(key.0.index as usize)?.take()
    }

    pub(crate) fn get_mut(&mut self, key: ConnectionKey) -> Option<&mut TlsStage> {
        self.stages.get_mut(key.0.index as usize)?.as_deref_mut()
    }

    pub(crate) fn held_bytes(&self, key: ConnectionKey) -> usize {
        self.stages.get(key.0.index as usize).and_then(Option::as_deref).map_or(0, TlsStage::held_bytes)
    }

    /// Whether the connection's next step is ours.
    pub(crate) fn is_waiting(&self, key: ConnectionKey) -> bool {
        let stage = self.stages.get(key.0.index as usize).and_then(Option::as_deref);
        stage.is_some_and(|stage| stage.is_handshaking() && stage.has_more())
    }

    pub(crate) fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(crate) fn seal(&mut self, key: ConnectionKey, bytes: &Bytes) -> Option<Vec<u8>> {
        self.get_mut(key)?.seal(bytes.as_slice())
    }

    /// What a connection has to send that nobody above knows of.
    pub(crate) fn take_own(&mut self, key: ConnectionKey, end: LastWord) -> Option<Vec<u8>> {
        let stage = self.get_mut(key)?;
        if end == LastWord::Now {
            stage.close();
        }
        stage.take_own()
    }
}
