//! `Token`: the name under which an operation's completion comes back, and how it is packed into 64 bits.

/// Names a descriptor of the ring's user: an index and the generation of that index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    pub index: u32,
    /// Only the low 24 bits travel.
    pub generation: u32,
}

/// The bits of a generation that a completion brings back.
pub const GENERATION_MASK: u32 = 0x00ff_ffff;

/// What an operation was, as stored in the top byte of its user data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Operation {
    Accept = 1,
    Watch = 2,
    Receive = 3,
    /// The index is that of the flight, not of the token.
    Send = 4,
    Shutdown = 5,
    Cancel = 6,
    Close = 7,
    CancelAccept = 8,
    Look = 9,
    /// There is room for more of a send; its index is that of the flight, too.
    Room = 10,
}

impl Operation {
    fn from_byte(byte: u8) -> Option<Operation> {
        use Operation::*;
        [Accept, Watch, Receive, Send, Shutdown, Cancel, Close, CancelAccept, Look, Room]
            .into_iter()
            .find(|operation| *operation as u8 == byte)
    }
}

pub(super) fn pack(operation: Operation, token: Token) -> u64 {
    u64::from(operation as u8) << 56 | u64::from(token.generation & GENERATION_MASK) << 32 | u64::from(token.index)
}

/// `None` for user data that `pack` never made.
pub(super) fn unpack(user_data: u64) -> Option<(Operation, Token)> {
    let [top, g2, g1, g0, i3, i2, i1, i0] = user_data.to_be_bytes();
    let token = Token { index: u32::from_be_bytes([i3, i2, i1, i0]), generation: u32::from_be_bytes([0, g2, g1, g0]) };
    Some((Operation::from_byte(top)?, token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_brings_back_what_was_packed() {
        for (index, generation) in [(0, 0), (1, 2), (u32::MAX, GENERATION_MASK), (7, GENERATION_MASK + 5)] {
            let packed = pack(Operation::Receive, Token { index, generation });
            let token = Token { index, generation: generation & GENERATION_MASK };
            assert_eq!(unpack(packed), Some((Operation::Receive, token)));
        }
        assert_eq!(unpack(0), None);
        assert_eq!(unpack(u64::MAX), None);
    }
}
