//! `Topology`: which node of a Redis Cluster has which shard channels.

use crc::{CRC_16_XMODEM, Crc};
use redis::Value;

use super::link::text;
use super::settings::Address;

const SLOTS: u16 = 16384;
const NOBODY: u16 = u16::MAX;
/// What Redis makes slots of.
const SLOT_CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);

/// Where shard channels are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Topology {
    /// Nothing yet.
    Unknown,
    /// All of them at the one Redis of the settings.
    Single,
    Slots(SlotMap),
}

/// The masters of a Redis Cluster, and whose each slot is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SlotMap {
    masters: Vec<Address>,
    /// Index of the master, for each slot.
    owners: Box<[u16]>,
    /// Nodes have named other owners of some slots since the map was drawn.
    is_amended: bool,
}

impl SlotMap {
    /// From the answer to `CLUSTER SLOTS`; `asked` is whose answer it is.
    pub(super) fn from_answer(answer: &Value, asked: &Address) -> Option<SlotMap> {
        let Value::Array(ranges) = answer else { return None };
        let mut map =
            SlotMap { masters: Vec::new(), owners: vec![NOBODY; usize::from(SLOTS)].into(), is_amended: false };
        for range in ranges {
            let Value::Array(range) = range else { return None };
            let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = range.as_slice() else { return None };
            let [host, Value::Int(port), ..] = master.as_slice() else { return None };
            // A node that does not know its own address names none: it is the one that was asked.
            let host = text(host).filter(|host| !host.is_empty() && *host != "?").unwrap_or(&asked.host);
            let address = Address { host: host.to_owned(), port: u16::try_from(*port).ok()? };
            let index = map.index_of(address);
            let (first, last) = (usize::try_from(*first).ok()?, usize::try_from(*last).ok()?);
            map.owners.get_mut(first..=last)?.fill(u16::try_from(index).ok()?);
        }
        (!map.masters.is_empty()).then_some(map)
    }

    fn index_of(&mut self, address: Address) -> usize {
        let known = self.masters.iter().position(|master| *master == address);
        known.unwrap_or_else(|| {
            self.masters.push(address);
            self.masters.len() - 1
        })
    }

    /// A node says that this one has a slot now.
    pub(super) fn amend(&mut self, moved: Moved) {
        let index = self.index_of(moved.to);
        if let (Some(owner), Ok(index)) = (self.owners.get_mut(usize::from(moved.slot)), u16::try_from(index)) {
            *owner = index;
            self.is_amended = true;
        }
    }

    pub(super) fn masters(&self) -> &[Address] {
        &self.masters
    }

    /// The master that has this channel.
    pub(super) fn owner(&self, channel: &str) -> Option<&Address> {
        let owner = self.owners.get(usize::from(slot(channel.as_bytes())))?;
        self.masters.get(usize::from(*owner))
    }
}

/// Another node has a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) slot: u16,
    pub(super) to: Address,
}

impl Moved {
    /// From `MOVED <slot> <host>:<port>`, without its first word. A node that is asked by `asked` and names no host is that
    /// one's.
    pub(super) fn from_details(details: &str, asked: &Address) -> Option<Moved> {
        let (slot, to) = details.split_once(' ')?;
        let (host, port) = to.rsplit_once(':')?;
        let host = if host.is_empty() || host == "?" { &asked.host } else { host };
        let slot = slot.parse().ok().filter(|slot| *slot < SLOTS)?;
        Some(Moved { slot, to: Address { host: host.to_owned(), port: port.parse().ok()? } })
    }
}

/// The slot of a key or shard channel: of what stands between the first braces, if there is something, or of all of it.
pub(super) fn slot(key: &[u8]) -> u16 {
    let tag = || {
        let open = key.iter().position(|byte| *byte == b'{')?;
        let inside = key.get(open + 1..)?;
        let length = inside.iter().position(|byte| *byte == b'}').filter(|length| *length > 0)?;
        inside.get(..length)
    };
    SLOT_CRC.checksum(tag().unwrap_or(key)) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // As `CLUSTER KEYSLOT` answers.
        for (key, expected) in [
            ("", 0),
            ("foo", 12182),
            ("123456789", 12739),
            ("{user1000}.following", 3443),
            ("{user1000}.followers", 3443),
            ("foo{}{bar}", 8363),
            ("foo{{bar}}zap", 4015),
        ] {
            assert_eq!(slot(key.as_bytes()), expected, "{key}");
        }
    }

    fn node(host: &str, port: i64) -> Value {
        Value::Array(vec![Value::BulkString(host.as_bytes().to_vec()), Value::Int(port)])
    }

    fn range(first: i64, last: i64, master: Value) -> Value {
        Value::Array(vec![Value::Int(first), Value::Int(last), master, node("replica", 1)])
    }

    #[test]
    fn a_map_names_the_master_of_each_slot() {
        let asked = Address { host: "seed".to_owned(), port: 7000 };
        let answer = Value::Array(vec![
            range(0, 8191, node("", 7000)),
            range(8192, 12000, node("b", 7001)),
            range(12001, 16383, node("", 7000)),
        ]);
        let map = SlotMap::from_answer(&answer, &asked).unwrap();
        assert_eq!(map.masters().len(), 2);
        assert_eq!(map.owner("foo").unwrap(), &asked);
        assert_eq!(map.owner("foo{}{bar}").unwrap().host, "b");
        let moved = Moved::from_details("12182 :7002", &asked).unwrap();
        assert_eq!(moved, Moved { slot: 12182, to: Address { host: "seed".to_owned(), port: 7002 } });
        let mut amended = map.clone();
        amended.amend(moved);
        assert_eq!(amended.owner("foo").unwrap().port, 7002);
        amended.amend(Moved::from_details("12182 seed:7000", &asked).unwrap());
        assert_eq!(amended.owner("foo"), map.owner("foo"));
        assert_ne!(amended, map, "it is still to be drawn anew");
        for wrong in ["", "12182", "16384 a:1", "1 a", "1 a:b", "-1 a:1"] {
            assert_eq!(Moved::from_details(wrong, &asked), None, "{wrong}");
        }
        for wrong in [
            Value::Nil,
            Value::Array(vec![]),
            Value::Array(vec![range(0, 16384, node("a", 1))]),
            Value::Array(vec![range(-1, 5, node("a", 1))]),
            Value::Array(vec![range(9, 5, node("a", 70000))]),
        ] {
            assert_eq!(SlotMap::from_answer(&wrong, &asked), None, "{wrong:?}");
        }
    }
}
