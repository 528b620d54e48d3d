//! `relay`: what a shard is, as bytes, and whatever else claims to be that.

use crate::shard::{packed, unpacked};
use crate::{Random, assert_memory};

/// An empty slot takes a byte, and as much memory as one that is not.
const BYTES_PER_BYTE: usize = 512;
/// What an empty shard takes.
const BYTES: usize = 4 << 20;
/// Of so many inputs one shard is read as it was written; of the others a byte is changed.
const UNCHANGED_ONE_IN: usize = 4;

/// Takes the bytes as a packed shard, and as what one peer sends to a shard, which is packed then.
pub fn relay(data: &[u8]) {
    check(data);
    let Some(mut bytes) = packed(data) else { return };
    let mut random = Random::of(data);
    if random.below(UNCHANGED_ONE_IN) == 0 {
        let shard = unpacked(&bytes).expect("what was packed is whole");
        return assert!(shard.pack() == bytes, "what was read is not what was written");
    }
    let at = random.below(bytes.len());
    bytes[at] = random.byte();
    check(&bytes);
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
