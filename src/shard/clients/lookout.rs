//! `Lookout`: whom a shard suspects of silence, the looks around for them, and which time does not count against peers.

use std::collections::VecDeque;

use sockring_protocol::Millis;
use sockring_protocol::engineio::Moment;

use crate::shard::mail::Away;
use crate::shard::moving::placement::ShardNumber;
use sockring_protocol::portable;

use super::client::{ClientKey, Role};

/// Shards that do not say within this time that they have looked are not waited for.
const ROUND_MS_MAX: u64 = 30_000;
/// A turn that comes so much later than it is due is late; below it, looking for what has come is enough.
pub(crate) const LATE_MS: u64 = 100;
/// Of a late turn's time so much counts against peers all the same: a shard that is always late must not stop their clock.
const COUNTED_MS: u64 = 25;
/// Of so many times it is known that they do not count: what others say may be about the same.
const UNCOUNTED_MAX: usize = 8;
/// Of so many times that it was away a shard tells who waits for its look: a look takes some turns, and each may be late.
const AWAYS_MAX: usize = 8;

/// The looks around of a shard: its own for its suspects, and those for others.
#[derive(Default)]
pub(crate) struct Lookout {
    /// For how long this shard was late in all.
    late_ms: u64,
    /// For the next round, and whether for themselves or for their probes.
    suspects: Vec<(ClientKey, Role)>,
    round: Option<Round>,
    rounds: u32,
    /// When the last round ended.
    ended: Moment,
    /// When this shard was away for long: the last time, and all times since somebody waits for its look.
    aways: VecDeque<Away>,
    /// The latest times that do not count, from when until when.
    uncounted: VecDeque<(Millis, Millis)>,
    /// Whose rounds wait for this shard's next look, and for the one under way.
    asked: Vec<Asked>,
    answering: Vec<Asked>,
}

portable!(struct Lookout {
    late_ms, suspects, round, rounds, ended, aways, uncounted, asked, answering,
});

/// All shards look around for these.
struct Round {
    suspects: Vec<(ClientKey, Role)>,
    /// Shards that have still to say that they have.
    outstanding: u16,
    begun: Millis,
    by: Millis,
    /// When they were late.
    late: Vec<(Millis, Millis)>,
}

portable!(struct Round { suspects, outstanding, begun, by, late });

/// A round of some shard, this one or another.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) from: u16,
    pub(crate) round: u32,
}

portable!(struct Asked { from, round });

impl Lookout {
    /// The time as it runs against peers: it stands still while this shard is late.
    pub(crate) fn moment(&self, at: Millis) -> Moment {
        Moment { at, late_ms: self.late_ms }
    }

    pub(crate) fn deadline(&self) -> Option<Millis> {
        self.round.as_ref().map(|round| round.by)
    }

    /// This shard has been away for long.
    pub(crate) fn on_away(&mut self, away: Away) {
        let is_awaited = !self.asked.is_empty() || !self.answering.is_empty();
        if !is_awaited {
            self.aways.clear();
        }
        if self.aways.len() == AWAYS_MAX {
            self.aways.pop_front();
        }
        self.aways.push_back(away);
    }

    /// A turn that was due then came late: what of that time has counted does so no more.
    pub(crate) fn on_late(&mut self, away: Away, due: Millis) {
        self.late_ms += self.discount(lateness(away, due));
    }

    /// Somebody to look for in the next round.
    pub(crate) fn suspect(&mut self, key: ClientKey, role: Role) {
        self.suspects.push((key, role));
    }

    /// Begins a round for those who are suspected, if none is under way; its number, which all other shards have to hear.
    pub(crate) fn begin_round(&mut self, shard: ShardNumber, now: Millis) -> Option<u32> {
        if self.round.is_some() || self.suspects.is_empty() {
            return None;
        }
        self.rounds = self.rounds.wrapping_add(1);
        self.round = Some(Round {
            suspects: std::mem::take(&mut self.suspects),
            outstanding: shard.of,
            begun: now,
            by: now + ROUND_MS_MAX,
            late: Vec::new(),
        });
        self.on_look(shard.number, self.rounds);
        Some(self.rounds)
    }

    /// A shard wants this one to look around.
    pub(crate) fn on_look(&mut self, from: u16, round: u32) {
        self.asked.push(Asked { from, round });
    }

