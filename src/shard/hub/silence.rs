//! Who is past a deadline by the clock: what it has sent may lie unread. So it is looked for first, and the verdict falls when
//! all that had come is processed.
//!
//! A client on a WebSocket is looked for on its connection. One that polls may say its word on any connection, also on one
//! that waits to be accepted at another shard: all shards look around for it, many of them at once.

use sockring_protocol::Millis;
use sockring_protocol::engineio::{Input, Moment, Step, Transport};

use crate::app::Application;

use super::super::client::{ClientKey, CloseReason, Phase};
use super::super::effects::Effect;
use super::super::limit::Limit;
use super::super::mail::SiblingMail;
use super::{Farewell, Hub};

/// Shards that do not say within this time that they have looked are not waited for.
const ROUND_MS_MAX: u64 = 30_000;

/// The looks around of a shard: its own for its suspects, and those for others.
#[derive(Default)]
pub(super) struct Around {
    /// For the next round.
    suspects: Vec<ClientKey>,
    round: Option<Round>,
    rounds: u32,
    /// Whose rounds wait for this shard's next look, and for the one under way.
    asked: Vec<Asked>,
    answering: Vec<Asked>,
}

/// All shards look around for these.
struct Round {
    suspects: Vec<ClientKey>,
    /// Shards that have still to say that they have.
    outstanding: u16,
    by: Millis,
}

#[derive(Clone, Copy)]
struct Asked {
    from: u16,
    round: u32,
}

impl Around {
    pub(super) fn deadline(&self) -> Option<Millis> {
        self.round.as_ref().map(|round| round.by)
    }
}

impl<A: Application> Hub<A> {
    pub(in super::super) fn moment(&self) -> Moment {
        Moment { at: self.now.at, late_ms: self.late_ms }
    }

    /// The clock that runs against peers: it stands still while this shard is late.
    pub(in super::super) fn attended(&self) -> Millis {
        self.moment().attended()
    }

    /// Looks for what a client has sent; `on_silent` follows.
    pub(super) fn look_at(&mut self, key: ClientKey) {
        let Some(client) = self.clients.get(key.0) else { return };
        match (client.session.transport(), client.connection) {
            (Transport::WebSocket, Some(connection)) => self.looks.push(connection),
            _ => self.around.suspects.push(key),
        }
    }

    /// Looks for what a client's probe has sent; `on_probe_silent` follows.
    pub(super) fn look_at_probe(&mut self, key: ClientKey) {
        if let Some(probe) = self.clients.get(key.0).and_then(|client| client.probe) {
            self.looks.push(probe);
        }
    }

    /// All that a client had sent is processed: if it is still a suspect, that was all.
    pub(in super::super) fn on_silent(&mut self, key: ClientKey) {
        let attended = self.attended();
        let Some(client) = self.clients.get_mut(key.0) else { return };
        let was_half_open = std::mem::take(&mut client.is_suspect);
        if was_half_open && client.half_open_by <= attended {
            let (reason, limit) = match client.phase {
                Phase::Claimed => (CloseReason::MessageTimeout, Limit::MessageTimeout),
                Phase::Unclaimed | Phase::Farewell => (CloseReason::ConnectTimeout, Limit::ConnectTimeout),
            };
            self.counters.hit(limit);
            return self.drop_client(key, reason, None, Farewell::NextPoll);
        }
        if !was_half_open && !client.session.is_suspect() {
            return;
        }
        match self.step(key, Input::Silent) {
            Step::End(end) => self.end_session(key, end),
            _ => self.counters.pardoned += u64::from(was_half_open),
        }
    }

    /// The same of its probe.
    pub(in super::super) fn on_probe_silent(&mut self, key: ClientKey) {
        if self.step(key, Input::ProbeSilent) == Step::DropProbe {
            self.counters.hit(Limit::UpgradeTimeout);
            self.drop_probe(key);
        }
    }

    /// Begins the looks around that are wanted, as far as others are not under way.
    pub(in super::super) fn begin_looks_around(&mut self) -> Option<Effect> {
        let around = &mut self.around;
        if around.round.is_none() && !around.suspects.is_empty() {
            around.rounds = around.rounds.wrapping_add(1);
            let (from, round) = (self.shard.number, around.rounds);
            around.round = Some(Round {
                suspects: std::mem::take(&mut around.suspects),
                outstanding: self.shard.of,
                by: self.now.at + ROUND_MS_MAX,
            });
            around.asked.push(Asked { from, round });
            let others = (0..self.shard.of).filter(|shard| *shard != from);
            self.mails.extend(others.map(|shard| (shard, SiblingMail::Look { from, round })));
        }
        let around = &mut self.around;
        if !around.answering.is_empty() || around.asked.is_empty() {
            return None;
        }
        around.answering = std::mem::take(&mut around.asked);
        Some(Effect::LookAround)
    }

    /// Another shard wants this one to look around.
    pub(super) fn on_look(&mut self, from: u16, round: u32) {
        self.around.asked.push(Asked { from, round });
    }

    /// This shard has looked around: what to tell others, behind what it has sent them before.
    pub(in super::super) fn on_looked_around(&mut self) -> Vec<(u16, SiblingMail)> {
        let mut answers = Vec::new();
        for Asked { from, round } in std::mem::take(&mut self.around.answering) {
            match from == self.shard.number {
                true => self.on_looked(round),
                false => answers.push((from, SiblingMail::Looked { round })),
            }
        }
        answers
    }

    /// A shard has looked around.
    pub(super) fn on_looked(&mut self, number: u32) {
        if number != self.around.rounds {
            return;
        }
        let Some(round) = &mut self.around.round else { return };
        round.outstanding = round.outstanding.saturating_sub(1);
        if round.outstanding == 0 {
            self.end_round();
        }
    }

    /// Does not wait for a shard that says nothing.
    pub(super) fn expire_round(&mut self) {
        if self.around.round.as_ref().is_some_and(|round| round.by <= self.now.at) {
            self.end_round();
        }
    }

    fn end_round(&mut self) {
        let Some(round) = self.around.round.take() else { return };
        for key in round.suspects {
            let Some(client) = self.clients.get(key.0) else { continue };
            match (client.session.transport(), client.connection) {
                // It has got its WebSocket meanwhile.
                (Transport::WebSocket, Some(_)) => self.look_at(key),
                _ => self.on_silent(key),
            }
        }
    }
}
