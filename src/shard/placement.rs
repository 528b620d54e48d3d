//! Where a room is at home: the one shard that knows which others have members of it.

/// The home shard of a room among `shards`. Every shard of an instance computes the same.
pub fn home_of(namespace: &str, room: &str, shards: u16) -> u16 {
    // FNV-1a: the same on all shards and in all runs, which a seeded hasher is not.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in namespace.bytes().chain([0]).chain(room.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    u16::try_from((hash >> 32) % u64::from(shards.max(1))).unwrap_or(0)
}
