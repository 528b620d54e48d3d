//! What the world does for its shard: the kernel's completions up, the shard's effects down, as a worker sees to them.

use sockring::shard::{Broken, Bytes, ConnectionKey, Effect};

use super::super::network::{End, Event, ServerSide, TcpId};
use super::{OWN_BYTES_MAX, World};

impl World {
    pub(super) fn accept(&mut self, id: TcpId, mut bytes: Vec<u8>) {
        let key = if bytes.is_empty() { self.shard.on_accept() } else { self.shard.on_arrival(&mut bytes) };
        match key {
            Some(key) => {
                let server = self.network.server(id);
                server.key = Some(key);
                assert!(self.keys.insert(key, id).is_none(), "a key was given twice");
            }
            None => self.network.close(id),
        }
    }

    /// A receive completes, if one is under way and there is something.
    pub(super) fn receive(&mut self, id: TcpId) {
        let chunk = self.random.pick(&[7, 300, 4_096, 65_536]);
        let server = self.network.server(id);
        let Some(key) = server.key else { return };
        if server.is_closing || server.departing.is_some() || !(server.is_reading || server.is_settled) {
            return;
        }
        if !server.arrived.is_empty() {
            let length = server.arrived.len().min(chunk);
            let mut bytes: Vec<u8> = server.arrived.drain(..length).collect();
            server.is_reading = false;
            if server.is_settled {
                self.network.at(self.now, Event::Readable(id));
            }
            self.record.borrow_mut().on_heard(self.network.tcp(id).owner);
            self.shard.on_bytes(key, &mut bytes);
        } else if server.end.is_some() && !server.is_hung_up {
            server.is_hung_up = true;
            server.is_reading = false;
            self.shard.on_hangup(key);
        }
    }

    pub(super) fn sent(&mut self, id: TcpId) {
        let server = self.network.server(id);
        let Some(key) = server.key else { return };
        let Some(sending) = &server.sending else { return };
        let result = match (sending.is_empty(), server.end) {
            (true, None | Some(End::Fin)) => Ok(()),
            (_, Some(_)) => Err(Broken),
            (false, None) => return,
        };
        server.sending = None;
        if server.departing.is_some() {
            return self.network.at(self.now, Event::Closed(id));
        }
        if server.is_closing {
            return;
        }
        self.shard.on_sent(key, result);
        self.settle_if_due(id);
    }

    pub(super) fn closed(&mut self, id: TcpId) {
        let departing = self.network.server(id).departing.is_some();
        let Some(key) = self.network.server(id).key.take() else { return };
        self.keys.remove(&key);
        self.shard.on_closed(key);
        if departing {
            let delay = self.random.below(5);
            self.network.at(self.now + delay, Event::Return(id));
        }
    }

    /// The API has answered one request with 404 and keeps the connection no longer.
    pub(super) fn take_back(&mut self, id: TcpId) {
        let server = self.network.server(id);
        if server.end == Some(End::Reset) {
            return self.network.close(id);
        }
        // What a pending receive still returned goes along with the bytes that the shard had not used.
        let mut bytes = server.departing.take().unwrap_or_default();
        bytes.append(&mut server.arrived);
        let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
        if head.is_none() && server.end.is_some() {
            return self.network.close(id);
        }
        let Some(head) = head else {
            server.departing = Some(bytes);
            return self.network.at(self.now + 1, Event::Return(id));
        };
        bytes.drain(..head);
        *server = ServerSide { end: server.end, ..Default::default() };
        self.network.send_elsewhere(id, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        self.accept(id, bytes);
    }

    fn settle_if_due(&mut self, id: TcpId) {
        let server = self.network.server(id);
        if server.settles && server.sending.is_none() && !server.is_closing {
            server.settles = false;
            server.is_settled = true;
            self.network.at(self.now, Event::Readable(id));
        }
    }

    fn open(&mut self, key: ConnectionKey, what: &str) -> TcpId {
        let Some(id) = self.keys.get(&key).copied() else { panic!("{what} for a connection that is gone") };
        let server = self.network.server(id);
        assert!(!server.is_closing && server.departing.is_none(), "{what} for a connection after its end");
        id
    }

    pub(super) fn perform(&mut self, effect: Effect) {
        self.trace(|| trace_of(&effect));
        match effect {
            Effect::Read(key) => {
                // The shard may ask for bytes and then, in the same turn, end the connection; never the other way round.
                let id = self.open(key, "Read");
                self.network.server(id).is_reading = true;
                let delay = self.random.below(2);
                self.network.at(self.now + delay, Event::Readable(id));
            }
            Effect::Send(key, bytes) => {
                let id = self.open(key, "Send");
                self.check_send(&bytes);
                let server = self.network.server(id);
                assert!(server.sending.is_none(), "a second send while one is in flight");
                assert!(!server.is_shut, "a send after the shutdown");
                server.sending = Some(bytes.as_slice().to_vec());
                if server.end == Some(End::Reset) {
                    self.network.at(self.now, Event::Sent(id));
                } else {
                    self.network.pump(id);
                }
            }
            Effect::Settle(key) => {
                let id = self.open(key, "Settle");
                let server = self.network.server(id);
                assert!(!server.settles && !server.is_settled, "settled twice");
                server.settles = true;
                self.settle_if_due(id);
            }
            Effect::ShutDown(key) => {
                let id = self.open(key, "ShutDown");
                let server = self.network.server(id);
                assert!(server.sending.is_none() && !server.is_shut, "shut down twice, or before all is sent");
                self.network.shut(id);
            }
            Effect::Close(key) => {
                // What was given away may be closed while its last bytes have still to go out.
                let Some(id) = self.keys.get(&key).copied() else { panic!("Close for a connection that is gone") };
                let server = self.network.server(id);
                assert!(!server.is_closing, "closed twice");
                server.departing = None;
                self.network.close(id);
                let delay = self.random.within(0..=3);
                self.network.at(self.now + delay, Event::Closed(id));
            }
            Effect::HandOver(key, _, bytes) => {
                let id = self.open(key, "HandOver");
                let server = self.network.server(id);
                server.departing = Some(bytes);
                if server.sending.is_none() {
                    self.network.at(self.now, Event::Closed(id));
                }
            }
            Effect::Reply(ticket, reply) => self.on_reply(ticket, &reply),
        }
    }

    fn check_send(&self, bytes: &Bytes) {
        let length = bytes.as_slice().len();
        let largest = self.record.borrow().largest_message;
        let bound = self.settings.queue_bytes_max * 2 + largest + OWN_BYTES_MAX;
        assert!(length > 0, "a send of nothing");
        assert!(length <= bound, "{length} bytes waited for one connection; the limits allow {bound}");
    }
}

fn trace_of(effect: &Effect) -> String {
    match effect {
        Effect::Send(key, bytes) => {
            let text = String::from_utf8_lossy(bytes.as_slice()).escape_debug().to_string();
            let tail: String = text.chars().rev().take(160).collect();
            format!("  Send({}) ...{}", key.0.index, tail.chars().rev().collect::<String>())
        }
        effect => format!("  {effect:?}"),
    }
}
