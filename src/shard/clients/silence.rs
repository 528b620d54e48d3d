//! Who is past a deadline by the clock: what it has sent may lie unread. So it is looked for first, and the verdict falls when
//! all that had come is processed.
//!
//! A client on a WebSocket is looked for on its connection. One that polls may say its word on any connection, also on one
//! that waits to be accepted at another shard: all shards look around for it, many of them at once. What it has to do next
//! may have waited for a shard that was late; how long that took is known when it has looked, and does not count either.

use std::collections::VecDeque;

use sockring_protocol::Millis;
use sockring_protocol::engineio::{Input, Moment, Step, Transport};

use crate::app::Application;
use crate::shard::effects::Effect;
use crate::shard::hub::{Hub, Now};
use crate::shard::limit::Limit;
use crate::shard::mail::{Away, SiblingMail};

use super::client::{ClientKey, CloseReason, Farewell, Phase, Role};

/// Shards that do not say within this time that they have looked are not waited for.
const ROUND_MS_MAX: u64 = 30_000;
/// A turn that comes so much later than it is due is late; below it, looking for what has come is enough.
const LATE_MS: u64 = 100;
/// Of a late turn's time so much counts against peers all the same: a shard that is always late must not stop their clock.
const COUNTED_MS: u64 = 25;
/// Of so many times it is known that they do not count: what others say may be about the same.
const UNCOUNTED_MAX: usize = 8;

/// The looks around of a shard: its own for its suspects, and those for others.
#[derive(Default)]
pub(crate) struct Around {
    /// For the next round, and whether for themselves or for their probes.
    suspects: Vec<(ClientKey, Role)>,
    round: Option<Round>,
    rounds: u32,
    /// When the last round ended.
    ended: Moment,
    /// When this shard was away for long.
    away: Away,
    /// The latest times that do not count, from when until when.
    uncounted: VecDeque<(Millis, Millis)>,
    /// Whose rounds wait for this shard's next look, and for the one under way.
    asked: Vec<Asked>,
    answering: Vec<Asked>,
}

/// All shards look around for these.
struct Round {
    suspects: Vec<(ClientKey, Role)>,
    /// Shards that have still to say that they have.
    outstanding: u16,
    begun: Millis,
    by: Millis,
    /// When they were late.
    late: Vec<(Millis, Millis)>,
}

#[derive(Clone, Copy)]
struct Asked {
    from: u16,
    round: u32,
}

impl Around {
    pub(crate) fn deadline(&self) -> Option<Millis> {
        self.round.as_ref().map(|round| round.by)
    }

    /// This shard has been away for long. Who waits for its look hears of the longest time.
    fn on_away(&mut self, away: Away) {
        let is_awaited = !self.asked.is_empty() || !self.answering.is_empty();
        if !is_awaited || away.for_ms > self.away.for_ms {
            self.away = away;
        }
    }

    /// How much of this time has counted so far; it does no more.
    fn discount(&mut self, (mut from, mut until): (Millis, Millis)) -> u64 {
        let mut known_ms = 0;
        self.uncounted.retain(|(begun, ended)| {
            let overlaps = *begun <= until && from <= *ended;
            if overlaps {
                known_ms += *ended - *begun;
                (from, until) = (from.min(*begun), until.max(*ended));
            }
            !overlaps
        });
        if self.uncounted.len() == UNCOUNTED_MAX {
            self.uncounted.pop_front();
        }
        self.uncounted.push_back((from, until));
        (until - from) - known_ms
    }
}

impl<A: Application> Hub<A> {
    pub(crate) fn moment(&self) -> Moment {
        Moment { at: self.now.at, late_ms: self.late_ms }
    }

    /// Whether the last turn was long ago: there was nothing to do, or this shard was late.
    pub(crate) fn has_been_away(&self, now: Now) -> bool {
        now.at - self.now.at > LATE_MS
    }

    /// The time of the turn that begins, and when it was due, if the last one was long ago.
    pub(crate) fn on_time(&mut self, now: Now, due: Option<Millis>) {
        let away = Away { until: now.at, for_ms: now.at - self.now.at };
        if self.has_been_away(now) {
            self.around.on_away(away);
        }
        if let Some(due) = due
            && now.at - due > LATE_MS
        {
            self.counters.late_turns += 1;
            self.late_ms += self.around.discount(lateness(away, due));
        }
        self.now = now;
        self.begin_turn();
    }

    /// The clock that runs against peers: it stands still while this shard is late.
    pub(crate) fn attended(&self) -> Millis {
        self.moment().attended()
    }

