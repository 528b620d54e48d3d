//! Effects: what the shard wants, down to the kernel and to others, and the operations that a connection asks for.

use std::ops::Range;

use crate::app::Application;
use crate::mailbox::Letter;
use crate::ring::{Descriptor, Kernel, Patience, SendBytes};
use crate::shard::{Bytes, ConnectionKey, Destination, Effect, SiblingMail, Ticket};

use super::operations::Start;
use super::outside::Outside;
use super::table::{Departure, token_of};
use super::turn::Worker;

impl<A: Application, K: Kernel, O: Outside<Socket = K::Socket>> Worker<A, K, O> {
    pub(super) fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Read(key) => {
                let Some(entry) = self.table.open(key) else { return };
                let start = entry.operations.read();
                self.start(key, start);
            }
            Effect::Look(key) => {
                let Some(entry) = self.table.get_mut(key) else { return };
                let start = entry.operations.look();
                self.start(key, start);
            }
            Effect::LookAround => {
                debug_assert!(self.around.is_none(), "a look around while one is under way");
                self.around = Some(0);
            }
            Effect::Send(key, bytes) => {
                let Some(entry) = self.table.open(key) else { return };
                let Some(descriptor) = &entry.descriptor else { return };
                entry.operations.send();
                let bytes = match bytes {
                    Bytes::Shared(bytes) => SendBytes::Shared(bytes),
                    Bytes::Piece(bytes, Range { start, end }) => SendBytes::Piece(bytes, start as usize..end as usize),
                    Bytes::Owned(bytes) => SendBytes::Owned(bytes),
                };
                self.kernel.send(descriptor, token_of(key), bytes);
            }
            Effect::Settle(key) => {
                let Some(entry) = self.table.open(key) else { return };
                debug_assert!(!entry.settles && !entry.operations.is_watched(), "settled twice");
                entry.settles = true;
                self.settle_if_due(key);
            }
            Effect::ShutDown(key) => {
                let Some(entry) = self.table.open(key) else { return };
                let Some(descriptor) = &entry.descriptor else { return };
                entry.operations.shut_down();
                self.kernel.shut_down(descriptor, token_of(key));
            }
            Effect::Close(key) => {
                // What was given away may be closed while its last bytes have still to go out.
                let entry = self.table.get_mut(key);
                debug_assert!(entry.as_ref().is_some_and(|entry| !entry.operations.is_ending()), "closed twice");
                let Some(entry) = entry else { return };
                self.departures.remove(&key);
                let start = entry.operations.end();
                self.start(key, start);
            }
            Effect::HandOver(key, destination, parcel) => {
                let Some(entry) = self.table.open(key) else { return };
                debug_assert!(!entry.settles && !entry.operations.is_watched(), "a settled connection is given away");
                self.departures.insert(key, Departure { destination, parcel: *parcel });
                let start = entry.operations.leave();
                self.start(key, start);
            }
            Effect::Mail(shard, mail) => self.post(shard, *mail),
            Effect::Subscribe(room, epoch) => self.outside.bus().subscribe(*room, epoch),
            Effect::Unsubscribe(room) => self.outside.bus().unsubscribe(*room),
            Effect::Acknowledged(answer) => self.outside.bus().acknowledge(*answer),
            Effect::FindSession(question) => self.outside.bus().find_session(*question),
            Effect::KeepSession(kept) => self.outside.bus().keep_session(*kept),
            Effect::ReadKept(question) => self.outside.bus().read_kept(*question),
            Effect::ConfirmKept(received) => self.outside.bus().confirm_kept(*received),
            Effect::GiveKept(given) => self.outside.bus().give_kept(*given),
            Effect::Reply(Ticket(ticket), reply) => {
                if let Some(answer) = usize::try_from(ticket).ok().and_then(|ticket| self.answers.try_remove(ticket)) {
                    // Who asked may have gone.
                    let _ = answer.send(*reply);
                }
            }
        }
    }

    fn post(&mut self, shard: u16, mail: SiblingMail) {
        match mail.refusable_bytes() {
            None => self.outside.post(shard, Letter::Sibling(mail)),
            Some(bytes) => {
                if let Err(Letter::Sibling(mail)) = self.outside.offer(shard, Letter::Sibling(mail), bytes) {
                    self.shard.on_refused_mail(&mail);
                }
            }
        }
    }

    /// Moves a connection into the file table once nothing is under way on its ordinary descriptor.
    pub(super) fn settle_if_due(&mut self, key: ConnectionKey) {
        let Some(entry) = self.table.get_mut(key) else { return };
        if !entry.settles || !entry.operations.is_idle() || !entry.operations.is_open() {
            return;
        }
        entry.settles = false;
        // A full table leaves it on its ordinary descriptor, which works as well.
        entry.descriptor = match entry.descriptor.take() {
            Some(Descriptor::Plain(plain)) => Some(match self.kernel.settle(plain) {
                Ok(direct) => {
                    self.capacity.give_back_descriptor();
                    direct
                }
                Err(plain) => Descriptor::Plain(plain),
            }),
            other => other,
        };
        let start = entry.operations.watch();
        self.start(key, start);
    }

    /// Starts what has to be started on a connection.
    pub(super) fn start(&mut self, key: ConnectionKey, start: Start) {
        let Some(entry) = self.table.get_mut(key) else { return };
        let token = token_of(key);
        if let Some(descriptor) = &entry.descriptor {
            if start.watch {
                self.kernel.watch(descriptor, token);
            }
            if start.receive {
                let patience = if entry.operations.is_watched() { Patience::DontWait } else { Patience::Wait };
                self.kernel.receive(descriptor, token, patience);
            }
            if start.look {
                self.kernel.look(descriptor, token);
            }
            if start.abort {
                self.kernel.abort(descriptor, token);
            }
            if start.cancel_watch {
                self.kernel.cancel_watch(descriptor, token);
            }
            if start.cancel_receive {
                self.kernel.cancel_receive(descriptor, token);
            }
        }
        if start.release {
            self.release(key);
        }
    }

    /// Nothing is under way on the connection: close it, or give it away.
    fn release(&mut self, key: ConnectionKey) {
        let Some(entry) = self.table.get_mut(key) else { return };
        let Some(descriptor) = entry.descriptor.take() else { return };
        match (descriptor, self.departures.remove(&key)) {
            (Descriptor::Plain(socket), Some(departure)) => {
                self.table.remove(key);
                self.shard.on_closed(key);
                let Departure { destination, mut parcel } = departure;
                match destination {
                    Destination::Api => {
                        parcel.keep_descriptor();
                        self.outside.hand_over(socket, parcel);
                    }
                    Destination::Instance(instance) => {
                        parcel.keep_descriptor();
                        self.outside.send_abroad(instance, socket, parcel);
                    }
                    Destination::Shard(shard) => {
                        self.capacity.give_back_descriptor();
                        self.outside.post(shard, Letter::Arrival(socket, Box::new(parcel)));
                    }
                }
            }
            (descriptor, _) => {
                if matches!(descriptor, Descriptor::Plain(_)) {
                    self.capacity.give_back_descriptor();
                }
                self.kernel.close(descriptor, token_of(key));
            }
        }
    }
}
