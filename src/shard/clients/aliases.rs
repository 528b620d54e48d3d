//! `Aliases`: sockets that have come back and go on under the sids that they had before.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::shard::moving::sid::Sid;
use crate::shard::relay::maps;
use crate::shard::rooms::sockets::Seat;
use sockring_protocol::portable;

/// The sids of sockets that are not those of their seats. It holds no memory while there are none.
#[derive(Default)]
pub(crate) struct Aliases {
    seats: HashMap<Sid, Seat, RandomState>,
    sids: HashMap<Seat, Sid, RandomState>,
}

portable!(struct Aliases { seats by maps, sids by maps });

impl Aliases {
    pub(crate) fn set(&mut self, sid: Sid, seat: Seat) {
        self.seats.insert(sid, seat);
        self.sids.insert(seat, sid);
    }

    /// Where the socket with this sid is.
    pub(crate) fn seat(&self, sid: &Sid) -> Option<Seat> {
        match self.seats.is_empty() {
            // The usual case.
            true => None,
            false => self.seats.get(sid).copied(),
        }
    }

    /// Under which sid the socket in a seat goes on.
    pub(crate) fn sid(&self, seat: Seat) -> Option<Sid> {
        match self.sids.is_empty() {
            true => None,
            false => self.sids.get(&seat).copied(),
        }
    }

    pub(crate) fn forget(&mut self, seat: Seat) {
        if let Some(sid) = self.sids.remove(&seat) {
            self.seats.remove(&sid);
        }
        if self.sids.is_empty() && self.sids.capacity() > 0 {
            *self = Aliases::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::moving::sid::Instance;

    #[test]
    fn an_alias_leads_both_ways_until_it_is_forgotten() {
        let mut aliases = Aliases::default();
        let sid = Sid::new(Instance::new(1), 0, 5, [3; 9]);
        aliases.set(sid, (9, 1));
        assert_eq!((aliases.seat(&sid), aliases.sid((9, 1)), aliases.sid((9, 0))), (Some((9, 1)), Some(sid), None));
        aliases.forget((9, 0));
        assert_eq!(aliases.seat(&sid), Some((9, 1)));
        aliases.forget((9, 1));
        assert_eq!((aliases.seat(&sid), aliases.sid((9, 1)), aliases.sids.capacity()), (None, None, 0));
    }
}
