//! Compresses answers to polls, as many bytes as a turn may.
//!
//! Only whole answers are, each for itself: nothing of one client's helps to guess another's. What is secret in an answer is
//! the sid in the one that opens a session, and that is shorter than anything that is compressed.

use flate2::{Compress, Compression, FlushCompress, Status};

/// Of a gzip stream (RFC 1952): the window with which any client can read it.
const WINDOW_BITS: u8 = 15;
/// More than what a stream needs around bytes that cannot be compressed.
const AROUND_BYTES: usize = 64;

pub(crate) struct Compressor {
    /// Some hundred KiB, made when it is first needed.
    stream: Option<Compress>,
    turn_bytes_max: usize,
    turn_bytes_left: usize,
}

impl Compressor {
    pub(crate) fn new(turn_bytes_max: usize) -> Compressor {
        Compressor { stream: None, turn_bytes_max, turn_bytes_left: turn_bytes_max }
    }

    pub(crate) fn begin_turn(&mut self) {
        self.turn_bytes_left = self.turn_bytes_max;
    }

    /// `None`: it goes as it is. Enough was compressed in this turn, or it would not be shorter.
    pub(crate) fn gzip(&mut self, body: &[u8]) -> Option<Vec<u8>> {
        self.turn_bytes_left = self.turn_bytes_left.checked_sub(body.len())?;
        let stream = self.stream.get_or_insert_with(|| Compress::new_gzip(Compression::fast(), WINDOW_BITS));
        stream.reset();
        let mut packed = Vec::with_capacity(body.len() + AROUND_BYTES);
        let status = stream.compress_vec(body, &mut packed, FlushCompress::Finish);
        (matches!(status, Ok(Status::StreamEnd)) && packed.len() < body.len()).then_some(packed)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    fn unpacked(packed: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        GzDecoder::new(packed).read_to_end(&mut body).expect("a gzip stream");
        body
    }

    #[test]
    fn each_answer_is_a_stream_of_its_own() {
        let mut compressor = Compressor::new(1 << 20);
        for length in [1_024_usize, 2_000, 70_000, 200_000] {
            let body: Vec<u8> = (0..length).map(|at| b"42[\"event\",{}]"[at % 14]).collect();
            let packed = compressor.gzip(&body).expect("it can be compressed");
            assert!(packed.len() < length / 4, "{} of {length}", packed.len());
            assert_eq!(unpacked(&packed), body);
        }
    }

    #[test]
    fn what_would_not_be_shorter_goes_as_it_is() {
        let mut state = 1_u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        let body: Vec<u8> = (0..5_000).map(|_| noise()).collect();
        assert_eq!(Compressor::new(10_000).gzip(&body), None);
    }

    #[test]
    fn a_turn_compresses_so_many_bytes() {
        let mut compressor = Compressor::new(5_000);
        let body = [b'a'; 2_000];
        assert_eq!([(); 3].map(|()| compressor.gzip(&body).is_some()), [true, true, false]);
        compressor.begin_turn();
        assert!(compressor.gzip(&body).is_some());
    }
}
