//! The workers of the simulation: the server's own, each with a simulated kernel and what it has around it, and their turns.

use std::collections::BTreeMap;
use std::sync::Arc;

use sockring::capacity::Capacity;
use sockring::ring::Kernel;
use sockring::shard::{Papers, Parcel, Shard, ShardStats};
use sockring::tls::TlsStage;
use sockring::worker::{Outside, Table, Then, Turned, Worker};

use super::super::desk::Desk;
use super::super::network::{End, Event, TcpId};
use super::around::{Around, Outgoing, Posted};
use super::kernel::SimulatedKernel;
use super::socket::{Listener, Socket};
use super::{CONNECTIONS_MAX, LATE_MS_MAX, World};

/// One that turns without an end does not turn more often at one time.
const TURNS_AT_ONCE_MAX: u32 = 20_000;

/// A worker, and when it turns.
pub struct Permit {
    pub worker: Worker<Desk, SimulatedKernel, Around>,
    pub listener: Listener,
    pub turn_at: Option<u64>,
    /// It does not turn before, and its next turn takes until then.
    pub paused_until: u64,
    pub slow_until: u64,
    /// It is in the middle of a turn that takes long.
    pub is_in_turn: bool,
    /// After the last turn.
    pub stats: ShardStats,
    turns_at_once: (u64, u32),
}

/// Connections that are with the API: how many requests they have had, their bytes, and their TLS.
pub type AtApi = BTreeMap<TcpId, (Socket, Papers, u32, Vec<u8>, Option<Box<TlsStage>>)>;

impl Permit {
    pub fn new(
        kernel: SimulatedKernel,
        shard: Shard<Desk>,
        listener: Listener,
        around: Around,
        capacity: Arc<Capacity>,
    ) -> Permit {
        let table = Table::with_capacity(CONNECTIONS_MAX);
        Permit {
            worker: Worker::new(kernel, shard, table, listener.clone(), around, capacity),
            listener,
            turn_at: Some(0),
            paused_until: 0,
            slow_until: 0,
            is_in_turn: false,
            stats: ShardStats::default(),
            turns_at_once: (0, 0),
        }
    }

    pub fn turn_by(&mut self, at: u64) {
        self.turn_at = Some(self.turn_at.map_or(at, |turn| turn.min(at)));
    }

    pub fn turns_at(&self) -> Option<u64> {
        self.turn_at.map(|at| at.max(self.paused_until))
    }

    /// Whether it has drained, and has nothing to do.
    pub fn is_over(&self) -> bool {
        self.worker.outside.drain.is_some_and(|drain| drain.is_over)
            && !self.is_in_turn
            && self.worker.outside.letters().next().is_none()
            && self.worker.kernel.is_idle()
    }
}

impl World {
    pub(super) fn turn(&mut self, shard: usize) {
        let now = self.now;
        let seat = &mut self.seats[shard];
        seat.turn_at = None;
        if std::mem::take(&mut seat.is_in_turn) {
            // What its last turn has done leaves.
            seat.worker.go_on(Turned::Busy);
            self.give_away(shard);
        }
        let seat = &mut self.seats[shard];
        let turned = seat.worker.turn();
        self.trace(|| format!("{shard} turned: {turned:?}"));
        let seat = &mut self.seats[shard];
        let has_done = seat.worker.kernel.has_queued() || !seat.worker.outside.outgoing.is_empty();
        if seat.slow_until > now && has_done {
            seat.is_in_turn = true;
            seat.paused_until = seat.slow_until;
            seat.turn_by(now);
        } else {
            let then = seat.worker.go_on(turned);
            self.give_away(shard);
            self.rest(shard, turned, then);
        }
        self.relay(shard);
        let seat = &mut self.seats[shard];
        seat.stats = seat.worker.shard.stats();
        self.close_dropped();
        self.check_worker(shard);
    }

