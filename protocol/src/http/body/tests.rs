//! Rows of bodies and what they mean.

use super::*;

/// Everything in one call.
fn decode(framing: Framing, body_bytes_max: usize, input: &[u8]) -> Result<(usize, BodyState, Vec<u8>), RequestError> {
    let mut body = Vec::new();
    let (consumed, state) = BodyDecoder::new(framing, body_bytes_max)?.decode(input, &mut body)?;
    Ok((consumed, state, body))
}

#[test]
fn decodes_by_length() {
    // RFC 9112 section 6.2
    type Row<'a> = (Framing, &'a [u8], usize, BodyState, &'a [u8]);
    let rows: &[Row<'_>] = &[
        (Framing::None, b"GET", 0, BodyState::Complete, b""),
        (Framing::Length(0), b"GET", 0, BodyState::Complete, b""),
        (Framing::Length(5), b"helloGET", 5, BodyState::Complete, b"hello"),
        (Framing::Length(5), b"hel", 3, BodyState::More, b"hel"),
        (Framing::Length(5), b"", 0, BodyState::More, b""),
    ];
    for (framing, input, consumed, state, body) in rows {
        assert_eq!(decode(*framing, 5, input), Ok((*consumed, *state, body.to_vec())), "{framing:?}");
    }
}

#[test]
fn decodes_chunks() {
    // RFC 9112 section 7.1
    let rows: &[(&[u8], &[u8])] = &[
        (b"0\r\n\r\n", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"2\r\nhe\r\n3\r\nllo\r\n000\r\n\r\n", b"hello"),
        (b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", b"01234567890123456789"),
        // Section 7.1.1 and 7.1.2: extensions and trailers carry nothing for us.
        (b"5;a=\"b\";c\r\nhello\r\n0;d\r\nX: y\r\nContent-Length: 3\r\n\r\n", b"hello"),
        (b"5 \t;a\r\nhello\r\n0  \r\n\r\n", b"hello"),
    ];
    for (input, body) in rows {
        let with_next = [input, b"GET / HTTP/1.1\r\n".as_slice()].concat();
        let expected = Ok((input.len(), BodyState::Complete, body.to_vec()));
        assert_eq!(decode(Framing::Chunked, 100, &with_next), expected, "{}", input.escape_ascii());
        for end in 0..input.len() {
            let (consumed, state, _) = decode(Framing::Chunked, 100, &input[..end]).unwrap();
            assert_eq!((consumed, state), (end, BodyState::More));
        }
    }
}

#[test]
fn refuses_malformed_chunks() {
    let rows: &[&[u8]] = &[
        b"\r\n",
        b"g\r\n",
        b"-5\r\n",
        b"+5\r\n",
        b"0x5\r\n",
        b" 5\r\n",
        b";a\r\n",
        b"5 6\r\n",
        b"5\n",
        b"5\rx",
        b"5;a\nb",
        b"5;a\0",
        b"5\r\nhello0",
        b"5\r\nhello\n",
        b"5\r\nhello\r0",
        b"5\r\nhello\r\n\r\n",
        b"0\r\nX: y\n",
        b"0\r\nX: y\rz",
        b"0\r\n\n",
        b"0\r\n\rx",
        b"00000000000000005\r\n",
    ];
    for input in rows {
        let error = decode(Framing::Chunked, 100, input).err();
        assert_eq!(error, Some(RequestError::BodyMalformed), "{}", input.escape_ascii());
    }
}

#[test]
fn limits_the_payload() {
    let rows: &[(Framing, &[u8], bool)] = &[
        (Framing::Length(10), b"0123456789", false),
        (Framing::Length(11), b"", true),
        (Framing::Length(u64::MAX), b"", true),
        (Framing::Chunked, b"5\r\n01234\r\n5\r\n01234\r\n0\r\n\r\n", false),
        // With the line that goes over it, before any byte of that chunk.
        (Framing::Chunked, b"b\r\n", true),
        (Framing::Chunked, b"5\r\n01234\r\n6\r\n", true),
        (Framing::Chunked, b"ffffffffffffffff\r\n", true),
    ];
    for (framing, input, too_large) in rows {
        let error = decode(*framing, 10, input).err();
        assert_eq!(error, too_large.then_some(RequestError::BodyTooLarge), "{framing:?} {}", input.escape_ascii());
    }
}

#[test]
fn limits_what_is_read_over() {
    let long = "x".repeat(EXTENSION_BYTES_MAX);
    let one_long_extension = format!("1;{long}\r\n");
    let many_extensions = "1;xxxxxxxxx\r\na\r\n".repeat(EXTENSION_BYTES_MAX);
    let blanks = format!("1{}", " ".repeat(EXTENSION_BYTES_MAX + 1));
    for text in [one_long_extension, many_extensions, blanks] {
        let error = decode(Framing::Chunked, 1_000_000, text.as_bytes()).err();
        assert_eq!(error, Some(RequestError::BodyTooLarge));
    }
    let trailer = format!("0\r\nX: {long}\r\n");
    let trailers = format!("0\r\n{}", "X: y\r\n".repeat(TRAILER_BYTES_MAX));
    for text in [trailer, trailers] {
        assert_eq!(decode(Framing::Chunked, 10, text.as_bytes()).err(), Some(RequestError::HeadTooLarge));
    }
}

#[test]
fn reserves_nothing_for_what_is_only_announced() {
    // A29: by a length, and by a chunk.
    for (framing, input) in [(Framing::Length(1 << 30), b"ab".as_slice()), (Framing::Chunked, b"40000000\r\nab")] {
        let mut body = Vec::new();
        BodyDecoder::new(framing, 1 << 30).unwrap().decode(input, &mut body).unwrap();
        assert_eq!(body, b"ab");
        assert!(body.capacity() < 100);
    }
}
