//! `Session`: the rules of one Engine.IO v4 session over its transports: heartbeat, long-polling, probe, upgrade, close.
//!
//! The machine holds no bytes and knows no connection. Its owner tells it what a peer did (`receive`) or what time it is
//! (`expire`) and carries out the one `Step` that comes back.
//!
//! Nobody is silent by the clock alone: what a peer has said may lie unread with an owner that is late. So time in which the
//! owner was late does not count against the peer (`Moment`), and when its time is up the owner looks once more. What it
//! learns meanwhile about its lateness counts, too: who has time left then is a suspect no more.

mod near;

use super::packet::EnginePacket;
use crate::Millis;
use near::Near;

/// A POST with a close packet waits this long for the GET that was sent before it on another TCP connection.
pub const CLOSE_GRACE_MS: u64 = 10;
/// A GET that arrives while an upgrade is under way is answered with a noop after this time (the reference: 100 ms).
pub const POLL_RELEASE_MS: u64 = 50;

/// What is due within this share of the ping interval is due soon.
const SOON_SHARE: u64 = 5;

/// The heartbeat and upgrade times of a session, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct SessionTimes {
    /// From the opening, or from a pong, to the next ping.
    pub ping_interval_ms: u64,
    /// From a ping to the end of the session if no pong comes.
    pub ping_timeout_ms: u64,
    /// From a probe's opening to its end if it does not become the transport.
    pub upgrade_timeout_ms: u64,
}

impl Default for SessionTimes {
    /// The reference's defaults (engine.io 6.6).
    fn default() -> SessionTimes {
        SessionTimes { ping_interval_ms: 25_000, ping_timeout_ms: 20_000, upgrade_timeout_ms: 10_000 }
    }
}

/// A point in time for who holds others to their times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Moment {
    /// The time on the owner's clock.
    pub at: Millis,
    /// For how long until now the owner was late: what peers had to do in this time it could not have seen.
    pub late_ms: u64,
}

impl Moment {
    /// The clock that runs against peers.
    pub fn attended(self) -> Millis {
        Millis(self.at.0.saturating_sub(self.late_ms))
    }

    /// When it will be `attended` if the owner is late no more.
    pub fn when(self, attended: Millis) -> Millis {
        attended + self.late_ms
    }

    /// A peer's deadline by the clock of its next owner: as much of it is left as when it left this one. One that has passed has
    /// passed while this owner looked for what the peer has said: for whatever kept that, the peer has as long again.
    pub fn carry_over(self, by: Millis, to: Moment) -> Millis {
        match by {
            Millis::NEVER => by,
            by => to.attended() + by.0.abs_diff(self.attended().0),
        }
    }
}

impl From<Millis> for Moment {
    /// The owner was never late.
    fn from(at: Millis) -> Moment {
        Moment { at, late_ms: 0 }
    }
}

crate::portable!(struct Moment { at, late_ms });

/// How a session began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum Transport {
    /// HTTP long-polling: a GET waits for packets, a POST brings some.
    Polling,
    /// A WebSocket.
    WebSocket,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Polling,
    /// A probe WebSocket is open beside polling; `upgrade_by` is when it must have become the transport, by the clock that
    /// runs against peers.
    Probing {
        upgrade_by: Millis,
    },
    /// The probe was answered: polls are no longer held.
    Upgrading {
        upgrade_by: Millis,
        release_poll_at: Near,
    },
    WebSocket,
    /// A close packet came by POST while no GET was there; it takes effect `at`, or with the next GET.
    Closing {
        at: Millis,
    },
    /// Over; what carried it last is still told.
    Closed(Transport),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heartbeat {
    PingAt(Millis),
    /// By the clock that runs against peers.
    PongBy(Millis, Ping),
    /// That has passed, and the owner looks for a pong that is not read yet.
    Suspect(Millis, Ping),
}

/// Whether a ping has been on its way. A client that polls fetches it when it likes, or when its GET is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ping {
    Waiting,
    Left,
}

/// Whether `upgrade_by` has passed, and the owner looks for what the probe has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UpgradeTiming {
    InTime,
    Suspect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestPresence {
    Absent,
    Present,
}

/// The kind of an Engine.IO packet, as far as the session's rules care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum PacketType {
    /// `0`
    Open,
    /// `1`
    Close,
    /// `2`
    Ping,
    /// `3`
    Pong,
    /// `4`, or bytes.
    Message,
    /// `5`
    Upgrade,
    /// `6`
    Noop,
}

