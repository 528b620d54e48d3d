//! `Pid`: what a client proves its earlier session with. It is signed and nothing about it is stored.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use subtle::ConstantTimeEq;

use crate::shard::moving::sid::Sid;
use sockring_protocol::portable::{Packer, Portable, Unpacker, Unreadable};

use super::position::{Epoch, Position};

const SID_BYTES: usize = 15;
const START_BYTES: usize = 8;
/// 80 bits: a forger has a chance in 2^80 with each CONNECT.
const MAC_BYTES: usize = 10;
const BYTES: usize = SID_BYTES + START_BYTES + MAC_BYTES;
const TEXT_BYTES: usize = BYTES / 3 * 4;

/// A socket's identity over several connections: what its sid was first, and where its session began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pid {
    pub(crate) sid: Sid,
    pub(crate) start: Position,
}

impl Pid {
    /// Whether this has the form of one.
    pub(crate) fn is_like(text: &str) -> bool {
        let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        text.len() == TEXT_BYTES && text.bytes().all(is_digit)
    }
}

/// Whose a `pid` is. All of it is signed along, so one of another user, namespace or life of the shard is none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holder<'a> {
    pub(crate) epoch: Epoch,
    pub(crate) namespace: &'a str,
    pub(crate) user: Option<&'a str>,
}

/// Signs `pid`s, and knows its own again.
pub(crate) struct Signer {
    key: hmac::Key,
    /// What the key is made of, for who takes over.
    secret: Box<[u8]>,
}

impl Portable for Signer {
    const FORM: u64 = <Box<[u8]>>::FORM;

    fn pack(&self, out: &mut Packer) {
        self.secret.pack(out);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<Signer, Unreadable> {
        Box::<[u8]>::unpack(from).map(|secret| Signer::new(&secret))
    }
}

/// A `pid` as text, without allocation. It is not shown: who has it and the user's token gets the user's events.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct PidText([u8; TEXT_BYTES]);

impl PidText {
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for PidText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PidText")
    }
}

impl Signer {
    pub(crate) fn new(secret: &[u8]) -> Signer {
        Signer { key: hmac::Key::new(hmac::HMAC_SHA256, secret), secret: secret.into() }
    }

    pub(crate) fn sign(&self, pid: Pid, holder: &Holder<'_>) -> PidText {
        let mut bytes = [0; BYTES];
        let (named, mac) = bytes.split_at_mut(SID_BYTES + START_BYTES);
        let (sid, start) = named.split_at_mut(SID_BYTES);
        sid.copy_from_slice(&pid.sid.bytes());
        start.copy_from_slice(&pid.start.0.to_be_bytes());
        mac.copy_from_slice(&self.mac(named, holder));
        let mut text = [0; TEXT_BYTES];
        let written = URL_SAFE_NO_PAD.encode_slice(bytes, &mut text);
        debug_assert_eq!(written, Ok(TEXT_BYTES));
        PidText(text)
    }

    /// `None` for what was not signed here for this holder.
    pub(crate) fn verify(&self, text: &str, holder: &Holder<'_>) -> Option<Pid> {
        let mut bytes = [0; BYTES];
        if text.len() != TEXT_BYTES || URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) != Ok(BYTES) {
            return None;
        }
        let (named, mac) = bytes.split_at(SID_BYTES + START_BYTES);
        if !bool::from(self.mac(named, holder).ct_eq(mac)) {
            return None;
        }
        let (sid, start) = named.split_first_chunk::<SID_BYTES>()?;
        let start = u64::from_be_bytes(start.try_into().ok()?);
        Some(Pid { sid: Sid::from_bytes(*sid), start: Position(start) })
    }

    fn mac(&self, named: &[u8], Holder { epoch, namespace, user }: &Holder<'_>) -> [u8; MAC_BYTES] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(named);
        context.update(&epoch.bytes());
        // With its length, so that no namespace and user are those of another pair.
        context.update(&(namespace.len() as u64).to_be_bytes());
        context.update(namespace.as_bytes());
        context.update(&[u8::from(user.is_some())]);
        context.update(user.unwrap_or_default().as_bytes());
        let mut mac = [0; MAC_BYTES];
        for (byte, signed) in mac.iter_mut().zip(context.sign().as_ref()) {
            *byte = *signed;
        }
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::moving::sid::Instance;

    const HOLDER: Holder<'_> = Holder { epoch: Epoch::of(3), namespace: "/", user: Some("alice") };

    fn pid() -> Pid {
        Pid { sid: Sid::new(Instance::new(7), 2, 9, [5; 9]), start: Position(1_000) }
    }

    #[test]
    fn a_pid_is_44_characters_that_only_its_holder_can_use() {
        let signer = Signer::new(b"secret");
        let text = signer.sign(pid(), &HOLDER);
        assert_eq!((text.as_str().len(), signer.verify(text.as_str(), &HOLDER)), (44, Some(pid())));
        for other in [
            Holder { epoch: Epoch::of(4), ..HOLDER },
            Holder { namespace: "/a", ..HOLDER },
            Holder { namespace: "", user: Some("/alice"), ..HOLDER },
            Holder { user: Some("bob"), ..HOLDER },
            Holder { user: None, ..HOLDER },
            Holder { user: Some(""), ..HOLDER },
        ] {
            assert_eq!(signer.verify(text.as_str(), &other), None, "{other:?}");
        }
        assert_eq!(Signer::new(b"other").verify(text.as_str(), &HOLDER), None);
    }

    #[test]
    fn no_character_of_a_pid_can_be_another() {
        let signer = Signer::new(b"secret");
        let text = signer.sign(pid(), &HOLDER);
        for place in 0..TEXT_BYTES {
            let mut forged = text.as_str().to_owned().into_bytes();
            forged[place] = if forged[place] == b'A' { b'B' } else { b'A' };
            assert_eq!(signer.verify(std::str::from_utf8(&forged).unwrap(), &HOLDER), None, "{place}");
        }
        for text in ["", "abc", &"A".repeat(43), &"A".repeat(44), &"A".repeat(45), &"!".repeat(44)] {
            assert_eq!(signer.verify(text, &HOLDER), None, "{text}");
        }
    }
}
