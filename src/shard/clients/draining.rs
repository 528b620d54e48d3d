//! Draining: no new clients, a last event to all, and their ends spread evenly over the time that is given.

use std::collections::VecDeque;
use std::sync::Arc;

use sockring_protocol::Millis;
use sockring_protocol::adapter::Broadcast;

use crate::app::Application;
use crate::shard::hub::Hub;
use crate::shard::rooms::deliver::{Asker, Incoming};

use super::client::{ClientKey, CloseReason, Farewell};

/// How often a shard without clients looks whether its siblings still have some.
const LOOK_MS: u64 = 20;

/// How far a shard has come.
pub(crate) struct Draining {
    since: Millis,
    over_ms: u64,
    total: u64,
    left: VecDeque<ClientKey>,
    at: Millis,
}

impl Draining {
    /// Whether more should have ended by now.
    pub(crate) fn is_behind(&self, now: Millis) -> bool {
        !self.left.is_empty() && self.next_at() <= now
    }

    /// When the next client ends.
    pub(crate) fn next_at(&self) -> Millis {
        match self.left.is_empty() {
            true => self.at + LOOK_MS,
            false => self.since + (self.total - self.left.len() as u64) * self.over_ms / self.total.max(1),
        }
    }
}

impl<A: Application> Hub<A> {
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.is_some()
    }

    /// Takes no more clients, tells all of them this, and begins to end them at the engine level, so that they reconnect
    /// by themselves.
    pub(crate) fn begin_drain(&mut self, farewell: &Broadcast, over_ms: u64) {
        if self.is_draining() {
            return;
        }
        for namespace in &Arc::clone(&self.settings).namespaces {
            let broadcast = Arc::new(Broadcast { namespace: namespace.as_str().into(), ..farewell.clone() });
            self.deliver(Incoming { broadcast, ack: None, is_home: false, asker: Asker::Nobody });
        }
        let left: VecDeque<_> = self.clients.iter().map(|(key, _)| ClientKey(key)).collect();
        let since = self.now.at;
        self.draining = Some(Draining { since, over_ms, total: left.len() as u64, left, at: since });
    }

    /// Ends those whose time has come, as many as a turn may.
    pub(crate) fn drain(&mut self) {
        let now = self.now.at;
        for _ in 0..self.settings.turn.clients_due_max {
            let Some(draining) = &mut self.draining else { return };
            draining.at = now;
            if draining.left.is_empty() || draining.next_at() > now {
                return;
            }
            if let Some(key) = draining.left.pop_front() {
                self.drop_client(key, CloseReason::Shutdown, None, Farewell::NextPoll);
            }
        }
    }
}
