//! `Sid`: an id that names its shard and slot and that nobody can guess; and the randomness behind it.
//!
//! ```text
//!   bit  0          18      26          48                                    120
//!        | instance | shard | slot      | chance                              |
//!          3 characters of the text       what nobody guesses
//! ```

use sockring_protocol::portable;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Random bytes in a sid: 72 bits.
pub(crate) const RANDOM_BYTES: usize = 9;
const BYTES: usize = 15;
const TEXT_BYTES: usize = 20;

/// How many bits of a sid name what: the instance, the shard, and the client's slot there; 48 in all. The instance comes
/// first and fills whole characters of the text, so that a pattern can name all sids of an instance.
const INSTANCE_BITS: u32 = 18;
const SHARD_BITS: u32 = 8;
const SLOT_BITS: u32 = 22;
const PREFIX_BYTES: usize = INSTANCE_BITS as usize / 6;

/// The shards, and the clients of one shard, that sids can tell apart.
pub const SHARDS_MOST: u16 = 1 << SHARD_BITS;
pub const SLOTS_MOST: usize = 1 << SLOT_BITS;

/// A process among those that share a bus, by chance unless an operator names it: what all its sids begin with. Two that have the same get each other's
/// messages to sockets, and drop them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Instance(u32);

portable!(struct Instance(number));

impl Instance {
    /// Of a random number.
    pub fn new(random: u32) -> Instance {
        Instance(random & ((1 << INSTANCE_BITS) - 1))
    }

    /// The one whose sids begin so; `None` for what is not three such characters.
    pub fn of_prefix(prefix: &str) -> Option<Instance> {
        if prefix.len() != PREFIX_BYTES {
            return None;
        }
        let sid = format!("{prefix}{}", "A".repeat(TEXT_BYTES - PREFIX_BYTES));
        Sid::parse(&sid).map(|sid| sid.instance())
    }

    pub fn number(self) -> u32 {
        self.0
    }

    /// The first three characters of its sids: letters, digits, `-` and `_`.
    pub fn prefix(self) -> String {
        self.first_sid().as_str()[..PREFIX_BYTES].to_owned()
    }

    fn first_sid(self) -> SidText {
        Sid::new(self, 0, 0, [0; RANDOM_BYTES]).text()
    }

    /// Whether a room has a name like those of its sockets: the prefix and 17 more bytes. One subscription by a pattern of
    /// just that form covers them all.
    pub fn covers(self, room: &str) -> bool {
        room.len() == TEXT_BYTES && room.starts_with(&self.first_sid().as_str()[..PREFIX_BYTES])
    }
}

/// An Engine.IO or Socket.IO session id: instance, shard, slot and 9 random bytes; 20 characters of base64url as text.
///
/// It has no `Debug` or `Display` that shows it, so it cannot end in a log by accident.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sid([u8; BYTES]);

portable!(struct Sid(bytes));

/// A sid as text, without allocation.
#[derive(Clone, Copy)]
pub struct SidText([u8; TEXT_BYTES]);

impl Sid {
    /// Settings keep shards and slots within what a sid has room for.
    pub fn new(instance: Instance, shard: u16, slot: u32, random: [u8; RANDOM_BYTES]) -> Sid {
        debug_assert!(shard < SHARDS_MOST && (slot as usize) < SLOTS_MOST);
        let place = u64::from(instance.0) << (SHARD_BITS + SLOT_BITS) | u64::from(shard) << SLOT_BITS | u64::from(slot);
        let [_, _, place @ ..] = place.to_be_bytes();
        let mut bytes = [0; BYTES];
        let (front, back) = bytes.split_at_mut(place.len());
        front.copy_from_slice(&place);
        back.copy_from_slice(&random);
        Sid(bytes)
    }

    pub fn text(&self) -> SidText {
        let mut text = [0; TEXT_BYTES];
        let written = URL_SAFE_NO_PAD.encode_slice(self.0, &mut text);
        debug_assert_eq!(written, Ok(TEXT_BYTES));
        SidText(text)
    }

