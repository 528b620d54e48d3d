//! Lists that several refer to: each of them has one of its own then.

use std::sync::Arc;

use sockring_protocol::portable::{Packer, Portable, Unpacker, Unreadable, named, with};

pub(in crate::shard) const fn form_of<S, T: Portable>(_: fn(S) -> Arc<[T]>) -> u64 {
    with(named("list"), T::FORM)
}

pub(in crate::shard) fn pack<T: Portable>(list: &Arc<[T]>, out: &mut Packer) {
    out.number(list.len() as u64);
    list.iter().for_each(|part| part.pack(out));
}

pub(in crate::shard) fn unpack<T: Portable>(from: &mut Unpacker<'_>) -> Result<Arc<[T]>, Unreadable> {
    Vec::unpack(from).map(Arc::from)
}
