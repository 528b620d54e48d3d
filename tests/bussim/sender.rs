//! `Sender`: who emits, orders and asks by chance, one thing after the other: Node's own code, an emitter, or a caller of the API.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use sockring_protocol::adapter::{Adapter, Broadcast, Ending, Message, Selection};

use tokio::time::{Instant, sleep};

use super::client::args_of;
use super::random::Random;
use super::world::{By, Kind, Op, Outcome, SLACK, Server, World, mark, name_of};

/// One of them.
pub struct Sender {
    pub world: Rc<World>,
    pub number: usize,
    pub by: By,
    pub random: Random,
    /// Users whom only this one ends.
    pub victims: Vec<String>,
    /// Of each operation the milliseconds after it, at most.
    pub pace_ms: u64,
    /// What the API was told to join: once only.
    pub joined: BTreeSet<(String, String)>,
    pub left: BTreeSet<(String, String)>,
    pub taste: Taste,
    /// What it does next, in this order.
    pub next: VecDeque<Op>,
}

/// What somebody does most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taste {
    Mixed,
    /// It asks receivers for acknowledgements, and nothing else.
    Asking,
}

const ROOMS: u64 = 4;

impl Sender {
    /// Does so many things.
    pub async fn run(mut self, count: u64) {
        for _ in 0..count {
            self.act().await;
            // Often several in the same moment.
            if self.random.one_in(3) {
                sleep(Duration::from_millis(self.random.below(self.pace_ms))).await;
            }
        }
    }

    fn own_room(&mut self) -> String {
        // The API keeps the rooms of users to themselves.
        if !matches!(self.by, By::Api(_)) && self.random.one_in(8) {
            return format!("user:guests-of-{}", self.number);
        }
        format!("s{}-{}", self.number, self.random.below(ROOMS))
    }

    fn user(&mut self) -> String {
        let users = self.world.users.borrow();
        let there: Vec<_> = users.iter().chain(&self.victims).collect();
        there[self.random.index(there.len())].clone()
    }

    fn user_room(&mut self) -> String {
        format!("user:{}", self.user())
    }

    fn sid(&mut self) -> String {
        let clients = self.world.clients.borrow();
        let there: Vec<_> = clients.iter().filter(|client| client.is_there()).collect();
        there[self.random.index(there.len())].sid.clone()
    }

    fn room(&mut self) -> String {
        match self.random.below(8) {
            0..=2 => self.user_room(),
            3 => self.sid(),
            _ => self.own_room(),
        }
    }

    fn op(&mut self) -> Op {
        if let Some(next) = self.next.pop_front() {
            return Op { begun: Instant::now(), ..next };
        }
        let mut op = self.world.begin(Kind::Emit);
        op.kind = match self.random.below(40) {
            _ if self.taste == Taste::Asking => Kind::EmitWithAck,
            0..=4 => Kind::Join,
            5..=7 => Kind::Leave,
            8 => Kind::End,
            9..=10 => Kind::EmitWithAck,
            11 => Kind::Fetch,
            _ => Kind::Emit,
        };
        match op.kind {
            Kind::Emit | Kind::EmitWithAck => {
                let count = self.random.pick(&[0, 1, 1, 1, 1, 2, 3]);
                op.rooms = (0..count).map(|_| self.room()).collect();
                if self.random.one_in(5) {
                    op.except = vec![self.room()];
                }
            }
            Kind::Join | Kind::Leave => {
                let count = self.random.pick(&[1, 1, 2]);
                op.rooms = (0..count).map(|_| self.room()).collect();
                op.changed = (0..self.random.within(1..=2)).map(|_| self.own_room()).collect();
            }
            Kind::End => {
                let Some(victim) = self.victims.pop() else {
                    op.kind = Kind::Emit;
                    return op;
                };
                op.rooms = vec![format!("user:{victim}")];
                // Who is ended has been told.
                self.next.push_back(op.clone());
                op.kind = Kind::Emit;
            }
            Kind::Fetch => op.rooms = vec![self.room()],
        }
        op.rooms.dedup();
        // Who has come gets what is sent right behind, and who has left does not.
        if !op.changed.is_empty() && self.random.one_in(2) {
            let rooms = vec![op.changed[0].clone()];
            self.next.push_back(Op { rooms, ..self.world.begin(Kind::Emit) });
        }
        op
    }

