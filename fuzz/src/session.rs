//! `session`: the rules of one session, driven by a script of inputs and times.

use sockring_protocol::Millis;
use sockring_protocol::engineio::{
    CLOSE_GRACE_MS, Input, PacketType, ProbePacket, Session, SessionEnd, SessionTimes, Step, Transport,
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
        _ => return None,
    })
}

/// A session and what its owner can know about it from outside.
struct Driver {
    session: Session,
    times: SessionTimes,
    now: Millis,
    /// When a client that says nothing from now on is gone.
    silent_until: Millis,
    awaits_pong: bool,
    poll_held: bool,
    post_open: bool,
    probing_until: Option<Millis>,
    probe_answered: bool,
    closing_until: Option<Millis>,
    is_upgraded: bool,
    end: Option<SessionEnd>,
}

impl Driver {
    fn open(transport: Transport, times: SessionTimes) -> Driver {
        let now = Millis(1_000);
        let first_ping = now + times.ping_interval_ms.saturating_sub(EARLY_MS);
        let session = Session::open(transport, now, &times, EARLY_MS);
        assert_eq!((session.transport(), session.deadline()), (transport, first_ping));
        Driver {
            session,
            times,
            now,
            silent_until: first_ping + times.ping_timeout_ms,
            awaits_pong: false,
            poll_held: false,
            post_open: false,
            probing_until: None,
            probe_answered: false,
            closing_until: None,
            is_upgraded: transport == Transport::WebSocket,
            end: None,
        }
    }

    /// `.` one millisecond, `-` to the moment before the deadline, `+` to the deadline, `~` far past it; from 0x80 up some
    /// milliseconds.
    fn pass_time(&mut self, byte: u8) {
        let deadline = self.session.deadline();
        let deadline = if deadline == Millis::NEVER { self.now } else { deadline };
        let to = match byte {
            b'.' => self.now + 1,
            b'-' => Millis(deadline.0.saturating_sub(1)),
            b'+' => deadline,
            b'~' => deadline + 60_000,
            0x80.. => self.now + 7 * u64::from(byte & 0x7f),
            _ => return,
        };
        self.expire_at(to.max(self.now));
    }

    fn receive(&mut self, input: Input) {
        let (before, was_ending) = (self.session.clone(), self.session.is_ending());
        let step = self.session.receive(input, self.now, &self.times);
        assert_eq!(step, self.expected(input, was_ending, step), "{input:?} in {before:?}");
        match (input, step) {
            (_, Step::End(end)) => self.on_end(end),
            (Input::Poll, Step::Accept) => self.poll_held = true,
            (Input::PollAnswered, _) => self.poll_held = false,
            (Input::Post, Step::Accept) => self.post_open = true,
            (Input::PostComplete, Step::Accept) => self.post_open = false,
            (Input::Probe, Step::Accept) => {
                self.probing_until = Some(self.now + self.times.upgrade_timeout_ms);
                self.probe_answered = false;
            }
            (Input::ProbePacket(_), Step::AnswerProbe) => self.probe_answered = true,
            (Input::ProbePacket(_), Step::Upgraded) => (self.is_upgraded, self.probing_until) = (true, None),
            (Input::ProbePacket(_), Step::DropProbe) | (Input::ProbeLost, _) => self.probing_until = None,
            (Input::Packet(PacketType::Close), _) if !was_ending => {
                self.closing_until = Some(self.now + CLOSE_GRACE_MS);
                self.probing_until = None;
            }
            (Input::Packet(PacketType::Pong), _) if !was_ending && self.awaits_pong => {
                self.awaits_pong = false;
                self.silent_until = self.now + self.times.ping_interval_ms + self.times.ping_timeout_ms;
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
        self.now = to;
        let mut pinged = false;
        for steps in 0.. {
            assert!(steps <= STEPS_AT_ONCE_MAX, "no end of steps at one moment");
            let (before, is_due) = (format!("{:?}", self.session), self.session.deadline() <= self.now);
            let step = self.session.expire(self.now, &self.times);
            assert_eq!(step != Step::Nothing, is_due, "something to say is what a deadline means: {before}");
            match step {
                Step::Nothing => {
                    assert_eq!(format!("{:?}", self.session), before, "nothing due, nothing changed");
                    break;
                }
                Step::SendPing => {
                    assert!(!self.awaits_pong, "a second ping before the pong");
                    self.awaits_pong = true;
                    // From when it is sent: a late ping leaves its time to answer.
                    self.silent_until = self.now + self.times.ping_timeout_ms;
                    pinged = true;
                }
                Step::DropProbe => assert!(self.probing_until.take().is_some_and(|until| until <= self.now)),
                Step::ReleasePoll => assert!(self.probing_until.is_some() && self.probe_answered),
                Step::End(end) => {
                    assert!(matches!(end, SessionEnd::PingTimeout | SessionEnd::ClientClose), "{end:?}");
                    self.on_end(end);
                }
                step => panic!("{step:?} is no answer to a time"),
            }
        }
        if !pinged {
            assert_eq!((self.session.is_ending(), self.session.deadline()), stepwise, "a late timer ends up elsewhere");
        }
        let is_over = |until: Option<Millis>| until.is_some_and(|until| until <= self.now);
        if self.end.is_none() {
            assert!(self.now < self.silent_until, "a silent client is gone in time");
            assert!(!is_over(self.closing_until) && !is_over(self.probing_until));
        }
    }

    /// Where a session ends up that is told every deadline to the millisecond.
    fn expire_stepwise(&self, to: Millis) -> (bool, Millis) {
        let mut session = self.session.clone();
        while session.deadline() <= to {
            let at = session.deadline().max(self.now);
            assert_ne!(session.expire(at, &self.times), Step::Nothing);
        }
        (session.is_ending(), session.deadline())
    }

    fn on_end(&mut self, end: SessionEnd) {
        assert_eq!(self.end, None, "ended twice");
        self.end = Some(end);
        self.probing_until = None;
    }

    fn check(&self) {
        let session = &self.session;
        let is_ended = self.end.is_some();
        assert_eq!(session.deadline() == Millis::NEVER, is_ended);
        assert_eq!(session.is_ending(), is_ended || self.closing_until.is_some());
        assert_eq!(session.is_probing(), self.probing_until.is_some());
        if !is_ended {
            assert!(session.deadline() >= self.now && session.deadline() <= self.silent_until);
            assert_eq!(session.transport() == Transport::WebSocket, self.is_upgraded);
        }
    }

    /// No input any more: the session ends in time, with one `End`, and stays so.
    fn fall_silent(&mut self) {
        self.expire_at(self.silent_until.max(self.now));
        self.expire_at(self.silent_until.max(self.now));
        assert!(self.end.is_some(), "a silent client is gone");
        for input in (0..=u8::MAX).filter_map(input_of) {
            self.receive(input);
            self.check();
        }
        self.expire_at(self.now + 1_000_000);
    }
}
