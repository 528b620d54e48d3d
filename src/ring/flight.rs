//! Memory lent to the kernel: the bytes of each send until its last completion.

use std::ops::Range;
use std::sync::Arc;

use slab::Slab;

use super::Token;

/// Bytes to send. Whoever holds one may share it, nobody may change it.
#[derive(Clone, Debug)]
pub enum SendBytes {
    /// One message for many receivers.
    Shared(Arc<[u8]>),
    /// A part of one.
    Piece(Arc<[u8]>, Range<usize>),
    Owned(Vec<u8>),
}

impl SendBytes {
    pub fn as_slice(&self) -> &[u8] {
        match self {
            SendBytes::Shared(bytes) => bytes,
            SendBytes::Piece(bytes, range) => bytes.get(range.clone()).unwrap_or_default(),
            SendBytes::Owned(bytes) => bytes,
        }
    }
}

/// A send under way.
#[derive(Debug)]
struct Lent<R> {
    bytes: SendBytes,
    sent: usize,
    token: Token,
    raw: R,
}

/// How a send stands after a completion.
#[derive(Debug, PartialEq, Eq)]
pub enum SendState {
    /// Bytes are left: send the rest.
    Partial,
    Done(Token),
    /// Ended by this errno.
    Failed(Token, i32),
}

/// An entry is asked for by the name that `lend` gave it, until its completion: anything else is a fault of ours.
const NOT_LENT: &str = "a send that is not under way";

/// All sends under way, and where they go to.
///
/// Invariant F1: an entry is removed, and its bytes dropped, only by `complete` or by `leak`. Moving an entry inside the
/// slab does not move the bytes: all kinds keep them on the heap.
#[derive(Debug)]
pub struct Flight<R> {
    lent: Slab<Lent<R>>,
}

impl<R> Default for Flight<R> {
    fn default() -> Flight<R> {
        Flight { lent: Slab::new() }
    }
}

impl<R: Copy> Flight<R> {
    pub fn lend(&mut self, token: Token, raw: R, bytes: SendBytes) -> u32 {
        assert!(!bytes.as_slice().is_empty(), "an empty send would never complete as done");
        let index = self.lent.insert(Lent { bytes, sent: 0, token, raw });
        let Ok(index) = u32::try_from(index) else { unreachable!("there are fewer sends than connections") };
        index
    }

    /// What is left of a send, where it is until `complete`.
    pub fn rest(&self, index: u32) -> (R, &[u8]) {
        let Some(lent) = self.lent.get(index as usize) else { unreachable!("{NOT_LENT}") };
        (lent.raw, lent.bytes.as_slice().get(lent.sent..).unwrap_or_default())
    }

    /// The kernel has let go of the bytes with this result: a count, or a negative errno.
    pub fn complete(&mut self, index: u32, result: i32) -> SendState {
        let Some(lent) = self.lent.get_mut(index as usize) else { unreachable!("{NOT_LENT}") };
        let token = lent.token;
        match usize::try_from(result) {
            Ok(count) if count > 0 => {
                lent.sent += count;
                if lent.sent < lent.bytes.as_slice().len() {
                    return SendState::Partial;
                }
                self.lent.remove(index as usize);
                SendState::Done(token)
            }
            _ => {
                self.lent.remove(index as usize);
                SendState::Failed(token, -result)
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.lent.is_empty()
    }

    /// Gives up all entries without freeing them, because the kernel may still read them.
    pub(super) fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.lent));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::RawTarget;

    const TOKEN: Token = Token { index: 3, generation: 1 };

    #[test]
    fn a_partial_send_goes_on_where_it_stopped() {
        let mut flight = Flight::default();
        let index = flight.lend(TOKEN, RawTarget::Plain(9), SendBytes::Owned(vec![7; 10]));
        let start = flight.rest(index).1.as_ptr();
        assert_eq!(flight.complete(index, 4), SendState::Partial);
        let (raw, rest) = flight.rest(index);
        assert_eq!((raw, rest.as_ptr() as usize - start as usize, rest.len()), (RawTarget::Plain(9), 4, 6));
        assert_eq!(flight.complete(index, 6), SendState::Done(TOKEN));
        assert!(flight.is_empty());
    }

    #[test]
    fn an_error_or_nothing_sent_ends_it() {
        for (result, errno) in [(-32, 32), (0, 0)] {
            let mut flight = Flight::default();
            let index = flight.lend(TOKEN, RawTarget::Plain(1), SendBytes::Shared(Arc::from([1u8, 2].as_slice())));
            assert_eq!(flight.complete(index, result), SendState::Failed(TOKEN, errno));
            assert!(flight.is_empty());
        }
    }
}