impl PacketType {
    /// Of a packet.
    pub fn of(packet: &EnginePacket<'_>) -> PacketType {
        match packet {
            EnginePacket::Open => PacketType::Open,
            EnginePacket::Close => PacketType::Close,
            EnginePacket::Ping(_) => PacketType::Ping,
            EnginePacket::Pong(_) => PacketType::Pong,
            EnginePacket::Message(_) => PacketType::Message,
            EnginePacket::Upgrade => PacketType::Upgrade,
            EnginePacket::Noop => PacketType::Noop,
        }
    }
}

/// What came by a probe WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum ProbePacket {
    /// `2probe`
    Probe,
    /// `5`
    Upgrade,
    /// Anything else.
    Other,
}

impl ProbePacket {
    /// Of the text of a frame.
    pub fn of(text: &str) -> ProbePacket {
        match EnginePacket::decode(text) {
            Ok(EnginePacket::Ping("probe")) => ProbePacket::Probe,
            Ok(EnginePacket::Upgrade) => ProbePacket::Upgrade,
            _ => ProbePacket::Other,
        }
    }
}

/// What a peer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum Input {
    /// A GET of this session arrived.
    Poll,
    /// The GET that was held has been answered.
    PollAnswered,
    /// The connection of the GET that was held ended.
    PollLost,
    /// The head of a POST of this session arrived.
    Post,
    /// Its body is complete; its packets follow as inputs of their own.
    PostComplete,
    /// Its connection ended, or its body was refused, before it was complete.
    PostLost,
    /// A WebSocket handshake with this session's sid arrived.
    Probe,
    /// A packet came by the probe.
    ProbePacket(ProbePacket),
    /// The probe's connection ended.
    ProbeLost,
    /// A packet came by the session's transport (for polling: in a POST).
    Packet(PacketType),
    /// Bytes that are no packet came by the session's transport.
    BadPacket,
    /// The session's WebSocket ended.
    TransportLost,
    /// After `Step::Suspect`: all that the peer had sent by then is processed.
    Silent,
    /// After `Step::SuspectProbe`, the same of the probe.
    ProbeSilent,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// No pong in time.
    PingTimeout,
    /// The peer's TCP connection ended.
    TransportClose,
    /// Two GETs or two POSTs at once, or a POST that broke off.
    TransportError,
    /// A close packet.
    ClientClose,
    /// Not a packet, or one that a client must not send.
    ParseError,
}

/// What the owner has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Go on.
    Nothing,
    /// Hold this GET, read this POST, answer this handshake with 101.
    Accept,
    /// Answer this request with 400 code 3; the session goes on.
    Refuse,
    /// The message is for the layer above.
    Deliver,
    /// Send a ping.
    SendPing,
    /// Send `3probe` by the probe and answer a held GET with a noop.
    AnswerProbe,
    /// Answer the held GET with a noop.
    ReleasePoll,
    /// The probe is the transport now; a held GET gets 400 code 3.
    Upgraded,
    /// Close the probe; the session goes on by polling.
    DropProbe,
    /// No pong in time. Look for what the peer has sent and nobody has read; `Input::Silent` comes after that.
    Suspect,
    /// The probe has not become the transport in time. The same for its WebSocket, with `Input::ProbeSilent`.
    SuspectProbe,
    /// It is a suspect no more.
    Pardoned,
    /// The session is over. A held GET, or the GET that is this input, gets a noop after `ClientClose`, else a close packet.
    End(SessionEnd),
}

/// One Engine.IO session.
#[derive(Clone, Debug)]
pub struct Session {
    state: State,
    heartbeat: Heartbeat,
    upgrade: UpgradeTiming,
    poll: RequestPresence,
    post: RequestPresence,
}

crate::portable!(struct Session { state, heartbeat, upgrade, poll, post });
crate::portable!(enum State {
    0 Polling,
    1 Probing { upgrade_by },
    2 Upgrading { upgrade_by, release_poll_at },
    3 WebSocket,
    4 Closing { at },
    5 Closed(transport),
});
crate::portable!(enum Transport { 0 Polling, 1 WebSocket });
crate::portable!(enum Heartbeat { 0 PingAt(at), 1 PongBy(by, ping), 2 Suspect(by, ping) });
crate::portable!(enum Ping { 0 Waiting, 1 Left });
crate::portable!(enum UpgradeTiming { 0 InTime, 1 Suspect });
crate::portable!(enum RequestPresence { 0 Absent, 1 Present });

