//! Deciding: CONNECTs that the application cannot decide yet wait, and are asked about again when it may, or in time.

use std::sync::Arc;

use sockring_protocol::Millis;

use crate::app::Application;
use crate::shard::faults::{Forbidden, PacketFault};
use crate::shard::hub::Hub;
use crate::shard::limit::Limit;
use crate::shard::rooms::sockets::NamespaceId;

use super::client::{Cause, ClientKey, CloseReason, Farewell, Phase};
use super::waiting::WaitingConnect;

/// Whether a CONNECT has its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decided {
    Now,
    /// It waits, until then at the latest.
    Later(Millis),
}

impl<A: Application> Hub<A> {
    /// A CONNECT comes that others of its client may have to be decided before.
    pub(crate) fn admit_in_turn(
        &mut self,
        key: ClientKey,
        namespace: NamespaceId,
        payload: Option<&str>,
    ) -> Result<(), Cause> {
        let until = match self.waiting.of(key) {
            0 => match self.decide(key, namespace, payload, None) {
                Decided::Later(until) => Some(until),
                Decided::Now => return Ok(()),
            },
            _ => None,
        };
        self.wait(key, WaitingConnect { namespace, payload: payload.map(Box::from), until })
    }

    /// What waits counts as begun and not ended: there is room for so much of it in the process.
    fn wait(&mut self, key: ClientKey, connect: WaitingConnect) -> Result<(), Cause> {
        if !self.take_input(connect.bytes()) {
            self.counters.hit(Limit::InputBytesMax);
            return Err(CloseReason::InputFull.into());
        }
        self.counters.connects_delayed += 1;
        if let Some(until) = connect.until {
            self.await_decision(key, until);
        }
        self.waiting.push(key, connect);
        Ok(())
    }

    /// Until then it is not the client that lets the server wait.
    fn await_decision(&mut self, key: ClientKey, until: Millis) {
        let wait_ms = until - self.now.at;
        if let Some(client) = self.directory.get_mut(key).filter(|client| client.phase == Phase::Unclaimed) {
            client.begun.change(|begun| begun.half_open_by = begun.half_open_by + wait_ms);
        }
    }

    /// Asks about those of the next client again whose time has come; `false`: there is none. Its connections may have to
    /// go after it then.
    pub(crate) fn decide_waiting(&mut self) -> bool {
        let Some(key) = self.waiting.next(self.now.at) else { return false };
        if self.is_draining() {
            self.drop_client(key, CloseReason::Shutdown, None, Farewell::NextPoll);
            return true;
        }
        while let Some(mut connect) = self.waiting.take_first(key) {
            let client = self.directory.get(key);
            if client.is_some_and(|client| client.sockets.place_in(connect.namespace).is_some()) {
                // By the one before it.
                self.give_back_input(connect.bytes());
                let cause = self.fault(PacketFault::Session(Forbidden::AlreadyConnected));
                self.drop_client(key, cause, None, Farewell::NextPoll);
                break;
            }
            if let Decided::Later(until) =
                self.decide(key, connect.namespace, connect.payload.as_deref(), connect.until)
            {
                if connect.until.replace(until).is_none() {
                    self.await_decision(key, until);
                }
                self.waiting.put_back(key, connect);
                break;
            }
            self.give_back_input(connect.bytes());
            if !self.is_alive(key) {
                break;
            }
        }
        true
    }

    /// A client that moves takes those along that have not been decided.
    pub(crate) fn take_waiting(&mut self, key: ClientKey) -> Vec<WaitingConnect> {
        let waiting = self.waiting.take_all(key);
        self.give_back_input(waiting.iter().map(WaitingConnect::bytes).sum());
        waiting
    }

    /// A client has ended.
    pub(crate) fn forget_waiting(&mut self, key: ClientKey) {
        if !self.waiting.is_empty() {
            self.take_waiting(key);
        }
    }

    /// A client does not want to be in a namespace any more to which it has not been admitted yet.
    pub(crate) fn take_back_connect(&mut self, key: ClientKey, namespace: &str) {
        let Some(id) = self.settings.namespace(namespace) else { return };
        let bytes = self.waiting.take_back(key, id, self.now.at);
        self.give_back_input(bytes);
    }

    /// Those that came along with a client that has moved here.
    pub(crate) fn admit_all_in_turn(&mut self, key: ClientKey, connects: Vec<WaitingConnect>) {
        let settings = Arc::clone(&self.settings);
        for WaitingConnect { namespace, payload, .. } in connects {
            let name = settings.namespace_name(namespace);
            if let Err(cause) = self.on_connect(key, name, payload.as_deref()) {
                return self.drop_client(key, cause, None, Farewell::NextPoll);
            }
        }
    }
}
