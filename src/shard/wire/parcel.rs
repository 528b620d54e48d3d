//! `Parcel`: what goes along with a connection that moves, from shard to shard, or to the API and back.

use sockring_protocol::websocket::Decoder;

use crate::capacity::{Permit, Stranger};
use crate::shard::diary::Account;
use crate::shard::moving::sid::Sid;
use crate::tls::TlsStage;

use super::stage::{ReplyHead, TunnelOrigin};

/// A connection's bytes that were read and not used, and what they mean.
pub struct Parcel {
    pub(crate) bytes: Vec<u8>,
    /// Requests that were answered on it.
    pub(crate) requests: u32,
    pub(crate) luggage: Luggage,
    pub(crate) papers: Papers,
    /// `bytes` have been through it already. `None`: it speaks plain text.
    pub(crate) tls: Option<Box<TlsStage>>,
}

/// What a connection is counted as, wherever it is.
#[derive(Debug, Default)]
pub struct Papers {
    /// `None`: its coming counts it.
    pub seat: Option<Permit>,
    /// Among those of its address that have no session.
    pub stranger: Option<Stranger>,
    /// `None`: its peer is who it seems to be.
    pub origin: Option<TunnelOrigin>,
    /// What is told at its end, where the log tells of ends.
    pub(crate) account: Option<Box<Account>>,
}

/// What the connection was in the middle of.
pub(crate) enum Luggage {
    /// Between two requests.
    None,
    /// The bytes begin with a request whose session id named the shard that it is sent to.
    Request,
    /// A GET of this session, to be held or answered.
    Poll { sid: Sid, reply: Box<ReplyHead> },
    /// The WebSocket of this session, or a probe for it.
    WebSocket { sid: Sid, decoder: Decoder, pending: Vec<u8> },
}

impl Parcel {
    /// A connection that is between two requests, with the bytes that were read from it.
    pub fn between_requests(bytes: Vec<u8>, requests: u32) -> Parcel {
        Parcel { bytes, requests, luggage: Luggage::None, papers: Papers::default(), tls: None }
    }

    /// With what the connection is counted as.
    pub fn with(self, papers: Papers) -> Parcel {
        Parcel { papers, ..self }
    }

    /// With the stage that its bytes go through.
    pub fn through(self, tls: Option<Box<TlsStage>>) -> Parcel {
        Parcel { tls, ..self }
    }

    /// The connection stays where its descriptor is counted.
    pub fn keep_descriptor(&mut self) {
        if let Some(seat) = &mut self.papers.seat {
            seat.keep_descriptor();
        }
    }

    pub fn take_papers(&mut self) -> Papers {
        std::mem::take(&mut self.papers)
    }

    pub fn take_tls(&mut self) -> Option<Box<TlsStage>> {
        self.tls.take()
    }

    pub fn requests(&self) -> u32 {
        self.requests
    }

    /// Adds what was read from the connection while it was on its way.
    pub fn append(&mut self, bytes: &[u8]) {
        match &mut self.tls {
            None => self.bytes.extend_from_slice(bytes),
            Some(tls) => tls.keep(bytes),
        }
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl std::fmt::Debug for Parcel {
    /// Without what is in it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match &self.luggage {
            Luggage::None => "between requests",
            Luggage::Request => "a request",
            Luggage::Poll { .. } => "a poll",
            Luggage::WebSocket { .. } => "a WebSocket",
        };
        write!(f, "Parcel({what}, {} bytes)", self.bytes.len())
    }
}
