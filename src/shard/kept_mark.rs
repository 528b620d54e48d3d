//! `KeptMark`: what an event that the bus remembers says of itself on its way between instances.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::event_id::EventId;
use super::mail::OnceKey;

const NAME_BYTES: usize = 16;
const KEY_BYTES: usize = 24;

/// What an event is called, and for how long it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptMark {
    pub id: EventId,
    /// Until when it is kept for its user; 0: it is not.
    pub expires_unix_ms: u64,
    /// Under which it has come: another instance, that could not ask the bus, may have let in the same.
    pub key: Option<OnceKey>,
}

impl KeptMark {
    /// The id, the milliseconds and, if there is one, the key, with dots in between.
    pub fn text(self) -> String {
        let text = format!("{}.{}", self.id.text(), self.expires_unix_ms);
        match self.key {
            None => text,
            Some(OnceKey { name, print }) => {
                let key = [&name.to_be_bytes()[..], &print.to_be_bytes()].concat();
                format!("{text}.{}", URL_SAFE_NO_PAD.encode(key))
            }
        }
    }

    /// `None` for a text that is none.
    pub fn parse(text: &str) -> Option<KeptMark> {
        let mut parts = text.split('.');
        let id = EventId::parse(parts.next()?)?;
        let expires = parts.next().filter(|expires| expires.bytes().all(|byte| byte.is_ascii_digit()))?;
        let key = parts.next().map(|key| parse_key(key).ok_or(())).transpose().ok()?;
        let mark = KeptMark { id, expires_unix_ms: expires.parse().ok()?, key };
        parts.next().is_none().then_some(mark)
    }
}

fn parse_key(text: &str) -> Option<OnceKey> {
    let key = URL_SAFE_NO_PAD.decode(text).ok().filter(|key| key.len() == KEY_BYTES)?;
    let (name, print) = key.split_at(NAME_BYTES);
    let (name, print) = (name.try_into().ok()?, print.try_into().ok()?);
    Some(OnceKey { name: u128::from_be_bytes(name), print: u64::from_be_bytes(print) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written_and_nothing_else_is_one() {
        let mark = KeptMark { id: EventId(7), expires_unix_ms: 1_732_412_345_678, key: None };
        assert_eq!(mark.text(), "AAAAAAAAAAc.1732412345678");
        let key = Some(OnceKey { name: 1, print: 2 });
        let keyed = KeptMark { expires_unix_ms: 0, key, ..mark };
        assert_eq!(keyed.text(), "AAAAAAAAAAc.0.AAAAAAAAAAAAAAAAAAAAAQAAAAAAAAAC");
        for mark in [mark, keyed] {
            assert_eq!(KeptMark::parse(&mark.text()), Some(mark));
        }
        for text in [
            "",
            "AAAAAAAAAAc",
            "AAAAAAAAAAc.",
            "AAAAAAAAAAc.+1",
            "AAAAAAAAAA.1",
            "AAAAAAAAAAc.99999999999999999999",
            "AAAAAAAAAAc.1.",
            "AAAAAAAAAAc.1.AAAA",
            "AAAAAAAAAAc.0.AAAAAAAAAAAAAAAAAAAAAQAAAAAAAAAC.x",
        ] {
            assert_eq!(KeptMark::parse(text), None, "{text}");
        }
    }
}