    /// Sees to when a worker turns next.
    fn rest(&mut self, shard: usize, turned: Turned, then: Then) {
        let now = self.now;
        let late = if self.random.one_in(3) { self.random.within(0..=LATE_MS_MAX) } else { 0 };
        let seat = &mut self.seats[shard];
        let worker = &mut seat.worker;
        let is_done = worker.is_done();
        if let Some(drain) = &mut worker.outside.drain {
            drain.is_over = is_done && worker.shard.is_drained();
        }
        if then == Then::Rest {
            worker.kernel.enter(0, None);
        }
        let has_work = worker.kernel.has_work() || worker.outside.has_mail();
        if turned == Turned::Busy || then == Then::Turn || has_work {
            seat.turns_at_once = if seat.turns_at_once.0 == now { (now, seat.turns_at_once.1 + 1) } else { (now, 1) };
            assert!(seat.turns_at_once.1 < TURNS_AT_ONCE_MAX, "a worker turns on and on");
            return seat.turn_by(now);
        }
        let Some(deadline) = worker.deadline().map(|at| worker.outside.millis(at)) else { return };
        if is_done {
            // Other workers are not, and may have something for it.
            return seat.turn_by(deadline.max(now + 5));
        }
        let timer = worker.shard.deadline();
        let is_draining = worker.outside.drain.is_some();
        assert!(is_draining || timer.is_none_or(|timer| timer.0 > now), "a turn at {now} left a deadline at {timer:?}");
        // A look around goes on at once, and so do connections that a worker closes because it drains.
        seat.turn_by(if deadline > now { deadline + late } else { now });
    }

    /// What a worker has given away in its turn leaves.
    fn give_away(&mut self, shard: usize) {
        let now = self.now;
        self.record.borrow_mut().on_told(shard);
        for outgoing in std::mem::take(&mut self.seats[shard].worker.outside.outgoing) {
            match outgoing {
                Outgoing::Letter(to, letter) => {
                    assert!(to < self.seats.len(), "mail from {shard} to {to}");
                    if let Some(id) = Around::brought(&letter) {
                        self.network.borrow_mut().server(id).shard = to;
                        self.handed_over += 1;
                    }
                    self.post(to, Posted::new(letter));
                }
                Outgoing::ToApi(socket, parcel) => self.give_to_api(socket, parcel),
                Outgoing::Subscribe(room, epoch, wanted_at) => {
                    self.bus.as_mut().expect("there is a bus").subscribe(now, shard, &room, epoch, wanted_at);
                }
                Outgoing::Unsubscribe(room) => {
                    self.bus.as_mut().expect("there is a bus").unsubscribe(now, shard, &room);
                }
                Outgoing::Acknowledged(answer) => {
                    self.bus.as_mut().expect("there is a bus").acknowledged += 1;
                    self.record.borrow_mut().on_acknowledged(shard, &answer);
                }
            }
        }
        // What came before that letter in this turn was subscribed to for a bus that was down.
        if let Some(bus) = &mut self.bus {
            bus.on_read(shard, self.seats[shard].worker.outside.generation);
        }
        self.take_answers(shard);
    }

    fn give_to_api(&mut self, socket: Socket, mut parcel: Parcel) {
        let delay = self.random.below(5);
        let id = socket.id();
        let (papers, requests) = (parcel.take_papers(), parcel.requests());
        let tls = parcel.take_tls();
        self.at_api.insert(id, (socket, papers, requests, parcel.into_bytes(), tls));
        self.network.borrow_mut().at(self.now + delay, Event::Return(id));
    }

    /// The API has answered one request with 404 and keeps the connection no longer.
    pub(super) fn take_back(&mut self, id: TcpId) {
        let (socket, papers, requests, mut bytes, mut tls) = self.at_api.remove(&id).expect("it is with the API");
        let mut network = self.network.borrow_mut();
        let server = network.server(id);
        if server.end == Some(End::Reset) {
            return;
        }
        match &mut tls {
            None => bytes.append(&mut server.arrived),
            Some(tls) => _ = tls.receive(&mut std::mem::take(&mut server.arrived), &mut bytes).expect("it is TLS"),
        }
        let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head is given to the API");
        bytes.drain(..head + 4);
        let shard = server.shard;
        let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
        match &mut tls {
            None => network.send(id, answer),
            Some(tls) => network.send(id, &tls.seal(answer).expect("its handshake is done")),
        }
        drop(network);
        let parcel = Parcel::between_requests(bytes, requests + 1).with(papers).through(tls);
        self.post(shard, Posted::new(sockring::mailbox::Letter::Arrival(socket, Box::new(parcel))));
    }

    /// Closes what nobody holds any more.
    pub(super) fn close_dropped(&mut self) {
        for id in self.dropped.take() {
            self.network.borrow_mut().close(id);
        }
    }
}
