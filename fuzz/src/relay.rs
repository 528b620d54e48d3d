//! `relay`: what a shard is, as bytes, and whatever else claims to be that.

use crate::shard::{packed, unpacked};
use crate::{Random, assert_memory};

/// An empty slot takes a byte, and as much memory as one that is not.
const BYTES_PER_BYTE: usize = 512;
/// What an empty shard takes.
const BYTES: usize = 4 << 20;
/// Takes the bytes as what one peer sends to a shard, which is packed then, and as a packed shard.
pub fn relay(data: &[u8]) {
    check(data);
    let Some(bytes) = packed(data) else { return };
    let shard = unpacked(&bytes).expect("what was packed is whole");
    assert!(shard.pack() == bytes, "what was read is not what was written");
    assert!(unpacked(&bytes[..bytes.len() - 1]).is_none(), "a part of it is not all of it");
    let mut random = Random::of(data);
    let mut changed = bytes;
    let at = random.below(changed.len());
    changed[at] = random.byte();
    check(&changed);
}

/// What can be read takes no more memory than its bytes are worth, and is written as it is read.
fn check(bytes: &[u8]) {
    let mut shard = None;
    assert_memory("a packed shard", BYTES + BYTES_PER_BYTE * bytes.len(), || shard = unpacked(bytes));
    let Some(shard) = shard else { return };
    let packed = shard.pack();
    let again = unpacked(&packed).expect("what was written can be read");
    assert!(again.pack() == packed, "what was read again is not what was written");
}
