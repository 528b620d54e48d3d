//! Hash sets, in order: the same state has the same bytes.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hash};

use sockring_protocol::portable::{Packer, Portable, Unpacker, Unreadable, named, with};

pub(in crate::shard) const fn form_of<S, T: Portable, H>(_: fn(S) -> HashSet<T, H>) -> u64 {
    with(named("set"), T::FORM)
}

pub(in crate::shard) fn pack<T: Portable + Ord, S>(set: &HashSet<T, S>, out: &mut Packer) {
    let mut members: Vec<_> = set.iter().collect();
    members.sort_unstable();
    out.number(members.len() as u64);
    members.into_iter().for_each(|member| member.pack(out));
}

pub(in crate::shard) fn unpack<T, S>(from: &mut Unpacker<'_>) -> Result<HashSet<T, S>, Unreadable>
where
    T: Portable + Eq + Hash,
    S: BuildHasher + Default,
{
    (0..from.count()?).map(|_| T::unpack(from)).collect()
}
