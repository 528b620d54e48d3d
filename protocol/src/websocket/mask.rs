//! The mask of client frames (RFC 6455 section 5.3).

/// Removes (or puts on) the mask, eight bytes at a time. `offset` is the position of `payload` in its frame.
pub fn unmask(payload: &mut [u8], mask: [u8; 4], offset: usize) {
    let mut mask = mask;
    mask.rotate_left(offset % 4);
    let [a, b, c, d] = mask;
    let wide = [a, b, c, d, a, b, c, d];
    let word = u64::from_ne_bytes(wide);
    let (words, tail) = payload.as_chunks_mut::<8>();
    for chunk in words {
        *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (byte, mask) in tail.iter_mut().zip(wide) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_the_definition_at_every_length_and_offset() {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        for offset in 0..9 {
            for length in 0..70 {
                let plain: Vec<u8> = (0..length).map(|position| u8::try_from(position).unwrap()).collect();
                let mut masked = plain.clone();
                unmask(&mut masked, mask, offset);
                for (position, byte) in masked.iter().enumerate() {
                    assert_eq!(*byte, plain[position] ^ mask[(offset + position) % 4], "{offset} {length} {position}");
                }
                unmask(&mut masked, mask, offset);
                assert_eq!(masked, plain);
            }
        }
    }
}
