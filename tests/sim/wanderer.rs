//! `Wanderer`: a client whose connection breaks again and again, at any byte, and which comes back as the stock client does:
//! with the `pid` of its session and the last marker that it got.

use sockring_protocol::websocket::Opcode;

use super::desk::payload_after;
use super::network::{End, Event, TcpId};
use super::record::Record;
use super::wire;
use super::world::{Actor, Context};

/// A server has read what has arrived, and its end has come, within this.
const GHOST_MS_MAX: u64 = 100;
/// A server answers a client that comes back sooner than this.
const RETURN_MS_MAX: u64 = 3_000;

/// What a wanderer is going to do.
#[derive(Clone, Debug)]
pub struct Journey {
    pub user: String,
    /// Milliseconds between two breaks, on average.
    pub pace_ms: u64,
    pub away_ms_max: u64,
    /// It stays connected from then on.
    pub settles_at: u64,
    pub leaves_at: u64,
    /// One in so many breaks is a reload: its session is forgotten. 0: none is.
    pub reloads_one_in: u64,
    /// One in so many of its CONNECTs names a place that is not its last one. 0: none does.
    pub strays_one_in: u64,
    /// Does not read for up to this long, at times.
    pub pauses_ms_max: u64,
    /// An event that waits longer than this for it while it is connected and reads is lost.
    pub delivery_ms_max: u64,
    /// Its server remembers for long enough, and enough: whatever happens, it is recovered.
    pub is_always_recovered: bool,
}

#[derive(Debug)]
struct Line {
    tcp: TcpId,
    input: Vec<u8>,
    stage: Stage,
    begun: u64,
    /// It breaks when so many bytes more were read.
    breaks_after: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Handshake,
    Opening,
    /// It has said CONNECT.
    Asked,
    Connected {
        since: u64,
    },
}

/// What its client object knows of its session.
#[derive(Clone, Debug)]
struct Session {
    sid: String,
    pid: String,
    /// How many of the session's events it has got.
    had: usize,
    /// The last of them, and whether its marker came.
    last: Option<u64>,
    is_marked: bool,
    /// No event has come since the last CONNECT answer.
    is_first: bool,
    /// Each of its markers, and how many events it had got by then.
    markers: Vec<(String, usize)>,
}

/// A session that a client came back to and that could not go on, as its other rooms are not known any more: what its user
/// has missed comes before anything else.
#[derive(Debug)]
struct Former {
    sid: String,
    /// How many of its events the client had when it came back, and by now.
    had_first: usize,
    had: usize,
}

/// What a CONNECT says of its session.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Claim {
    /// Nothing: there is none.
    None,
    /// All that it knows.
    Own,
    /// A place in it that the server has to take for this many events.
    Place(usize),
    /// That it is somebody else's.
    Stolen(String),
}

/// One client that comes back.
pub struct Wanderer {
    id: usize,
    journey: Journey,
    line: Option<Line>,
    session: Option<Session>,
    former: Option<Former>,
    offset: Option<String>,
    /// A binary event whose attachment is still to come.
    incoming: Option<String>,
    returns_at: u64,
    breaks_at: u64,
    /// When the last of what it has said on lost connections arrives.
    ghost_until: u64,
    has_left: bool,
    claim: Claim,
    /// It does not read before.
    reads_at: u64,
}

impl Wanderer {
    pub fn new(journey: Journey) -> Wanderer {
        Wanderer {
            id: usize::MAX,
            journey,
            line: None,
            session: None,
            former: None,
            offset: None,
            incoming: None,
            returns_at: 0,
            breaks_at: u64::MAX,
            ghost_until: 0,
            has_left: false,
            claim: Claim::None,
            reads_at: 0,
        }
    }

    fn come(&mut self, context: &mut Context<'_>) {
        let tcp = context.network.connect(context.id);
        context.network.write(tcp, &wire::websocket(None));
        let breaks = context.now < self.journey.settles_at;
        let breaks_after = if breaks && context.random.one_in(2) { context.random.index(1_500) } else { usize::MAX };
        self.line = Some(Line { tcp, input: Vec::new(), stage: Stage::Handshake, begun: context.now, breaks_after });
        self.breaks_at = if breaks { context.now + context.random.below(self.journey.pace_ms * 2) } else { u64::MAX };
        if breaks {
            context.network.at(self.breaks_at, Event::Wake(context.id));
        }
    }

    /// The connection is lost: either side sees it, or none.
    fn lose(&mut self, context: &mut Context<'_>) {
        let Some(line) = self.line.take() else { return };
        self.ghost_until = self.ghost_until.max(context.network.arrival(line.tcp));
        match context.random.below(3) {
            0 => context.network.end(line.tcp, End::Fin),
            1 => context.network.end(line.tcp, End::Reset),
            _ => {}
        }
        self.stay_away(context);
    }

    fn stay_away(&mut self, context: &mut Context<'_>) {
        self.incoming = None;
        if self.journey.reloads_one_in > 0 && context.random.one_in(self.journey.reloads_one_in) {
            self.session = None;
            self.offset = None;
        }
        self.returns_at = context.now + context.random.below(self.journey.away_ms_max);
        context.network.at(self.returns_at, Event::Wake(context.id));
    }

