//! Input: what peers have begun and not ended is held until it is complete, and counted for all of the process.

use crate::app::Application;
use crate::shard::Shard;
use crate::shard::clients::client::{CloseReason, ConnectionKey};
use crate::shard::limit::Limit;

use super::answers::refusal;
use super::stage::Stage;

/// RFC 6455's registry: try again later.
const TRY_AGAIN_LATER: u16 = 1013;

impl<A: Application> Shard<A> {
    /// Counts what a connection holds of what its peer has begun. Ends it where the process holds too much.
    pub(in crate::shard) fn weigh(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        let sealed = if connection.is_tls { self.tls.held_bytes(key) } else { 0 };
        let begun = u32::try_from(connection.begun_bytes() + sealed).unwrap_or(u32::MAX);
        let before = connection.input_bytes;
        if begun > before && !self.hub.take_input((begun - before) as usize) {
            return self.refuse_input(key);
        }
        connection.input_bytes = begun;
        self.hub.give_back_input(before.saturating_sub(begun) as usize);
    }

    fn refuse_input(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get(key.0) else { return };
        self.hub.counters.hit(Limit::InputBytesMax);
        match &connection.stage {
            Stage::WebSocket(stage) => {
                let (client, role) = (stage.client, stage.role);
                let words = "too much has begun";
                self.close_websocket(key, client, role, CloseReason::InputFull, Some(TRY_AGAIN_LATER), words);
            }
            Stage::Http(_) => {
                self.leave_peer(key, None);
                self.answer(key, &refusal(503, "too much has begun"));
                self.begin_close(key);
            }
            Stage::Closing { .. } | Stage::Leaving | Stage::Gone => {}
        }
    }
}
