//! Mail between threads and tasks: a `Mailbox` per worker, and a `Postbox` for everyone who writes to it.

mod bell;
mod sync;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use sockring_protocol::adapter::Broadcast;
use tokio::sync::oneshot;

use crate::shard::{BusMail, Mail, Parcel, Reply, SiblingMail};

use bell::Bell;

/// One thing for a worker.
#[derive(Debug)]
pub enum Letter<S = OwnedFd> {
    /// For its shard; the answer goes to whoever waits for it.
    Mail(Mail, oneshot::Sender<Reply>),
    /// For its shard, from another one.
    Sibling(SiblingMail),
    /// For its shard, from the bus.
    Bus(BusMail),
    /// A connection, and what goes along with it.
    Arrival(S, Box<Parcel>),
    /// Tell all clients this, end them evenly over this time, and return.
    Drain(Arc<Broadcast>, Duration),
}

/// The letters that wait for one worker. Nobody waits to put one in.
#[derive(Debug)]
pub struct Mailbox {
    bell: Bell<Letters>,
    refusable_bytes_max: usize,
}

#[derive(Debug, Default)]
struct Letters {
    letters: VecDeque<Letter>,
    /// Of the letters that may be refused, by sender.
    refusable_bytes: Vec<usize>,
}

impl Mailbox {
    /// An empty mailbox that holds this many bytes of refusable letters from each sender.
    pub fn new(refusable_bytes_max: usize) -> Mailbox {
        Mailbox { bell: Bell::new(Letters::default()), refusable_bytes_max }
    }

    /// Takes all letters; `into` must be empty.
    pub fn collect(&self, into: &mut VecDeque<Letter>) {
        debug_assert!(into.is_empty());
        let mut waiting = self.lock();
        std::mem::swap(&mut waiting.letters, into);
        waiting.refusable_bytes.fill(0);
    }

    pub fn is_empty(&self) -> bool {
        self.lock().letters.is_empty()
    }

    /// From now on `posted` ends when something is posted. Look once more for letters after this.
    pub fn fall_asleep(&self) {
        self.bell.fall_asleep();
    }

    pub fn wake_up(&self) {
        self.bell.wake_up();
    }

    /// Ends when a letter has come since `fall_asleep`; perhaps also without.
    pub async fn posted(&self) {
        self.bell.rung().await;
    }

    fn lock(&self) -> MutexGuard<'_, Letters> {
        self.bell.lock()
    }
}

/// One sender's end of a mailbox. Its letters are read in the order in which they were posted.
#[derive(Clone, Debug)]
pub struct Postbox {
    mailbox: Arc<Mailbox>,
    sender: usize,
}

impl Postbox {
    /// `sender` is a number of its own among those who write to this mailbox.
    pub fn new(mailbox: Arc<Mailbox>, sender: usize) -> Postbox {
        Postbox { mailbox, sender }
    }

    pub fn post(&self, letter: Letter) {
        self.mailbox.lock().letters.push_back(letter);
        self.wake();
    }

    /// Posts a letter of this size unless too much of this sender waits already; then it is given back.
    pub fn offer(&self, letter: Letter, bytes: usize) -> Result<(), Letter> {
        let Some(mut waiting) = self.room_for(bytes) else { return Err(letter) };
        waiting.letters.push_back(letter);
        drop(waiting);
        self.wake();
        Ok(())
    }

