//! `Browser`: a peer that sends request after request on one connection without waiting, to the shard and to the API, reads
//! when it likes, and expects every answer in its turn.

use std::collections::VecDeque;

use super::network::{End, Event, TcpId};
use super::wire;
use super::world::{Actor, Context};

/// What a request has to be answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WantedAnswer {
    Session,
    Unknown,
    NotFound,
}

/// One browser, or a proxy's pool: one connection at a time.
pub struct Browser {
    tcp: Option<TcpId>,
    input: Vec<u8>,
    wanted: VecDeque<WantedAnswer>,
    rounds: u64,
    next_round: u64,
    reads_again: u64,
    /// It stays away at the end, and its connection stays as it is.
    abandons: bool,
}

impl Browser {
    pub fn new(rounds: u64, abandons: bool) -> Browser {
        Browser {
            tcp: None,
            input: Vec::new(),
            wanted: VecDeque::new(),
            rounds,
            next_round: 0,
            reads_again: 0,
            abandons,
        }
    }

    fn read(&mut self, context: &mut Context<'_>) {
        let Some(tcp) = self.tcp.filter(|_| context.now >= self.reads_again) else { return };
        self.input.extend(context.network.read(tcp));
        while let Some(answer) = wire::take_answer(&mut self.input) {
            let wanted = self.wanted.pop_front();
            let status = match wanted {
                Some(WantedAnswer::Session) => 200,
                Some(WantedAnswer::Unknown) => 400,
                Some(WantedAnswer::NotFound) => 404,
                None => panic!("an answer that nobody asked for: {answer:?}"),
            };
            let is_turned_away = context.record.draining_since.is_some() && wanted == Some(WantedAnswer::Session);
            assert!(
                answer.status == status || (is_turned_away && answer.status == 503),
                "{wanted:?} was answered with {answer:?}"
            );
            if answer.closes {
                context.network.end(tcp, End::Fin);
                self.wanted.clear();
                self.input.clear();
                self.tcp = None;
                return;
            }
        }
        if context.network.is_ended(tcp) {
            let is_turned_away = context.record.draining_since.is_some();
            assert!(
                self.wanted.is_empty() || is_turned_away,
                "the server ended a connection that it owes {:?}",
                self.wanted
            );
            self.wanted.clear();
            self.input.clear();
            context.network.end(tcp, End::Fin);
            self.tcp = None;
        }
    }

    fn ask(&mut self, context: &mut Context<'_>) {
        let tcp = *self.tcp.get_or_insert_with(|| context.network.connect(context.id));
        for _ in 0..context.random.within(1..=5) {
            let (wanted, bytes) = match context.random.below(4) {
                0 => (WantedAnswer::Session, wire::handshake()),
                1 => (WantedAnswer::NotFound, wire::elsewhere()),
                _ => (WantedAnswer::Unknown, wire::poll("AAAAAAAAAAAAAAAAAAAA")),
            };
            self.wanted.push_back(wanted);
            context.network.write(tcp, &bytes);
        }
    }
}

impl Actor for Browser {
    fn wake(&mut self, context: &mut Context<'_>) {
        if self.rounds == 0 && self.abandons {
            return;
        }
        self.read(context);
        if context.now < self.next_round {
            return;
        }
        if self.rounds > 0 {
            self.rounds -= 1;
            self.ask(context);
            if context.random.one_in(3) {
                self.reads_again = context.now + context.random.below(200);
                context.network.at(self.reads_again, Event::Wake(context.id));
            }
        } else if let Some(tcp) = self.tcp.filter(|_| self.wanted.is_empty()) {
            context.network.end(tcp, End::Fin);
            self.tcp = None;
        }
        self.next_round = context.now + context.random.pick(&[1, 5, 100]);
        if self.rounds > 0 || self.tcp.is_some() {
            context.network.at(self.next_round, Event::Wake(context.id));
        }
    }
}
