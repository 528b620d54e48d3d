//! `Timers`: one lazy timer wheel per shard.
//!
//! An entry is a hint: when it fires, its owner looks at its real deadline and puts itself in again if that is later.
//! Nothing is ever cancelled. The near wheel has a slot per millisecond, the far one a slot per 1,024 of them; what lies beyond the
//! far wheel waits in its last slot.

use sockring_protocol::Millis;

use super::moving::placement::ShardNumber;
use super::relay::Carried;
use sockring_protocol::portable::{Packer, Portable, Unpacker, Unreadable};

const NEAR_SLOTS: u64 = 1024;
const FAR_SLOTS: u64 = 256;
/// Deadlines further away than the first of these are rounded up to a multiple of the second, so that heartbeats of many
/// clients share a wake-up: by 2 % at the most.
const COARSE_MS: [(u64, u64); 3] = [(16_000, COARSEST_MS), (6_000, 64), (1_500, 16)];
const COARSEST_MS: u64 = 256;

/// A slot of the far wheel that is full grows by one entry in so many.
const GROWTH_SHARE: usize = 8;

struct Entry<T> {
    at: Millis,
    owner: T,
}

/// Deadlines of many owners, fired in order of time to the millisecond.
pub(super) struct Timers<T> {
    now: Millis,
    /// By how much the multiples of coarse deadlines are shifted: what several shards do for their clients at once would not
    /// fit into a core's caches.
    phase_ms: u64,
    near: Vec<Vec<Entry<T>>>,
    far: Vec<Vec<Entry<T>>>,
    near_filled: Bitmap<16>,
    far_filled: Bitmap<4>,
    firing: Vec<Entry<T>>,
}

impl<T: Copy + Portable> Carried for Timers<T> {
    const FORM: u64 = <(Millis, Vec<(Millis, T)>)>::FORM;

    fn pack_state(&self, out: &mut Packer) {
        let Timers { now, phase_ms: _, near, far, near_filled: _, far_filled: _, firing } = self;
        debug_assert!(firing.is_empty(), "within an advance");
        now.pack(out);
        // As they fire: of one time, those that are on the near wheel by now go first.
        let mut entries: Vec<_> = near.iter().chain(far).flatten().collect();
        entries.sort_by_key(|entry| entry.at);
        out.number(entries.len() as u64);
        for Entry { at, owner } in entries {
            at.pack(out);
            owner.pack(out);
        }
    }

    fn unpack_state(&mut self, from: &mut Unpacker<'_>) -> Result<(), Unreadable> {
        self.now = Portable::unpack(from)?;
        if self.now > from.now() {
            return Err(Unreadable);
        }
        for _ in 0..from.count()? {
            let hint = Portable::unpack(from).map(|(at, owner)| Entry { at, owner })?;
            self.place(hint);
        }
        Ok(())
    }
}

impl<T: Copy> Timers<T> {
    pub(super) fn new(now: Millis, place: ShardNumber) -> Timers<T> {
        Timers {
            now,
            phase_ms: COARSEST_MS * u64::from(place.number) / u64::from(place.of.max(1)),
            near: (0..NEAR_SLOTS).map(|_| Vec::new()).collect(),
            far: (0..FAR_SLOTS).map(|_| Vec::new()).collect(),
            near_filled: Bitmap([0; 16]),
            far_filled: Bitmap([0; 4]),
            firing: Vec::new(),
        }
    }

    /// Fires `owner` at `at`, or at the next `advance` if that is past. Returns the time that it will fire at. `now` is the
    /// turn's time, which the wheel itself learns only by `advance`.
    pub(super) fn put(&mut self, at: Millis, owner: T, now: Millis) -> Millis {
        let at = match coarseness(at - now) {
            None => at.max(self.now + 1),
            Some(coarse) => {
                let multiple = at.0.saturating_add(self.phase_ms + coarse - 1) / coarse * coarse;
                Millis(multiple - self.phase_ms)
            }
        };
        self.place(Entry { at, owner });
        at
    }