    /// `None` for a text that is no sid, of whichever instance.
    pub fn parse(text: &str) -> Option<Sid> {
        let mut bytes = [0; BYTES];
        if text.len() != TEXT_BYTES || URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) != Ok(BYTES) {
            return None;
        }
        Some(Sid(bytes))
    }

    pub(crate) fn bytes(&self) -> [u8; BYTES] {
        self.0
    }

    pub(crate) fn from_bytes(bytes: [u8; BYTES]) -> Sid {
        Sid(bytes)
    }

    fn place(&self) -> u64 {
        let [a, b, c, d, e, f, ..] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }

    pub fn instance(&self) -> Instance {
        Instance(low(self.place() >> (SHARD_BITS + SLOT_BITS)))
    }

    pub fn shard(&self) -> u16 {
        let [_, _, high, low] = low(self.place() >> SLOT_BITS).to_be_bytes();
        u16::from_be_bytes([high, low]) & (SHARDS_MOST - 1)
    }

    pub fn slot(&self) -> u32 {
        low(self.place()) & ((1 << SLOT_BITS) - 1)
    }

    pub fn random(&self) -> [u8; RANDOM_BYTES] {
        let [_, _, _, _, _, _, random @ ..] = self.0;
        random
    }
}

/// The lower half of a number.
fn low(place: u64) -> u32 {
    let [_, _, _, _, low @ ..] = place.to_be_bytes();
    u32::from_be_bytes(low)
}

impl SidText {
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sid(shard {}, slot {})", self.shard(), self.slot())
    }
}

/// Where random bytes come from: the operating system in production, a seed in the simulation.
pub trait Entropy {
    fn fill(&mut self, bytes: &mut [u8]);
}

/// A stock of random bytes, so that a sid does not cost a system call. Bytes are wiped when used.
pub(crate) struct RandomPool {
    entropy: Box<dyn Entropy>,
    stock: Box<[u8; 1024]>,
    used: usize,
}

impl RandomPool {
    pub(crate) fn new(entropy: Box<dyn Entropy>) -> RandomPool {
        RandomPool { entropy, stock: Box::new([0; 1024]), used: 1024 }
    }

    pub(crate) fn take<const N: usize>(&mut self) -> [u8; N] {
        if self.used + N > self.stock.len() {
            self.entropy.fill(&mut self.stock[..]);
            self.used = 0;
        }
        let mut bytes = [0; N];
        let rest = self.stock.get_mut(self.used..).and_then(|rest| rest.first_chunk_mut::<N>());
        let Some(taken) = rest else { unreachable!("the stock is larger than all that is taken from it") };
        std::mem::swap(&mut bytes, taken);
        self.used += N;
        bytes
    }

    /// A number below `bound`; 0 if `bound` is 0. For spreading, not for secrets.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let scaled = (u128::from(u32::from_be_bytes(self.take())) * u128::from(bound)) >> 32;
        u64::try_from(scaled).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counting(u8);

    impl Entropy for Counting {
        fn fill(&mut self, bytes: &mut [u8]) {
            for byte in bytes {
                self.0 = self.0.wrapping_add(1);
                *byte = self.0;
            }
        }
    }

    #[test]
    fn a_sid_is_20_url_safe_characters_that_come_back() {
        let most = (u32::MAX, SHARDS_MOST - 1, (1 << SLOT_BITS) - 1, [255; 9]);
        for (instance, shard, slot, random) in [most, (0, 0, 0, [0; 9]), (0x2_a001, 133, 0x2b_cdef, [7; 9])] {
            let sid = Sid::new(Instance::new(instance), shard, slot, random);
            let text = sid.text();
            assert_eq!(text.as_str().len(), 20);
            assert!(text.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
            let back = Sid::parse(text.as_str()).unwrap();
            let parts = (back.instance(), back.shard(), back.slot(), back.random());
            assert_eq!(parts, (Instance::new(instance), shard, slot, random));
        }
    }

    #[test]
    fn a_prefix_covers_the_sids_of_its_instance_and_no_others() {
        let (here, there) = (Instance::new(0x1_2345), Instance::new(0x1_2346));
        let sid = Sid::new(here, 255, 77, [200; 9]).text();
        assert_eq!((here.prefix().len(), sid.as_str().starts_with(&here.prefix())), (3, true));
        assert!(here.covers(sid.as_str()) && !there.covers(sid.as_str()));
        assert!(!here.covers(&here.prefix()) && !here.covers(&[sid.as_str(), "x"].concat()));
    }

    #[test]
    fn what_is_no_sid_is_refused() {
        for text in
            ["", "__proto__", "constructor", "AAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAA=="]
        {
            assert_eq!(Sid::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_pool_never_gives_the_same_bytes_twice() {
        let mut pool = RandomPool::new(Box::new(Counting(0)));
        let mut last = pool.take::<9>();
        for _ in 0..500 {
            let next = pool.take::<9>();
            assert_ne!(last, next);
            last = next;
        }
        assert!((0..1000).all(|_| pool.below(10) < 10));
        assert_eq!(pool.below(0), 0);
        assert!(pool.below(u64::MAX) < u64::MAX);
    }
}
