//! `session`: the rules of one session, driven by a script of inputs and times, alone and within a whole server.

use sockring_protocol::Millis;
use sockring_protocol::engineio::{
    CLOSE_GRACE_MS, Input, Moment, PacketType, ProbePacket, Session, SessionEnd, SessionTimes, Step, Transport,
};

/// What the second byte of a script chooses from.
const TIMES: [SessionTimes; 4] = [
    // The conformance suite's.
    SessionTimes { ping_interval_ms: 300, ping_timeout_ms: 200, upgrade_timeout_ms: 1000 },
    SessionTimes { ping_interval_ms: 25_000, ping_timeout_ms: 20_000, upgrade_timeout_ms: 10_000 },
    SessionTimes { ping_interval_ms: 0, ping_timeout_ms: 0, upgrade_timeout_ms: 0 },
    SessionTimes { ping_interval_ms: 1000, ping_timeout_ms: 1, upgrade_timeout_ms: 7 },
];
const EARLY_MS: u64 = 20;
/// More steps than this cannot fall due at one moment: a poll or a probe, a ping, the end.
const STEPS_AT_ONCE_MAX: usize = 4;

/// Takes the bytes as a script: `p` or `w` for the transport, `0` to `3` for the times, then one byte for each thing that
/// happens (`input_of`, `Driver::pass_time`). Bytes without a meaning are passed over.
pub fn session(data: &[u8]) {
    let &[transport, times, ref script @ ..] = data else { return };
    let transport = if transport & 1 == 0 { Transport::Polling } else { Transport::WebSocket };
    let mut driver = Driver::open(transport, TIMES[usize::from(times & 3)]);
    for byte in script {
        match input_of(*byte) {
            Some(input) => driver.receive(input),
            None => driver.pass_time(*byte),
        }
        driver.check();
    }
    driver.fall_silent();
    crate::server::play(transport, TIMES[usize::from(times & 3)], script);
}

fn input_of(byte: u8) -> Option<Input> {
    Some(match byte {
        b'g' => Input::Poll,
        b'a' => Input::PollAnswered,
        b'l' => Input::PollLost,
        b'p' => Input::Post,
        b'c' => Input::PostComplete,
        b'x' => Input::PostLost,
        b'w' => Input::Probe,
        b'r' => Input::ProbePacket(ProbePacket::Probe),
        b'u' => Input::ProbePacket(ProbePacket::Upgrade),
        b'o' => Input::ProbePacket(ProbePacket::Other),
        b'd' => Input::ProbeLost,
        b'0' => Input::Packet(PacketType::Open),
        b'1' => Input::Packet(PacketType::Close),
        b'2' => Input::Packet(PacketType::Ping),
        b'3' => Input::Packet(PacketType::Pong),
        b'4' => Input::Packet(PacketType::Message),
        b'5' => Input::Packet(PacketType::Upgrade),
        b'6' => Input::Packet(PacketType::Noop),
        b'b' => Input::BadPacket,
        b't' => Input::TransportLost,
        b's' => Input::Silent,
        b'q' => Input::ProbeSilent,
        _ => return None,
    })
}

/// A session and what its owner can know about it from outside.
struct Driver {
    session: Session,
    times: SessionTimes,
    now: Moment,
    /// When the next ping is due, and then, by the clock that runs against peers, its pong.
    ping_at: Millis,
    pong_by: Option<Millis>,
    /// A client that polls has not fetched its ping yet.
    ping_waits: bool,
    /// The look at what it has sent is under way.
    is_suspect: bool,
    poll_held: bool,
    post_open: bool,
    /// By the clock that runs against peers.
    probing_until: Option<Millis>,
    is_probe_suspect: bool,
    probe_answered: bool,
    closing_until: Option<Millis>,
    is_upgraded: bool,
    end: Option<SessionEnd>,
}

impl Driver {
    fn open(transport: Transport, times: SessionTimes) -> Driver {
        let now = Moment::from(Millis(1_000));
        let first_ping = now.at + times.ping_interval_ms.saturating_sub(EARLY_MS);
        let session = Session::open(transport, now, &times, EARLY_MS);
        assert_eq!((session.transport(), session.deadline(now)), (transport, first_ping));
        Driver {
            session,
            times,
            now,
            ping_at: first_ping,
            pong_by: None,
            ping_waits: false,
            is_suspect: false,
            poll_held: false,
            post_open: false,
            probing_until: None,
            is_probe_suspect: false,
            probe_answered: false,
            closing_until: None,
            is_upgraded: transport == Transport::WebSocket,
            end: None,
        }
    }