    fn place(&mut self, entry: Entry<T>) {
        let far_now = self.now.0 / NEAR_SLOTS;
        let far_at = entry.at.0 / NEAR_SLOTS;
        if far_at <= far_now || entry.at - self.now < NEAR_SLOTS {
            let slot = entry.at.0.max(self.now.0 + 1) % NEAR_SLOTS;
            self.near_filled.set(slot);
            slot_of(&mut self.near, slot).push(entry);
        } else {
            let slot = far_at.min(far_now + FAR_SLOTS - 1) % FAR_SLOTS;
            self.far_filled.set(slot);
            let slot = slot_of(&mut self.far, slot);
            // Nearly all clients have an entry here: by doubling, a third of the memory would be air.
            if slot.len() == slot.capacity() {
                slot.reserve_exact(slot.len() / GROWTH_SHARE + GROWTH_SHARE);
            }
            slot.push(entry);
        }
    }

    /// Moves to `now` and calls `fire` for each owner whose time has come.
    pub(super) fn advance(&mut self, now: Millis, mut fire: impl FnMut(T)) {
        while self.now < now {
            // Straight to the next slot that holds something, or to the next far slot.
            let near_end = Millis((self.now.0 / NEAR_SLOTS + 1) * NEAR_SLOTS);
            let next = match self.near_filled.next_after(self.now.0 % NEAR_SLOTS) {
                Some(distance) => (self.now + distance).min(near_end),
                None => near_end,
            };
            if next > now {
                self.now = now;
                break;
            }
            self.now = next;
            if next == near_end {
                self.cascade();
            }
            self.fire_slot(&mut fire);
        }
    }

    fn cascade(&mut self) {
        let slot = self.now.0 / NEAR_SLOTS % FAR_SLOTS;
        self.far_filled.clear(slot);
        // The kept capacity of a drained slot would add up to megabytes.
        for entry in std::mem::take(slot_of(&mut self.far, slot)) {
            if entry.at <= self.now {
                self.near_filled.set(self.now.0 % NEAR_SLOTS);
                slot_of(&mut self.near, self.now.0 % NEAR_SLOTS).push(entry);
            } else {
                self.place(entry);
            }
        }
    }

    fn fire_slot(&mut self, fire: &mut impl FnMut(T)) {
        let slot = self.now.0 % NEAR_SLOTS;
        self.near_filled.clear(slot);
        std::mem::swap(slot_of(&mut self.near, slot), &mut self.firing);
        for entry in self.firing.drain(..) {
            fire(entry.owner);
        }
    }

    /// When `advance` has to be called next; early by at most one far slot's width when nothing is near.
    pub(super) fn deadline(&self) -> Option<Millis> {
        let near_end = (self.now.0 / NEAR_SLOTS + 1) * NEAR_SLOTS;
        let near = self.near_filled.next_after(self.now.0 % NEAR_SLOTS).map(|distance| self.now + distance);
        let far_now = self.now.0 / NEAR_SLOTS;
        let far =
            self.far_filled.next_after(far_now % FAR_SLOTS).map(|distance| Millis((far_now + distance) * NEAR_SLOTS));
        match (near, far) {
            // A full round of the near wheel: what the far wheel holds for its second half comes down first.
            (Some(near), Some(far)) if near.0 >= near_end => Some(near.min(far)),
            (Some(near), _) => Some(near),
            (None, far) => far,
        }
    }
}

/// One of a wheel's slots, or of a bitmap's words, by its number, which is a remainder.
#[inline]
#[expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a remainder is below the number of slots"
)]
fn slot_of<T>(wheel: &mut [T], slot: u64) -> &mut T {
    &mut wheel[slot as usize]
}

/// What a deadline that is so far away is rounded up to.
fn coarseness(left_ms: u64) -> Option<u64> {
    COARSE_MS.into_iter().find(|(beyond, _)| left_ms > *beyond).map(|(_, coarse)| coarse)
}

/// Which slots of a wheel hold entries.
struct Bitmap<const WORDS: usize>([u64; WORDS]);

impl<const WORDS: usize> Bitmap<WORDS> {
    fn set(&mut self, slot: u64) {
        *slot_of(&mut self.0, slot / 64) |= 1 << (slot % 64);
    }

    fn clear(&mut self, slot: u64) {
        *slot_of(&mut self.0, slot / 64) &= !(1 << (slot % 64));
    }

    #[inline]
    #[expect(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "a remainder, as of a wheel")]
    fn word(&self, number: u64) -> u64 {
        self.0[number as usize]
    }

