//! Hash maps, in the order of their keys' bytes: the same state has the same bytes.

use std::hash::{BuildHasher, Hash};

use hashbrown::HashMap;
use sockring_protocol::Millis;
use sockring_protocol::portable::{Packer, Portable, Unpacker, Unreadable, named, with};

pub(in crate::shard) const fn form_of<T, K: Portable, V: Portable, S>(_: fn(T) -> HashMap<K, V, S>) -> u64 {
    with(with(named("map"), K::FORM), V::FORM)
}

pub(in crate::shard) fn pack<K: Portable, V: Portable, S>(map: &HashMap<K, V, S>, out: &mut Packer) {
    let key_bytes = |key: &K| {
        let mut packer = Packer::new(Millis(0));
        key.pack(&mut packer);
        packer.into_bytes()
    };
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_cached_key(|(key, _)| key_bytes(key));
    out.number(entries.len() as u64);
    for (key, value) in entries {
        key.pack(out);
        value.pack(out);
    }
}

pub(in crate::shard) fn unpack<K, V, S>(from: &mut Unpacker<'_>) -> Result<HashMap<K, V, S>, Unreadable>
where
    K: Portable + Eq + Hash,
    V: Portable,
    S: BuildHasher + Default,
{
    (0..from.count()?).map(|_| Ok((K::unpack(from)?, V::unpack(from)?))).collect()
}
