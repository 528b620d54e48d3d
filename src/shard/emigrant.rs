//! `Emigrant`: a client on its way to its home, with all that goes along as one mail.

use std::fmt;

use sockring_protocol::Millis;
use sockring_protocol::engineio::{Moment, Session, Transport};

use crate::app::Admission;

use super::clients::client::{EventRate, Handshake};
use super::clients::outbox::Outbox;
use super::rooms::sockets::NamespaceId;
use super::sid::Sid;

/// A client on its way home, with the CONNECT that was accepted.
pub struct Emigrant {
    pub(super) sid: Sid,
    pub(super) session: Session,
    pub(super) began: Transport,
    pub(super) rate: EventRate,
    pub(super) outbox: Outbox,
    pub(super) handshake: Option<Box<Handshake>>,
    pub(super) half_open_by: Millis,
    /// By the clock of the shard that it leaves.
    pub(super) left_at: Moment,
    pub(super) namespace: NamespaceId,
    pub(super) admission: Admission,
    pub(super) payload: Option<Box<str>>,
    /// Packets that came in one POST behind the CONNECT.
    pub(super) rest: Option<Box<str>>,
}

impl fmt::Debug for Emigrant {
    /// Without what is private.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Emigrant({:?})", self.sid)
    }
}