    async fn act(&mut self) {
        let op = self.op();
        match self.by {
            By::Api(site) => self.act_by_api(site, op).await,
            By::Node(_) | By::Emitter => self.act_by_bus(op).await,
        }
    }

    /// Puts it on record, and says its number.
    fn record(&mut self, op: Op) -> usize {
        let ops = &mut self.world.ops.borrow_mut()[self.number];
        self.world.trace(|| format!("{:?} {}.{} {op:?}", self.by, self.number, ops.len()));
        ops.push(op);
        ops.len() - 1
    }

    fn end(&self, number: usize, outcome: Option<Outcome>) {
        let op = &mut self.world.ops.borrow_mut()[self.number][number];
        op.ended = Some(Instant::now());
        op.outcome = outcome;
        self.world.trace(|| format!("{:?} {}.{number} has {:?}", self.by, self.number, op.outcome));
    }

    async fn act_by_bus(&mut self, mut op: Op) {
        // With the streams adapter questions go beside the stream, and have no order with what is in it.
        let asks = self.taste == Taste::Asking || self.world.adapter != Adapter::Streams;
        if (self.by == By::Emitter || !asks) && matches!(op.kind, Kind::EmitWithAck | Kind::Fetch) {
            op.kind = Kind::Emit;
        }
        let kind = op.kind;
        let selection = Selection { namespace: "/".into(), rooms: boxed(&op.rooms), except: boxed(&op.except) };
        let changed = boxed(&op.changed);
        if kind == Kind::End {
            let name = name_of("end", &op.rooms[0], "");
            let number = self.world.ops.borrow()[self.number].len();
            self.world.named.borrow_mut().insert(name, (self.number, number));
        }
        let number = self.record(op);
        let id = (self.number, number);
        let broadcast = Broadcast {
            except: selection.except.clone(),
            ..Broadcast::new("/", selection.rooms.clone(), args_of(id).into_bytes().into())
        };
        let marked = [&*changed, &[mark(id).into()]].concat();
        match kind {
            Kind::Emit => self.send(Message::Broadcast(broadcast)),
            Kind::Join => self.send(Message::Join { selection, rooms: marked, confirm: None }),
            Kind::Leave => self.send(Message::Leave { selection, rooms: marked, confirm: None }),
            Kind::End => {
                let ending = self.random.pick(&[Ending::Socket, Ending::Client]);
                self.send(Message::Disconnect { selection, ending, confirm: None });
            }
            Kind::EmitWithAck => {
                let result = self.node().emit_with_ack(broadcast).await;
                return self.end(number, Some(Outcome::Acknowledged(result)));
            }
            Kind::Fetch => {
                let except = vec![mark(id).into()];
                let result = self.node().fetch(Selection { except, ..selection }).await;
                return self.end(number, Some(Outcome::Fetched(result)));
            }
        }
        self.end(number, None);
    }

    fn node(&self) -> &super::node::Node {
        match self.by {
            By::Node(site) => match &self.world.servers[site] {
                Server::Node(node) => node,
                Server::Instance(_) => panic!("no server of Node"),
            },
            _ => panic!("an emitter asks for nothing"),
        }
    }

    fn send(&self, message: Message) {
        match self.by {
            By::Emitter => self.world.emitter.send(&message),
            _ => self.node().send(message),
        }
    }

