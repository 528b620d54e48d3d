//! Where a room lives: its home shard follows from its name alone.

use super::sid::Sid;

/// Which shard of how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardNumber {
    pub number: u16,
    pub of: u16,
}

/// The home of a room among this many shards. The namespace does not count, so that a user's rooms in all namespaces have
/// one home: where its clients live. A socket id, which is a room too, has the shard that it names; so may one of another
/// instance, which is a name like any other: all that counts is that everybody here agrees.
pub fn home_of(room: &str, shards: u16) -> u16 {
    if let Some(sid) = Sid::parse(room).filter(|sid| sid.shard() < shards) {
        return sid.shard();
    }
    // FNV-1a; its low bits depend on little of the text, so it is mixed, and scaled instead of divided.
    let hash = room
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    u16::try_from((mixed * u64::from(shards)) >> 32).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::moving::sid::Instance;

    #[test]
    fn homes_are_shards_and_users_are_spread_evenly() {
        for shards in [1u16, 2, 3, 4, 7, 64] {
            let mut counts = vec![0u32; usize::from(shards)];
            for user in 0..6400 {
                counts[usize::from(home_of(&format!("user:{user}"), shards))] += 1;
            }
            let fair = 6400 / u32::from(shards);
            assert!(counts.iter().all(|count| count.abs_diff(fair) <= fair / 3 + 20), "{shards}: {counts:?}");
        }
    }

    #[test]
    fn a_socket_id_is_at_home_where_it_says() {
        let sid = Sid::new(Instance::new(5), 3, 9, [7; 9]);
        assert_eq!(home_of(sid.text().as_str(), 4), 3);
        assert!(home_of(sid.text().as_str(), 2) < 2);
    }
}
