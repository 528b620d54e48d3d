//! WebSocket frames (RFC 6455 section 5.2), as far as a load needs them: whole messages, both ways.

use sockring_protocol::websocket::{
    Fin, Opcode, ServerFrames, encode_client_frame, encode_frame, frame_header_length, unmask,
};

/// A mask hides nothing here; it has to cost the server what any mask costs.
const MASK: [u8; 4] = [0x12, 0x9a, 0x55, 0xe3];

/// A text frame of a client: masked.
pub fn masked_text(payload: &[u8]) -> Vec<u8> {
    masked(Opcode::Text, payload)
}

/// The answer to a ping frame.
pub fn masked_pong(payload: &[u8]) -> Vec<u8> {
    masked(Opcode::Pong, payload)
}

/// A close frame with code 1000.
pub fn masked_close() -> Vec<u8> {
    masked(Opcode::Close, &1000u16.to_be_bytes())
}

/// A text frame of a server.
pub fn plain_text(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_frame(Opcode::Text, payload, &mut frame);
    frame
}

fn masked(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(frame_header_length(payload.len()) + MASK.len() + payload.len());
    encode_client_frame(opcode, Fin::Last, MASK, payload, &mut frame);
    frame
}

/// A whole frame of a server.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'b> {
    pub opcode: Opcode,
    pub payload: &'b [u8],
}

/// The frame of a server at the front of `bytes` and its length with the head, or `None` while it is not whole.
pub fn next_frame(bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    let mut frames = ServerFrames::new(bytes);
    let (opcode, payload) = frames.next()?;
    Some((Frame { opcode, payload }, bytes.len() - frames.rest().len()))
}

/// Turns the client's frames in `bytes` into a server's, in place and packed to the front: their length, or `None` if
/// the last one is not whole. What an echo without any protocol above costs.
pub fn unmask_in_place(bytes: &mut [u8]) -> Option<usize> {
    let (mut read, mut written) = (0, 0);
    while read < bytes.len() {
        let rest = &mut bytes[read..];
        let second = *rest.get(1)?;
        let (head, length) = lengths(second & 0x7f, rest)?;
        let mask: [u8; 4] = rest.get(head..head + 4)?.try_into().ok()?;
        let payload = rest.get_mut(head + 4..(head + 4).checked_add(length)?)?;
        unmask(payload, mask, 0);
        rest[1] &= 0x7f;
        bytes.copy_within(read..read + head, written);
        bytes.copy_within(read + head + 4..read + head + 4 + length, written + head);
        read += head + 4 + length;
        written += head + length;
    }
    Some(written)
}

/// Bytes of the head without a mask, and of the payload.
fn lengths(short: u8, bytes: &[u8]) -> Option<(usize, usize)> {
    match short {
        126 => Some((4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)))),
        127 => Some((10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?)),
        short => Some((2, usize::from(short))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_frame_becomes_the_servers() {
        for length in [0, 1, 7, 8, 125, 126, 300, 65_535, 65_536] {
            let payload: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let mut bytes = masked_text(&payload);
            bytes.extend(masked_text(b"next"));
            let written = unmask_in_place(&mut bytes).unwrap();
            let expected = [plain_text(&payload), plain_text(b"next")].concat();
            assert!(bytes[..written] == expected, "{length}");
            let (frame, used) = next_frame(&bytes[..written]).unwrap();
            assert!(frame.payload == payload && frame.opcode == Opcode::Text);
            assert_eq!(used, expected.len() - plain_text(b"next").len());
        }
    }

    #[test]
    fn a_part_of_a_frame_is_none() {
        for length in [5, 200, 70_000] {
            let frame = plain_text(&vec![b'x'; length]);
            for cut in [0, 1, 2, 3, 9, frame.len() - 1] {
                assert_eq!(next_frame(&frame[..cut.min(frame.len() - 1)]), None);
            }
        }
    }
}
