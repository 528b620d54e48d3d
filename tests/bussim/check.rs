//! What must hold when a world is over: each client has got of each sender what one server that does everything in its order
//! would have given it, of what its own server has heard; and what a server has not heard it was away for.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::client::Client;
use super::redis::SiteId;
use super::world::{By, Heard, Kind, Op, Outcome, SLACK, Server, World};
use sockring::cluster::HeardRooms;
use sockring::shard::USER_PREFIX;
use sockring_protocol::adapter::Adapter;

/// Whether something is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Truth {
    No,
    Maybe,
    Yes,
}

impl Truth {
    fn not(self) -> Truth {
        match self {
            Truth::No => Truth::Yes,
            Truth::Maybe => Truth::Maybe,
            Truth::Yes => Truth::No,
        }
    }
}

/// A client in a room.
#[derive(Clone, Copy, Debug)]
struct Standing {
    truth: Truth,
    /// When its server has heard of it.
    since: Instant,
    /// When it was said that its server hears the room.
    confirmed: Option<Instant>,
}

/// What has happened, so that a simulation in which nothing does is noticed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Feats {
    pub operations: u64,
    /// Events that had to come, and did.
    pub received: u64,
    /// Events that might have come, for a reason that the documents name.
    pub uncertain: u64,
    /// Messages that a server has lost with a connection, or was not there for.
    pub lost: u64,
    pub ended: u64,
    pub fetched: u64,
    pub acknowledged: u64,
}

impl Feats {
    pub fn add(&mut self, other: &Feats) {
        self.operations += other.operations;
        self.received += other.received;
        self.uncertain += other.uncertain;
        self.lost += other.lost;
        self.ended += other.ended;
        self.fetched += other.fetched;
        self.acknowledged += other.acknowledged;
    }
}

/// Looks at everything that one sender did.
struct Replay<'a> {
    world: &'a World,
    clients: &'a [Client],
    sender: usize,
    rooms: HashMap<(usize, String), Standing>,
    gone: Vec<Truth>,
    /// What each client has to get: numbers, in order.
    wanted: Vec<Vec<(usize, Truth)>>,
    /// When somebody else ends a client.
    others_end: Vec<Option<Instant>>,
    violations: Vec<String>,
    feats: Feats,
}

/// Everything; violations as text.
pub fn check(world: &World) -> (Feats, Vec<String>) {
    let clients = world.clients.borrow();
    let ops = world.ops.borrow();
    let (mut feats, mut violations) = (Feats::default(), Vec::new());
    let count = clients.len();
    let mut is_ended = vec![false; count];
    for sender in 0..world.senders.len() {
        let end_of = |client: usize| {
            let others = ops.iter().enumerate().filter(|(other, _)| *other != sender).flat_map(|(_, ops)| ops);
            others.filter(|op| op.kind == Kind::End && op.rooms[0] == clients[client].room()).map(|op| op.begun).min()
        };
        let mut replay = Replay {
            world,
            clients: &clients,
            sender,
            rooms: HashMap::new(),
            gone: vec![Truth::No; count],
            wanted: vec![Vec::new(); count],
            others_end: (0..count).map(end_of).collect(),
            violations: Vec::new(),
            feats: Feats::default(),
        };
        for (number, op) in ops[sender].iter().enumerate() {
            replay.take(number, op);
        }
        replay.compare();
        for (client, is_ended) in is_ended.iter_mut().enumerate() {
            *is_ended |= replay.gone[client] != Truth::No;
        }
        feats.add(&replay.feats);
        violations.extend(replay.violations);
    }
    for (client, was_ended) in clients.iter().zip(is_ended) {
        if client.told_at.is_none() {
            violations.push(format!("{} of server {} was never connected", client.user, client.site));
        }
        if client.ended_at.is_some() && !was_ended {
            violations.push(format!("{} of server {} was ended by nobody", client.user, client.site));
        }
    }
    violations.extend(out_of_one_order(world, &clients, &ops));
    // A tick passes before a question is asked, and another one before it is judged.
    let late = world.silence_timeout - Duration::from_millis(1_500);
    for (site, pipe) in world.redis.used(|site| matches!(world.servers.get(site), Some(Server::Instance(_)))) {
        if let Some(at) = pipe.given_up_before(late) {
            violations
                .push(format!("server {site} has given up a connection on which Redis answered in time, at {at:?}"));
        }
    }
    violations.extend(world.unanswered.borrow().iter().cloned());
    (feats, violations)
}

