//! Slabs, slot by slot: what is there has the same number again.

use slab::Slab;
use sockring_protocol::portable::{Packer, Portable, Unpacker, Unreadable, named, with};

pub(in crate::shard) const fn form_of<S, T: Portable>(_: fn(S) -> Slab<T>) -> u64 {
    with(named("slab"), T::FORM)
}

pub(in crate::shard) fn pack<T: Portable>(slab: &Slab<T>, out: &mut Packer) {
    let slots = slab.iter().last().map_or(0, |(last, _)| last + 1);
    slots.pack(out);
    let mut next = 0;
    for (slot, entry) in slab {
        (next..slot).for_each(|_| false.pack(out));
        true.pack(out);
        entry.pack(out);
        next = slot + 1;
    }
}

pub(in crate::shard) fn unpack<T: Portable>(from: &mut Unpacker<'_>) -> Result<Slab<T>, Unreadable> {
    let mut entries = Vec::new();
    for slot in 0..from.count()? {
        if let Some(entry) = Option::unpack(from)? {
            entries.push((slot, entry));
        }
    }
    Ok(Slab::from_iter(entries))
}

/// The same with room for as many as it had room for before.
pub(in crate::shard) fn refill<T: Portable>(slab: &mut Slab<T>, from: &mut Unpacker<'_>) -> Result<(), Unreadable> {
    let capacity = slab.capacity();
    *slab = unpack(from)?;
    slab.reserve_exact(capacity.saturating_sub(slab.len()));
    Ok(())
}
