//! A marker goes with every heartbeat: so a client whose events are rare knows a position within the window all the same.

use crate::app::Application;
use crate::shard::clients::client::ClientKey;
use crate::shard::clients::encode;
use crate::shard::clients::outbox::Frames;
use crate::shard::hub::Hub;
use crate::shard::rooms::sockets::{NamespaceId, SocketStage};

use super::position::Position;

impl<A: Application> Hub<A> {
    /// A ping for a client, and behind it how far each of its sockets has got.
    pub(crate) fn ping_of(&mut self, key: ClientKey) -> Frames {
        let plain = || Frames::clone(&self.ping);
        let (Some(recovery), Some(client)) = (self.recovery.as_deref(), self.directory.get(key)) else {
            return plain();
        };
        // All clients have been told since it last grew.
        let quiet_ms = 2 * (self.settings.times.ping_interval_ms + self.settings.times.ping_timeout_ms);
        if self.now.at - recovery.log.grown_at() > quiet_ms {
            return plain();
        }
        let connected = client.sockets.iter().filter(|(_, socket)| socket.stage == SocketStage::Connected);
        let mut marks: Vec<(Position, NamespaceId)> = Vec::new();
        for (place, socket) in connected {
            marks.push((recovery.reached_by((key.0.index, place)), socket.namespace));
        }
        if let ([(position, namespace)], Some((said, there, frames))) = (&*marks, &recovery.ping)
            && (said, there) == (position, namespace)
        {
            // As another client's in this turn.
            return Frames::clone(frames);
        }
        let offsets = marks
            .iter()
            .map(|(position, namespace)| (recovery.offset_at(*position), self.settings.namespace_name(*namespace)));
        let frames = encode::marked_ping(&mut self.scratch, offsets);
        if let ([(position, namespace)], Some(recovery)) = (&*marks, self.recovery.as_deref_mut()) {
            recovery.ping = Some((*position, *namespace, Frames::clone(&frames)));
        }
        frames
    }
}
