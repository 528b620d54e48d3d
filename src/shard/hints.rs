//! Hints: what is to be looked at, in order of time, some of which says nothing any more.
//!
//! Whatever is remembered for a while has one entry in a map and, in a queue, one hint for each time that it was put there. One
//! who comes and goes all the time leaves hints behind, and those take neither memory nor places from others.

use std::collections::VecDeque;

/// So many that say nothing are nobody's concern.
const STALE_MAX: usize = 64;

/// Takes out of a queue what says nothing any more, once that is more than there are entries.
pub(crate) fn drop_stale<T>(hints: &mut VecDeque<T>, entries: usize, says_something: impl FnMut(&T) -> bool) {
    if hints.len() > 2 * entries + STALE_MAX {
        hints.retain(says_something);
    }
}