impl Session {
    /// Opens a session. `early_ms` brings its first ping forward, so that clients that came together are not pinged together.
    pub fn open(transport: Transport, now: impl Into<Moment>, times: &SessionTimes, early_ms: u64) -> Session {
        let state = match transport {
            Transport::Polling => State::Polling,
            Transport::WebSocket => State::WebSocket,
        };
        let first_ping = now.into().at + times.ping_interval_ms.saturating_sub(early_ms);
        Session {
            state,
            heartbeat: Heartbeat::PingAt(first_ping),
            upgrade: UpgradeTiming::InTime,
            poll: RequestPresence::Absent,
            post: RequestPresence::Absent,
        }
    }

    /// Takes one input and says what to do. After `Step::End` every input is refused.
    pub fn receive(&mut self, input: Input, now: impl Into<Moment>, times: &SessionTimes) -> Step {
        use State::{Closed, Closing, Polling, Probing, Upgrading, WebSocket};
        let moment = now.into();
        let now = moment.at;
        match (self.state, input) {
            // Requests that the state does not allow, and all requests after the end.
            (WebSocket | Closed(_), Input::Poll | Input::Post | Input::PostComplete | Input::Probe) => Step::Refuse,
            (Closing { .. } | Probing { .. } | Upgrading { .. }, Input::Probe) => Step::Refuse,
            (Closing { .. }, Input::Post | Input::PostComplete) => Step::Refuse,
            (Closing { .. } | Closed(_), Input::Packet(_) | Input::BadPacket) => Step::Nothing,

            // Polling. A POST goes on beside a probe.
            (Closing { .. }, Input::Poll) => self.end(SessionEnd::ClientClose),
            (Polling | Probing { .. } | Upgrading { .. }, Input::Poll) => match self.poll {
                RequestPresence::Present => self.end(SessionEnd::TransportError),
                RequestPresence::Absent => self.hold_poll(moment, times),
            },
            (Polling | Probing { .. } | Upgrading { .. }, Input::Post) => match self.post {
                RequestPresence::Present => self.end(SessionEnd::TransportError),
                RequestPresence::Absent => {
                    self.post = RequestPresence::Present;
                    Step::Accept
                }
            },
            (Polling | Probing { .. } | Upgrading { .. }, Input::PostComplete) => {
                self.post = RequestPresence::Absent;
                Step::Accept
            }
            (_, Input::PollAnswered) => {
                self.poll = RequestPresence::Absent;
                let was_suspect = self.is_suspect();
                self.take_ping(moment, times);
                if let Upgrading { upgrade_by, .. } = self.state {
                    self.state = Upgrading { upgrade_by, release_poll_at: Near::NEVER };
                }
                if was_suspect && !self.is_suspect() { Step::Pardoned } else { Step::Nothing }
            }
            (Polling | Probing { .. } | Upgrading { .. }, Input::PollLost) => self.end(SessionEnd::TransportClose),
            (Polling | Probing { .. } | Upgrading { .. }, Input::PostLost) => self.end(SessionEnd::TransportError),
            (WebSocket | Closing { .. } | Closed(_), Input::PollLost | Input::PostLost) => Step::Nothing,

            // The probe.
            (Polling, Input::Probe) => {
                self.upgrade = UpgradeTiming::InTime;
                self.state = Probing { upgrade_by: moment.attended() + times.upgrade_timeout_ms };
                Step::Accept
            }
            (Probing { upgrade_by }, Input::ProbePacket(ProbePacket::Probe)) => {
                self.state = Upgrading { upgrade_by, release_poll_at: Near::NEVER };
                Step::AnswerProbe
            }
            (Upgrading { .. }, Input::ProbePacket(ProbePacket::Upgrade)) => {
                self.state = WebSocket;
                self.post = RequestPresence::Absent;
                Step::Upgraded
            }
            (Probing { .. } | Upgrading { .. }, Input::ProbePacket(_)) => {
                self.state = Polling;
                Step::DropProbe
            }
            (Probing { .. } | Upgrading { .. }, Input::ProbeLost) => {
                self.state = Polling;
                Step::Nothing
            }
            (Probing { upgrade_by } | Upgrading { upgrade_by, .. }, Input::ProbeSilent)
                if self.upgrade == UpgradeTiming::Suspect =>
            {
                if upgrade_by > moment.attended() {
                    self.upgrade = UpgradeTiming::InTime;
                    return Step::Pardoned;
                }
                self.state = Polling;
                Step::DropProbe
            }
            (_, Input::ProbeSilent) => Step::Nothing,
            (Polling | WebSocket | Closing { .. } | Closed(_), Input::ProbePacket(_) | Input::ProbeLost) => {
                Step::Nothing
            }

            // Packets of the transport.
            (_, Input::Packet(PacketType::Message)) => Step::Deliver,
            (_, Input::Packet(PacketType::Pong)) => self.pong(now, times),
            (_, Input::Packet(PacketType::Open | PacketType::Upgrade | PacketType::Noop)) => Step::Nothing,
            (WebSocket, Input::Packet(PacketType::Close)) => self.end(SessionEnd::ClientClose),
            (_, Input::Packet(PacketType::Close)) => match self.poll {
                RequestPresence::Present => self.end(SessionEnd::ClientClose),
                RequestPresence::Absent => {
                    self.state = Closing { at: now + CLOSE_GRACE_MS };
                    Step::Nothing
                }
            },
            // Only the server pings in revision 4.
            (_, Input::Packet(PacketType::Ping) | Input::BadPacket) => self.end(SessionEnd::ParseError),
            (WebSocket, Input::TransportLost) => self.end(SessionEnd::TransportClose),
            (_, Input::TransportLost) => Step::Nothing,
            (Polling | Probing { .. } | Upgrading { .. } | WebSocket, Input::Silent) => match self.heartbeat {
                Heartbeat::Suspect(by, ping) if by > moment.attended() => {
                    self.heartbeat = Heartbeat::PongBy(by, ping);
                    Step::Pardoned
                }
                Heartbeat::Suspect(..) => self.end(SessionEnd::PingTimeout),
                Heartbeat::PingAt(_) | Heartbeat::PongBy(..) => Step::Nothing,
            },
            (_, Input::Silent) => Step::Nothing,
        }
    }

