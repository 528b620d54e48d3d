//! `Capacity`: what all shards of a process share: how many connections and clients there may be, and how many requests one
//! address may make, and how much may have been begun. It is the only state with more than one owner, and none of it is touched
//! by a message that comes whole.

mod accepting;
mod addresses;
mod carried;
mod seat;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sockring_protocol::Millis;

pub use accepting::{AcceptError, AcceptErrors, Door};
pub use seat::{Permit, Standing, Stranger, TooMany};

use addresses::{Addresses, take, whole_site};

/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 1 << 16;
/// When there are more, this part of them goes at once: to choose them is work for all of them.
const FORGOTTEN_SHARE: usize = 4;
const MINUTE_MS: u64 = 60_000;
/// Refused origins that are logged, and how long they may be.
const ORIGINS_LOGGED_MAX: usize = 64;
const ORIGIN_BYTES_MAX: usize = 256;

/// Limits of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapacityLimits {
    pub connections_max: usize,
    /// Connections beyond it, and descriptors, that are left for those who are only answered.
    pub guests_max: usize,
    /// Connections of one address at the clients' port before they have a session or have shown an API key.
    pub connections_per_address_max: u32,
    /// The same at the API's own address.
    pub api_connections_per_address_max: u32,
    pub clients_max: usize,
    /// File descriptors of connections that are not WebSockets yet; the operating system limits them.
    pub descriptors_max: usize,
    /// Bytes of what peers have begun and not ended.
    pub input_bytes_max: usize,
    /// Sessions that one address may open in a minute.
    pub handshakes_per_minute_max: u32,
    /// Requests with a session id that is nobody's.
    pub unknown_sids_per_minute_max: u32,
    /// CONNECTs that were refused.
    pub connect_refusals_per_minute_max: u32,
}

impl CapacityLimits {
    pub const UNLIMITED: CapacityLimits = CapacityLimits {
        connections_max: usize::MAX,
        guests_max: 0,
        connections_per_address_max: u32::MAX,
        api_connections_per_address_max: u32::MAX,
        clients_max: usize::MAX,
        descriptors_max: usize::MAX,
        input_bytes_max: usize::MAX,
        handshakes_per_minute_max: u32::MAX,
        unknown_sids_per_minute_max: u32::MAX,
        connect_refusals_per_minute_max: u32::MAX,
    };
}

impl CapacityLimits {
    /// Those that only come to be answered too.
    pub fn all_connections_max(&self) -> usize {
        self.connections_max.saturating_add(self.guests_max)
    }
}

/// What is left of these limits.
#[derive(Debug)]
pub struct Capacity {
    limits: CapacityLimits,
    connections: AtomicUsize,
    guests: AtomicUsize,
    /// By door.
    addresses: [Addresses; Door::ALL.len()],
    clients: AtomicUsize,
    descriptors: AtomicUsize,
    input_bytes: AtomicUsize,
    pub accept_errors: AcceptErrors,
    /// By kind.
    buckets: [Mutex<HashMap<IpAddr, Bucket>>; 3],
    /// Addresses that were forgotten though they had used some of their minute's worth.
    forgotten: AtomicU64,
    /// Origins that the log has as refused.
    refused_origins: Mutex<Vec<Box<str>>>,
}

/// What is counted by address, or by the first half of it (IPv6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    Handshakes = 0,
    UnknownSids = 1,
    ConnectRefusals = 2,
}

/// A token bucket: full at first, refilled evenly over a minute.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// In thousandths.
    tokens: u64,
    at: Millis,
}

impl Bucket {
    /// What is in it now, where `full` is the most.
    fn tokens(&self, full: u64, now: Millis) -> u64 {
        (self.tokens + (now - self.at).min(MINUTE_MS) * full / MINUTE_MS).min(full)
    }
}

impl Capacity {
    pub fn new(limits: CapacityLimits) -> Capacity {
        Capacity {
            limits,
            connections: AtomicUsize::new(0),
            guests: AtomicUsize::new(0),
            addresses: Default::default(),
            clients: AtomicUsize::new(0),
            descriptors: AtomicUsize::new(0),
            input_bytes: AtomicUsize::new(0),
            accept_errors: AcceptErrors::default(),
            buckets: Default::default(),
            forgotten: AtomicU64::new(0),
            refused_origins: Mutex::default(),
        }
    }

    pub fn limits(&self) -> &CapacityLimits {
        &self.limits
    }

    /// Whether the operator is to read of a refused origin: of each once, up to a number of them.
    pub fn is_news(&self, origin: &str) -> bool {
        let mut known = self.refused_origins.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = origin.len() <= ORIGIN_BYTES_MAX
            && known.len() < ORIGINS_LOGGED_MAX
            && !known.iter().any(|other| **other == *origin);
        if is_news {
            known.push(origin.into());
        }
        is_news
    }

