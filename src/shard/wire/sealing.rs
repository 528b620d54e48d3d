//! TLS below the stages of a connection: what comes is opened before they see it, what leaves is sealed behind the flush.
//!
//! Of a handshake's steps so many are made in a turn as do not delay others; who comes then waits in line. Everything else is
//! done at once, where the bytes are.

use crate::app::Application;
use crate::shard::Shard;
use crate::shard::clients::client::ConnectionKey;
use crate::shard::effects::Effect;
use crate::tls::{SPEAK_TLS, TlsFlow, TlsRefusal};

use super::answers::refusal;
use super::tls_stages::PLAIN_BYTES_KEPT;

impl<A: Application> Shard<A> {
    /// Bytes came from a connection that speaks TLS.
    pub(in crate::shard) fn on_sealed_bytes(&mut self, key: ConnectionKey, bytes: &mut [u8]) {
        if self.tls.get_mut(key).is_none() {
            let Some(server) = &self.hub.settings.tls else { return };
            self.tls.insert(key, Box::new(server.accept()));
        }
        let (must_wait, waits) = (self.tls.steps_left == 0 || self.tls.is_behind(), self.tls.is_waiting(key));
        let Some(stage) = self.tls.get_mut(key) else { return };
        if must_wait && stage.is_handshaking() {
            stage.keep(bytes);
            if !waits {
                self.tls.waiting.push_back(key);
            }
            return self.weigh(key);
        }
        self.open(key, bytes);
    }

    /// Goes on with handshakes that have waited, in their order.
    pub(in crate::shard) fn go_on_with_handshakes(&mut self) {
        while self.tls.steps_left > 0
            && let Some(key) = self.tls.waiting.pop_front()
        {
            if self.connections.get(key.0).is_some_and(|connection| !connection.is_closing()) {
                self.open(key, &mut []);
            }
        }
    }

    /// What a connection that has come from elsewhere has still to say, and to hear.
    pub(in crate::shard) fn on_sealed_arrival(&mut self, key: ConnectionKey) {
        let Some(stage) = self.tls.get_mut(key) else { return };
        let (has_own, has_more) = (stage.has_own(), stage.has_more());
        if has_own {
            self.mark_dirty(key);
        }
        if has_more {
            self.open(key, &mut []);
        }
    }

    /// Has the stages above see what a peer says by these bytes, behind those that were kept.
    fn open(&mut self, key: ConnectionKey, bytes: &mut [u8]) {
        let mut plain = std::mem::take(&mut self.tls.plain);
        let Some(stage) = self.tls.get_mut(key) else { return };
        let is_step = stage.is_handshaking();
        let result = stage.receive(bytes, &mut plain);
        let has_own = stage.has_own();
        self.tls.steps_left -= usize::from(is_step && self.tls.steps_left > 0);
        if has_own {
            self.mark_dirty(key);
        }
        match plain.is_empty() {
            false => self.on_plain_bytes(key, &mut plain),
            true => {
                self.weigh(key);
                // A settled WebSocket is read without being asked to be.
                self.effects.push(Effect::Read(key));
            }
        }
        plain.clear();
        plain.shrink_to(PLAIN_BYTES_KEPT);
        self.tls.plain = plain;
        match result {
            Ok(TlsFlow::Open) => {}
            Ok(TlsFlow::PeerEnded) => self.on_farewell(key),
            Err(refusal) => self.on_refused_tls(key, refusal),
        }
    }

    /// The peer has said by TLS that it says no more.
    fn on_farewell(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get(key.0) else { return };
        if connection.is_closing() {
            return;
        }
        self.diary.note(key.0.index, |account| account.ended_by = Some("peer"));
        self.leave_peer(key, None);
        self.begin_close(key);
    }

    /// A peer broke the rules of TLS, or there is nothing that both know; what it is told of that is to be sent.
    fn on_refused_tls(&mut self, key: ConnectionKey, reason: TlsRefusal) {
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        if connection.is_closing() {
            return;
        }
        self.hub.counters.malformed += 1;
        self.diary.note(key.0.index, |account| account.ended_by = Some(reason.label()));
        if reason == TlsRefusal::PlainHttp {
            // In words that it understands.
            connection.is_tls = false;
            self.tls.take(key);
            self.answer(key, &refusal(400, SPEAK_TLS));
        }
        self.leave_peer(key, None);
        self.begin_close(key);
    }
}
