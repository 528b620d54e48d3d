//! What a certificate says of itself in DER (X.690, RFC 5280): from when to when it is valid, and how long its RSA key is.
//!
//! It is read for the operator, of the operator's own files. Peers' certificates are the library's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The version of a certificate, which may be left out.
const VERSION: u8 = 0xa0;
/// 1.2.840.113549.1.1.1
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// What is of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CertificateFacts {
    pub(super) begins: SystemTime,
    pub(super) ends: SystemTime,
    /// `None`: its key is none of RSA.
    pub(super) rsa_bits: Option<usize>,
}

/// `None`: it is no certificate.
pub(super) fn facts(certificate: &[u8]) -> Option<CertificateFacts> {
    let mut whole = Der(certificate).take(SEQUENCE)?;
    let mut fields = whole.take(SEQUENCE)?;
    if fields.0.first() == Some(&VERSION) {
        fields.next()?;
    }
    fields.take(INTEGER)?;
    // How it is signed, and by whom.
    fields.take(SEQUENCE)?;
    fields.take(SEQUENCE)?;
    let mut validity = fields.take(SEQUENCE)?;
    let (begins, ends) = (time(validity.next()?)?, time(validity.next()?)?);
    // Whose it is.
    fields.take(SEQUENCE)?;
    let mut key = fields.take(SEQUENCE)?;
    let mut algorithm = key.take(SEQUENCE)?;
    let rsa_bits = match algorithm.take(OBJECT)?.0 {
        RSA => {
            // The first byte says how many bits of the last one do not count: none.
            let bits = key.take(BIT_STRING)?.0.get(1..)?;
            Some(bits_of(Der(bits).take(SEQUENCE)?.take(INTEGER)?.0))
        }
        _ => None,
    };
    Some(CertificateFacts { begins, ends, rsa_bits })
}

/// Values one behind the other.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// Tag and content of the next value.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..0x80 => (usize::from(first), rest),
            _ => {
                let count = usize::from(first & 0x7f);
                let bytes = rest.get(..count).filter(|bytes| (1..=4).contains(&bytes.len()))?;
                let length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
                (length, rest.get(count..)?)
            }
        };
        let content = rest.get(..length)?;
        self.0 = rest.get(length..)?;
        Some((tag, content))
    }

    /// The next value, which has this tag.
    fn take(&mut self, tag: u8) -> Option<Der<'a>> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| Der(content))
    }
}

/// RFC 5280 section 4.1.2.5: `YYMMDDHHMMSSZ` up to 2049, `YYYYMMDDHHMMSSZ` from then.
fn time((tag, text): (u8, &[u8])) -> Option<SystemTime> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z').filter(|text| text.is_ascii())?;
    let (year, rest) = match tag {
        UTC_TIME if text.len() == 12 => {
            let (year, rest) = text.split_at(2);
            let century = if year < "50" { "20" } else { "19" };
            (format!("{century}{year}"), rest)
        }
        GENERALIZED_TIME if text.len() == 14 => {
            let (year, rest) = text.split_at(4);
            (year.to_owned(), rest)
        }
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2).unwrap_or_default();
    let text = format!("{year}-{}-{}T{}:{}:{}Z", part(0), part(2), part(4), part(6), part(8));
    // The library knows no time before 1970, which is as good as that.
    if year.as_str() < "1970" { Some(UNIX_EPOCH) } else { humantime::parse_rfc3339(&text).ok() }
}

fn bits_of(number: &[u8]) -> usize {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let digits = number.get(zeros..).unwrap_or_default();
    let unused = digits.first().map_or(0, |first| first.leading_zeros() as usize);
    digits.len() * 8 - unused
}

/// The last moment of a time that is rounded down to seconds.
pub(super) fn has_passed(end: SystemTime, now: SystemTime) -> bool {
    now > end + Duration::from_secs(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_both_forms() {
        let read =
            |tag, text: &str| time((tag, text.as_bytes())).map(|time| humantime::format_rfc3339(time).to_string());
        for (tag, text, expected) in [
            (UTC_TIME, "260228235959Z", Some("2026-02-28T23:59:59Z")),
            (UTC_TIME, "991231235959Z", Some("1999-12-31T23:59:59Z")),
            (GENERALIZED_TIME, "20500101000000Z", Some("2050-01-01T00:00:00Z")),
            (GENERALIZED_TIME, "99991231235959Z", Some("9999-12-31T23:59:59Z")),
            (UTC_TIME, "500101000000Z", Some("1970-01-01T00:00:00Z")),
            (UTC_TIME, "20260228235959Z", None),
            (UTC_TIME, "2602282359Z", None),
            (UTC_TIME, "260230000000Z", None),
            (UTC_TIME, "260228235959+0100", None),
            (0x04, "260228235959Z", None),
        ] {
            assert_eq!(read(tag, text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_certificate_says_when_it_ends_wherever_it_is_cut_it_says_nothing() {
        let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).expect("a name");
        params.not_before = rcgen::date_time_ymd(2026, 1, 2);
        params.not_after = rcgen::date_time_ymd(2051, 3, 4);
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let known = facts(certificate.der()).expect("it is one");
        let says = |time| humantime::format_rfc3339(time).to_string();
        assert_eq!((says(known.begins).as_str(), known.rsa_bits), ("2026-01-02T00:00:00Z", None));
        assert_eq!(says(known.ends), "2051-03-04T00:00:00Z");
        for end in 0..certificate.der().len() {
            assert_eq!(facts(&certificate.der()[..end]), None, "{end}");
        }
    }

    #[test]
    fn a_modulus_is_as_long_as_its_first_bit_says() {
        let cases: [(&[u8], usize); 4] = [(&[0, 0x80, 0], 16), (&[1, 0], 9), (&[0, 0], 0), (&[], 0)];
        for (number, bits) in cases {
            assert_eq!(bits_of(number), bits, "{number:?}");
        }
    }
}
