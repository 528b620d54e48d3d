//! `Topology`: which node of a Redis Cluster has which shard channels.

use redis::Value;

use super::link::text;
use super::settings::Address;

const SLOTS: u16 = 16384;
const NOBODY: u16 = u16::MAX;

/// What is known of where channels are.
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
}

impl SlotMap {
    /// From the answer to `CLUSTER SLOTS`; `asked` is whose answer it is.
    pub(super) fn from_answer(answer: &Value, asked: &Address) -> Option<SlotMap> {
        let Value::Array(ranges) = answer else { return None };
        let mut map = SlotMap { masters: Vec::new(), owners: vec![NOBODY; usize::from(SLOTS)].into() };
        for range in ranges {
            let Value::Array(range) = range else { return None };
            let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = range.as_slice() else { return None };
            let [host, Value::Int(port), ..] = master.as_slice() else { return None };
            // A node that does not know its own address names none: it is the one that was asked.
            let host = text(host).filter(|host| !host.is_empty() && *host != "?").unwrap_or(&asked.host);
            let address = Address { host: host.to_owned(), port: u16::try_from(*port).ok()? };
            let known = map.masters.iter().position(|master| *master == address);
            let index = known.unwrap_or_else(|| {
                map.masters.push(address);
                map.masters.len() - 1
            });
            let (first, last) = (usize::try_from(*first).ok()?, usize::try_from(*last).ok()?);
            map.owners.get_mut(first..=last)?.fill(u16::try_from(index).ok()?);
        }
        (!map.masters.is_empty()).then_some(map)
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

/// The slot of a key or shard channel: of what stands between the first braces, if there is something, or of all of it.
pub(super) fn slot(key: &[u8]) -> u16 {
    let tag = || {
        let open = key.iter().position(|byte| *byte == b'{')?;
        let inside = key.get(open + 1..)?;
        let length = inside.iter().position(|byte| *byte == b'}').filter(|length| *length > 0)?;
        inside.get(..length)
    };
    crc16::State::<crc16::XMODEM>::calculate(tag().unwrap_or(key)) % SLOTS
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
