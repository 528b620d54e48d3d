//! What the world does for its shard: the kernel's completions up, the shard's effects down, as a worker sees to them.

use sockring::shard::{Broken, Bytes, ConnectionKey, Destination, Effect, Parcel, Shard, SiblingMail};

use super::super::desk::Desk;
use super::super::network::{End, Event, ServerSide, TcpId};
use super::World;
use super::worker::Letter;

/// What a connection may have to send besides its client's messages: control frames, answers.
const OWN_BYTES_MAX: usize = (64 << 10) + 1_024;

/// A look at a peer that sends on and on ends.
const LOOKS_MAX: u32 = 50;
/// And a look around, when requests in small pieces have been read.
const TURNS_AROUND_MAX: u32 = 200;

impl World {
    pub(super) fn accept(&mut self, id: TcpId) {
        let shard = self.network.server(id).shard;
        // A draining worker takes those that have connected, and then closes its listener.
        let is_refused = self.workers[shard].drain.is_some() && self.random.one_in(3);
        let key = if is_refused { None } else { self.workers[shard].shard.on_accept(None) };
        self.keep(id, key);
    }

    /// A connection comes from another shard, or back from the API.
    pub(super) fn arrived(&mut self, id: TcpId, parcel: Parcel) {
        let shard = self.network.server(id).shard;
        self.trace(|| format!("{shard} gets {id}: {parcel:?}"));
        self.record.borrow_mut().on_heard(self.network.tcp(id).owner);
        let key = self.workers[shard].shard.on_arrival(None, parcel);
        assert!(key.is_some(), "no room for a connection that was counted before");
        self.keep(id, key);
    }

    fn keep(&mut self, id: TcpId, key: Option<ConnectionKey>) {
        let Some(key) = key else { return self.network.close(id) };
        let server = self.network.server(id);
        server.key = Some(key);
        let keys = &mut self.workers[server.shard].keys;
        assert!(keys.insert(key, id).is_none(), "a key was given twice");
    }

