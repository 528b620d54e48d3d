//! `TraceContext`: the place within a distributed trace that an event was emitted at (W3C Trace Context).

use alloc::string::String;
use core::fmt::Write;

/// Bytes of `00-<32 digits>-<16 digits>-<2 digits>`, and of such a text of a later version without what is new in it.
const TEXT_BYTES: usize = 55;
/// The only bit of the flags that is known: whoever asked records it.
const SAMPLED: u8 = 1;

/// A span of a trace, by the ids that all systems know it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// Of the whole trace, big-endian; not 0.
    pub trace: u128,
    /// Of the span within it, big-endian; not 0.
    pub span: u64,
    /// Whether the span is recorded.
    pub is_sampled: bool,
}

crate::portable!(struct TraceContext { trace, span, is_sampled });

impl TraceContext {
    /// From a `traceparent` header, section 3.2. `None`: it is none, and is to be passed over.
    pub fn decode(text: &str) -> Option<TraceContext> {
        let (known, more) = text.split_at_checked(TEXT_BYTES)?;
        let mut parts = known.split('-');
        let version = hexadecimal(parts.next()?, 2)?;
        let trace = hexadecimal(parts.next()?, 32)?;
        let span = u64::try_from(hexadecimal(parts.next()?, 16)?).ok()?;
        let flags = u8::try_from(hexadecimal(parts.next()?, 2)?).ok()?;
        // Later versions may have more behind it, 255 is none.
        let is_whole = more.is_empty() || (version > 0 && more.starts_with('-'));
        let is_valid = parts.next().is_none() && is_whole && version != 255 && trace != 0 && span != 0;
        is_valid.then_some(TraceContext { trace, span, is_sampled: flags & SAMPLED != 0 })
    }

    /// As a `traceparent` header.
    pub fn encode(&self) -> String {
        let mut text = String::with_capacity(TEXT_BYTES);
        let flags = if self.is_sampled { SAMPLED } else { 0 };
        // Into a string nothing fails.
        let _ = write!(text, "00-{:032x}-{:016x}-{flags:02x}", self.trace, self.span);
        text
    }
}

/// So many digits, lower-case as the specification wants them.
fn hexadecimal(digits: &str, count: usize) -> Option<u128> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_number = digits.len() == count && digits.bytes().all(is_digit);
    u128::from_str_radix(digits, 16).ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
    const SPAN: u64 = 0x00f0_67aa_0ba9_02b7;

    #[test]
    fn headers_are_read_as_the_specification_says() {
        let context = |is_sampled| Some(TraceContext { trace: TRACE, span: SPAN, is_sampled });
        for (text, expected) in [
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", context(true)),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", context(false)),
            // Bits that are not known yet.
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-fe", context(false)),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03", context(true)),
            // A later version.
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", context(true)),
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-is-new", context(true)),
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.what", None),
            ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", None),
            ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", None),
            ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", None),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", None),
            ("00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01", None),
            ("00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0", None),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7", None),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902é-01", None),
            ("", None),
        ] {
            assert_eq!(TraceContext::decode(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for is_sampled in [true, false] {
            let context = TraceContext { trace: 7, span: u64::MAX, is_sampled };
            assert_eq!(TraceContext::decode(&context.encode()), Some(context));
        }
    }
}
