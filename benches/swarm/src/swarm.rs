//! The clients: each segment that comes for one of them, and what it says to that.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::client::{Client, Missing, State, Window};
use crate::clock::now_ns;
use crate::counts::Counts;
use crate::fault::{Fate, Fault, Habit};
use crate::packet::{ACK, FIN, PACKET_BYTES_MAX, PSH, Place, RST, SYN, Segment};
use crate::reading::{self, Heard};
use crate::speech::Speech;
use crate::tun::Tun;
use crate::wire::{FIRST_ADDRESS, Wire};

/// A step of a handshake that had no answer by then is made again.
const RETRY_MS: u64 = 1000;
const HABIT_MS: u64 = 250;
/// Packets that are read before anything else is looked at.
const PACKETS_PER_TURN: usize = 256;
const PARTIAL_BYTES_MAX: usize = 4 << 20;
const FAR_AHEAD: u32 = 1 << 20;

const PROBE_MS: u64 = 100;
/// Nobody listens there.
const CLOSED_PORT: u16 = 1;

/// What is done when its time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    Retry,
    Habit,
}

pub struct Swarm {
    wire: Wire,
    speech: Speech,
    clients: Vec<Client>,
    /// How many of them, the first ones, behave well.
    pub decent: u32,
    begun: u32,
    parallel: u32,
    /// Beginnings of frames and answers that are not whole.
    partial: HashMap<u32, Vec<u8>>,
    due: BinaryHeap<Reverse<(u64, u32, Act)>>,
    buffer: Vec<u8>,
    probe_ms: u64,
    started: Instant,
    pub counts: Counts,
}

impl Swarm {
    /// `decent` clients that behave well, and `faulty` ones behind them, that misbehave in turn in all ways.
    pub fn new(tun: Tun, server: Place, speech: Speech, decent: u32, faulty: u32, parallel: u32) -> Swarm {
        Swarm {
            wire: Wire::new(tun, server),
            speech,
            clients: vec![Client::ABSENT; (decent + faulty) as usize],
            decent,
            begun: 0,
            parallel,
            partial: HashMap::new(),
            due: BinaryHeap::new(),
            buffer: vec![0; PACKET_BYTES_MAX],
            probe_ms: 0,
            started: Instant::now(),
            counts: Counts::default(),
        }
    }

    pub fn count(&self) -> u32 {
        u32::try_from(self.clients.len()).expect("addresses are of 32 bits")
    }

    pub fn fault(&self, index: u32) -> Option<Fault> {
        let at = index.checked_sub(self.decent)? as usize;
        Some(Fault::ALL[at % Fault::ALL.len()])
    }

    /// The clients that misbehave and are to get what others get: how many, and how many of them have this event.
    pub fn faulty_with(&self, event: u16) -> (u32, u32) {
        let staying =
            (self.decent..self.count()).filter(|index| self.fault(*index).map(Fault::fate) == Some(Fate::Stays));
        staying
            .fold((0, 0), |(all, with), index| (all + 1, with + u32::from(self.clients[index as usize].event == event)))
    }

    /// How many that misbehave are to be closed, or not even to begin, in this way.
    pub fn faulty_of(&self, fate: Fate) -> u32 {
        let all = self.decent..self.count();
        all.filter(|index| self.fault(*index).map(Fault::fate) == Some(fate)).count() as u32
    }

    /// Lets the clients live until `done` says so, at the latest until `until`: whether it has said so.
    pub fn live(&mut self, until: Instant, mut done: impl FnMut(&mut Swarm) -> bool) -> io::Result<bool> {
        loop {
            let found = self.read_packets()?;
            self.begin_more();
            self.act();
            self.probe();
            (self.counts.packets_out, self.counts.packets_refused) = (self.wire.sent, self.wire.refused);
            if done(self) {
                return Ok(true);
            }
            if Instant::now() >= until {
                return Ok(false);
            }
            if found < PACKETS_PER_TURN {
                self.wait()?;
            }
        }
    }