    /// Looks for what a client has sent; `on_silent` follows.
    pub(crate) fn look_at(&mut self, key: ClientKey) {
        let Some(client) = self.clients.get(key.0) else { return };
        match (client.session.transport(), client.connection) {
            (Transport::WebSocket, Some(connection)) => self.looks.push(connection),
            _ => self.around.suspects.push((key, Role::Transport)),
        }
    }

    /// Looks for what a client's probe has sent, and before that for requests: it waits for those that are under way.
    /// `on_probe_silent` follows.
    pub(crate) fn look_for_probe(&mut self, key: ClientKey) {
        self.around.suspects.push((key, Role::Probe));
    }

    fn look_at_probe(&mut self, key: ClientKey) {
        if let Some(client) = self.clients.get(key.0)
            && client.session.is_probe_suspect()
        {
            self.looks.extend(client.probe);
        }
    }

    /// All that a client had sent is processed: if it is still a suspect, that was all.
    pub(crate) fn on_silent(&mut self, key: ClientKey) {
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
    pub(crate) fn on_probe_silent(&mut self, key: ClientKey) {
        if self.step(key, Input::ProbeSilent) == Step::DropProbe {
            self.counters.hit(Limit::UpgradeTimeout);
            self.drop_probe(key);
        }
    }

    /// Begins the looks around that are wanted, as far as others are not under way.
    pub(crate) fn begin_looks_around(&mut self) -> Option<Effect> {
        let around = &mut self.around;
        if around.round.is_none() && !around.suspects.is_empty() {
            around.rounds = around.rounds.wrapping_add(1);
            let (from, round) = (self.shard.number, around.rounds);
            around.round = Some(Round {
                suspects: std::mem::take(&mut around.suspects),
                outstanding: self.shard.of,
                begun: self.now.at,
                by: self.now.at + ROUND_MS_MAX,
                late: Vec::new(),
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
    pub(crate) fn on_look(&mut self, from: u16, round: u32) {
        self.around.asked.push(Asked { from, round });
    }

    /// This shard has looked around: what to tell others, behind what it has sent them before.
    pub(crate) fn on_looked_around(&mut self) -> Vec<(u16, SiblingMail)> {
        let (mut answers, away) = (Vec::new(), self.around.away);
        for Asked { from, round } in std::mem::take(&mut self.around.answering) {
            match from == self.shard.number {
                true => self.on_looked(round, away),
                false => answers.push((from, SiblingMail::Looked { round, away })),
            }
        }
        answers
    }

    /// A shard has looked around: it was late if it was away when it was asked.
    pub(crate) fn on_looked(&mut self, number: u32, away: Away) {
        if number != self.around.rounds {
            return;
        }
        let Some(round) = &mut self.around.round else { return };
        if away.for_ms > LATE_MS && away.until - round.begun > COUNTED_MS {
            round.late.push(lateness(away, round.begun));
        }
        round.outstanding = round.outstanding.saturating_sub(1);
        if round.outstanding == 0 {
            self.end_round();
        }
    }

    /// Does not wait for a shard that says nothing.
    pub(crate) fn expire_round(&mut self) {
        if self.around.round.as_ref().is_some_and(|round| round.by <= self.now.at) {
            self.end_round();
        }
    }

    fn end_round(&mut self) {
        let Some(round) = self.around.round.take() else { return };
        self.add_lateness_of_others(&round);
        for (key, role) in round.suspects {
            let Some(client) = self.clients.get(key.0) else { continue };
            match (role, client.session.transport(), client.connection) {
                (Role::Probe, ..) => self.look_at_probe(key),
                // It has got its WebSocket meanwhile.
                (Role::Transport, Transport::WebSocket, Some(_)) => self.look_at(key),
                (Role::Transport, ..) => self.on_silent(key),
            }
        }
    }

    /// The clock that runs against peers stood still while another shard was late, too. It goes on a little with each round,
    /// however late they are.
    fn add_lateness_of_others(&mut self, round: &Round) {
        let late_ms: u64 = round.late.iter().map(|late| self.around.discount(*late)).sum();
        let since_ms = self.attended() - self.around.ended.attended();
        self.late_ms += late_ms.min(since_ms.saturating_sub(COUNTED_MS));
        self.around.ended = self.moment();
    }
}

/// From when until when a shard was late that was away and had something to do since `due`. It may have been away for some time
/// before that, too; no more of it than as long again is supposed.
fn lateness(away: Away, due: Millis) -> (Millis, Millis) {
    let late_ms = ((away.until - due) * 2).min(away.for_ms.saturating_sub(COUNTED_MS));
    (Millis(away.until.0.saturating_sub(late_ms)), away.until)
}
