//! WebSocket frames (RFC 6455 section 5.2), as far as a load needs them: whole text frames, both ways.

const FIN_TEXT: u8 = 0x81;
const FIN_CLOSE: u8 = 0x88;
const FIN_PONG: u8 = 0x8a;
const MASKED: u8 = 0x80;
/// A mask hides nothing here; it has to cost the server what any mask costs.
const MASK: [u8; 4] = [0x12, 0x9a, 0x55, 0xe3];

pub const OPCODE_TEXT: u8 = 1;
pub const OPCODE_CLOSE: u8 = 8;
pub const OPCODE_PING: u8 = 9;

/// A text frame of a client: masked.
pub fn masked_text(payload: &[u8]) -> Vec<u8> {
    masked(FIN_TEXT, payload)
}

/// The answer to a ping frame.
pub fn masked_pong(payload: &[u8]) -> Vec<u8> {
    masked(FIN_PONG, payload)
}

/// A close frame with code 1000.
pub fn masked_close() -> Vec<u8> {
    masked(FIN_CLOSE, &1000u16.to_be_bytes())
}

/// A text frame of a server.
pub fn plain_text(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 10);
    write_head(&mut frame, FIN_TEXT, 0, payload.len());
    frame.extend_from_slice(payload);
    frame
}

fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 14);
    write_head(&mut frame, first, MASKED, payload.len());
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn write_head(frame: &mut Vec<u8>, first: u8, masked: u8, length: usize) {
    frame.push(first);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 126 => frame.push(masked | short),
        (_, Ok(medium)) => {
            frame.push(masked | 126);
            frame.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            frame.push(masked | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// A whole frame of a server.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'b> {
    pub opcode: u8,
    pub payload: &'b [u8],
}

/// The frame of a server at the front of `bytes` and its length with the head, or `None` while it is not whole.
pub fn next_frame(bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (head, length) = lengths(second & 0x7f, bytes)?;
    let payload = bytes.get(head..head.checked_add(length)?)?;
    Some((Frame { opcode: first & 0x0f, payload }, head + length))
}

/// Bytes of the head without a mask, and of the payload.
fn lengths(short: u8, bytes: &[u8]) -> Option<(usize, usize)> {
    match short {
        126 => Some((4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)))),
        127 => Some((10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?)),
        short => Some((2, usize::from(short))),
    }
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
        unmask(payload, mask);
        rest[1] &= 0x7f;
        bytes.copy_within(read..read + head, written);
        bytes.copy_within(read + head + 4..read + head + 4 + length, written + head);
        read += head + 4 + length;
        written += head + length;
    }
    Some(written)
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        if let Ok(bytes) = <[u8; 8]>::try_from(&*chunk) {
            chunk.copy_from_slice(&(u64::from_ne_bytes(bytes) ^ wide).to_ne_bytes());
        }
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
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
            assert!(frame.payload == payload && frame.opcode == OPCODE_TEXT);
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