    fn read(&mut self, context: &mut Context<'_>) {
        if context.now < self.reads_at {
            return;
        }
        let Some(line) = &mut self.line else { return };
        if self.journey.pauses_ms_max > 0 && context.now < self.journey.settles_at && context.random.one_in(20) {
            self.reads_at = context.now + context.random.below(self.journey.pauses_ms_max);
            return context.network.at(self.reads_at, Event::Wake(context.id));
        }
        let mut bytes = context.network.read(line.tcp);
        let breaks = bytes.len() >= line.breaks_after;
        bytes.truncate(line.breaks_after);
        line.breaks_after = if breaks { 0 } else { line.breaks_after - bytes.len() };
        line.input.extend(bytes);
        self.take_handshake(context);
        self.take_frames(context);
        let Some(line) = &self.line else { return };
        if breaks {
            self.lose(context);
        } else if context.network.is_ended(line.tcp) {
            self.on_end(context);
        }
    }

    fn take_frames(&mut self, context: &mut Context<'_>) {
        let Some(line) = self.line.as_mut().filter(|line| line.stage != Stage::Handshake) else { return };
        for (opcode, data) in wire::take_frames(&mut line.input) {
            self.on_frame(context, opcode, &data);
        }
    }

    fn take_handshake(&mut self, context: &mut Context<'_>) {
        let Some(line) = self.line.as_mut().filter(|line| line.stage == Stage::Handshake) else { return };
        match wire::take_answer(&mut line.input) {
            Some(answer) if answer.status == 101 => line.stage = Stage::Opening,
            Some(answer) => {
                assert!(context.record.draining_since.is_some(), "who comes back is refused: {answer:?}");
                self.leave(context);
            }
            None => {}
        }
    }

    /// The server has ended the connection, as it may when it drains, or when a CONNECT on a connection that is lost by now
    /// came later than the one on this.
    fn on_end(&mut self, context: &mut Context<'_>) {
        // Who does not read misses heartbeats too.
        let is_slow = self.journey.pauses_ms_max > 0;
        if is_slow || context.now <= self.ghost_until + GHOST_MS_MAX + context.record.late_ms {
            return self.lose(context);
        }
        assert!(context.record.draining_since.is_some(), "the server ended the connection of one who came back");
        self.leave(context);
    }

    fn leave(&mut self, context: &mut Context<'_>) {
        self.has_left = true;
        if let Some(line) = self.line.take() {
            context.network.end(line.tcp, End::Fin);
        }
    }

    fn on_frame(&mut self, context: &mut Context<'_>, opcode: Opcode, data: &[u8]) {
        let Some(line) = &mut self.line else { return };
        let text = std::str::from_utf8(data).unwrap_or_default();
        match (opcode, line.stage) {
            (Opcode::Text, Stage::Opening) => {
                line.stage = Stage::Asked;
                self.connect(context);
            }
            (Opcode::Text, _) if text == "2" => self.say(context, "3"),
            (Opcode::Text, _) => match text.strip_prefix('4') {
                Some(packet) => self.on_packet(context, packet),
                // An Engine.IO close packet comes before the end.
                None => assert!(text == "1", "a packet that a server does not send: {text}"),
            },
            (Opcode::Binary, _) => {
                let event = self.incoming.take().expect("attachments follow a header");
                self.on_event(context, &event);
            }
            (Opcode::Close, _) => {}
            other => panic!("a frame that nobody asked for: {other:?}"),
        }
    }

    fn say(&self, context: &mut Context<'_>, text: &str) {
        let Some(line) = &self.line else { return };
        let frame = wire::text_frame(text, context.random.mask());
        context.network.write(line.tcp, &frame);
    }

    fn connect(&mut self, context: &mut Context<'_>) {
        let strays = self.journey.strays_one_in > 0 && context.random.one_in(self.journey.strays_one_in);
        let place = context.random.index(64);
        let (claim, pid, offset) = match &self.session {
            _ if strays && context.random.one_in(4) => match context.record.pid_of_another(&self.journey.user, place) {
                Some(pid) => (Claim::Stolen(pid.clone()), pid, self.offset.clone()),
                None => (Claim::None, String::new(), None),
            },
            None => (Claim::None, String::new(), None),
            Some(session) if strays => {
                let older = session.markers.len().checked_sub(1 + place).map(|at| session.markers[at].clone());
                match older {
                    Some((marker, had)) => (Claim::Place(had), session.pid.clone(), Some(marker)),
                    // One that cannot be means the start.
                    None => (
                        Claim::Place(0),
                        session.pid.clone(),
                        context.random.pick(&[None, Some("~zzz")]).map(str::to_owned),
                    ),
                }
            }
            Some(session) => (Claim::Own, session.pid.clone(), self.offset.clone()),
        };
        self.claim = claim;
        if let (Claim::Place(had), Some(session)) = (&self.claim, &mut self.session) {
            // What it says now is what it knows from now on.
            self.offset.clone_from(&offset);
            session.had = *had;
            session.markers.retain(|(_, at)| at <= had);
            (session.last, session.is_marked) = (None, true);
            if let Some(former) = &mut self.former {
                former.had = former.had_first;
            }
        }
        let mut known = String::new();
        if self.claim != Claim::None {
            known = format!("\"pid\":\"{pid}\",");
        }
        if let Some(offset) = offset.filter(|_| self.claim != Claim::None) {
            known = format!("{known}\"offset\":\"{offset}\",");
        }
        let packet = format!("40{}", payload_after(&known, &self.journey.user));
        self.say(context, &packet);
    }

