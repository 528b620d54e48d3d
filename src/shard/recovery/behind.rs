//! `BehindSockets`: clients that read more slowly than they are sent to. What they have still to get is in the log and not in their
//! outboxes, and follows as they read.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::shard::relay::maps;
use crate::shard::rooms::sockets::Seat;
use sockring_protocol::portable;

use super::position::Position;

/// Sockets whose outboxes are a window on the log, with how far each has got.
#[derive(Default)]
pub(crate) struct BehindSockets {
    sockets: HashMap<Seat, Position, RandomState>,
    /// Of the log, when it was last looked whether it has overtaken somebody.
    floor: Position,
}

portable!(struct BehindSockets { sockets by maps, floor });

impl BehindSockets {
    pub(crate) fn len(&self) -> usize {
        self.sockets.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// Up to where a socket has everything in its outbox, or has got it; `None`: it is not behind.
    pub(crate) fn position(&self, seat: Seat) -> Option<Position> {
        match self.sockets.is_empty() {
            // The usual case.
            true => None,
            false => self.sockets.get(&seat).copied(),
        }
    }

    pub(crate) fn put(&mut self, seat: Seat, position: Position) {
        self.sockets.insert(seat, position);
    }

    pub(crate) fn remove(&mut self, seat: Seat) {
        if !self.sockets.is_empty() {
            self.sockets.remove(&seat);
        }
    }

    /// The clients of those whom the floor of the log has overtaken.
    pub(crate) fn lost(&mut self, floor: Position) -> Vec<u32> {
        if std::mem::replace(&mut self.floor, floor) == floor || self.sockets.is_empty() {
            return Vec::new();
        }
        let lost = self.sockets.iter().filter(|(_, position)| **position < floor);
        let mut slots: Vec<u32> = lost.map(|((slot, _), _)| *slot).collect();
        slots.sort_unstable();
        slots
    }
}
