//! `SecretProof`: how two instances show each other that they know `cluster_secret`, without saying it.
//!
//! ```text
//!   dialler                                            acceptor
//!     hello: magic 4, chance 32 ------------------->
//!     <---------------------------- chance 32, proof of both chances 32
//!     preface length 1, preface, proof of all 32 -->
//!     bytes of HTTP ------------------------------->
//! ```
//!
//! What an acceptor proves a dialler cannot use, and the other way round; each chance is used once, so that nothing can be played
//! again.

use ring::hmac;

use crate::cluster::Visitor;
use crate::shard::Instance;

pub(super) const HELLO_BYTES: usize = 4 + CHANCE_BYTES;
pub(super) const CHALLENGE_BYTES: usize = CHANCE_BYTES + TAG_BYTES;
pub(super) const CHANCE_BYTES: usize = 32;
pub(super) const TAG_BYTES: usize = 32;
/// Of a preface: for whom it is, from whom, and the visitor.
pub(super) const PREFACE_BYTES_MAX: usize = 2 * PREFIX_BYTES + Visitor::BYTES_MAX;
const PREFIX_BYTES: usize = 3;
/// With the version.
const MAGIC: [u8; 4] = *b"SRT1";

type Chance = [u8; CHANCE_BYTES];

/// What one of them says does not prove that it knows the secret, or is not what is said here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unproven {
    /// It does not know the secret.
    Secret,
    /// It says something else.
    Wrong,
}

/// One attempt: the chances of both.
pub(super) struct SecretProof {
    key: hmac::Key,
    dialler: Chance,
    acceptor: Chance,
}

/// What a tunnel is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Preface {
    pub(super) to: Instance,
    pub(super) from: Instance,
    pub(super) visitor: Visitor,
}

impl Preface {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PREFACE_BYTES_MAX);
        bytes.extend(self.to.prefix().as_bytes());
        bytes.extend(self.from.prefix().as_bytes());
        self.visitor.encode(&mut bytes);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Preface> {
        let instance = |bytes: &[u8]| Instance::of_prefix(std::str::from_utf8(bytes).ok()?);
        let (to, rest) = bytes.split_at_checked(PREFIX_BYTES)?;
        let (from, mut rest) = rest.split_at_checked(PREFIX_BYTES)?;
        let visitor = Visitor::decode(&mut rest)?;
        rest.is_empty().then_some(Preface { to: instance(to)?, from: instance(from)?, visitor })
    }
}

/// The first words of a dialler.
pub(super) fn hello(chance: &Chance) -> Vec<u8> {
    [&MAGIC[..], chance].concat()
}

impl SecretProof {
    /// The dialler's, with what the acceptor has answered.
    pub(super) fn of_dialler(secret: &[u8], chance: Chance, answer: &[u8]) -> Result<SecretProof, Unproven> {
        let (acceptor, tag) = answer.split_first_chunk::<CHANCE_BYTES>().ok_or(Unproven::Wrong)?;
        let proof =
            SecretProof { key: hmac::Key::new(hmac::HMAC_SHA256, secret), dialler: chance, acceptor: *acceptor };
        proof.verify(b"acceptor", &[], tag)?;
        Ok(proof)
    }

    /// The acceptor's, with the first words of a dialler.
    pub(super) fn of_acceptor(secret: &[u8], chance: Chance, hello: &[u8]) -> Result<SecretProof, Unproven> {
        let (magic, dialler) = hello.split_first_chunk::<4>().ok_or(Unproven::Wrong)?;
        match (*magic == MAGIC, dialler.try_into()) {
            (true, Ok(dialler)) => {
                Ok(SecretProof { key: hmac::Key::new(hmac::HMAC_SHA256, secret), dialler, acceptor: chance })
            }
            _ => Err(Unproven::Wrong),
        }
    }

    fn said(&self, role: &[u8], preface: &[u8]) -> Vec<u8> {
        [b"sockring tunnel 1 ", role, b" ", &self.dialler, &self.acceptor, preface].concat()
    }

    fn verify(&self, role: &[u8], preface: &[u8], tag: &[u8]) -> Result<(), Unproven> {
        hmac::verify(&self.key, &self.said(role, preface), tag).map_err(|_| Unproven::Secret)
    }