    fn on_packet(&mut self, context: &mut Context<'_>, packet: &str) {
        match packet.as_bytes() {
            [b'0', ..] => self.on_answer(context, packet),
            [b'2', ..] => self.on_event(context, &packet[1..]),
            [b'5', b'1', b'-', ..] => self.incoming = Some(packet[3..].to_owned()),
            _ => panic!("who comes back gets {packet}"),
        }
    }

    fn on_answer(&mut self, context: &mut Context<'_>, packet: &str) {
        let Some(line) = &mut self.line else { return };
        line.stage = Stage::Connected { since: context.now };
        let sid = wire::sid_in(packet).expect("a CONNECT answer has a sid");
        let pid = wire::value_in(packet, "pid");
        let goes_on = self.session.as_ref().is_some_and(|session| pid.as_ref() == Some(&session.pid));
        if let Some(session) = self.session.as_mut().filter(|_| goes_on) {
            assert_eq!(session.sid, sid, "a session that goes on has another sid");
            session.is_first = true;
            context.record.recovered += 1;
            return;
        }
        let claims = matches!(self.claim, Claim::Own | Claim::Place(_));
        assert!(
            !(claims && self.journey.is_always_recovered),
            "the session of {} was not recovered: {:?}",
            self.journey.user,
            self.claim
        );
        self.former =
            self.session.take().filter(|_| claims).map(|Session { sid, had, .. }| Former { sid, had_first: had, had });
        let pid = pid.expect("every session has a pid");
        assert!(self.claim != Claim::Stolen(pid.clone()), "a session was stolen");
        context.record.on_pid(&self.journey.user, &pid);
        let new = Session { sid, pid, had: 0, last: None, is_marked: true, is_first: true, markers: Vec::new() };
        self.session = Some(new);
    }

    fn on_event(&mut self, context: &mut Context<'_>, event: &str) {
        if let Some(marker) = wire::marker_in(event) {
            self.offset = Some(marker.to_owned());
            if event.starts_with("[\"~") {
                if let Some(session) = &mut self.session {
                    session.is_marked = true;
                    session.markers.push((marker.to_owned(), session.had));
                }
                return;
            }
        }
        let Some(session) = self.session.as_mut().filter(|_| event.starts_with("[\"news\",")) else { return };
        let number = event.split(',').nth(1).and_then(|word| word.trim_end_matches(']').parse().ok());
        let number: u64 = number.unwrap_or_else(|| panic!("{event} has no number"));
        let cut_off = session.is_first && !session.is_marked && session.last == Some(number);
        session.is_first = false;
        if cut_off {
            context.record.repeated += 1;
        } else if let Some(had) = context.record.on_session_event(&session.sid, session.had, number) {
            session.had = had;
            session.last = Some(number);
            self.former = None;
        } else {
            let former = self.former.as_mut();
            let had = former.and_then(|former| {
                former.had = context.record.on_missed_event(&former.sid, former.had, number)?;
                Some(former.had)
            });
            assert!(had.is_some(), "{session:?} got {number}, which was not for it, or came twice");
            session.last = Some(number);
        }
        session.is_marked = wire::marker_in(event).is_some();
    }
}

impl Actor for Wanderer {
    fn wake(&mut self, context: &mut Context<'_>) {
        if self.has_left {
            return;
        }
        self.id = context.id;
        if self.returns_at == 0 {
            context.network.at(self.journey.leaves_at, Event::Wake(context.id));
        }
        self.read(context);
        if self.has_left {
            return;
        }
        if context.now >= self.journey.leaves_at {
            return self.leave(context);
        }
        if context.now >= self.breaks_at && self.line.is_some() {
            self.breaks_at = u64::MAX;
            self.lose(context);
        }
        if self.line.is_none() && context.now >= self.returns_at {
            self.come(context);
            self.returns_at = context.now.max(1);
        }
    }

    fn check(&self, now: u64, record: &Record) {
        let Some(line) = self.line.as_ref().filter(|_| !self.has_left) else { return };
        let Stage::Connected { since } = line.stage else {
            let by = line.begun + RETURN_MS_MAX + record.late_ms;
            return assert!(now <= by, "who came back at {} is still {:?}", line.begun, line.stage);
        };
        let Some(session) = &self.session else { return };
        let missing = record.missing(&session.sid, session.had);
        let lost = missing.filter(|event| {
            event.at.max(since).max(self.reads_at) + self.journey.delivery_ms_max + record.late_ms < now
        });
        assert!(lost.is_none(), "{} is connected since {since} and did not get {lost:?}", self.journey.user);
    }
}
