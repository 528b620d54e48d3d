//! `Recovery`: what a shard remembers for clients that come back, each part with its owner.

use sockring_protocol::Millis;

use crate::shard::clients::outbox::Frames;
use crate::shard::moving::placement::ShardNumber;
use crate::shard::moving::sid::RandomPool;
use crate::shard::relay::carried;
use crate::shard::rooms::lingering::Term;
use crate::shard::rooms::sockets::{NamespaceId, Seat};
use crate::shard::settings::{EngineSettings, OffsetForm, Positions};

use super::behind::BehindSockets;
use super::ended::Ended;
use super::log::Log;
use super::pid::Signer;
use super::position::{Epoch, Mark, Offset, Position};
use super::sessions::Sessions;
use super::stays::Stays;

/// What a shard remembers for clients that come back.
pub(crate) struct Recovery {
    pub(crate) epoch: Epoch,
    pub(super) signer: Signer,
    form: OffsetForm,
    pub(crate) log: Log,
    pub(super) stays: Stays,
    pub(crate) ended: Ended,
    pub(super) behind: BehindSockets,
    /// Where clients may come back to other servers, and positions are places in the stream that all of them read.
    pub(crate) sessions: Option<Box<Sessions>>,
    /// For how long rooms and sockets that have ended are remembered.
    pub(super) keep_ms: u64,
    /// The last ping with a marker, by what it says and where.
    pub(super) ping: Option<(Position, NamespaceId, Frames)>,
}

carried!(Recovery { epoch, signer, stays, behind, ping }
    parts { log, ended, sessions }
    stays { form, keep_ms });

impl Recovery {
    /// `None`: it is off.
    pub(crate) fn new(
        settings: &EngineSettings,
        shard: ShardNumber,
        clients_max: usize,
        random: &mut RandomPool,
        now: Millis,
    ) -> Option<Box<Recovery>> {
        let recovery = &settings.recovery;
        if recovery.window_ms == 0 {
            return None;
        }
        // Who hears nothing is found out by its heartbeats: from its last position to its end it takes up to this long.
        let keep_ms = recovery.window_ms + settings.times.ping_interval_ms + settings.times.ping_timeout_ms;
        Some(Box::new(Recovery {
            epoch: match recovery.positions {
                Positions::Counted => Epoch::new(random.take()),
                Positions::OfStream => Epoch::OF_STREAM,
            },
            signer: match &recovery.secret {
                Some(secret) => Signer::new(secret.as_bytes()),
                None => Signer::new(&random.take::<32>()),
            },
            form: recovery.offset,
            log: Log::new(recovery.bytes_max / usize::from(shard.of), keep_ms, now),
            stays: Stays::default(),
            ended: Ended::new(clients_max),
            behind: BehindSockets::default(),
            sessions: (recovery.positions == Positions::OfStream).then(Box::default),
            keep_ms,
            ping: None,
        }))
    }

    /// What a client has received that has received all so far.
    fn offset(&self) -> Offset {
        self.offset_at(self.log.told())
    }

    pub(super) fn offset_at(&self, position: Position) -> Offset {
        Offset { epoch: self.epoch, position }
    }

    /// The marker of the next event that is remembered, which was read at this place of a stream.
    pub(crate) fn next_mark(&self, place: Option<Position>) -> Mark {
        Mark { offset: self.offset_at(self.log.place(place)), form: self.form }
    }

    /// Up to where a socket has been sent everything.
    pub(crate) fn reached_by(&self, seat: Seat) -> Position {
        let ahead = || self.sessions.as_deref().and_then(|sessions| sessions.ahead(seat));
        self.behind.position(seat).or_else(ahead).unwrap_or_else(|| self.log.told())
    }

    /// The marker of what is sent to one who has got everything up to here.
    pub(crate) fn mark_of(&self, position: Position) -> Mark {
        Mark { offset: self.offset_at(position), form: self.form }
    }

    /// The marker of something that is not remembered: all that was delivered so far is before it.
    pub(crate) fn mark(&self) -> Mark {
        Mark { offset: self.offset(), form: self.form }
    }

    /// A room is left by its last member: how long it lingers.
    pub(crate) fn term(&mut self, now: Millis) -> Term {
        let since = match self.sessions {
            None => self.log.advance(now),
            // A place in a stream is what all servers understand.
            Some(_) => self.log.advance_unseen(),
        };
        Term { since, until: now + self.keep_ms }
    }

    /// A socket has joined rooms, or left some.
    pub(super) fn on_rooms_changed(&mut self, seat: Seat) {
        if let Some(sessions) = self.sessions.as_deref_mut() {
            sessions.on_change(seat);
        }
    }

    /// Forgets what is too old.
    pub(crate) fn expire(&mut self, now: Millis) {
        self.log.expire(now);
        self.ended.expire(now);
        self.stays.prune(self.log.floor());
    }

    pub(crate) fn deadline(&self) -> Option<Millis> {
        let sessions = self.sessions.as_deref().and_then(Sessions::deadline);
        [self.log.deadline(), self.ended.deadline(), sessions].into_iter().flatten().min()
    }

    /// Clients that get what they have missed bit by bit.
    pub(crate) fn behind(&self) -> usize {
        self.behind.len()
    }
}
