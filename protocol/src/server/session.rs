//! `ServerSession`: one session of a [`Server`](super::Server), the connections that it uses, and what waits for its client.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use super::{ConnectionId, OwnedData, ServerSettings};
use crate::Millis;
use crate::engineio::{PayloadEncoder, Session, Transport};

/// A session. What it uses several connections for is decided by its machine; they are kept here.
#[derive(Debug)]
pub(super) struct ServerSession {
    pub(super) machine: Session,
    pub(super) sid: String,
    /// A GET that waits.
    pub(super) poll: Option<ConnectionId>,
    /// A POST whose body is on its way.
    pub(super) post: Option<ConnectionId>,
    /// Its WebSocket.
    pub(super) socket: Option<ConnectionId>,
    /// A WebSocket that may become its own.
    pub(super) probe: Option<ConnectionId>,
    /// Packets that are on no way yet. Texts have their type.
    queue: VecDeque<OwnedData>,
    queued_bytes: usize,
}

impl ServerSession {
    pub(super) fn open(transport: Transport, sid: String, now: Millis, settings: &ServerSettings) -> ServerSession {
        ServerSession {
            machine: Session::open(transport, now, &settings.times, 0),
            sid,
            poll: None,
            post: None,
            socket: None,
            probe: None,
            queue: VecDeque::new(),
            queued_bytes: 0,
        }
    }

    /// A connection is no more.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        for place in [&mut self.poll, &mut self.post, &mut self.socket, &mut self.probe] {
            place.take_if(|id| *id == connection);
        }
    }

    /// Whether nothing waits for the client.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether there was room for it.
    pub(super) fn push(&mut self, packet: OwnedData, bytes_max: usize) -> bool {
        let bytes = match &packet {
            OwnedData::Text(text) => text.len(),
            OwnedData::Binary(bytes) => bytes.len(),
        };
        if bytes > bytes_max.saturating_sub(self.queued_bytes) {
            return false;
        }
        self.queued_bytes += bytes;
        self.queue.push_back(packet);
        true
    }

    pub(super) fn take_queue(&mut self) -> VecDeque<OwnedData> {
        self.queued_bytes = 0;
        core::mem::take(&mut self.queue)
    }

    /// All that waits, as the answer to a GET.
    pub(super) fn take_payload(&mut self) -> Vec<u8> {
        let mut payload = Vec::new();
        let mut encoder = PayloadEncoder::new(&mut payload);
        for packet in self.take_queue() {
            match packet {
                OwnedData::Text(text) => encoder.push_text(text.as_bytes()),
                OwnedData::Binary(bytes) => encoder.push_binary(&bytes),
            }
        }
        payload
    }
}
