//! `Emigrant`: a client on its way to its home, with all that goes along as one mail.

use std::fmt;

use sockring_protocol::Millis;
use sockring_protocol::engineio::{Moment, Session, Transport};

use crate::app::Admission;
use crate::shard::clients::client::{ConnectionKey, EventRate, FirstRequest};
use crate::shard::clients::outbox::Outbox;
use crate::shard::clients::waiting::WaitingConnect;
use crate::shard::diary::Account;
use crate::shard::rooms::sockets::NamespaceId;
use sockring_protocol::portable;

use super::sid::Sid;

/// A client on its way home, with the CONNECT that was accepted.
pub struct Emigrant {
    pub(crate) sid: Sid,
    pub(crate) session: Session,
    pub(crate) began: Transport,
    pub(crate) rate: EventRate,
    pub(crate) outbox: Outbox,
    pub(crate) handshake: Option<Box<FirstRequest>>,
    pub(crate) account: Account,
    pub(crate) half_open_by: Millis,
    /// By the clock of the shard that it leaves.
    pub(crate) left_at: Moment,
    pub(crate) namespace: NamespaceId,
    pub(crate) admission: Admission,
    pub(crate) payload: Option<Box<str>>,
    /// CONNECTs that came behind it, before it was decided.
    pub(crate) waiting: Vec<WaitingConnect>,
    /// Packets that came in one POST behind the CONNECT.
    pub(crate) rest: Option<Box<str>>,
}

portable!(struct Emigrant {
    sid, session, began, rate, outbox, handshake, account, half_open_by, left_at, namespace, admission, payload, waiting, rest,
});

/// A client that has just moved away: what it has left behind.
#[derive(Debug)]
pub(crate) struct Departed {
    pub(crate) sid: Sid,
    pub(crate) home: u16,
    /// The connection whose GET is held.
    pub(crate) held: Option<ConnectionKey>,
    /// The WebSocket that is its transport.
    pub(crate) websocket: Option<ConnectionKey>,
    pub(crate) probe: Option<ConnectionKey>,
}

impl fmt::Debug for Emigrant {
    /// Without what is private.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Emigrant({:?})", self.sid)
    }
}
