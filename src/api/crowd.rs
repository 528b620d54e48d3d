//! `Crowd`: who is at one entrance of the API, how many of them are served at once, and who has to go when there are too many.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// What a request costs, and who may make it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Always answered: by it others see that the server lives.
    Vital,
    /// Anybody's.
    Open,
    /// Of those who have a key.
    Keyed,
}

/// At the port of the clients more than this part of those that may be served are too many: a shard takes who waits.
const WAITING_SHARE: usize = 2;
/// This part of the open files for the API's address is for those that are told that there are too many, or that the server
/// lives.
const SPARE_SHARE: usize = 8;
/// Turns of the core's other tasks in which one of them may go.
const PATIENCE: u32 = 4;

/// The connections of one entrance.
#[derive(Debug)]
pub(super) struct Crowd {
    present: AtomicUsize,
    /// Requests that are being served, of anybody and of those with a key.
    open: AtomicUsize,
    keyed: AtomicUsize,
    /// Connections beyond this are too many, and who has waited longest goes first.
    present_max: usize,
    /// And beyond this nobody is let in.
    present_most: usize,
    exit: Notify,
}

/// There are as many as may be served at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Crowd {
    pub(super) fn at_clients(connections_max: usize) -> Crowd {
        Crowd::new(connections_max / WAITING_SHARE, usize::MAX)
    }

    /// With so many open files at the most.
    pub(super) fn at_api(connections_max: usize, descriptors_max: usize) -> Crowd {
        let present_max = connections_max.min(descriptors_max - descriptors_max / SPARE_SHARE);
        Crowd::new(present_max, descriptors_max)
    }

    fn new(present_max: usize, present_most: usize) -> Crowd {
        Crowd {
            present: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            keyed: AtomicUsize::new(0),
            present_max,
            present_most,
            exit: Notify::new(),
        }
    }

    pub(super) fn present(&self) -> usize {
        self.present.load(Ordering::Relaxed)
    }

    /// Another one is there.
    pub(super) fn enter(&self) {
        self.present.fetch_add(1, Ordering::Relaxed);
    }

    /// Until when it is there.
    pub(super) fn present_until_dropped(&self) -> Counted<'_> {
        Counted(&self.present)
    }

    /// Whether another one may come in, if only to hear that there are too many. Those who have to go for it get the time to.
    pub(super) async fn find_room(&self) -> Result<(), Full> {
        for _ in 0..PATIENCE {
            if self.present() < self.present_max {
                return Ok(());
            }
            self.exit.notify_one();
            tokio::task::yield_now().await;
        }
        if self.present() < self.present_most { Ok(()) } else { Err(Full) }
    }

    pub(super) fn is_crowded(&self) -> bool {
        self.present() > self.present_max
    }

    /// Comes to an end when whoever waits here is to go: those who have waited longest first.
    pub(super) async fn thins_out(&self) {
        loop {
            self.exit.notified().await;
            if self.present() >= self.present_max {
                return;
            }
        }
    }

    /// A place for a request; those of anybody take none from those with a key.
    pub(super) fn slot(&self, class: Class, max: usize) -> Result<Option<Counted<'_>>, Full> {
        let count = match class {
            Class::Vital => return Ok(None),
            Class::Open => &self.open,
            Class::Keyed => &self.keyed,
        };
        Counted::below(count, max).map(Some).ok_or(Full)
    }
}

/// Counts something up for as long as it lives.
pub(super) struct Counted<'c>(&'c AtomicUsize);

impl<'c> Counted<'c> {
    /// What was counted up already.
    pub(super) fn taken(count: &'c AtomicUsize) -> Counted<'c> {
        Counted(count)
    }

    /// `None` when there are `max` already.
    pub(super) fn below(count: &'c AtomicUsize, max: usize) -> Option<Counted<'c>> {
        if count.fetch_add(1, Ordering::Relaxed) >= max {
            count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Counted(count))
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