    /// `.` one millisecond, `-` to the moment before the deadline, `+` to the deadline, `~` far past it, `z` far past it and
    /// the owner knows that it was late; from 0x80 up some milliseconds.
    fn pass_time(&mut self, byte: u8) {
        let now = self.now.at;
        let deadline = self.session.deadline(self.now);
        let deadline = if deadline == Millis::NEVER { now } else { deadline };
        let to = match byte {
            b'.' => now + 1,
            b'-' => Millis(deadline.0.saturating_sub(1)),
            b'+' => deadline,
            b'~' | b'z' => deadline + 60_000,
            0x80.. => now + 7 * u64::from(byte & 0x7f),
            _ => return,
        };
        if byte == b'z' {
            self.now.late_ms += 60_000;
        }
        self.expire_at(to.max(now));
    }

    fn receive(&mut self, input: Input) {
        let (before, was_ending) = (self.session.clone(), self.session.is_ending());
        let step = self.session.receive(input, self.now, &self.times);
        assert_eq!(step, self.expected(input, was_ending, step), "{input:?} in {before:?}");
        match (input, step) {
            (_, Step::End(end)) => self.on_end(end),
            (Input::Poll, Step::Accept) | (Input::PollAnswered, _) => {
                self.poll_held = input == Input::Poll;
                if std::mem::take(&mut self.ping_waits) {
                    self.is_suspect = false;
                    self.pong_by = Some(self.now.attended() + self.times.ping_timeout_ms);
                }
            }
            (Input::Post, Step::Accept) => self.post_open = true,
            (Input::PostComplete, Step::Accept) => self.post_open = false,
            (Input::Probe, Step::Accept) => {
                self.probing_until = Some(self.now.attended() + self.times.upgrade_timeout_ms);
                (self.probe_answered, self.is_probe_suspect) = (false, false);
            }
            (Input::ProbePacket(_), Step::AnswerProbe) => self.probe_answered = true,
            (Input::ProbePacket(_), Step::Upgraded) => (self.is_upgraded, self.probing_until) = (true, None),
            (Input::ProbePacket(_) | Input::ProbeSilent, Step::DropProbe) | (Input::ProbeLost, _) => {
                self.probing_until = None;
            }
            (Input::Packet(PacketType::Close), _) if !was_ending => {
                self.closing_until = Some(self.now.at + CLOSE_GRACE_MS);
                self.probing_until = None;
            }
            (Input::Packet(PacketType::Pong), _) if !was_ending && self.pong_by.is_some() => {
                (self.pong_by, self.is_suspect, self.ping_waits) = (None, false, false);
                self.ping_at = self.now.at + self.times.ping_interval_ms;
            }
            (Input::Packet(PacketType::Pong), _) => {
                assert_eq!(format!("{:?}", self.session), format!("{before:?}"), "an unasked pong changes nothing");
            }
            _ => {}
        }
    }

    /// The step that the protocol asks for. `step` is what came, for the inputs of which nothing is known from outside.
    fn expected(&self, input: Input, was_ending: bool, step: Step) -> Step {
        let is_request = matches!(input, Input::Poll | Input::Post | Input::PostComplete | Input::Probe);
        let (is_closing, is_probing) = (was_ending && self.end.is_none(), self.probing_until.is_some());
        match input {
            Input::PollAnswered if self.is_suspect && self.ping_waits && !was_ending => Step::Pardoned,
            Input::Poll if is_closing => Step::End(SessionEnd::ClientClose),
            _ if is_request && (was_ending || self.is_upgraded) => Step::Refuse,
            Input::Poll if self.poll_held => Step::End(SessionEnd::TransportError),
            Input::Post if self.post_open => Step::End(SessionEnd::TransportError),
            Input::Probe if is_probing => Step::Refuse,
            _ if is_request => Step::Accept,
            _ if was_ending => Step::Nothing,
            Input::PollLost if !self.is_upgraded => Step::End(SessionEnd::TransportClose),
            Input::PostLost if !self.is_upgraded => Step::End(SessionEnd::TransportError),
            Input::TransportLost if self.is_upgraded => Step::End(SessionEnd::TransportClose),
            Input::ProbePacket(ProbePacket::Probe) if is_probing && !self.probe_answered => Step::AnswerProbe,
            Input::ProbePacket(ProbePacket::Upgrade) if is_probing && self.probe_answered => Step::Upgraded,
            Input::ProbePacket(_) if is_probing => Step::DropProbe,
            Input::Packet(PacketType::Pong) if self.is_suspect => Step::Pardoned,
            Input::Silent if self.is_suspect => Step::End(SessionEnd::PingTimeout),
            Input::ProbeSilent if is_probing && self.is_probe_suspect => Step::DropProbe,
            Input::Packet(PacketType::Message) => Step::Deliver,
            Input::Packet(PacketType::Ping) | Input::BadPacket => Step::End(SessionEnd::ParseError),
            // A close packet by POST waits for a GET; by whichever way, it ends the session for this reason only.
            Input::Packet(PacketType::Close) if self.is_upgraded || self.poll_held => {
                Step::End(SessionEnd::ClientClose)
            }
            _ => {
                assert_eq!(step, Step::Nothing);
                step
            }
        }
    }