    /// Says what has become due at `now`. Call it until it returns `Nothing`.
    pub fn expire(&mut self, now: impl Into<Moment>, times: &SessionTimes) -> Step {
        let moment = now.into();
        let (now, attended) = (moment.at, moment.attended());
        match self.state {
            State::Closed(_) => return Step::Nothing,
            State::Closing { at } if at <= now => return self.end(SessionEnd::ClientClose),
            State::Probing { upgrade_by } | State::Upgrading { upgrade_by, .. }
                if upgrade_by <= attended && self.upgrade == UpgradeTiming::InTime =>
            {
                self.upgrade = UpgradeTiming::Suspect;
                return Step::SuspectProbe;
            }
            State::Upgrading { upgrade_by, release_poll_at } if release_poll_at.at(now) <= now => {
                self.state = State::Upgrading { upgrade_by, release_poll_at: Near::NEVER };
                return Step::ReleasePoll;
            }
            _ => {}
        }
        match self.heartbeat {
            Heartbeat::PingAt(at) if at <= now => self.ping(moment, times),
            Heartbeat::PongBy(by, ping) if by <= attended => {
                self.heartbeat = Heartbeat::Suspect(by, ping);
                Step::Suspect
            }
            _ => Step::Nothing,
        }
    }

    /// Asks for a pong now, unless one is awaited. When it has come, all has arrived that was sent before its ping: whatever
    /// the transport, it keeps the order.
    pub fn ping_now(&mut self, now: impl Into<Moment>, times: &SessionTimes) -> Step {
        match self.heartbeat {
            Heartbeat::PingAt(_) if !self.is_ending() => self.ping(now.into(), times),
            _ => Step::Nothing,
        }
    }

    /// The same beside a message that leaves for the peer anyway, if a ping is due soon: in the last fifth of the interval. It
    /// costs a few bytes then, and not a packet and a wake-up of its own.
    pub fn ping_along(&mut self, now: impl Into<Moment>, times: &SessionTimes) -> Step {
        let now = now.into();
        match self.heartbeat {
            Heartbeat::PingAt(at) if at - now.at <= times.ping_interval_ms / SOON_SHARE => self.ping_now(now, times),
            _ => Step::Nothing,
        }
    }

    /// Whether a ping has been sent whose pong has not come.
    pub fn awaits_pong(&self) -> bool {
        matches!(self.heartbeat, Heartbeat::PongBy(..) | Heartbeat::Suspect(..))
    }

    fn ping(&mut self, moment: Moment, times: &SessionTimes) -> Step {
        // From when it is really sent: after a pause of the whole process every client has its time to answer.
        let ping = if self.transport() == Transport::Polling { Ping::Waiting } else { Ping::Left };
        self.heartbeat = Heartbeat::PongBy(moment.attended() + times.ping_timeout_ms, ping);
        Step::SendPing
    }

