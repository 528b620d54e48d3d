//! `Process`: the rest of the process, as a worker sees it: its mailbox and those of its siblings, the tasks of its core, and
//! the clock.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sockring_protocol::Millis;

use crate::app::Application;
use crate::mailbox::{Letter, Mailbox, Postbox};
use crate::shard::{Instance, Now, Parcel, Shard};

use super::clock::{Clock, thread_time};
use super::outside::Outside;
use crate::bus::Bus;

/// Who takes over connections that the shard does not serve.
pub type Reception = Box<dyn Fn(OwnedFd, Parcel)>;
/// Who takes over connections whose session another instance has.
pub type Dispatch = Box<dyn Fn(Instance, OwnedFd, Parcel)>;

/// What a worker shares with others.
pub(super) struct Process {
    pub(super) mailbox: Arc<Mailbox>,
    /// Letters that have been taken out of the mailbox.
    pub(super) letters: VecDeque<Letter>,
    pub(super) siblings: Vec<Postbox>,
    pub(super) reception: Reception,
    pub(super) dispatch: Dispatch,
    pub(super) bus: Box<dyn Bus>,
    pub(super) clock: Clock,
}

impl Outside for Process {
    type Socket = OwnedFd;

    fn now(&self) -> Now {
        self.clock.now()
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }

    fn instant_at(&self, at: Millis) -> Instant {
        self.clock.instant(at)
    }

    fn worked(&self) -> Duration {
        thread_time()
    }

    fn collect(&mut self) {
        if self.letters.is_empty() {
            self.mailbox.collect(&mut self.letters);
        }
    }

    fn next_letter<A: Application>(&mut self, shard: &Shard<A>) -> Option<Letter> {
        if shard.takes_mail() { self.letters.pop_front() } else { None }
    }

    fn has_letters(&self) -> bool {
        !self.letters.is_empty()
    }

    fn has_mail(&self) -> bool {
        !self.mailbox.is_empty()
    }

    fn post(&mut self, shard: u16, letter: Letter) {
        if let Some(sibling) = self.siblings.get(usize::from(shard)) {
            sibling.post(letter);
        }
    }

    fn offer(&mut self, shard: u16, letter: Letter, bytes: usize) -> Result<(), Letter> {
        self.siblings.get(usize::from(shard)).map_or(Ok(()), |sibling| sibling.offer(letter, bytes))
    }

    fn hand_over(&mut self, socket: OwnedFd, parcel: Parcel) {
        (self.reception)(socket, parcel);
    }

    fn send_abroad(&mut self, instance: Instance, socket: OwnedFd, parcel: Parcel) {
        (self.dispatch)(instance, socket, parcel);
    }

    fn bus(&mut self) -> &mut dyn Bus {
        &mut *self.bus
    }
}