    /// Slots from `slot` to the next filled one, going round: 1 for the one behind it, the wheel's size for itself.
    fn next_after(&self, slot: u64) -> Option<u64> {
        let size = 64 * WORDS as u64;
        let mut distance = 1;
        while distance <= size {
            let at = (slot + distance) % size;
            let word = self.word(at / 64) >> (at % 64);
            if word != 0 {
                let found = distance + u64::from(word.trailing_zeros());
                return (found <= size).then_some(found);
            }
            distance += 64 - at % 64;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALONE: ShardNumber = ShardNumber { number: 0, of: 1 };

    /// Advances in the steps that `deadline` asks for and records (when, who).
    fn run(timers: &mut Timers<u32>, until: Millis) -> Vec<(u64, u32)> {
        let mut fired = Vec::new();
        while let Some(at) = timers.deadline().filter(|at| *at <= until) {
            timers.advance(at, |owner| fired.push((at.0, owner)));
        }
        timers.advance(until, |owner| fired.push((until.0, owner)));
        fired
    }

    #[test]
    fn near_deadlines_fire_to_the_millisecond() {
        let mut timers = Timers::new(Millis(5_000), ALONE);
        for (owner, delay) in [(1, 500), (2, 1), (3, 1_023), (4, 1_024), (5, 1_400), (6, 0), (7, 501)] {
            timers.put(Millis(5_000 + delay), owner, Millis(5_000));
        }
        let fired = run(&mut timers, Millis(10_000));
        assert_eq!(fired, [(5_001, 2), (5_001, 6), (5_500, 1), (5_501, 7), (6_023, 3), (6_024, 4), (6_400, 5)]);
        assert_eq!(timers.deadline(), None);
    }

    #[test]
    fn far_deadlines_fire_within_the_coarse_step_and_never_early() {
        for start in [0, 1, 1_023, 777_777] {
            let mut timers = Timers::new(Millis(start), ALONE);
            let delays = [2_000, 25_000, 45_003, 100_000, 262_000, 300_000, 1_000_000];
            for (owner, delay) in (0..).zip(delays) {
                timers.put(Millis(start + delay), owner, Millis(start));
            }
            let fired = run(&mut timers, Millis(start + 2_000_000));
            assert_eq!(fired.len(), delays.len());
            for (at, owner) in fired {
                let wanted = start + delays[owner as usize];
                let coarse = coarseness(delays[owner as usize]).unwrap();
                assert!(at >= wanted && at < wanted + coarse, "start {start}: {at} for {wanted}");
            }
        }
    }

    #[test]
    fn shards_fire_the_same_deadline_at_different_times() {
        let mut times: Vec<_> = (0..4)
            .map(|number| Timers::new(Millis(0), ShardNumber { number, of: 4 }).put(Millis(25_000), number, Millis(0)))
            .collect();
        times.sort_unstable();
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] == COARSEST_MS / 4), "{times:?}");
    }

    #[test]
    fn random_deadlines_fire_once_in_order() {
        let mut state = 88_172_645_463_325_252u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for _ in 0..200 {
            let start = random() % 100_000;
            let mut timers = Timers::new(Millis(start), ShardNumber { number: 2, of: 3 });
            let wanted: Vec<_> = (0..50).map(|owner| (start + random() % 400_000, owner)).collect();
            for (at, owner) in &wanted {
                timers.put(Millis(*at), *owner, Millis(start));
            }
            let fired = run(&mut timers, Millis(start + 500_000));
            assert!(fired.is_sorted_by_key(|(at, _)| *at));
            assert_eq!(fired.len(), 50);
            for (at, owner) in fired {
                let (deadline, _) = wanted[owner as usize];
                let coarse = coarseness(deadline - start).unwrap_or(1);
                assert!(at >= deadline && at <= deadline + coarse, "{at} for {deadline} from {start}");
            }
        }
    }

    #[test]
    fn a_short_time_is_exact_although_the_wheel_has_slept() {
        let mut timers = Timers::new(Millis(0), ALONE);
        assert_eq!(timers.put(Millis(10_010), 1u32, Millis(10_000)), Millis(10_010));
        assert_eq!(run(&mut timers, Millis(20_000)), [(10_010, 1)]);
    }
}