    /// How many clients there are in the process.
    pub fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    /// Whether there are as many connections as there may be; if there is no room in spite of this being false, descriptors
    /// have run short.
    pub fn is_full(&self) -> bool {
        self.connections.load(Ordering::Relaxed) >= self.limits.connections_max
    }

    /// One that was counted before and comes from another shard.
    pub fn add_connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub fn add_descriptor(&self) {
        self.descriptors.fetch_add(1, Ordering::Relaxed);
    }

    pub fn give_back_descriptor(&self) {
        self.descriptors.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts bytes of what a peer has begun; `false`: there is no room for them.
    pub fn take_input(&self, bytes: usize) -> bool {
        let has_room = self.input_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.limits.input_bytes_max;
        if !has_room {
            self.give_back_input(bytes);
        }
        has_room
    }

    pub fn give_back_input(&self, bytes: usize) {
        self.input_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub fn take_client(&self) -> bool {
        take(&self.clients, self.limits.clients_max)
    }

    pub fn give_back_client(&self) {
        self.clients.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether a request of this address would be admitted. It is not counted.
    pub fn has_left(&self, rate: Rate, address: Option<IpAddr>, now: Millis) -> bool {
        let Some(address) = address.map(whole_site) else { return true };
        let buckets = self.buckets_of(rate);
        buckets.get(&address).is_none_or(|bucket| bucket.tokens(self.full(rate), now) >= 1000)
    }

    #[expect(clippy::indexing_slicing, reason = "there are as many as rates")]
    fn buckets_of(&self, rate: Rate) -> MutexGuard<'_, HashMap<IpAddr, Bucket>> {
        self.buckets[rate as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has come in by a door, by address.
    #[expect(clippy::indexing_slicing, reason = "there are as many as doors")]
    fn at(&self, door: Door) -> &Addresses {
        &self.addresses[door as usize]
    }

    /// Addresses that were forgotten to make room for others.
    pub fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// What a bucket holds at most.
    fn full(&self, rate: Rate) -> u64 {
        let max = match rate {
            Rate::Handshakes => self.limits.handshakes_per_minute_max,
            Rate::UnknownSids => self.limits.unknown_sids_per_minute_max,
            Rate::ConnectRefusals => self.limits.connect_refusals_per_minute_max,
        };
        u64::from(max) * 1000
    }

    /// Counts a request of this address; `false`: it has made too many. An address that does not count is `None`.
    pub fn admit(&self, rate: Rate, address: Option<IpAddr>, now: Millis) -> bool {
        let Some(address) = address.map(whole_site) else { return true };
        let mut buckets = self.buckets_of(rate);
        let full = self.full(rate);
        if buckets.len() >= ADDRESSES_MAX && !buckets.contains_key(&address) {
            let forgotten = forget_some(&mut buckets, full, now);
            self.forgotten.fetch_add(forgotten as u64, Ordering::Relaxed);
        }
        let bucket = buckets.entry(address).or_insert(Bucket { tokens: full, at: now });
        bucket.tokens = bucket.tokens(full, now);
        bucket.at = now.max(bucket.at);
        match bucket.tokens.checked_sub(1000) {
            Some(left) => {
                bucket.tokens = left;
                true
            }
            None => false,
        }
    }
}

/// Makes room for new addresses: those whose buckets are full again say nothing and go, and where that is not enough, those
/// that have used least, the quietest of them first. Who has used up its bucket is remembered longest, or it would only have to
/// come by many other addresses. Says how many of them had used some.
fn forget_some(buckets: &mut HashMap<IpAddr, Bucket>, full: u64, now: Millis) -> usize {
    buckets.retain(|_, bucket| bucket.tokens(full, now) < full);
    let kept = ADDRESSES_MAX - ADDRESSES_MAX / FORGOTTEN_SHARE;
    let Some(surplus) = buckets.len().checked_sub(kept).filter(|surplus| *surplus > 0) else { return 0 };
    let rank = |bucket: &Bucket| (bucket.tokens(full, now), Reverse(bucket.at));
    let mut ranks: Vec<_> = buckets.values().map(rank).collect();
    // The `surplus` highest of them go; of those that equal the lowest among these, as many as it takes.
    let (_, bound, above) = ranks.select_nth_unstable(kept);
    let bound = *bound;
    let mut equal = surplus - above.iter().filter(|rank| **rank > bound).count();
    buckets.retain(|_, bucket| {
        let rank = rank(bucket);
        let goes = rank > bound || (rank == bound && equal > 0);
        equal -= usize::from(goes && rank == bound);
        !goes
    });
    surplus
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capacity() -> Capacity {
        Capacity::new(CapacityLimits {
            connections_max: 2,
            clients_max: 1,
            descriptors_max: 9,
            input_bytes_max: 100,
            guests_max: 0,
            connections_per_address_max: u32::MAX,
            api_connections_per_address_max: u32::MAX,
            handshakes_per_minute_max: 60,
            unknown_sids_per_minute_max: 3,
            connect_refusals_per_minute_max: 2,
        })
    }

    #[test]
    fn there_is_room_up_to_the_limit_and_again_when_one_is_gone() {
        let capacity = capacity();
        let take = || capacity.take_seat().is_some();
        assert!(take() && take() && !take() && !capacity.has_room_for_connection());
        capacity.give_back(Standing::Member);
        assert!(capacity.has_room_for_connection() && take());
        assert!(capacity.take_client() && !capacity.take_client());
        assert_eq!(capacity.clients(), 1);
    }

    #[test]
    fn there_is_no_room_either_when_descriptors_run_short() {
        let capacity = capacity();
        (0..9).for_each(|_| capacity.add_descriptor());
        assert!(!capacity.has_room_for_connection() && !capacity.is_full());
        capacity.give_back_descriptor();
        assert!(capacity.has_room_for_connection());
    }

    #[test]
    fn there_is_room_for_so_much_that_has_begun() {
        let capacity = capacity();
        assert!(capacity.take_input(60) && !capacity.take_input(41) && capacity.take_input(40));
        capacity.give_back_input(41);
        assert!(capacity.take_input(41) && !capacity.take_input(1));
    }

    #[test]
    fn an_address_has_its_minutes_worth_and_then_one_at_a_time() {
        let capacity = capacity();
        let address = |last| Some(IpAddr::from([203, 0, 113, last]));
        let ask = |last, at| capacity.admit(Rate::Handshakes, address(last), Millis(at));
        assert!((0..60).all(|_| ask(1, 1_000)));
        assert!(!ask(1, 1_000) && ask(2, 1_000), "one address does not use up another's");
        assert!(!ask(1, 1_999) && ask(1, 2_999) && !ask(1, 2_999));
        assert!((0..60).all(|_| ask(1, 100_000)) && !ask(1, 100_000));
        assert!((0..9_999).all(|_| capacity.admit(Rate::UnknownSids, None, Millis(1))));
        assert!((0..4).filter(|_| capacity.admit(Rate::UnknownSids, address(1), Millis(1))).count() == 3);
    }

    #[test]
    fn to_look_costs_nothing() {
        let capacity = capacity();
        let address = Some(IpAddr::from([203, 0, 113, 1]));
        let has_left = |at| capacity.has_left(Rate::ConnectRefusals, address, Millis(at));
        assert!((0..9).all(|_| has_left(1)));
        assert!((0..2).all(|_| capacity.admit(Rate::ConnectRefusals, address, Millis(1))));
        assert!(!has_left(1) && !has_left(30_000) && has_left(30_001));
        assert!(capacity.has_left(Rate::ConnectRefusals, None, Millis(1)));
    }

    #[test]
    fn whoever_used_most_is_remembered_longest() {
        let capacity = capacity();
        let ask =
            |number: u32, at| capacity.admit(Rate::UnknownSids, Some(IpAddr::from(number.to_be_bytes())), Millis(at));
        let (loud, quiet, old) = (u32::MAX, u32::MAX - 1, u32::MAX - 2);
        assert!((0..3).all(|_| ask(loud, 1_000)) && !ask(loud, 1_000));
        assert!(ask(old, 1_000) && ask(quiet, 5_000) && ask(quiet, 5_000));
        for number in 0..3 * ADDRESSES_MAX as u32 {
            assert!(ask(number, 5_000));
        }
        assert!(!ask(loud, 5_000), "three times as many others do not make it forgotten");
        assert!(ask(quiet, 5_000) && !ask(quiet, 5_000), "what it had used is known");
        assert!(ask(old, 5_000) && ask(old, 5_000) && ask(old, 5_000), "the oldest of those who used one is forgotten");
        assert!(capacity.buckets[1].lock().unwrap().len() <= ADDRESSES_MAX);
        assert!(capacity.forgotten() > 2 * ADDRESSES_MAX as u64);
        // Those whose minute has passed go without being counted.
        let forgotten = capacity.forgotten();
        for number in 0..ADDRESSES_MAX as u32 {
            ask(number, 500_000);
        }
        assert_eq!(capacity.forgotten(), forgotten);
    }

    #[test]
    fn many_addresses_do_not_cost_memory_for_ever() {
        let capacity = capacity();
        for number in 0..(ADDRESSES_MAX as u32 + 10) {
            capacity.admit(Rate::Handshakes, Some(IpAddr::from(number.to_be_bytes())), Millis(5));
        }
        assert!(capacity.buckets[0].lock().unwrap().len() <= ADDRESSES_MAX);
    }
}
