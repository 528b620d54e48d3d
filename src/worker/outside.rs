//! `Outside`: what a worker has around it besides the kernel: time, mail, other workers, the API and the bus. In the server
//! that is the rest of the process (`Process`).

use std::time::{Duration, Instant};

use sockring_protocol::Millis;

use crate::app::Application;
use crate::mailbox::Letter;
use crate::shard::{Instance, Now, Parcel, Shard};

use crate::bus::Bus;

/// All that a worker is told and wants that is not a descriptor's business. Nothing of it waits.
pub trait Outside {
    /// What a connection is on its way to another worker, or to the API.
    type Socket;

    /// The time, as shards count it.
    fn now(&self) -> Now;

    /// The time, to measure with.
    fn instant(&self) -> Instant;

    /// A time of shards, as one to measure with.
    fn instant_at(&self, at: Millis) -> Instant;

    /// For how long the worker has had a processor.
    fn worked(&self) -> Duration;

    /// Has the letters that have come read, unless some of earlier ones are left.
    fn collect(&mut self);

    /// The next letter, if this shard takes one now.
    fn next_letter<A: Application>(&mut self, shard: &Shard<A>) -> Option<Letter<Self::Socket>>;

    /// Whether letters were collected and not read.
    fn has_letters(&self) -> bool;

    /// Whether letters have come and were not collected.
    fn has_mail(&self) -> bool;

    /// Posts a letter to the worker of this shard.
    fn post(&mut self, shard: u16, letter: Letter<Self::Socket>);

    /// The same with one of so many bytes that may be refused.
    fn offer(&mut self, shard: u16, letter: Letter<Self::Socket>, bytes: usize) -> Result<(), Letter<Self::Socket>>;

    /// Gives a connection to the API.
    fn hand_over(&mut self, socket: Self::Socket, parcel: Parcel);

    /// Gives a connection to whoever brings its request to another instance.
    fn send_abroad(&mut self, instance: Instance, socket: Self::Socket, parcel: Parcel);

    fn bus(&mut self) -> &mut dyn Bus;
}
