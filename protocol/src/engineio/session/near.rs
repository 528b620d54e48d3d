//! `Near`: a time that is less than twelve days from now, in half the bytes of one that may be at any time.

use crate::Millis;
use crate::portable::{Packer, Portable, Unpacker, Unreadable};

/// A point in time by its last bits, or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Near(u32);

/// Bits that count. What is more than half of what they count away would be taken for the other side of now.
const BITS: u32 = 31;
const MASK: u64 = (1 << BITS) - 1;

impl Near {
    pub(super) const NEVER: Near = Near(u32::MAX);

    pub(super) fn of(at: Millis) -> Near {
        Near(u32::try_from(at.0 & MASK).unwrap_or_default())
    }

    /// The time that was meant, as seen from now.
    pub(super) fn at(self, now: Millis) -> Millis {
        if self == Near::NEVER {
            return Millis::NEVER;
        }
        match u64::from(self.0).wrapping_sub(now.0) & MASK {
            ahead if ahead <= MASK / 2 => now + ahead,
            behind => Millis(now.0.saturating_sub(MASK + 1 - behind)),
        }
    }
}

/// By another clock it is another number.
impl Portable for Near {
    const FORM: u64 = Millis::FORM;

    fn pack(&self, out: &mut Packer) {
        self.at(out.now()).pack(out);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<Near, Unreadable> {
        let at = Millis::unpack(from)?;
        Ok(if at == Millis::NEVER { Near::NEVER } else { Near::of(at) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_comes_back_as_it_was() {
        let far_on = 1 << 40;
        for now in [0, 50, MASK, MASK + 1, far_on, far_on + MASK - 20] {
            for at in [now.saturating_sub(1_000_000), now.saturating_sub(1), now, now + 1, now + 50, now + 900_000_000]
            {
                assert_eq!(Near::of(Millis(at)).at(Millis(now)), Millis(at), "{at} from {now}");
            }
            assert_eq!(Near::NEVER.at(Millis(now)), Millis::NEVER);
        }
    }
}