    fn shard_of(&mut self, id: TcpId) -> &mut Shard<Desk> {
        let shard = self.network.server(id).shard;
        &mut self.workers[shard].shard
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
            self.shard_of(id).on_bytes(key, &mut bytes);
        } else if server.end.is_some() && !server.is_hung_up {
            server.is_hung_up = true;
            server.is_reading = false;
            self.shard_of(id).on_hangup(key);
        }
    }

    /// A look at a connection ends when it finds nothing that will be read.
    pub(super) fn looked(&mut self, id: TcpId) {
        let server = self.network.server(id);
        let Some(key) = server.key else { return };
        if server.is_closing || server.departing.is_some() {
            return;
        }
        let is_left = server.has_news() && (server.is_reading || server.is_settled || server.settles);
        if is_left && server.looks < LOOKS_MAX {
            server.looks += 1;
            return self.network.at(self.now + 1, Event::Looked(id));
        }
        server.looks = 0;
        let shard = server.shard;
        self.workers[shard].looked.push(key);
    }

    /// A look around ends when nothing happens and nothing is left to read, or after many turns.
    pub(super) fn look_around(&mut self, shard: usize, done: u64) {
        let is_left = done > 0 || self.network.is_unread(shard) || !self.workers[shard].mailbox.is_empty();
        let worker = &mut self.workers[shard];
        let Some((turns, at)) = &mut worker.looks_around else { return };
        // The kernel goes on between turns, and that takes time here.
        *turns += u32::from(self.now > *at);
        *at = self.now;
        if is_left && *turns < TURNS_AROUND_MAX {
            return worker.turn_by(self.now + 1);
        }
        worker.looks_around = None;
        worker.shard.on_looked_around();
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
            return self.release(id);
        }
        if server.is_closing {
            return;
        }
        self.shard_of(id).on_sent(key, result);
        self.settle_if_due(id);
    }

    pub(super) fn closed(&mut self, id: TcpId) {
        let Some(key) = self.network.server(id).key.take() else { return };
        let shard = self.network.server(id).shard;
        self.workers[shard].keys.remove(&key);
        self.workers[shard].shard.on_closed(key);
    }

    /// A connection that was given away goes, if nothing is under way on it.
    pub(super) fn release(&mut self, id: TcpId) {
        let returns_bytes = self.random.one_in(2);
        let chunk = self.random.pick(&[7, 300, 65_536]);
        let server = self.network.server(id);
        if server.sending.is_some() || server.is_closing {
            return;
        }
        let Some((destination, mut parcel)) = server.departing.take() else { return };
        if server.is_reading && returns_bytes && !server.arrived.is_empty() {
            // The receive had completed before it was cancelled.
            let length = server.arrived.len().min(chunk);
            let bytes: Vec<u8> = server.arrived.drain(..length).collect();
            parcel.append(&bytes);
        }
        let arrived = std::mem::take(&mut server.arrived);
        let from = server.shard;
        let key = server.key.take().expect("it has a key until it is released");
        *server = ServerSide { shard: from, end: server.end, arrived, ..ServerSide::default() };
        self.workers[from].keys.remove(&key);
        match destination {
            Destination::Api => {
                server.at_api = Some((parcel.requests(), parcel.into_bytes()));
                self.workers[from].shard.on_closed(key);
                let delay = self.random.below(5);
                self.network.at(self.now + delay, Event::Return(id));
            }
            Destination::Shard(to) => {
                let to = usize::from(to);
                assert!(to != from && to < self.workers.len(), "handed over from {from} to {to}");
                server.shard = to;
                self.handed_over += 1;
                self.workers[from].shard.on_closed(key);
                self.post(to, Letter::Arrival(id, parcel));
            }
        }
    }

    /// The API has answered one request with 404 and keeps the connection no longer.
    pub(super) fn take_back(&mut self, id: TcpId) {
        let server = self.network.server(id);
        let (requests, mut bytes) = server.at_api.take().expect("it is with the API");
        if server.end == Some(End::Reset) {
            return self.network.close(id);
        }
        bytes.append(&mut server.arrived);
        let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head is given to the API");
        bytes.drain(..head + 4);
        let shard = server.shard;
        self.network.send_elsewhere(id, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        self.post(shard, Letter::Arrival(id, Parcel::between_requests(bytes, requests + 1)));
    }

    fn settle_if_due(&mut self, id: TcpId) {
        let server = self.network.server(id);
        if server.settles && server.sending.is_none() && !server.is_closing {
            server.settles = false;
            server.is_settled = true;
            self.network.at(self.now, Event::Readable(id));
        }
    }

    fn open(&mut self, shard: usize, key: ConnectionKey, what: &str) -> TcpId {
        let Some(id) = self.workers[shard].keys.get(&key).copied() else {
            panic!("{what} for a connection that is gone")
        };
        let server = self.network.server(id);
        assert!(!server.is_closing && server.departing.is_none(), "{what} for a connection after its end");
        id
    }

    pub(super) fn perform(&mut self, shard: usize, effect: Effect) {
        self.trace(|| format!("  {shard} {}", trace_of(&effect)));
        match effect {
            Effect::Read(key) => {
                // The shard may ask for bytes and then, in the same turn, end the connection; never the other way round.
                let id = self.open(shard, key, "Read");
                self.network.server(id).is_reading = true;
                let delay = self.random.below(2);
                self.network.at(self.now + delay, Event::Readable(id));
            }
            Effect::Look(key) => {
                let Some(id) = self.workers[shard].keys.get(&key).copied() else { return };
                self.network.at(self.now, Event::Looked(id));
            }
            Effect::LookAround => {
                assert!(self.workers[shard].looks_around.is_none(), "a look around while one is under way");
                self.workers[shard].looks_around = Some((0, self.now));
                self.workers[shard].turn_by(self.now);
            }
            Effect::Send(key, bytes) => {
                let id = self.open(shard, key, "Send");
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
                let id = self.open(shard, key, "Settle");
                let server = self.network.server(id);
                assert!(!server.settles && !server.is_settled, "settled twice");
                assert!(!server.is_reading, "settled while it is read");
                server.settles = true;
                self.settle_if_due(id);
            }
            Effect::ShutDown(key) => {
                let id = self.open(shard, key, "ShutDown");
                let server = self.network.server(id);
                assert!(server.sending.is_none() && !server.is_shut, "shut down twice, or before all is sent");
                self.network.shut(id);
            }
            Effect::Close(key) => {
                // What was given away may be closed while its last bytes have still to go out.
                let Some(id) = self.workers[shard].keys.get(&key).copied() else {
                    panic!("Close for a connection that is gone")
                };
                let server = self.network.server(id);
                assert!(!server.is_closing, "closed twice");
                server.departing = None;
                self.network.close(id);
                let delay = self.random.within(0..=3);
                self.network.at(self.now + delay, Event::Closed(id));
            }
            Effect::HandOver(key, destination, parcel) => {
                let id = self.open(shard, key, "HandOver");
                let server = self.network.server(id);
                assert!(!server.settles && !server.is_settled, "a settled connection is given away");
                server.departing = Some((destination, *parcel));
                match (&server.sending, server.is_reading) {
                    (Some(_), _) => {}
                    // The receive is cancelled first.
                    (None, true) => {
                        let delay = self.random.below(2);
                        self.network.at(self.now + delay, Event::Released(id));
                    }
                    (None, false) => self.release(id),
                }
            }
            Effect::Mail(to, mail) => self.post_mail(shard, usize::from(to), *mail),
            Effect::Subscribe(room, epoch) => {
                self.bus.as_mut().expect("there is a bus").subscribe(self.now, shard, &room, epoch);
            }
            Effect::Unsubscribe(room) => {
                self.bus.as_mut().expect("there is a bus").unsubscribe(self.now, shard, &room);
            }
            Effect::Acknowledged(answer) => {
                self.bus.as_mut().expect("there is a bus").acknowledged += 1;
                self.record.borrow_mut().on_acknowledged(shard, &answer);
            }
            Effect::Reply(ticket, reply) => self.on_reply(ticket, &reply),
        }
    }

    fn post_mail(&mut self, from: usize, to: usize, mail: SiblingMail) {
        assert!(to != from && to < self.workers.len(), "mail from {from} to {to}");
        if let SiblingMail::Deliver { broadcast, .. } = &mail
            && mail.refusable_bytes().is_some()
            && self.is_refused()
        {
            self.record.borrow_mut().on_refused(broadcast, to);
            self.workers[from].shard.on_refused_mail(&mail);
            // A worker whose turn did something turns again.
            self.workers[from].turn_by(self.now);
            return;
        }
        self.post(to, Letter::Sibling(mail));
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
