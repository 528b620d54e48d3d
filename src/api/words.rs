//! What an answer says has happened, in words: whom it was done to, and who was told besides.

use sockring_protocol::adapter::Delivery;

use crate::shard::{Keeping, Target};

use super::across::{Emitted, Memory};

/// Of one emit.
pub(super) fn emitted(emitted: Emitted, delivery: Delivery) -> &'static str {
    match (emitted, delivery) {
        (Emitted { memory: Memory::Repeated(_), .. }, _) => "The event was accepted before; it is not emitted again",
        (Emitted { delivered: 0, keeping: Some((Keeping::Kept, _)), .. }, _) => {
            "Nobody was reached; the event is kept until its users connect"
        }
        (Emitted { delivered: 0, published: true, .. }, _) => {
            "Nobody was reached here; the other instances have the event"
        }
        (Emitted { delivered: 0, published: false, .. }, Delivery::Volatile) => {
            "Nobody was reached: no socket that it is for is connected and could take it at once"
        }
        (Emitted { delivered: 0, published: false, .. }, Delivery::Queue) => {
            "Nobody was reached: no socket that it is for is connected"
        }
        _ => "Event emitted",
    }
}

/// Of several, some of which reached nobody, and some of which were not accepted.
pub(super) fn batch(emitted: &[Emitted], refused: usize) -> String {
    let is_in_vain = |emitted: &&Emitted| {
        let is_known = matches!(emitted.memory, Memory::Repeated(_));
        let is_kept = matches!(emitted.keeping, Some((Keeping::Kept, _)));
        emitted.delivered == 0 && !emitted.published && !is_known && !is_kept
    };
    let in_vain = emitted.iter().filter(is_in_vain).count();
    let mut words = match emitted.len() - in_vain {
        0 => "Nobody was reached".to_owned(),
        reached if reached == emitted.len() + refused => "Events emitted".to_owned(),
        1 => "1 event emitted".to_owned(),
        reached => format!("{reached} events emitted"),
    };
    if in_vain > 0 && in_vain < emitted.len() {
        words.push_str(&format!("; {in_vain} reached nobody"));
    }
    if refused > 0 {
        words.push_str(&format!("; not accepted: {refused}"));
    }
    words
}

/// What was done to sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    Joined,
    Left,
    Ended,
}

/// Of a change to so many sockets of this instance, which the others may have been told of.
pub(super) fn changed(done: Done, target: &Target, (sockets, published): (u64, bool)) -> String {
    let who = match target {
        Target::User(_) => "The user",
        Target::Socket(_) => "The socket",
    };
    let elsewhere = if published { " here; the other instances have been told" } else { "" };
    match (done, sockets) {
        (Done::Joined, 0) => format!("{who} is not connected, or in as many rooms as a socket may be{elsewhere}"),
        (Done::Left, 0) => format!("{who} is not connected, or not in this room{elsewhere}"),
        (Done::Ended, 0) => format!("{who} is not connected{elsewhere}"),
        (Done::Joined | Done::Left, _) => "Rooms changed".to_owned(),
        (Done::Ended, _) => "Disconnected".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_says_what_became_of_all() {
        let [reached, told, vain] =
            [(1, false), (0, true), (0, false)].map(|(delivered, published)| Emitted::plain(delivered, published));
        for (emitted, refused, words) in [
            (&[reached, told][..], 0, "Events emitted"),
            (&[reached], 2, "1 event emitted; not accepted: 2"),
            (&[reached, reached, vain], 0, "2 events emitted; 1 reached nobody"),
            (&[vain], 0, "Nobody was reached"),
            (&[vain], 1, "Nobody was reached; not accepted: 1"),
            (&[], 3, "Nobody was reached; not accepted: 3"),
        ] {
            assert_eq!(batch(emitted, refused), words);
        }
    }
}
