//! `TicketKeys`: what seals the tickets with which clients resume, at this instance or at another one that has the same keys.
//!
//! A ticket is the name of its key, a salt, and what it holds, sealed by a key of its own that follows from both: so that
//! however many instances make tickets from one key, no nonce is ever used twice.

use std::fmt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Prk, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::server::ProducesTickets;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

const NAME_BYTES: usize = 8;
const SALT_BYTES: usize = 16;
const HEAD_BYTES: usize = NAME_BYTES + SALT_BYTES;
/// Within which a client may come back with a ticket.
const LIFETIME_S: u32 = 12 * 3600;
/// Fewer are guessed before the cipher is broken.
const KEY_BYTES_LEAST: usize = 32;

/// The first one seals, all of them open.
pub struct TicketKeys(Vec<TicketKey>);

struct TicketKey {
    name: [u8; NAME_BYTES],
    secret: Prk,
}

/// A key is too short, or there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeakTicketKey;

impl fmt::Display for WeakTicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "has to hold a key of 32 characters or more per line, the one that seals first; make one with `openssl rand \
             -base64 48`",
        )
    }
}

impl TicketKeys {
    /// One per line.
    pub fn parse(text: &[u8]) -> Result<TicketKeys, WeakTicketKey> {
        let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
        let keys: Option<Vec<_>> =
            lines.map(|line| (line.len() >= KEY_BYTES_LEAST).then(|| TicketKey::new(line))).collect();
        keys.filter(|keys| !keys.is_empty()).map(TicketKeys).ok_or(WeakTicketKey)
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketKeys({})", self.0.len())
    }
}

impl TicketKey {
    fn new(secret: &[u8]) -> TicketKey {
        // A name says nothing of its key: they follow from it by different words.
        let name = Sha256::new_with_prefix(b"sockring ticket name ").chain_update(Sha256::digest(secret)).finalize();
        TicketKey {
            name: name.first_chunk().copied().unwrap_or_default(),
            secret: Salt::new(HKDF_SHA256, b"sockring ticket key").extract(secret),
        }
    }

    fn cipher(&self, salt: &[u8]) -> Option<LessSafeKey> {
        let info = [salt];
        let key = self.secret.expand(&info, &AES_256_GCM).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(key)))
    }
}

/// Each key seals once.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

impl ProducesTickets for TicketKeys {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_S
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let key = self.0.first()?;
        let mut head = [0; HEAD_BYTES];
        let (name, salt) = head.split_at_mut(NAME_BYTES);
        name.copy_from_slice(&key.name);
        SystemRandom::new().fill(salt).ok()?;
        let cipher = key.cipher(salt)?;
        let mut sealed = plain.to_vec();
        cipher.seal_in_place_append_tag(nonce(), Aad::from(head), &mut sealed).ok()?;
        Some([head.as_slice(), &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (head, sealed) = ticket.split_at_checked(HEAD_BYTES)?;
        let (name, salt) = head.split_at(NAME_BYTES);
        let key = self.0.iter().find(|key| bool::from(key.name.ct_eq(name)))?;
        let mut plain = sealed.to_vec();
        let length = key.cipher(salt)?.open_in_place(nonce(), Aad::from(head), &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "the key of yesterday, long enough";
    const NEW: &str = "the key of today, which is as long";

    fn keys(lines: &[&str]) -> TicketKeys {
        TicketKeys::parse(lines.join("\n").as_bytes()).expect("keys")
    }

    #[test]
    fn a_ticket_is_opened_by_who_has_its_key() {
        let ticket = keys(&[OLD]).encrypt(b"a session").expect("a ticket");
        assert_eq!(keys(&[NEW, OLD, ""]).decrypt(&ticket).as_deref(), Some(&b"a session"[..]));
        assert_eq!(keys(&[NEW]).decrypt(&ticket), None);
        assert_ne!(keys(&[OLD]).encrypt(b"a session").expect("another"), ticket);
    }

    #[test]
    fn a_ticket_that_was_changed_or_cut_is_none() {
        let keys = keys(&[NEW]);
        let ticket = keys.encrypt(b"a session").expect("a ticket");
        for place in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[place] ^= 1;
            assert_eq!(keys.decrypt(&changed), None, "{place}");
            assert_eq!(keys.decrypt(&ticket[..place]), None, "{place}");
        }
    }

    #[test]
    fn a_key_that_could_be_guessed_is_refused() {
        for text in ["", "\n\n", "short", &format!("{NEW}\nshort")] {
            assert_eq!(TicketKeys::parse(text.as_bytes()).err(), Some(WeakTicketKey), "{text}");
        }
    }
}
