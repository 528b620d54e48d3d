//! UTF-8 that arrives in pieces: wrong bytes are found with the piece that brings them.

use core::fmt;

/// Checks a text that is cut anywhere; a character may be spread over several pieces.
#[derive(Clone, Copy, Debug, Default)]
pub struct Utf8Validator {
    /// The begun character at the end of the last piece.
    begun: [u8; 3],
    begun_length: u8,
}

crate::portable!(struct Utf8Validator { begun, begun_length });

impl Utf8Validator {
    /// Takes the next piece. After an error the text is lost.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Utf8Error> {
        let mut rest = bytes;
        while self.begun_length > 0 {
            let Some((byte, after)) = rest.split_first() else { return Ok(()) };
            let [first, second, third] = self.begun;
            let mut character = [first, second, third, 0];
            let length = usize::from(self.begun_length);
            if let Some(place) = character.get_mut(length) {
                *place = *byte;
            }
            self.keep_begun(character.get(..=length).unwrap_or_default())?;
            rest = after;
        }
        self.keep_begun(rest)
    }

    /// Whether the text may end here.
    pub fn finish(&self) -> Result<(), Utf8Error> {
        if self.begun_length == 0 { Ok(()) } else { Err(Utf8Error) }
    }

    /// Checks a piece that begins with a character, and keeps what its last character has begun with.
    fn keep_begun(&mut self, bytes: &[u8]) -> Result<(), Utf8Error> {
        self.begun_length = 0;
        let Err(error) = core::str::from_utf8(bytes) else { return Ok(()) };
        if error.error_len().is_some() {
            return Err(Utf8Error);
        }
        let begun = bytes.get(error.valid_up_to()..).unwrap_or_default();
        for (place, byte) in self.begun.iter_mut().zip(begun) {
            *place = *byte;
            self.begun_length += 1;
        }
        Ok(())
    }
}

/// The bytes are not UTF-8, or end within a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utf8Error;

impl fmt::Display for Utf8Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("The text is not valid UTF-8.")
    }
}

impl core::error::Error for Utf8Error {}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of bytes taken until the error, byte by byte; `Ok` when the whole text is valid.
    fn check_by_byte(text: &[u8]) -> Result<(), usize> {
        let mut validator = Utf8Validator::default();
        for (position, byte) in text.iter().enumerate() {
            validator.push(&[*byte]).map_err(|_| position + 1)?;
        }
        validator.finish().map_err(|_| text.len())
    }

    #[test]
    fn finds_the_first_wrong_byte() {
        // Autobahn 6.2 to 6.22; the number is the byte that makes it wrong.
        let rows: &[(&[u8], Result<(), usize>)] = &[
            (b"", Ok(())),
            ("Hello-µ@ßöäüàá-UTF-8!!".as_bytes(), Ok(())),
            ("κόσμε \u{10ffff} \u{d7ff}\u{e000}\u{fffd}\u{fffe}".as_bytes(), Ok(())),
            (b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited", Err(13)),
            (b"\xf4\x90\x80\x80", Err(2)),
            (b"\xc0\x80", Err(1)),
            (b"\xe0\x80\x80", Err(2)),
            (b"\xf0\x80\x80\x80", Err(2)),
            (b"\xf8\x88\x80\x80\x80", Err(1)),
            (b"\x80", Err(1)),
            (b"a\xc2", Err(2)),
            (b"a\xf0\x90\x80", Err(4)),
            (b"\xc2a", Err(2)),
            (b"\xe2\x82\xac\xe2\x82a", Err(6)),
        ];
        for (text, expected) in rows {
            assert_eq!(check_by_byte(text), *expected, "{text:x?}");
            assert_eq!(core::str::from_utf8(text).is_ok(), expected.is_ok(), "{text:x?}");
        }
    }

    #[test]
    fn every_two_cuts_mean_the_same() {
        let text = "aµ€\u{10348}bµ€\u{10348}".as_bytes();
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let mut validator = Utf8Validator::default();
                for piece in [&text[..first], &text[first..second], &text[second..]] {
                    validator.push(piece).unwrap();
                }
                validator.finish().unwrap();
            }
        }
    }

    #[test]
    fn is_small() {
        assert!(size_of::<Utf8Validator>() <= 8);
    }
}
