//! `Sid`: an id that names its shard and slot and that nobody can guess; and the randomness behind it.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Random bytes in a sid: 72 bits.
pub const RANDOM_BYTES: usize = 9;
const TEXT_BYTES: usize = 20;

/// An Engine.IO or Socket.IO session id: shard (2 bytes), slot (4), random (9); 20 characters of base64url as text.
///
/// It has no `Debug` or `Display` that shows it, so it cannot end in a log by accident.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sid {
    pub shard: u16,
    pub slot: u32,
    pub random: [u8; RANDOM_BYTES],
}

/// A sid as text, without allocation.
#[derive(Clone, Copy)]
pub struct SidText([u8; TEXT_BYTES]);

impl Sid {
    pub fn text(&self) -> SidText {
        let mut bytes = [0; 15];
        bytes[..2].copy_from_slice(&self.shard.to_be_bytes());
        bytes[2..6].copy_from_slice(&self.slot.to_be_bytes());
        bytes[6..].copy_from_slice(&self.random);
        let mut text = [0; TEXT_BYTES];
        URL_SAFE_NO_PAD.encode_slice(bytes, &mut text).expect("15 bytes are 20 characters of base64");
        SidText(text)
    }

    /// `None` for a text that is no sid of ours.
    pub fn parse(text: &str) -> Option<Sid> {
        let mut bytes = [0; 15];
        if text.len() != TEXT_BYTES || URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) != Ok(15) {
            return None;
        }
        let [s1, s0, i3, i2, i1, i0, random @ ..] = bytes;
        Some(Sid { shard: u16::from_be_bytes([s1, s0]), slot: u32::from_be_bytes([i3, i2, i1, i0]), random })
    }
}

impl SidText {
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sid(shard {}, slot {})", self.shard, self.slot)
    }
}

/// Where random bytes come from: the operating system in production, a seed in the simulation.
pub trait Entropy {
    fn fill(&mut self, bytes: &mut [u8]);
}

/// A stock of random bytes, so that a sid does not cost a system call. Bytes are wiped when used.
pub(super) struct RandomPool {
    entropy: Box<dyn Entropy>,
    stock: Box<[u8; 1024]>,
    used: usize,
}

impl RandomPool {
    pub(super) fn new(entropy: Box<dyn Entropy>) -> RandomPool {
        RandomPool { entropy, stock: Box::new([0; 1024]), used: 1024 }
    }

    pub(super) fn take<const N: usize>(&mut self) -> [u8; N] {
        if self.used + N > self.stock.len() {
            self.entropy.fill(&mut self.stock[..]);
            self.used = 0;
        }
        let mut bytes = [0; N];
        let taken = &mut self.stock[self.used..self.used + N];
        bytes.copy_from_slice(taken);
        taken.fill(0);
        self.used += N;
        bytes
    }

    /// A number below `bound`; 0 if `bound` is 0. For spreading, not for secrets.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
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
        let sid = Sid { shard: 513, slot: 0xdead_beef, random: [255; 9] };
        let text = sid.text();
        assert_eq!(text.as_str().len(), 20);
        assert!(text.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
        assert_eq!(Sid::parse(text.as_str()), Some(sid));
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