    /// The acceptor's answer to the first words.
    pub(super) fn challenge(&self) -> Vec<u8> {
        let tag = hmac::sign(&self.key, &self.said(b"acceptor", &[]));
        [&self.acceptor[..], tag.as_ref()].concat()
    }

    /// What the dialler says then.
    pub(super) fn introduce(&self, preface: &Preface) -> Vec<u8> {
        let preface = preface.encode();
        let tag = hmac::sign(&self.key, &self.said(b"dialler", &preface));
        [&[u8::try_from(preface.len()).unwrap_or(u8::MAX)], &preface[..], tag.as_ref()].concat()
    }

    /// What the acceptor makes of it.
    pub(super) fn accept(&self, preface: &[u8], tag: &[u8]) -> Result<Preface, Unproven> {
        self.verify(b"dialler", preface, tag)?;
        Preface::decode(preface).ok_or(Unproven::Wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preface() -> Preface {
        let visitor = Visitor { shard: 3, address: "2001:db8::7".parse().ok() };
        Preface { to: Instance::new(1), from: Instance::new(2), visitor }
    }

    /// Both sides with their secrets and chances: what the dialler sends at last, and the acceptor's proof.
    fn meet(secrets: [&[u8]; 2], chances: [u8; 2]) -> Result<(Vec<u8>, SecretProof), Unproven> {
        let [dialler, acceptor] = chances.map(|chance| [chance; CHANCE_BYTES]);
        let there = SecretProof::of_acceptor(secrets[1], acceptor, &hello(&dialler))?;
        let here = SecretProof::of_dialler(secrets[0], dialler, &there.challenge())?;
        Ok((here.introduce(&preface()), there))
    }

    fn accept(proof: &SecretProof, said: &[u8]) -> Result<Preface, Unproven> {
        let (preface, tag) = said[1..].split_at(usize::from(said[0]));
        proof.accept(preface, tag)
    }

    #[test]
    fn who_know_the_secret_meet() {
        let (said, there) = meet([b"secret", b"secret"], [1, 2]).unwrap();
        assert_eq!(said.len(), 1 + PREFACE_BYTES_MAX + TAG_BYTES);
        assert_eq!(accept(&there, &said), Ok(preface()));
    }

    #[test]
    fn neither_side_is_taken_in_by_who_does_not_know_it() {
        assert_eq!(meet([b"secret", b"guess"], [1, 2]).err(), Some(Unproven::Secret), "of the acceptor");
        let (_, there) = meet([b"secret", b"secret"], [1, 2]).unwrap();
        let (said, _) = meet([b"guess", b"guess"], [1, 2]).unwrap();
        assert_eq!(accept(&there, &said), Err(Unproven::Secret), "of the dialler");
        // What the acceptor has proved is of no use to a dialler.
        let reflected = [&[0], &there.challenge()[CHANCE_BYTES..]].concat();
        assert_eq!(accept(&there, &reflected), Err(Unproven::Secret));
    }

    #[test]
    fn what_was_said_once_proves_nothing_another_time() {
        let (said, _) = meet([b"secret", b"secret"], [1, 2]).unwrap();
        let (_, again) = meet([b"secret", b"secret"], [1, 3]).unwrap();
        assert_eq!(accept(&again, &said), Err(Unproven::Secret));
        let (mut said, there) = meet([b"secret", b"secret"], [1, 2]).unwrap();
        said[4] ^= 1;
        assert_eq!(accept(&there, &said), Err(Unproven::Secret), "another preface");
    }

    #[test]
    fn other_words_are_none() {
        let chance = [7; CHANCE_BYTES];
        for words in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", &hello(&chance)[..20], &[b"SRT2", &chance[..]].concat()] {
            assert_eq!(SecretProof::of_acceptor(b"secret", chance, words).err(), Some(Unproven::Wrong));
        }
        assert_eq!(SecretProof::of_dialler(b"secret", chance, b"HTTP/1.1 400").err(), Some(Unproven::Wrong));
        let bytes = preface().encode();
        assert!((0..bytes.len()).all(|length| Preface::decode(&bytes[..length]).is_none()));
        assert_eq!(Preface::decode(&[&bytes[..], b"x"].concat()), None);
    }
}
