//! `TlsStage`: what one connection's bytes mean in TLS, both ways. Bytes in, bytes out; nothing of it waits.
//!
//! ```text
//!              receive                                 seal
//!   bytes --> | input: what has begun | --> plain     told --> | own, then what is told | --> bytes
//!                     |                                             ^
//!                     +-- handshake, alerts, tickets: own ----------+
//! ```
//!
//! It is rustls without buffers: an idle connection has none, and records are opened in the buffer that they came in.

use std::sync::Arc;

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};

use super::counts::{TlsCounts, TlsRefusal, TlsVersion};

/// What has begun and is no record or message yet. A record has 16 KiB and some; a chain of certificates may be longer.
const INPUT_BYTES_MAX: usize = 64 << 10;
/// RFC 8446 section 5.1.
const RECORD_BYTES_MAX: usize = 16 << 10;
/// What each record takes besides: header, nonce, type and tag.
const RECORD_OVERHEAD: usize = 5 + 8 + 1 + 16;
/// An alert, or a message that keys have changed.
const MESSAGE_BYTES: usize = 64;

/// One connection's TLS.
pub struct TlsStage {
    connection: UnbufferedServerConnection,
    counts: Arc<TlsCounts>,
    /// The peer's bytes that are no whole record, or message of the handshake, yet.
    input: Vec<u8>,
    /// Those behind them that the library has not seen yet.
    kept: Vec<u8>,
    /// For the peer: handshake, alerts.
    own: Vec<u8>,
    life: Life,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// Nothing has come.
    New,
    Handshake,
    Open,
    /// The peer has said that it says no more.
    PeerEnded,
    /// We have said that we say no more, or why we do not.
    Ended,
}

/// Whether more may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFlow {
    Open,
    /// The peer has ended its side.
    PeerEnded,
}

impl TlsStage {
    pub(super) fn new(connection: UnbufferedServerConnection, counts: Arc<TlsCounts>) -> TlsStage {
        TlsStage { connection, counts, input: Vec::new(), kept: Vec::new(), own: Vec::new(), life: Life::New }
    }

    /// Takes bytes of the peer, which are changed in place; what it says is appended to `plain`. Behind an error `own` says why
    /// to the peer, and nothing can be said any more.
    pub fn receive(&mut self, bytes: &mut [u8], plain: &mut Vec<u8>) -> Result<TlsFlow, TlsRefusal> {
        if self.life == Life::New {
            match self.kept.first().or(bytes.first()) {
                None => return Ok(TlsFlow::Open),
                // A method: no message of TLS begins like that.
                Some(first) if first.is_ascii_uppercase() => return Err(self.refuse(TlsRefusal::PlainHttp)),
                Some(_) => self.life = Life::Handshake,
            }
        }
        let result = if self.input.is_empty() && self.kept.is_empty() {
            let (used, result) = self.open(bytes, plain);
            self.input.extend_from_slice(bytes.get(used..).unwrap_or_default());
            result
        } else {
            let mut input = std::mem::take(&mut self.input);
            input.append(&mut std::mem::take(&mut self.kept));
            input.extend_from_slice(bytes);
            let (used, result) = self.open(&mut input, plain);
            input.drain(..used);
            // One that is empty holds nothing.
            self.input = if input.is_empty() { Vec::new() } else { input };
            result
        };
        result.map_err(|refusal| self.refuse(refusal))?;
        if self.input.len() > INPUT_BYTES_MAX {
            return Err(self.refuse(TlsRefusal::Malformed));
        }
        if self.life == Life::Handshake && !self.connection.is_handshaking() {
            self.life = Life::Open;
            let version = TlsVersion::of(self.connection.protocol_version());
            self.counts.done(version, self.connection.handshake_kind());
        }
        Ok(if self.life == Life::PeerEnded { TlsFlow::PeerEnded } else { TlsFlow::Open })
    }

    /// Keeps bytes of the peer for whoever receives next.
    pub fn keep(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
    }

    /// What is held of the peer's bytes.
    pub fn held_bytes(&self) -> usize {
        self.input.capacity() + self.kept.capacity()
    }

    /// Whether there is something to receive without further bytes.
    pub fn has_more(&self) -> bool {
        !self.kept.is_empty() || self.life == Life::PeerEnded
    }

    /// Whether what comes next is expensive.
    pub fn is_handshaking(&self) -> bool {
        matches!(self.life, Life::New | Life::Handshake)
    }

    pub fn has_own(&self) -> bool {
        !self.own.is_empty()
    }

