//! `Bus`: the other instances, as a worker sees them. The cluster is one, and a simulation is another.

use crate::shard::{
    Acknowledgement, GivenEvent, KeptSession, MailboxQuestion, ReceivedEvents, RoomName, SessionQuestion,
};

/// The bus between instances, as a worker sees it. Called within the runtime of the core; nothing of it waits.
pub trait Bus {
    /// Messages to this room are wanted; `BusMail::Subscribed` is posted, with this epoch, when they come.
    fn subscribe(&mut self, room: RoomName, epoch: u32);
    fn unsubscribe(&mut self, room: RoomName);
    /// A client has answered.
    fn acknowledge(&mut self, answer: Acknowledgement);
    /// Other servers may know of this session; `BusMail::Session` is posted, with the number of the question.
    fn find_session(&mut self, question: SessionQuestion);
    /// They are told of this one.
    fn keep_session(&mut self, kept: KeptSession);
    /// What is kept for a user? `BusMail::Mailbox` is posted, with the number of the question, in any case.
    fn read_kept(&mut self, question: MailboxQuestion);
    /// Some of it was received; `BusMail::Confirmed` is posted in any case.
    fn confirm_kept(&mut self, received: ReceivedEvents);
    /// This is to be kept too; `BusMail::Given` is posted in any case.
    fn give_kept(&mut self, given: GivenEvent);
}

/// There are no other instances.
#[derive(Clone, Copy, Debug)]
pub struct NoBus;

impl Bus for NoBus {
    fn subscribe(&mut self, _: RoomName, _: u32) {}

    fn unsubscribe(&mut self, _: RoomName) {}

    fn acknowledge(&mut self, _: Acknowledgement) {}

    fn find_session(&mut self, _: SessionQuestion) {}

    fn keep_session(&mut self, _: KeptSession) {}

    fn read_kept(&mut self, _: MailboxQuestion) {}

    fn confirm_kept(&mut self, _: ReceivedEvents) {}

    fn give_kept(&mut self, _: GivenEvent) {}
}
