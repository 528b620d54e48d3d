//! Draining: no new clients, a last event to all, and their ends spread evenly over the time that is given.

use std::sync::Arc;

use sockring_protocol::adapter::Broadcast;

use crate::app::Application;
use crate::shard::hub::Hub;
use crate::shard::rooms::deliver::Incoming;
use crate::shard::rooms::fan_out::Asker;

use super::client::{CloseReason, Farewell};
use super::drain::Drain;

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
            let asker = Asker::Nobody;
            self.deliver(Incoming { is_passing: true, ..Incoming::from_elsewhere(broadcast, asker) });
        }
        let left = self.directory.iter().map(|(key, _)| key).collect();
        self.draining = Some(Drain::new(left, over_ms, self.now.at));
    }

    /// Ends those whose time has come, as many as a turn may.
    pub(crate) fn drain(&mut self) {
        let now = self.now.at;
        for _ in 0..self.settings.turn.clients_due_max {
            let Some(key) = self.draining.as_mut().and_then(|drain| drain.next(now)) else { return };
            self.drop_client(key, CloseReason::Shutdown, None, Farewell::NextPoll);
        }
    }
}