    /// What the peer has to be sent of the handshake, or as an alert.
    pub fn take_own(&mut self) -> Option<Vec<u8>> {
        self.has_own().then(|| std::mem::take(&mut self.own))
    }

    /// Gives back what was taken and not sent.
    pub fn return_own(&mut self, unsent: Vec<u8>) {
        self.own.splice(..0, unsent);
    }

    /// What the peer has to be sent so that it is told this. `None`: it cannot be told anything, yet or any more.
    pub fn seal(&mut self, plain: &[u8]) -> Option<Vec<u8>> {
        let records = plain.len().div_ceil(RECORD_BYTES_MAX);
        let most = plain.len() + records * RECORD_OVERHEAD + MESSAGE_BYTES;
        self.write(most, |traffic, out| traffic.encrypt(plain, out))?;
        self.take_own()
    }

    /// Tells the peer that this is the end. Once.
    pub fn close(&mut self) {
        if matches!(self.life, Life::Open | Life::PeerEnded) {
            self.write(MESSAGE_BYTES, |traffic, out| traffic.queue_close_notify(out));
            self.life = Life::Ended;
        }
    }

    /// Appends to `own` what is written, which has so many bytes at the most.
    fn write(
        &mut self,
        most: usize,
        mut write: impl FnMut(&mut WriteTraffic<'_>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Option<()> {
        if !matches!(self.life, Life::Open | Life::PeerEnded) {
            return None;
        }
        loop {
            // What has begun is a part of what the library counts on.
            let UnbufferedStatus { state, .. } = self.connection.process_tls_records(&mut self.input);
            match state.ok()? {
                ConnectionState::EncodeTlsData(mut data) => encode(&mut self.own, |out| data.encode(out)),
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::WriteTraffic(mut traffic) => {
                    let from = self.own.len();
                    self.own.resize(from + most, 0);
                    let written = write(&mut traffic, self.own.get_mut(from..).unwrap_or_default());
                    self.own.truncate(from + written.as_ref().map_or(0, |count| *count));
                    return written.ok().map(drop);
                }
                _ => return None,
            }
        }
    }

    /// Opens what has come; says how many bytes are used.
    fn open(&mut self, bytes: &mut [u8], plain: &mut Vec<u8>) -> (usize, Result<(), TlsRefusal>) {
        let mut used = 0;
        loop {
            let rest = bytes.get_mut(used..).unwrap_or_default();
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(rest);
            used += discard;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        used += record.discard;
                        plain.extend_from_slice(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut self.own, |out| data.encode(out)),
                // They are sent from `own`.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.life = Life::PeerEnded,
                Ok(_) => break,
                Err(error) => {
                    self.take_alert(bytes.get_mut(used..).unwrap_or_default());
                    return (used, Err(TlsRefusal::of(&error)));
                }
            }
        }
        if self.life == Life::PeerEnded {
            used = bytes.len();
        }
        (used, Ok(()))
    }

    /// Behind an error comes what tells the peer of it. No record is looked at any more: the library is at its end.
    fn take_alert(&mut self, rest: &mut [u8]) {
        while self.connection.wants_write() {
            let Ok(ConnectionState::EncodeTlsData(mut data)) = self.connection.process_tls_records(rest).state else {
                return;
            };
            encode(&mut self.own, |out| data.encode(out));
        }
    }

    fn refuse(&mut self, refusal: TlsRefusal) -> TlsRefusal {
        if self.life != Life::Ended {
            self.counts.refused(refusal);
        }
        self.life = Life::Ended;
        (self.input, self.kept) = (Vec::new(), Vec::new());
        refusal
    }
}

type WriteTraffic<'c> = rustls::unbuffered::WriteTraffic<'c, rustls::server::ServerConnectionData>;

/// Appends what is encoded, once it is known how long it is.
fn encode(own: &mut Vec<u8>, mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>) {
    let from = own.len();
    while let Err(EncodeError::InsufficientSize(size)) = encode(own.get_mut(from..).unwrap_or_default()) {
        own.resize(from + size.required_size, 0);
    }
}

impl Drop for TlsStage {
    fn drop(&mut self) {
        if self.life == Life::Handshake {
            self.counts.refused(TlsRefusal::Unfinished);
        }
    }
}

impl std::fmt::Debug for TlsStage {
    /// Without what is in it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TlsStage({:?}, {} bytes)", self.life, self.input.len())
    }
}

#[cfg(test)]
mod tests;