    /// The mailbox with so many bytes counted, unless too much of this sender waits already.
    fn room_for(&self, bytes: usize) -> Option<MutexGuard<'_, Letters>> {
        let mut waiting = self.mailbox.lock();
        if waiting.refusable_bytes.len() <= self.sender {
            waiting.refusable_bytes.resize(self.sender + 1, 0);
        }
        let waits = waiting.refusable_bytes.get_mut(self.sender)?;
        // A single letter may be larger than the limit: it was let in by a limit of its own.
        if *waits > 0 && *waits + bytes > self.mailbox.refusable_bytes_max {
            return None;
        }
        *waits += bytes;
        Some(waiting)
    }

    fn wake(&self) {
        self.mailbox.bell.ring();
    }

    /// Asks the worker's shard; the answer comes by the receiver, which fails if the worker is gone. `None`: too much waits
    /// there already.
    pub fn ask(&self, mail: Mail) -> Option<oneshot::Receiver<Reply>> {
        let (answer, answered) = oneshot::channel();
        match mail.refusable_bytes() {
            None => self.post(Letter::Mail(mail, answer)),
            Some(bytes) => self.offer(Letter::Mail(mail, answer), bytes).ok()?,
        }
        Some(answered)
    }

    /// Asks several questions that belong together, in this order: all of them are posted, or none.
    pub fn ask_all(&self, mails: Vec<Mail>) -> Option<Vec<oneshot::Receiver<Reply>>> {
        let bytes: usize = mails.iter().filter_map(Mail::refusable_bytes).sum();
        let mut waiting = if bytes > 0 { self.room_for(bytes)? } else { self.mailbox.lock() };
        let post = |mail| {
            let (answer, answered) = oneshot::channel();
            waiting.letters.push_back(Letter::Mail(mail, answer));
            answered
        };
        let answered = mails.into_iter().map(post).collect();
        drop(waiting);
        self.wake();
        Some(answered)
    }

    /// Whether so much waits that a sender who can wait should: half of its bytes, or so many letters.
    pub fn is_busy(&self, letters: usize) -> bool {
        let waiting = self.mailbox.lock();
        let own = waiting.refusable_bytes.get(self.sender).copied().unwrap_or(0);
        waiting.letters.len() > letters || own > self.mailbox.refusable_bytes_max / 2
    }

    /// How many letters wait, and how many bytes of those that may be refused.
    pub fn waiting(&self) -> (usize, usize) {
        let waiting = self.mailbox.lock();
        (waiting.letters.len(), waiting.refusable_bytes.iter().sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_is_refused_when_too_much_of_it_waits_and_others_are_not() {
        let mailbox = Arc::new(Mailbox::new(100));
        let letter = || Letter::Sibling(SiblingMail::Look { from: 0, round: 0 });
        let [one, two] = [0, 1].map(|sender| Postbox::new(Arc::clone(&mailbox), sender));
        assert!(one.offer(letter(), 500).is_ok(), "a single one may be large");
        assert!(one.offer(letter(), 1).is_err());
        assert!(two.offer(letter(), 60).is_ok() && two.offer(letter(), 40).is_ok() && two.offer(letter(), 1).is_err());
        one.post(letter());
        assert_eq!(one.waiting(), (4, 600));
        let mut letters = VecDeque::new();
        mailbox.collect(&mut letters);
        assert_eq!((letters.len(), one.waiting()), (4, (0, 0)));
        assert!(one.offer(letter(), 1).is_ok());
    }

    #[test]
    fn a_mailbox_is_busy_long_before_it_refuses() {
        let mailbox = Arc::new(Mailbox::new(100));
        let [one, two] = [0, 1].map(|sender| Postbox::new(Arc::clone(&mailbox), sender));
        let letter = || Letter::Sibling(SiblingMail::Look { from: 0, round: 0 });
        assert!(one.offer(letter(), 50).is_ok() && !one.is_busy(1));
        assert!(one.offer(letter(), 1).is_ok());
        assert!(one.is_busy(9) && !two.is_busy(9) && two.is_busy(1));
    }

    #[test]
    fn what_belongs_together_is_posted_together_or_not_at_all() {
        let mailbox = Arc::new(Mailbox::new(100));
        let postbox = Postbox::new(Arc::clone(&mailbox), 0);
        let emit = |bytes: usize| Mail::Deliver(vec![Broadcast::new("/", Vec::new(), vec![b' '; bytes].into())]);
        let asked = postbox.ask_all(vec![emit(80), emit(80)]).map(|answers| answers.len());
        assert_eq!(asked, Some(2), "it may be large where nothing waits");
        assert!(postbox.ask_all(vec![emit(80), emit(1)]).is_none());
        assert_eq!(postbox.waiting().0, 2);
        assert!(postbox.ask_all(vec![Mail::Stats]).is_some());
    }
}
