//! Hash maps in a list, one for each namespace.

use std::hash::{BuildHasher, Hash};

use hashbrown::HashMap;
use sockring_protocol::portable::{Packer, Portable, Unpacker, Unreadable, named, with};

use super::maps;

pub(in crate::shard) const fn form_of<T, K: Portable, V: Portable, S>(_: fn(T) -> Vec<HashMap<K, V, S>>) -> u64 {
    with(with(named("maps"), K::FORM), V::FORM)
}

pub(in crate::shard) fn pack<K: Portable, V: Portable, S>(list: &[HashMap<K, V, S>], out: &mut Packer) {
    out.number(list.len() as u64);
    list.iter().for_each(|map| maps::pack(map, out));
}

pub(in crate::shard) fn unpack<K, V, S>(from: &mut Unpacker<'_>) -> Result<Vec<HashMap<K, V, S>>, Unreadable>
where
    K: Portable + Eq + Hash,
    V: Portable,
    S: BuildHasher + Default,
{
    (0..from.count()?).map(|_| maps::unpack(from)).collect()
}
