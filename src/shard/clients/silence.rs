//! Who is past a deadline by the clock: what it has sent may lie unread. So it is looked for first, and the verdict falls when
//! all that had come is processed.
//!
//! A client on a WebSocket is looked for on its connection. One that polls may say its word on any connection, also on one
//! that waits to be accepted at another shard: all shards look around for it, many of them at once. What it has to do next
//! may have waited for a shard that was late; how long that took is known when it has looked, and does not count either.

use sockring_protocol::Millis;
use sockring_protocol::engineio::{Input, Moment, Step, Transport};

use crate::app::Application;
use crate::shard::effects::Effect;
use crate::shard::hub::{Hub, Now};
use crate::shard::limit::Limit;
use crate::shard::mail::{Away, SiblingMail};

use super::client::{ClientKey, CloseReason, Farewell, Phase, Role};
use super::lookout::{Asked, LATE_MS};

impl<A: Application> Hub<A> {
    pub(crate) fn moment(&self) -> Moment {
        self.lookout.moment(self.now.at)
    }

    /// Whether the last turn was long ago: there was nothing to do, or this shard was late.
    pub(crate) fn has_been_away(&self, now: Now) -> bool {
        now.at - self.now.at > LATE_MS
    }

    /// The time of the turn that begins, and when it was due, if the last one was long ago.
    pub(crate) fn on_time(&mut self, now: Now, due: Option<Millis>) {
        let away = Away { until: now.at, for_ms: now.at - self.now.at };
        if self.has_been_away(now) {
            self.lookout.on_away(away);
        }
        if let Some(due) = due
            && now.at - due > LATE_MS
        {
            self.counters.late_turns += 1;
            self.lookout.on_late(away, due);
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
        let Some(client) = self.directory.get(key) else { return };
        match (client.session.transport(), client.connection) {
            (Transport::WebSocket, Some(connection)) => self.outbound.looks.push(connection),
            _ => self.lookout.suspect(key, Role::Transport),
        }
    }

    /// Looks for what a client's probe has sent, and before that for requests: it waits for those that are under way.
    /// `on_probe_silent` follows.
    pub(crate) fn look_for_probe(&mut self, key: ClientKey) {
        self.lookout.suspect(key, Role::Probe);
    }

    fn look_at_probe(&mut self, key: ClientKey) {
        if let Some(client) = self.directory.get(key)
            && client.session.is_probe_suspect()
        {
            self.outbound.looks.extend(client.begun.probe);
        }
    }

    /// All that a client had sent is processed: if it is still a suspect, that was all.
    pub(crate) fn on_silent(&mut self, key: ClientKey) {
        let attended = self.attended();
        let Some(client) = self.directory.get_mut(key) else { return };
        let was_half_open = std::mem::take(&mut client.is_suspect);
        if was_half_open && client.begun.half_open_by <= attended {
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
        if let Some(round) = self.lookout.begin_round(self.shard, self.now.at) {
            let from = self.shard.number;
            let others = (0..self.shard.of).filter(|shard| *shard != from);
            self.outbound.mails.extend(others.map(|shard| (shard, SiblingMail::Look { from, round })));
        }
        self.lookout.begins_to_look().then_some(Effect::LookAround)
    }

    /// This shard has looked around: what to tell others, behind what it has sent them before.
    pub(crate) fn on_looked_around(&mut self) -> Vec<(u16, SiblingMail)> {
        let mut answers = Vec::new();
        let (asked, aways) = self.lookout.on_looked_around();
        for Asked { from, round } in asked {
            match from == self.shard.number {
                true => self.on_looked(round, &aways),
                false => answers.push((from, SiblingMail::Looked { round, aways: aways.clone() })),
            }
        }
        answers
    }

    /// A shard has looked around.
    pub(crate) fn on_looked(&mut self, round: u32, aways: &[Away]) {
        if self.lookout.on_looked(round, aways) {
            self.end_round();
        }
    }

    /// Does not wait for a shard that says nothing.
    pub(crate) fn expire_round(&mut self) {
        if self.lookout.deadline().is_some_and(|by| by <= self.now.at) {
            self.end_round();
        }
    }

    fn end_round(&mut self) {
        for (key, role) in self.lookout.end_round(self.now.at) {
            let Some(client) = self.directory.get(key) else { continue };
            match (role, client.session.transport(), client.connection) {
                (Role::Probe, ..) => self.look_at_probe(key),
                // It has got its WebSocket meanwhile.
                (Role::Transport, Transport::WebSocket, Some(_)) => self.look_at(key),
                (Role::Transport, ..) => self.on_silent(key),
            }
        }
    }
}
