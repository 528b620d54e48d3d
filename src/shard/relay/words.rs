//! Words that the log has: known to both sides by heart.

use sockring_protocol::portable::{Packer, Portable, Unpacker, Unreadable, named};

use crate::shard::faults::Broken;

pub(in crate::shard) const fn form_of<S>(_: fn(S) -> Option<&'static str>) -> u64 {
    named("word")
}

pub(in crate::shard) fn pack(word: &Option<&'static str>, out: &mut Packer) {
    word.unwrap_or_default().to_owned().pack(out);
}

pub(in crate::shard) fn unpack(from: &mut Unpacker<'_>) -> Result<Option<&'static str>, Unreadable> {
    let word = String::unpack(from)?;
    let known = Broken::ALL.iter().map(|broken| broken.label()).chain(["peer"]);
    Ok(known.into_iter().find(|known| *known == word))
}