    /// The owner is told the time, once or late, and does what has become due.
    fn expire_at(&mut self, to: Millis) {
        let stepwise = self.expire_stepwise(to);
        self.now.at = to;
        let mut pinged = false;
        for steps in 0.. {
            assert!(steps <= STEPS_AT_ONCE_MAX, "no end of steps at one moment");
            let (before, is_due) = (format!("{:?}", self.session), self.session.deadline(self.now) <= self.now.at);
            let step = self.session.expire(self.now, &self.times);
            assert_eq!(step != Step::Nothing, is_due, "something to say is what a deadline means: {before}");
            match step {
                Step::Nothing => {
                    assert_eq!(format!("{:?}", self.session), before, "nothing due, nothing changed");
                    break;
                }
                Step::SendPing => {
                    assert!(self.pong_by.is_none(), "a second ping before the pong");
                    // From when it is sent: a late ping leaves its time to answer.
                    self.pong_by = Some(self.now.attended() + self.times.ping_timeout_ms);
                    self.ping_waits = !self.is_upgraded;
                    pinged = true;
                }
                Step::Suspect => {
                    assert!(self.pong_by.is_some_and(|by| by <= self.now.attended()), "suspected too early");
                    assert!(!std::mem::replace(&mut self.is_suspect, true), "suspected twice");
                }
                Step::SuspectProbe => {
                    assert!(self.probing_until.is_some_and(|until| until <= self.now.attended()));
                    assert!(!std::mem::replace(&mut self.is_probe_suspect, true), "its probe was suspected twice");
                }
                Step::ReleasePoll => assert!(self.probing_until.is_some() && self.probe_answered),
                Step::End(end) => {
                    assert_eq!(end, SessionEnd::ClientClose, "silent by the clock alone");
                    self.on_end(end);
                }
                step => panic!("{step:?} is no answer to a time"),
            }
        }
        if !pinged {
            let ended = (self.session.is_ending(), self.session.deadline(self.now));
            assert_eq!(ended, stepwise, "a late timer ends up elsewhere");
        }
        let attended = self.now.attended();
        let is_over = |until: Option<Millis>| until.is_some_and(|until| until <= attended);
        if self.end.is_none() {
            assert!(self.pong_by.is_some() || self.now.at < self.ping_at, "a ping is sent in time");
            assert!(self.is_suspect || !is_over(self.pong_by), "a silent client is suspected in time");
            assert!(self.is_probe_suspect || !is_over(self.probing_until));
            assert!(self.closing_until.is_none_or(|until| self.now.at < until));
        }
    }

    /// Where a session ends up that is told every deadline to the millisecond.
    fn expire_stepwise(&self, to: Millis) -> (bool, Millis) {
        let mut session = self.session.clone();
        let late_ms = self.now.late_ms;
        while session.deadline(self.now) <= to {
            let at = session.deadline(self.now).max(self.now.at);
            assert_ne!(session.expire(Moment { at, late_ms }, &self.times), Step::Nothing);
        }
        (session.is_ending(), session.deadline(self.now))
    }

    fn on_end(&mut self, end: SessionEnd) {
        assert_eq!(self.end, None, "ended twice");
        self.end = Some(end);
        self.probing_until = None;
    }

    fn check(&self) {
        let session = &self.session;
        let is_ended = self.end.is_some();
        let is_quiet = session.deadline(self.now) == Millis::NEVER;
        assert!(if is_quiet { is_ended || self.is_suspect } else { !is_ended }, "nothing to wait for");
        assert_eq!(session.is_suspect(), self.is_suspect && !is_ended && self.closing_until.is_none());
        assert_eq!(session.is_ending(), is_ended || self.closing_until.is_some());
        assert_eq!(session.is_probing(), self.probing_until.is_some());
        if !is_ended {
            let pong_by = self.pong_by.map(|by| self.now.when(by)).filter(|_| !self.is_suspect);
            let by = if self.pong_by.is_some() { pong_by } else { Some(self.ping_at) };
            assert!(session.deadline(self.now) >= self.now.at);
            assert!(by.is_none_or(|by| session.deadline(self.now) <= by));
            assert_eq!(session.transport() == Transport::WebSocket, self.is_upgraded);
        }
    }

    /// No input any more: the session is suspected in time, ends with one `End`, and stays so.
    fn fall_silent(&mut self) {
        self.expire_at(self.ping_at.max(self.now.at));
        let silent_until = self.pong_by.map_or(self.now.at, |by| self.now.when(by));
        self.expire_at(silent_until.max(self.now.at));
        self.expire_at(self.now.at + CLOSE_GRACE_MS);
        if self.end.is_none() {
            self.receive(Input::Silent);
        }
        assert!(self.end.is_some(), "a silent client is gone");
        for input in (0..=u8::MAX).filter_map(input_of) {
            self.receive(input);
            self.check();
        }
        self.expire_at(self.now.at + 1_000_000);
    }
}
