//! Rows of frames and what they mean.

use super::*;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

#[test]
fn encodes_the_examples_of_the_rfc() {
    // RFC 6455 section 5.7
    let mut out = Vec::new();
    encode_frame(Opcode::Text, b"Hello", &mut out);
    assert_eq!(out, [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
    out.clear();
    encode_client_frame(Opcode::Text, Fin::Last, MASK, b"Hello", &mut out);
    assert_eq!(out, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    out.clear();
    encode_client_frame(Opcode::Text, Fin::More, [0; 4], b"Hel", &mut out);
    assert_eq!(out, [0x01, 0x83, 0, 0, 0, 0, 0x48, 0x65, 0x6c]);
}

#[test]
fn lengths_take_the_shortest_form() {
    // RFC 6455 section 5.2
    let rows: &[(usize, &[u8])] = &[
        (0, &[0x82, 0]),
        (125, &[0x82, 125]),
        (126, &[0x82, 126, 0, 126]),
        (65_535, &[0x82, 126, 0xff, 0xff]),
        (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
    ];
    for (length, expected) in rows {
        let mut out = Vec::new();
        encode_frame_header(Opcode::Binary, *length, &mut out);
        assert_eq!((out.as_slice(), out.len()), (*expected, frame_header_length(*length)));
        let payload = vec![7; *length];
        out.extend_from_slice(&payload);
        let mut frames = ServerFrames::new(&out);
        assert_eq!(frames.next(), Some((Opcode::Binary, payload.as_slice())));
        assert_eq!(frames.next(), None);
        out.clear();
        encode_client_frame(Opcode::Binary, Fin::Last, MASK, &payload, &mut out);
        let header = FrameHeader { fin: Fin::Last, opcode: Opcode::Binary, mask: MASK, payload_length: *length };
        assert_eq!(FrameHeader::decode::<FromClient>(&out), Ok(Some((header, expected.len() + 4))));
    }
}

#[test]
fn decodes_headers() {
    use FrameError::*;
    let rows: &[(&[u8], Result<bool, FrameError>)] = &[
        (b"", Ok(false)),
        (b"\x81", Ok(false)),
        (b"\x81\x85\x01\x02\x03", Ok(false)),
        (b"\x81\x85\x01\x02\x03\x04", Ok(true)),
        (b"\x00\x80\x01\x02\x03\x04", Ok(true)),
        (b"\x8a\xfd\x01\x02\x03\x04", Ok(true)),
        (b"\x82\xfe\x00", Ok(false)),
        (b"\x82\xff\x00\x00\x00\x00\x00\x01\x00", Ok(false)),
        (b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x01\x02\x03\x04", Ok(true)),
        // RFC 6455 section 5.2; the text `test` after the head (A17) sets reserved bits.
        (b"test", Err(ReservedBits)),
        (b"\xc1", Err(ReservedBits)),
        (b"\xa1", Err(ReservedBits)),
        (b"\x91", Err(ReservedBits)),
        (b"\x83", Err(ReservedOpcode)),
        (b"\x87", Err(ReservedOpcode)),
        (b"\x8b", Err(ReservedOpcode)),
        (b"\x8f", Err(ReservedOpcode)),
        // Section 5.1
        (b"\x81\x05", Err(Unmasked)),
        (b"\x89\x7e", Err(Unmasked)),
        // Section 5.5
        (b"\x89\xfe", Err(ControlTooLong)),
        (b"\x88\xff", Err(ControlTooLong)),
        (b"\x09", Err(ControlFragmented)),
        (b"\x08", Err(ControlFragmented)),
        // Section 5.2; A25 is the last one: 2^63.
        (b"\x82\xfe\x00\x7d", Err(LengthNotMinimal)),
        (b"\x82\xff\x00\x00\x00\x00\x00\x00\xff\xff", Err(LengthNotMinimal)),
        (b"\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00", Err(LengthTooLong)),
    ];
    for (bytes, expected) in rows {
        let found = FrameHeader::decode::<FromClient>(bytes).map(|header| header.is_some());
        assert_eq!(found, *expected, "{}", bytes.escape_ascii());
    }
}

#[test]
fn server_frames_end_where_the_bytes_are_not_ours() {
    let good: &[u8] = b"\x81\x024a\x82\x01\x05\x89\x00";
    let expected: &[(Opcode, &[u8])] = &[(Opcode::Text, b"4a"), (Opcode::Binary, b"\x05"), (Opcode::Ping, b"")];
    let rows: &[&[u8]] =
        &[b"", b"\x81", b"\x81\x02a", b"\x81\x81abcde", b"\x01\x01a", b"\x80\x01a", b"\xc1\x01a", b"\x81\x7e\0\0"];
    for bad in rows {
        let bytes = [good, bad].concat();
        let mut frames = ServerFrames::new(&bytes);
        assert_eq!(frames.by_ref().collect::<Vec<_>>(), expected);
        assert_eq!(frames.rest(), *bad);
        assert_eq!(frames.next(), None);
    }
}

#[test]
fn errors_know_their_close_code() {
    let rows = [
        (FrameError::Unmasked, 1002),
        (FrameError::InvalidUtf8, 1007),
        (FrameError::TooManyFragments, 1008),
        (FrameError::MessageTooBig, 1009),
        (FrameError::BadCloseCode, 1002),
        (FrameError::LengthTooLong, 1002),
    ];
    for (error, code) in rows {
        assert_eq!(error.close_code(), code);
        assert!(error.to_string().ends_with('.'));
    }
}