    /// Ends the session from our side: every further input is refused.
    pub fn close(&mut self) {
        self.state = State::Closed(self.transport());
    }

    /// When `expire` will have something to say, if the owner is not later than it has been; `NEVER` after the end, and while
    /// there is only the owner's look to wait for.
    pub fn deadline(&self, now: impl Into<Moment>) -> Millis {
        let now = now.into();
        let heartbeat = match self.heartbeat {
            Heartbeat::PingAt(at) => at,
            Heartbeat::PongBy(by, _) => now.when(by),
            Heartbeat::Suspect(..) => Millis::NEVER,
        };
        let upgrade = |by| if self.upgrade == UpgradeTiming::Suspect { Millis::NEVER } else { now.when(by) };
        match self.state {
            State::Closed(_) => Millis::NEVER,
            State::Closing { at } => at.min(heartbeat),
            State::Probing { upgrade_by } => upgrade(upgrade_by).min(heartbeat),
            State::Upgrading { upgrade_by, release_poll_at } => {
                upgrade(upgrade_by).min(release_poll_at.at(now.at)).min(heartbeat)
            }
            State::Polling | State::WebSocket => heartbeat,
        }
    }

    /// Goes over to another owner, who was late for another time: the peer has as much time left as before, and is no suspect.
    pub fn change_owner(&mut self, from: Moment, to: Moment) {
        if let Heartbeat::PongBy(by, ping) | Heartbeat::Suspect(by, ping) = self.heartbeat {
            self.heartbeat = Heartbeat::PongBy(from.carry_over(by, to), ping);
        }
        self.upgrade = UpgradeTiming::InTime;
        if let State::Probing { upgrade_by } | State::Upgrading { upgrade_by, .. } = &mut self.state {
            *upgrade_by = from.carry_over(*upgrade_by, to);
        }
    }

    /// Whether its pong is overdue, and the owner looks for it.
    pub fn is_suspect(&self) -> bool {
        matches!(self.heartbeat, Heartbeat::Suspect(..)) && !self.is_ending()
    }

    /// Whether its probe is overdue, and the owner looks for what it has said.
    pub fn is_probe_suspect(&self) -> bool {
        self.is_probing() && self.upgrade == UpgradeTiming::Suspect
    }

    /// What carries the session's packets now, or carried them last.
    pub fn transport(&self) -> Transport {
        match self.state {
            State::Closed(transport) => transport,
            State::WebSocket => Transport::WebSocket,
            _ => Transport::Polling,
        }
    }

    /// Whether a close packet has come: packets behind it are not processed.
    pub fn is_ending(&self) -> bool {
        matches!(self.state, State::Closing { .. } | State::Closed(_))
    }

    /// Whether a probe WebSocket is open that has not become the transport yet.
    pub fn is_probing(&self) -> bool {
        matches!(self.state, State::Probing { .. } | State::Upgrading { .. })
    }

    /// A ping that has waited for a GET leaves with it.
    fn take_ping(&mut self, now: Moment, times: &SessionTimes) {
        if let Heartbeat::PongBy(_, Ping::Waiting) | Heartbeat::Suspect(_, Ping::Waiting) = self.heartbeat {
            self.heartbeat = Heartbeat::PongBy(now.attended() + times.ping_timeout_ms, Ping::Left);
        }
    }

    fn hold_poll(&mut self, moment: Moment, times: &SessionTimes) -> Step {
        let now = moment.at;
        self.take_ping(moment, times);
        self.poll = RequestPresence::Present;
        if let State::Upgrading { upgrade_by, .. } = self.state {
            self.state = State::Upgrading { upgrade_by, release_poll_at: Near::of(now + POLL_RELEASE_MS) };
        }
        Step::Accept
    }

    /// A pong that nobody waits for changes nothing, so a flood of them moves no timer.
    fn pong(&mut self, now: Millis, times: &SessionTimes) -> Step {
        let was_suspect = self.is_suspect();
        if let Heartbeat::PongBy(..) | Heartbeat::Suspect(..) = self.heartbeat {
            self.heartbeat = Heartbeat::PingAt(now + times.ping_interval_ms);
        }
        if was_suspect { Step::Pardoned } else { Step::Nothing }
    }

    fn end(&mut self, end: SessionEnd) -> Step {
        self.close();
        Step::End(end)
    }
}

#[cfg(test)]
mod tests;
