//! `Session`: the rules of one Engine.IO v4 session over its transports: heartbeat, long-polling, probe, upgrade, close.
//!
//! The machine holds no bytes and knows no connection. Its owner tells it what a peer did (`receive`) or what time it is
//! (`expire`) and carries out the one `Step` that comes back.

use crate::Millis;

/// A POST with a close packet waits this long for the GET that was sent before it on another TCP connection.
pub const CLOSE_GRACE_MS: u64 = 10;
/// A GET that arrives while an upgrade is under way is answered with a noop after this time (the reference: 100 ms).
pub const POLL_RELEASE_MS: u64 = 50;

/// The heartbeat and upgrade times of a session, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// How a session began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Polling,
    WebSocket,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Polling,
    /// A probe WebSocket is open beside polling; `upgrade_by` is when it must have become the transport.
    Probing {
        upgrade_by: Millis,
    },
    /// The probe was answered: polls are no longer held.
    Upgrading {
        upgrade_by: Millis,
        release_poll_at: Millis,
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
    PongBy(Millis),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Absent,
    Present,
}

/// The kind of an Engine.IO packet, as far as the session's rules care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketType {
    Open,
    Close,
    Ping,
    Pong,
    Message,
    Upgrade,
    Noop,
}

/// What came by a probe WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbePacket {
    /// `2probe`
    Probe,
    /// `5`
    Upgrade,
    /// Anything else.
    Other,
}

/// What a peer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    ProbePacket(ProbePacket),
    /// The probe's connection ended.
    ProbeLost,
    /// A packet came by the session's transport (for polling: in a POST).
    Packet(PacketType),
    /// Bytes that are no packet came by the session's transport.
    BadPacket,
    /// The session's WebSocket ended.
    TransportLost,
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
    /// The session is over. A held GET, or the GET that is this input, gets a noop after `ClientClose`, else a close packet.
    End(SessionEnd),
}

/// One Engine.IO session.
#[derive(Clone, Debug)]
pub struct Session {
    state: State,
    heartbeat: Heartbeat,
    poll: Request,
    post: Request,
}

impl Session {
    /// Opens a session. `early_ms` brings its first ping forward, so that clients that came together are not pinged together.
    pub fn open(transport: Transport, now: Millis, times: &SessionTimes, early_ms: u64) -> Session {
        let state = match transport {
            Transport::Polling => State::Polling,
            Transport::WebSocket => State::WebSocket,
        };
        let first_ping = now + times.ping_interval_ms.saturating_sub(early_ms);
        Session { state, heartbeat: Heartbeat::PingAt(first_ping), poll: Request::Absent, post: Request::Absent }
    }