    /// Whether this shard looks around now: somebody has asked, and no look is under way.
    pub(crate) fn begins_to_look(&mut self) -> bool {
        let begins = self.answering.is_empty() && !self.asked.is_empty();
        if begins {
            self.answering = std::mem::take(&mut self.asked);
        }
        begins
    }

    /// This shard has looked around: whom to tell, and when it was away.
    pub(crate) fn on_looked_around(&mut self) -> (Vec<Asked>, Vec<Away>) {
        (std::mem::take(&mut self.answering), self.aways.iter().copied().collect())
    }

    /// A shard has looked around: it was late each time that it was away since it was asked. Says whether it was the last.
    pub(crate) fn on_looked(&mut self, number: u32, aways: &[Away]) -> bool {
        let Some(round) = self.round.as_mut().filter(|_| number == self.rounds) else { return false };
        let begun = round.begun;
        let late = aways.iter().filter(|away| away.until - begun > COUNTED_MS).map(|away| lateness(*away, begun));
        round.late.extend(late);
        round.outstanding = round.outstanding.saturating_sub(1);
        round.outstanding == 0
    }

    /// Ends the round under way; those whom it was for.
    ///
    /// The clock that runs against peers stood still while another shard was late, too. It goes on a little with each round,
    /// however late they are.
    pub(crate) fn end_round(&mut self, now: Millis) -> Vec<(ClientKey, Role)> {
        let Some(round) = self.round.take() else { return Vec::new() };
        let late_ms: u64 = round.late.iter().map(|late| self.discount(*late)).sum();
        let since_ms = self.moment(now).attended() - self.ended.attended();
        self.late_ms += late_ms.min(since_ms.saturating_sub(COUNTED_MS));
        self.ended = self.moment(now);
        round.suspects
    }

    /// How much of this time has counted so far; it does no more.
    fn discount(&mut self, (mut from, mut until): (Millis, Millis)) -> u64 {
        let mut known_ms = 0;
        self.uncounted.retain(|(begun, ended)| {
            let overlaps = *begun <= until && from <= *ended;
            if overlaps {
                known_ms += *ended - *begun;
                (from, until) = (from.min(*begun), until.max(*ended));
            }
            !overlaps
        });
        if self.uncounted.len() == UNCOUNTED_MAX {
            self.uncounted.pop_front();
        }
        self.uncounted.push_back((from, until));
        (until - from) - known_ms
    }
}

/// From when until when a shard was late that was away and had something to do since `due`. It may have been away for some time
/// before that, too; no more of it than as long again is supposed.
fn lateness(away: Away, due: Millis) -> (Millis, Millis) {
    let late_ms = ((away.until - due) * 2).min(away.for_ms.saturating_sub(COUNTED_MS));
    (Millis(away.until.0.saturating_sub(late_ms)), away.until)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use crate::shard::slots::Key;

    use super::*;

    const HERE: ShardNumber = ShardNumber { number: 0, of: 2 };

    /// A round of the first of two shards, for a probe.
    fn looking(begun: u64) -> Lookout {
        let mut lookout = Lookout::default();
        lookout.suspect(ClientKey(Key { index: 0, generation: NonZeroU32::MIN }), Role::Probe);
        assert_eq!(lookout.begin_round(HERE, Millis(begun)), Some(1));
        lookout
    }

    fn away(from: u64, until: u64) -> Away {
        Away { until: Millis(until), for_ms: until - from }
    }

    #[test]
    fn whoever_waits_for_a_look_hears_of_each_time_that_the_shard_was_away() {
        let mut other = Lookout::default();
        // Nobody waited for it then.
        other.on_away(away(1_000, 2_000));
        other.on_away(away(3_000, 9_000));
        other.on_look(0, 1);
        assert!(other.begins_to_look());
        // A look takes some turns, and this one is shorter than what was before.
        other.on_away(away(9_000, 13_000));
        let (asked, aways) = other.on_looked_around();
        assert_eq!((asked.len(), &aways[..]), (1, &[away(3_000, 9_000), away(9_000, 13_000)][..]));

        let mut lookout = looking(8_900);
        assert!(!lookout.on_looked(1, &[]));
        assert!(lookout.on_looked(1, &aways));
        lookout.end_round(Millis(13_000));
        // All but a little of the second time, and of the first what it was late for the round, twice.
        let attended = lookout.moment(Millis(13_000)).attended();
        assert_eq!(13_000 - attended.0, (4_000 - COUNTED_MS) + 200);
    }
}