    fn wait(&self) -> io::Result<()> {
        // As long as a handshake's step may be late, and a phase may be longer than it should be.
        const WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
        match poll(&mut [PollFd::new(&self.wire.tun, PollFlags::IN)], Some(&WAIT)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn read_packets(&mut self) -> io::Result<usize> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut found = 0;
        while found < PACKETS_PER_TURN {
            let Some(packet) = self.wire.tun.receive(&mut buffer)? else { break };
            found += 1;
            if let Some(segment) = Segment::decode(packet) {
                self.counts.packets_in += 1;
                self.on_segment(&segment);
            }
        }
        self.buffer = buffer;
        Ok(found)
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Lets so many begin that `parallel` are on their way.
    fn begin_more(&mut self) {
        while self.begun < self.count() && self.begun - self.counts.settled < self.parallel {
            let index = self.begun;
            self.begun += 1;
            let first = Client::first_sequence(index);
            let client = Client { sent: first.wrapping_add(1), state: State::Calling, ..Client::ABSENT };
            self.clients[index as usize] = client;
            self.wire.send(index, &client, SYN, first, &[]);
            self.due.push(Reverse((self.now_ms() + RETRY_MS, index, Act::Retry)));
            if self.fault(index).and_then(Fault::stops_at) == Some(State::Calling) {
                self.counts.settled += 1;
            }
        }
    }

    fn act(&mut self) {
        let now = self.now_ms();
        while let Some(Reverse((at, index, act))) = self.due.peek().copied() {
            if at > now {
                return;
            }
            self.due.pop();
            let again = match act {
                Act::Retry => self.retry(index).then_some(RETRY_MS),
                Act::Habit => self.indulge(index).then_some(HABIT_MS),
            };
            if let Some(after) = again {
                self.due.push(Reverse((now + after, index, act)));
            }
        }
    }

    /// Makes a handshake's last step again; `false` when there is none any more.
    fn retry(&mut self, index: u32) -> bool {
        let (client, fault) = (self.clients[index as usize], self.fault(index));
        let first = Client::first_sequence(index);
        if client.state >= State::Joined || fault.and_then(Fault::stops_at) == Some(client.state) {
            return false;
        }
        self.counts.retries += 1;
        match client.state {
            State::Calling => self.wire.send(index, &client, SYN, first, &[]),
            State::Upgrading => self.wire.say(index, &client, fault, first.wrapping_add(1), &self.speech.upgrade),
            State::Joining => {
                let connect = self.speech.connect(index);
                self.wire.say(index, &client, fault, client.sent.wrapping_sub(connect.len() as u32), &connect);
            }
            _ => self.wire.send(index, &client, ACK, client.sent, &[]),
        }
        true
    }

    /// Does what a client that misbehaves does again and again; `false` when it is gone.
    fn indulge(&mut self, index: u32) -> bool {
        let Some(habit) = self.fault(index).and_then(Fault::habit) else { return false };
        let client = &mut self.clients[index as usize];
        if client.state == State::Gone {
            return false;
        }
        let first = Client::first_sequence(index).wrapping_add(1);
        let (ahead, sent) = (client.sent.wrapping_add(FAR_AHEAD), client.sent);
        match habit {
            Habit::Blink => {
                client.window = if client.window == Window::Open { Window::Shut } else { Window::Open };
                self.wire.send(index, client, ACK, sent, &[]);
            }
            Habit::ResetBlindly => {
                for guess in [sent.wrapping_add(1), sent.wrapping_add(1000), ahead, sent.wrapping_sub(1), first] {
                    self.wire.send(index, client, RST, guess, &[]);
                }
            }
            Habit::Flag => {
                for flags in [SYN, SYN | ACK, SYN | FIN, SYN | FIN | PSH, 0, FIN, PSH, FIN | PSH] {
                    self.wire.send(index, client, flags, sent, &[]);
                }
            }
            Habit::Repeat => {
                for sequence in [first, ahead] {
                    self.wire.send(index, client, PSH | ACK, sequence, &self.speech.upgrade);
                }
            }
        }
        true
    }

    /// Knocks where nobody listens: the kernel answers at once, and its answer waits among all others until it is read.
    fn probe(&mut self) {
        let now = self.now_ms();
        if now >= self.probe_ms {
            self.probe_ms = now + PROBE_MS;
            let server = Place { port: CLOSED_PORT, ..self.wire.server };
            let server = std::mem::replace(&mut self.wire.server, server);
            self.wire.send(self.count(), &Client::ABSENT, SYN, now as u32, &[]);
            self.wire.server = server;
        }
    }

    fn on_segment(&mut self, segment: &Segment<'_>) {
        let index = segment.to.address.wrapping_sub(FIRST_ADDRESS);
        if segment.from.port == CLOSED_PORT {
            let asked_ms = segment.acknowledged.wrapping_sub(1);
            let lag_ms = (self.now_ms() as u32).wrapping_sub(asked_ms);
            return self.counts.lags.record(u64::from(lag_ms) * 1_000_000);
        }
        let fault = self.fault(index);
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        if segment.has(RST) {
            if !matches!(client.state, State::Absent | State::Gone) {
                self.end(index, "reset");
            }
            return;
        }
        match client.state {
            State::Absent | State::Gone => self.wire.send(index, client, RST, segment.acknowledged, &[]),
            State::Calling if segment.has(SYN | ACK) => {
                if fault.and_then(Fault::stops_at) == Some(State::Calling) {
                    return;
                }
                client.received = segment.sequence.wrapping_add(1);
                if fault.and_then(Fault::resets_at) == Some(State::Calling) {
                    return self.leave(index);
                }
                self.step(index, State::Upgrading);
            }
            State::Calling => {}
            State::Joined if fault == Some(Fault::Vanished) => {}
            _ => self.on_established(index, segment),
        }
    }

    fn on_established(&mut self, index: u32, segment: &Segment<'_>) {
        let client = &mut self.clients[index as usize];
        let is_end = segment.has(FIN);
        let heard = match client.heard(segment.sequence) {
            Ok(heard) => heard,
            Err(Missing) => {
                self.counts.gaps += 1;
                return self.wire.send(index, client, ACK, client.sent, &[]);
            }
        };
        if segment.payload.is_empty() && !is_end {
            // A pure acknowledgement, or a question whether anybody is here.
            if heard > 0 {
                self.wire.send(index, client, ACK, client.sent, &[]);
            }
            return;
        }
        if heard >= segment.payload.len() + usize::from(is_end) {
            self.counts.repeated += 1;
            return self.wire.send(index, client, ACK, client.sent, &[]);
        }
        let news = segment.payload.get(heard..).unwrap_or_default();
        // It takes what was on its way when its window was shut: not to would be to lose it, which is another fault.
        client.received = client.received.wrapping_add(news.len() as u32);
        let said = self.wire.sent;
        self.on_bytes(index, news);
        let client = &mut self.clients[index as usize];
        if client.state == State::Gone {
            return;
        }
        if is_end {
            client.received = client.received.wrapping_add(1);
            return self.end(index, "end");
        }
        // What was said has acknowledged it.
        if self.wire.sent == said {
            self.wire.send(index, client, ACK, client.sent, &[]);
        }
    }

    fn on_bytes(&mut self, index: u32, bytes: &[u8]) {
        if self.partial.is_empty() || !self.partial.contains_key(&index) {
            let used = self.read(index, bytes);
            if used < bytes.len() {
                self.partial.insert(index, bytes[used..].to_vec());
            }
            return;
        }
        let mut whole = self.partial.remove(&index).unwrap_or_default();
        whole.extend_from_slice(bytes);
        let used = self.read(index, &whole);
        if whole.len() - used > PARTIAL_BYTES_MAX {
            self.end(index, "nonsense");
        } else if used < whole.len() {
            whole.drain(..used);
            self.partial.insert(index, whole);
        }
    }

    /// Reads what is whole, and says how much that was.
    fn read(&mut self, index: u32, bytes: &[u8]) -> usize {
        let mut used = 0;
        if self.clients[index as usize].state == State::Upgrading {
            match reading::answer(bytes, &self.speech.handshake) {
                Ok(None) => return 0,
                Ok(Some(length)) => {
                    used = length;
                    self.step(index, State::Opening);
                }
                Err(status) => {
                    self.end(index, &format!("status {status}"));
                    return bytes.len();
                }
            }
        }
        while self.clients[index as usize].state != State::Gone {
            let Some((heard, length)) = reading::frame(&bytes[used..]) else { break };
            used += length;
            self.on_heard(index, &heard);
        }
        used
    }

    fn on_heard(&mut self, index: u32, heard: &Heard) {
        let (tenths, is_decent) = (self.now_ms() / 100, index < self.decent);
        let fault = self.fault(index);
        let client = &mut self.clients[index as usize];
        match heard {
            Heard::Open if client.state == State::Opening => self.step(index, State::Joining),
            Heard::Joined if client.state == State::Joining => self.step(index, State::Joined),
            Heard::Refused => self.end(index, "connect error"),
            Heard::Ping => {
                if is_decent {
                    self.counts.pings += 1;
                    let now = tenths as u16;
                    if client.pinged != 0 {
                        self.counts.ping_gaps.record(u64::from(now.wrapping_sub(client.pinged)) * 100_000_000);
                    }
                    client.pinged = now.max(1);
                }
                if fault != Some(Fault::Pongless) {
                    self.wire.say(index, client, fault, client.sent, &self.speech.pong);
                    client.sent = client.sent.wrapping_add(self.speech.pong.len() as u32);
                }
            }
            Heard::ToAll(number) => {
                let in_turn = client.event.wrapping_add(1) == *number;
                client.event = *number;
                self.counts.out_of_turn += u64::from(!in_turn);
                self.counts.arrived += u32::from(in_turn && is_decent);
            }
            Heard::ToOne(at_ns) => {
                self.counts.to_one += 1;
                self.counts.latencies.record(now_ns().saturating_sub(*at_ns));
            }
            Heard::Load => self.counts.loads += 1,
            Heard::Close(code) => self.end(index, &format!("close {}", code.unwrap_or(0))),
            Heard::Bye => self.end(index, "close packet"),
            Heard::Open | Heard::Joined | Heard::Other => {}
        }
    }

    /// A client has come to a state: it says what belongs to that, or does what it should not.
    fn step(&mut self, index: u32, state: State) {
        let fault = self.fault(index);
        let client = &mut self.clients[index as usize];
        client.state = state;
        if fault.and_then(Fault::stops_at) == Some(state) {
            self.counts.settled += 1;
            return;
        }
        match state {
            State::Upgrading => {
                self.wire.say(index, client, fault, client.sent, &self.speech.upgrade);
                client.sent = client.sent.wrapping_add(self.speech.upgrade.len() as u32);
            }
            State::Joining => {
                let connect = self.speech.connect(index);
                self.wire.say(index, client, fault, client.sent, &connect);
                client.sent = client.sent.wrapping_add(connect.len() as u32);
            }
            State::Joined => {
                self.counts.settled += 1;
                self.counts.joined += u32::from(index < self.decent);
                match fault {
                    Some(Fault::Shut) => client.window = Window::Shut,
                    Some(Fault::HalfClosed) => {
                        self.wire.send(index, client, FIN | ACK, client.sent, &[]);
                        client.sent = client.sent.wrapping_add(1);
                    }
                    Some(fault) if fault.habit().is_some() => {
                        self.due.push(Reverse((self.now_ms() + HABIT_MS, index, Act::Habit)));
                    }
                    _ => {}
                }
            }
            State::Absent | State::Calling | State::Opening | State::Gone => {}
        }
        if fault.and_then(Fault::resets_at) == Some(state) {
            self.leave(index);
        }
    }

    /// Resets the connection from here.
    fn leave(&mut self, index: u32) {
        let client = &mut self.clients[index as usize];
        self.counts.settled += u32::from(client.state < State::Joined);
        client.state = State::Gone;
        self.wire.send(index, client, RST, client.sent, &[]);
        self.partial.remove(&index);
    }

    /// The server has ended it.
    fn end(&mut self, index: u32, how: &str) {
        match self.fault(index) {
            None => *self.counts.ends.entry(how.to_owned()).or_default() += 1,
            Some(fault) => *self.counts.faulty_ends.entry(format!("{fault:?}: {how}")).or_default() += 1,
        }
        self.leave(index);
    }

    /// The next of those that are still here, from `from` on, resets its connection: whose turn is next.
    pub fn reset_from(&mut self, from: u32, count: u32) -> u32 {
        let end = from.saturating_add(count).min(self.count());
        for index in from..end {
            if !matches!(self.clients[index as usize].state, State::Absent | State::Gone) {
                self.leave(index);
            }
        }
        end
    }
}
