//! How a WebSocket ends: close frames and their codes (RFC 6455 sections 5.5.1 and 7.4).

use super::frame::{FrameError, Opcode, encode_frame_header};
use alloc::vec::Vec;

/// A control frame's 125 bytes less the code.
const REASON_BYTES_MAX: usize = 123;

/// What a close frame said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseFrame<'a> {
    /// Why, as a number: one that may be on the wire ([`is_valid_code`]).
    pub code: u16,
    /// Why, in words; at most 123 bytes, most often none.
    pub reason: &'a str,
}

impl<'a> CloseFrame<'a> {
    /// Decodes the payload of a close frame; an empty one says nothing.
    pub fn decode(payload: &'a [u8]) -> Result<Option<CloseFrame<'a>>, FrameError> {
        let (code, reason) = match payload {
            [] => return Ok(None),
            [_] => return Err(FrameError::BadClosePayload),
            [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        };
        if !is_valid_code(code) {
            return Err(FrameError::BadCloseCode);
        }
        let reason = core::str::from_utf8(reason).map_err(|_| FrameError::InvalidUtf8)?;
        Ok(Some(CloseFrame { code, reason }))
    }
}

/// Writes a close frame. Without a code, or with one that must not be on the wire (1005, 1006, 1015), it is empty; a
/// reason that does not fit is clipped between two characters.
pub fn encode_close(code: Option<u16>, reason: &str, out: &mut Vec<u8>) {
    let Some(code) = code.filter(|code| is_valid_code(*code)) else {
        encode_frame_header(Opcode::Close, 0, out);
        return;
    };
    let end = reason.len().min(REASON_BYTES_MAX);
    let reason = (0..=end).rev().find_map(|end| reason.get(..end)).unwrap_or_default();
    encode_frame_header(Opcode::Close, reason.len() + 2, out);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

/// The code to answer a close frame with: its own (RFC 6455 section 5.5.1).
pub fn reply_code(received: Option<CloseFrame<'_>>) -> Option<u16> {
    received.map(|frame| frame.code)
}

/// Whether a code may be on the wire: defined for that, registered, or private (RFC 6455 section 7.4.2).
pub fn is_valid_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_codes_of_the_wire() {
        // RFC 6455 section 7.4, Autobahn 7.7 and 7.9
        for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999] {
            assert!(is_valid_code(code), "{code}");
        }
        for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
            assert!(!is_valid_code(code), "{code}");
        }
    }

    #[test]
    fn decodes_payloads() {
        type Expected = Result<Option<CloseFrame<'static>>, FrameError>;
        let rows: &[(&[u8], Expected)] = &[
            (b"", Ok(None)),
            (b"\x03", Err(FrameError::BadClosePayload)),
            (b"\x03\xe8", Ok(Some(CloseFrame { code: 1000, reason: "" }))),
            (b"\x0f\xa0Hello \xe2\x82\xac", Ok(Some(CloseFrame { code: 4000, reason: "Hello €" }))),
            (b"\x03\xed", Err(FrameError::BadCloseCode)),
            (b"\x03\xe8\xce\xba\xed\xa0\x80", Err(FrameError::InvalidUtf8)),
        ];
        for (payload, expected) in rows {
            assert_eq!(CloseFrame::decode(payload), *expected, "{payload:x?}");
        }
    }

    #[test]
    fn encodes_frames() {
        let long = format!("{}€", "x".repeat(121));
        let clipped = [b"\x88\x7b\x03\xf0".as_slice(), "x".repeat(121).as_bytes()].concat();
        let rows: &[(Option<u16>, &str, &[u8])] = &[
            (None, "ignored", b"\x88\x00"),
            (Some(1005), "ignored", b"\x88\x00"),
            (Some(1000), "", b"\x88\x02\x03\xe8"),
            (Some(1001), "bye", b"\x88\x05\x03\xe9bye"),
            (Some(1008), &long, &clipped),
        ];
        for (code, reason, expected) in rows {
            let mut out = Vec::new();
            encode_close(*code, reason, &mut out);
            assert_eq!(out, *expected, "{code:?} {reason}");
        }
    }

    #[test]
    fn answers_with_the_same_code() {
        assert_eq!(reply_code(None), None);
        assert_eq!(reply_code(Some(CloseFrame { code: 4001, reason: "x" })), Some(4001));
    }
}