    /// Takes one input and says what to do. After `Step::End` every input is refused.
    pub fn receive(&mut self, input: Input, now: Millis, times: &SessionTimes) -> Step {
        use State::{Closed, Closing, Polling, Probing, Upgrading, WebSocket};
        match (self.state, input) {
            // Requests that the state does not allow, and all requests after the end.
            (WebSocket | Closed(_), Input::Poll | Input::Post | Input::PostComplete | Input::Probe) => Step::Refuse,
            (Closing { .. } | Probing { .. } | Upgrading { .. }, Input::Probe) => Step::Refuse,
            (Closing { .. }, Input::Post | Input::PostComplete) => Step::Refuse,
            (Closing { .. } | Closed(_), Input::Packet(_) | Input::BadPacket) => Step::Nothing,

            // Polling. A POST goes on beside a probe.
            (Closing { .. }, Input::Poll) => self.end(SessionEnd::ClientClose),
            (Polling | Probing { .. } | Upgrading { .. }, Input::Poll) => match self.poll {
                Request::Present => self.end(SessionEnd::TransportError),
                Request::Absent => self.hold_poll(now),
            },
            (Polling | Probing { .. } | Upgrading { .. }, Input::Post) => match self.post {
                Request::Present => self.end(SessionEnd::TransportError),
                Request::Absent => {
                    self.post = Request::Present;
                    Step::Accept
                }
            },
            (Polling | Probing { .. } | Upgrading { .. }, Input::PostComplete) => {
                self.post = Request::Absent;
                Step::Accept
            }
            (_, Input::PollAnswered) => {
                self.poll = Request::Absent;
                if let Upgrading { upgrade_by, .. } = self.state {
                    self.state = Upgrading { upgrade_by, release_poll_at: Millis::NEVER };
                }
                Step::Nothing
            }
            (Polling | Probing { .. } | Upgrading { .. }, Input::PollLost) => self.end(SessionEnd::TransportClose),
            (Polling | Probing { .. } | Upgrading { .. }, Input::PostLost) => self.end(SessionEnd::TransportError),
            (WebSocket | Closing { .. } | Closed(_), Input::PollLost | Input::PostLost) => Step::Nothing,

            // The probe.
            (Polling, Input::Probe) => {
                self.state = Probing { upgrade_by: now + times.upgrade_timeout_ms };
                Step::Accept
            }
            (Probing { upgrade_by }, Input::ProbePacket(ProbePacket::Probe)) => {
                self.state = Upgrading { upgrade_by, release_poll_at: Millis::NEVER };
                Step::AnswerProbe
            }
            (Upgrading { .. }, Input::ProbePacket(ProbePacket::Upgrade)) => {
                self.state = WebSocket;
                self.post = Request::Absent;
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
            (Polling | WebSocket | Closing { .. } | Closed(_), Input::ProbePacket(_) | Input::ProbeLost) => {
                Step::Nothing
            }

            // Packets of the transport.
            (_, Input::Packet(PacketType::Message)) => Step::Deliver,
            (_, Input::Packet(PacketType::Pong)) => self.pong(now, times),
            (_, Input::Packet(PacketType::Open | PacketType::Upgrade | PacketType::Noop)) => Step::Nothing,
            (WebSocket, Input::Packet(PacketType::Close)) => self.end(SessionEnd::ClientClose),
            (_, Input::Packet(PacketType::Close)) => match self.poll {
                Request::Present => self.end(SessionEnd::ClientClose),
                Request::Absent => {
                    self.state = Closing { at: now + CLOSE_GRACE_MS };
                    Step::Nothing
                }
            },
            // Only the server pings in revision 4.
            (_, Input::Packet(PacketType::Ping) | Input::BadPacket) => self.end(SessionEnd::ParseError),
            (WebSocket, Input::TransportLost) => self.end(SessionEnd::TransportClose),
            (_, Input::TransportLost) => Step::Nothing,
        }
    }

    /// Says what has become due at `now`. Call it until it returns `Nothing`.
    pub fn expire(&mut self, now: Millis, times: &SessionTimes) -> Step {
        match self.state {
            State::Closed(_) => return Step::Nothing,
            State::Closing { at } if at <= now => return self.end(SessionEnd::ClientClose),
            State::Probing { upgrade_by } | State::Upgrading { upgrade_by, .. } if upgrade_by <= now => {
                self.state = State::Polling;
                return Step::DropProbe;
            }
            State::Upgrading { upgrade_by, release_poll_at } if release_poll_at <= now => {
                self.state = State::Upgrading { upgrade_by, release_poll_at: Millis::NEVER };
                return Step::ReleasePoll;
            }
            _ => {}
        }
        match self.heartbeat {
            Heartbeat::PingAt(at) if at <= now => {
                // From when it is really sent: after a pause of the whole process every client has its time to answer.
                self.heartbeat = Heartbeat::PongBy(now + times.ping_timeout_ms);
                Step::SendPing
            }
            Heartbeat::PongBy(by) if by <= now => self.end(SessionEnd::PingTimeout),
            _ => Step::Nothing,
        }
    }

    /// Ends the session from our side: every further input is refused.
    pub fn close(&mut self) {
        self.state = State::Closed(self.transport());
    }

    /// When `expire` will have something to say; `NEVER` after the end.
    pub fn deadline(&self) -> Millis {
        let heartbeat = match self.heartbeat {
            Heartbeat::PingAt(at) | Heartbeat::PongBy(at) => at,
        };
        match self.state {
            State::Closed(_) => Millis::NEVER,
            State::Closing { at } => at.min(heartbeat),
            State::Probing { upgrade_by } => upgrade_by.min(heartbeat),
            State::Upgrading { upgrade_by, release_poll_at } => upgrade_by.min(release_poll_at).min(heartbeat),
            State::Polling | State::WebSocket => heartbeat,
        }
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

    fn hold_poll(&mut self, now: Millis) -> Step {
        self.poll = Request::Present;
        if let State::Upgrading { upgrade_by, .. } = self.state {
            self.state = State::Upgrading { upgrade_by, release_poll_at: now + POLL_RELEASE_MS };
        }
        Step::Accept
    }

    /// A pong that nobody waits for changes nothing, so a flood of them moves no timer.
    fn pong(&mut self, now: Millis, times: &SessionTimes) -> Step {
        if let Heartbeat::PongBy(_) = self.heartbeat {
            self.heartbeat = Heartbeat::PingAt(now + times.ping_interval_ms);
        }
        Step::Nothing
    }

    fn end(&mut self, end: SessionEnd) -> Step {
        self.close();
        Step::End(end)
    }
}

#[cfg(test)]
mod tests;