    async fn act_by_api(&mut self, site: usize, mut op: Op) {
        if matches!(op.kind, Kind::EmitWithAck | Kind::Fetch) {
            op.kind = Kind::Emit;
        }
        let number = self.world.ops.borrow()[self.number].len();
        let id = (self.number, number);
        let (route, body) = match op.kind {
            Kind::Join | Kind::Leave => {
                let (user, room) = (self.user(), op.changed[0].clone());
                let pair = (user.clone(), room.clone());
                let is_new = match op.kind {
                    Kind::Join => self.joined.insert(pair),
                    _ => self.left.insert(pair),
                };
                if !is_new {
                    return;
                }
                let word = if op.kind == Kind::Join { "join" } else { "leave" };
                op.rooms = vec![format!("user:{user}")];
                op.changed = vec![room.clone()];
                self.world.named.borrow_mut().insert(name_of(word, &op.rooms[0], &room), id);
                (format!("rooms/{word}"), format!("{{\"user\":\"{user}\",\"room\":\"{room}\"}}"))
            }
            Kind::End => {
                let user = op.rooms[0].trim_start_matches("user:").to_owned();
                self.world.named.borrow_mut().insert(name_of("end", &op.rooms[0], ""), id);
                let reconnect = self.random.one_in(2);
                ("disconnect".to_owned(), format!("{{\"user\":\"{user}\",\"reconnect\":{reconnect}}}"))
            }
            _ => ("emit".to_owned(), self.emit_body(&mut op, number)),
        };
        self.record(op);
        let Server::Instance(instance) = &self.world.servers[site] else { panic!("no server of ours") };
        let (status, body) = instance.call(&route, &body).await;
        let has = |field: &str| match () {
            () if body.contains(&format!("\"{field}\":true")) => Some(true),
            () if body.contains(&format!("\"{field}\":false")) => Some(false),
            () => None,
        };
        let is_published = has("published") == Some(true);
        self.end(number, Some(Outcome::Api { status, is_published, is_confirmed: has("confirmed") }));
    }

    fn emit_body(&mut self, op: &mut Op, number: usize) -> String {
        let quoted = |list: &[String]| {
            format!("[{}]", list.iter().map(|room| format!("\"{room}\"")).collect::<Vec<_>>().join(","))
        };
        let user = |room: &String| room.strip_prefix("user:").map(str::to_owned);
        let users: Vec<_> = op.rooms.iter().filter_map(user).collect();
        let to = match (&*op.rooms, &*users) {
            ([], _) => "\"broadcast\":true".to_owned(),
            ([_], [user]) => format!("\"user\":\"{user}\""),
            ([room], _) => format!("\"room\":\"{room}\""),
            (rooms, users) if rooms.len() == users.len() => format!("\"users\":{}", quoted(users)),
            (rooms, _) => format!("\"rooms\":{}", quoted(rooms)),
        };
        let except = if op.except.is_empty() { String::new() } else { format!(",\"except\":{}", quoted(&op.except)) };
        format!("{{\"event\":\"e\",\"args\":[{},{number}],{to}{except}}}", self.number)
    }
}

/// Many questions in one moment.
pub async fn storm(world: Rc<World>, mut random: Random, count: u64) {
    sleep(Duration::from_millis(random.below(2_000))).await;
    let user = world.users.borrow()[0].clone();
    let begun = Instant::now();
    let nodes = world.servers.iter().find_map(|server| match server {
        Server::Node(node) => Some(Rc::clone(node)),
        Server::Instance(_) => None,
    });
    let node = nodes.expect("there is one");
    let questions = (0..count).map(|_| {
        let (node, rooms) = (Rc::clone(&node), vec![format!("user:{user}").into()]);
        let selection = Selection { namespace: "/".into(), rooms, except: Vec::new() };
        tokio::task::spawn_local(async move { node.fetch(selection).await })
    });
    let questions: Vec<_> = questions.collect();
    let of_user = world.clients.borrow().iter().filter(|client| client.user == user).count();
    for question in questions {
        let answer = question.await.expect("it does not panic").map(|sockets| sockets.len());
        if answer != Ok(of_user) && world.was_calm(begun - SLACK, Instant::now()) {
            world
                .unanswered
                .borrow_mut()
                .push(format!("of a storm of questions one had {answer:?} of {of_user} sockets"));
        }
    }
}

fn boxed(rooms: &[String]) -> Vec<Box<str>> {
    rooms.iter().map(|room| room.as_str().into()).collect()
}