/// With the streams adapter all clients of our instances get everything in the order of the stream, while nothing goes wrong.
fn out_of_one_order(world: &World, clients: &[Client], ops: &[Vec<Op>]) -> Vec<String> {
    if world.adapter != Adapter::Streams || world.had_trouble() {
        return Vec::new();
    }
    let is_ours = |client: &&Client| matches!(world.servers[client.site], Server::Instance(_));
    let place = |(sender, number): &(usize, usize)| {
        let op = &ops[*sender][*number];
        op.publication.filter(|_| world.is_entry(op))
    };
    let places = |client: &Client| client.got.iter().filter_map(place).collect::<Vec<_>>();
    let wrong = clients.iter().filter(is_ours).filter(|client| !places(client).is_sorted());
    wrong.map(|client| format!("{} of server {} got {:?}", client.user, client.site, places(client))).collect()
}

impl Replay<'_> {
    fn by(&self) -> By {
        self.world.senders[self.sender]
    }

    fn say(&mut self, number: usize, op: &Op, what: String) {
        self.violations.push(format!(
            "{:?} {}.{number} {:?} to {:?}: {what}",
            self.by(),
            self.sender,
            op.kind,
            op.rooms
        ));
    }

    /// Of a sender's own server nothing is expected: it does its own things in a way of its own.
    fn is_its_own(&self, site: SiteId) -> bool {
        self.by() == By::Node(site)
    }

    fn in_room(&self, client: usize, room: &str) -> Truth {
        let who = &self.clients[client];
        if who.room() == room || who.sid == room {
            return Truth::Yes;
        }
        self.rooms.get(&(client, room.to_owned())).map_or(Truth::No, |standing| standing.truth)
    }

    fn in_any(&self, client: usize, rooms: &[String]) -> Truth {
        rooms.iter().map(|room| self.in_room(client, room)).max().unwrap_or(Truth::No)
    }

    fn is_selected(&self, client: usize, op: &Op) -> Truth {
        let reached = if op.rooms.is_empty() { Truth::Yes } else { self.in_any(client, &op.rooms) };
        reached.min(self.in_any(client, &op.except).not()).min(self.gone[client].not())
    }

    /// Whether a client's server acts for this operation, and since when.
    fn acts(&mut self, number: usize, op: &Op, client: usize) -> (Truth, Instant) {
        let site = self.clients[client].site;
        if self.by() == By::Api(site) {
            let truth = match &op.outcome {
                Some(Outcome::Api { status: 200, .. }) => Truth::Yes,
                _ => Truth::Maybe,
            };
            return (truth, op.ended.unwrap_or(op.begun));
        }
        match self.world.heard_at(op, site) {
            Heard::At { at, by_all } => {
                let is_sure = by_all && (self.world.is_entry(op) || op.was_up[site]);
                let is_sure = is_sure || self.world.lines.borrow()[site] <= 1;
                (if is_sure { Truth::Yes } else { Truth::Maybe }, at)
            }
            Heard::Lost | Heard::NotSent if op.publication.is_some() && self.world.is_entry(op) => {
                self.say(number, op, format!("server {site} has not read it"));
                (Truth::No, op.begun)
            }
            Heard::Lost => (Truth::No, op.begun),
            Heard::NotSent => {
                if !self.is_its_own(site) {
                    self.check_deaf(number, op, client);
                }
                (Truth::No, op.begun)
            }
        }
    }

    /// A server was sent nothing: it may have been away, or may not have subscribed that room yet.
    fn check_deaf(&mut self, number: usize, op: &Op, client: usize) {
        let Some(at) = self.world.published_at(op) else { return };
        let who = &self.clients[client];
        let (site, told) = (who.site, who.told_at.unwrap_or(at));
        if !op.was_up[site] || told >= at || who.ended_at.is_some() || self.is_selected(client, op) != Truth::Yes {
            return;
        }
        let is_order = !matches!(op.kind, Kind::Emit);
        let excuse = match &*op.rooms {
            [room] if !is_order => self.is_excused(client, room, op, at),
            _ => false,
        };
        if !excuse {
            self.say(number, op, format!("server {site} was up, has {}, and had not subscribed it", who.user));
        }
    }

    /// Whether the documents say that what is sent to this room now may be lost.
    fn is_excused(&self, client: usize, room: &str, op: &Op, at: Instant) -> bool {
        let who = &self.clients[client];
        if who.room() == *room || who.sid == *room {
            let told = who.told_at.unwrap_or(at);
            let channel = self.world.channels.of_room("/", room).unwrap_or_default();
            let is_new = !self.world.redis.was_subscribed(who.site, &channel, at);
            return is_new && !self.world.was_calm(told - SLACK, told) && !self.world.was_calm(told, at);
        }
        let is_of_node = matches!(self.world.servers[who.site], Server::Node(_));
        if self.world.adapter == Adapter::Classic
            && (is_of_node || (self.world.heard_rooms == HeardRooms::All && !room.starts_with(USER_PREFIX)))
        {
            return false;
        }
        let Some(standing) = self.rooms.get(&(client, room.to_owned())) else { return false };
        // Of a Node server it is not known which of the subscriptions that Redis counts is its own.
        if !is_of_node && standing.confirmed.is_some_and(|confirmed| op.begun >= confirmed) {
            return false;
        }
        at < standing.since + SLACK || !self.world.was_calm(standing.since, at)
    }

    fn take(&mut self, number: usize, op: &Op) {
        self.feats.operations += 1;
        self.check_outcome(number, op);
        let mut members = Vec::new();
        for client in 0..self.clients.len() {
            let selected = self.is_selected(client, op);
            let (acts, at) = self.acts(number, op, client);
            if acts == Truth::No && selected != Truth::No {
                self.feats.lost += 1;
            }
            let done = self.in_time(client, op, selected.min(acts));
            members.push(done);
            match op.kind {
                Kind::Emit | Kind::EmitWithAck if done != Truth::No => self.wanted[client].push((number, done)),
                Kind::Join => self.join(client, op, selected.min(acts), at),
                Kind::Leave => self.leave(client, op, selected.min(acts)),
                Kind::End => self.gone[client] = self.gone[client].max(selected.min(acts)),
                _ => {}
            }
            if op.kind == Kind::End && selected.min(acts) == Truth::Yes && !self.is_its_own(self.clients[client].site) {
                self.feats.ended += 1;
                if self.clients[client].ended_at.is_none() {
                    self.say(number, op, format!("{} is still there", self.clients[client].user));
                }
            }
        }
        self.check_answers(number, op, &members);
    }

    /// For who has just come, or is being ended by somebody else, it may be too early or too late.
    fn in_time(&self, client: usize, op: &Op, truth: Truth) -> Truth {
        let who = &self.clients[client];
        let at = match self.by() {
            By::Api(site) if site == who.site => op.begun,
            _ => self.world.published_at(op).unwrap_or(op.begun),
        };
        let is_early = who.told_at.is_none_or(|told| at < told);
        let is_late = self.others_end[client].is_some();
        if is_early || is_late { truth.min(Truth::Maybe) } else { truth }
    }

    fn join(&mut self, client: usize, op: &Op, truth: Truth, since: Instant) {
        let confirmed = match op.outcome {
            Some(Outcome::Api { is_confirmed: Some(true), .. }) => op.ended,
            _ => None,
        };
        for room in &op.changed {
            let key = (client, room.clone());
            match (truth, self.rooms.get(&key).map(|standing| standing.truth)) {
                (Truth::No, _) | (_, Some(Truth::Yes)) => {}
                (truth, _) => drop(self.rooms.insert(key, Standing { truth, since, confirmed })),
            }
        }
    }

    fn leave(&mut self, client: usize, op: &Op, truth: Truth) {
        for room in &op.changed {
            let key = (client, room.clone());
            match truth {
                Truth::No => {}
                Truth::Yes => drop(self.rooms.remove(&key)),
                Truth::Maybe => {
                    if let Some(standing) = self.rooms.get_mut(&key) {
                        standing.truth = Truth::Maybe;
                    }
                }
            }
        }
    }

    /// What the sender was told.
    fn check_outcome(&mut self, number: usize, op: &Op) {
        let Some(ended) = op.ended else {
            return self.say(number, op, "it has not ended".to_owned());
        };
        let was_calm = self.world.was_calm(op.begun - SLACK, ended);
        let Some(Outcome::Api { status, is_published, is_confirmed }) = &op.outcome else { return };
        let is_fine = *status == 200 && *is_published && *is_confirmed != Some(false);
        if was_calm && !is_fine {
            self.say(number, op, format!("the API says {:?}", op.outcome));
        }
        if *is_published && op.publication.is_none() {
            self.say(number, op, "the API says that it was published".to_owned());
        }
    }

    /// Who has answered is who was asked.
    fn check_answers(&mut self, number: usize, op: &Op, members: &[Truth]) {
        // Who is being ended may not answer any more.
        let is_sure =
            !members.contains(&Truth::Maybe) && self.world.was_calm(op.begun - SLACK, op.ended.unwrap_or(op.begun));
        let sids: BTreeSet<&str> = match &op.outcome {
            Some(Outcome::Fetched(Err(reason)) | Outcome::Acknowledged(Err(reason))) if is_sure => {
                return self.say(number, op, reason.clone());
            }
            Some(Outcome::Fetched(Ok(sockets))) => sockets.iter().map(|socket| &*socket.id).collect(),
            Some(Outcome::Acknowledged(Ok(sids))) => sids.iter().map(String::as_str).collect(),
            _ => return,
        };
        match op.kind {
            Kind::Fetch => self.feats.fetched += 1,
            _ => self.feats.acknowledged += 1,
        }
        for (client, member) in members.iter().enumerate() {
            let who = &self.clients[client];
            let is_there = sids.contains(&*who.sid);
            let is_wrong = (*member == Truth::Yes && !is_there) || (*member == Truth::No && is_there);
            if is_wrong && !self.is_its_own(who.site) {
                let words = format!("{} of server {} should be {member:?} among {sids:?}", who.user, who.site);
                self.say(number, op, words);
            }
        }
    }

    /// What has come is what had to come, in this order.
    fn compare(&mut self) {
        for client in 0..self.clients.len() {
            let who = &self.clients[client];
            if self.is_its_own(who.site) {
                continue;
            }
            let got: Vec<_> =
                who.got.iter().filter(|(sender, _)| *sender == self.sender).map(|(_, number)| *number).collect();
            let wanted = &self.wanted[client];
            let mut rest = &*got;
            let mut missing = None;
            for (number, truth) in wanted {
                match rest {
                    [first, others @ ..] if first == number => {
                        rest = others;
                        match truth {
                            Truth::Yes => self.feats.received += 1,
                            _ => self.feats.uncertain += 1,
                        }
                    }
                    _ if *truth == Truth::Yes => {
                        missing = Some(*number);
                        break;
                    }
                    _ => {}
                }
            }
            if missing.is_some() || !rest.is_empty() {
                let words = format!(
                    "{:?} {}: {} of server {} ({}) got {got:?}, wanted {wanted:?}; missing {missing:?}, or too much {:?}",
                    self.by(),
                    self.sender,
                    who.user,
                    who.site,
                    who.sid,
                    rest.first()
                );
                self.violations.push(words);
            }
        }
    }
}
