//! `Backlog`: entries that found no room in the submission queue because the kernel took none, in their order.

use std::collections::VecDeque;

/// Where entries are submitted from.
pub(super) trait SubmissionQueue<E> {
    /// Says whether it fitted.
    fn push(&mut self, entry: &E) -> bool;
    /// The kernel takes what it can.
    fn submit(&mut self);
}

/// What is still to be put into the queue.
#[derive(Debug)]
pub(super) struct Backlog<E>(VecDeque<E>);

impl<E> Backlog<E> {
    pub(super) fn new() -> Backlog<E> {
        Backlog(VecDeque::new())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts an entry into the queue. A full queue is submitted once: a kernel that is short of memory, or wants completions
    /// taken first, takes nothing however often it is asked.
    pub(super) fn add(&mut self, entry: E, queue: &mut impl SubmissionQueue<E>) {
        if self.is_empty() {
            if queue.push(&entry) {
                return;
            }
            queue.submit();
            if queue.push(&entry) {
                return;
            }
        }
        self.0.push_back(entry);
    }

    /// Puts into the queue what fits now.
    pub(super) fn refill(&mut self, queue: &mut impl SubmissionQueue<E>) {
        while self.0.front().is_some_and(|entry| queue.push(entry)) {
            self.0.pop_front();
        }
    }

    /// Gives all of it up; says how many there were.
    pub(super) fn clear(&mut self) -> usize {
        std::mem::take(&mut self.0).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two entries long.
    #[derive(Default)]
    struct Short {
        entries: Vec<u32>,
        submissions: u32,
        takes: bool,
    }

    impl SubmissionQueue<u32> for Short {
        fn push(&mut self, entry: &u32) -> bool {
            let fits = self.entries.len() < 2;
            self.entries.extend(fits.then_some(*entry));
            fits
        }

        fn submit(&mut self) {
            self.submissions += 1;
            if self.takes {
                self.entries.clear();
            }
        }
    }

    #[test]
    fn a_kernel_that_takes_nothing_is_asked_once_and_nothing_is_lost_or_overtaken() {
        let (mut backlog, mut queue) = (Backlog::new(), Short::default());
        (0..5).for_each(|entry| backlog.add(entry, &mut queue));
        assert_eq!((queue.submissions, &*queue.entries), (1, &[0, 1][..]));
        // What waits goes first, although there is room.
        queue.entries.clear();
        backlog.add(5, &mut queue);
        backlog.refill(&mut queue);
        assert_eq!((queue.submissions, &*queue.entries), (1, &[2, 3][..]));
        queue.entries.clear();
        backlog.refill(&mut queue);
        assert!(backlog.is_empty());
        assert_eq!(queue.entries, [4, 5]);
        queue.takes = true;
        backlog.add(6, &mut queue);
        assert_eq!((queue.submissions, &*queue.entries, backlog.clear()), (2, &[6][..], 0));
    }
}
