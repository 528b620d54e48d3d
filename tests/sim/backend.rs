//! `Backend`: who calls the API from outside: emits to users, rooms and everybody, joins, leaves, ends and questions.

use std::sync::Arc;

use sockring::shard::{EventId, Keep, KeptBy, Mail, OnceKey, Remembered, Target};
use sockring_protocol::adapter::{Broadcast, Delivery, Ending};

use super::network::Event;
use super::random::Random;
use super::record::{Record, number_of};
use super::world::{Actor, Call, Context};

/// Emits that it may repeat.
const RECENT: usize = 12;

/// Calls until a point in time, one call after the other.
pub struct Backend {
    /// Who it emits to.
    pub users: Vec<String>,
    /// Whose sockets it joins to rooms: users that never wait for the home of their room.
    pub settled_users: Vec<String>,
    pub pace_ms: u64,
    pub until: u64,
    pub next_call: u64,
    /// Whether some of its emits have keys; it repeats these.
    pub has_keys: bool,
    pub recent: Vec<Remembered>,
}

impl Backend {
    fn rooms(&self, random: &mut Random, record: &Record) -> Vec<Box<str>> {
        match random.below(6) {
            0 | 1 => vec![format!("user:{}", random_of(random, &self.users)).into()],
            2 => vec![format!("room{}", random.below(4)).into()],
            3 => (0..random.within(2..=4)).map(|_| format!("room{}", random.below(5)).into()).collect(),
            4 => {
                let sids: Vec<_> = record.live().map(|(sid, _)| sid.as_str()).collect();
                if sids.is_empty() { vec!["nobody".into()] } else { vec![random.pick(&sids).into()] }
            }
            _ => Vec::new(),
        }
    }

    /// Joins and leaves for anybody; an end only for hostile users, since an event on its way behind it is a parse error.
    fn manage(&self, random: &mut Random, record: &Record) -> Call {
        let room: Box<str> = format!("room{}", random.below(4)).into();
        let sids: Vec<_> = record.live().map(|(sid, _)| sid.as_str()).collect();
        let target = match random.below(2) {
            0 if !sids.is_empty() => Target::Socket(random.pick(&sids).into()),
            _ => Target::User(random_of(random, &self.settled_users).into()),
        };
        match random.below(8) {
            0..=2 => Call::All(Box::new(move || Mail::Join(target.clone(), room.clone()))),
            3..=5 => Call::All(Box::new(move || Mail::Leave(target.clone(), room.clone()))),
            6 => {
                let event = random.one_in(2).then(|| Arc::<[u8]>::from(b"[\"standing\"]".as_slice()));
                Call::All(Box::new(move || Mail::Stand(event.clone())))
            }
            _ => {
                let target = Target::User(format!("h{}", random.below(3)).into());
                let ending = random.pick(&[Ending::Socket, Ending::Session]);
                Call::All(Box::new(move || Mail::Disconnect(target.clone(), ending)))
            }
        }
    }

    fn broadcast(&self, random: &mut Random, record: &mut Record) -> Broadcast {
        let number = record.next_emit();
        let rooms = self.rooms(random, record);
        let except = match random.below(4) {
            0 => vec![format!("room{}", random.below(4)).into()],
            1 if rooms.is_empty() => vec![format!("user:{}", random_of(random, &self.users)).into()],
            _ => Vec::new(),
        };
        let with_data = random.one_in(6);
        let args = if with_data {
            format!("[\"news\",{number},{{\"_placeholder\":true,\"num\":0}}]")
        } else {
            format!("[\"news\",{number},\"{}\"]", "x".repeat(random.index(60)))
        };
        Broadcast {
            namespace: random.pick(&["/", "/", "/custom"]).into(),
            rooms,
            except,
            delivery: if random.one_in(5) { Delivery::Volatile } else { Delivery::Queue },
            conflate: random.one_in(4).then(|| random.pick(&["price", "progress"]).into()),
            args: Arc::from(args.as_bytes()),
            attachments: if with_data { vec![Arc::from([1, 2, 3, 4].as_slice())] } else { Vec::new() },
            entry: None,
            kept: None,
            trace: None,
        }
    }

    /// An event that is kept for a user. Who is hostile says that it has received what it has not read.
    fn kept(&self, random: &mut Random, record: &mut Record) -> Remembered {
        let honest: Vec<_> = self.users.iter().filter(|user| !user.starts_with('h')).collect();
        let room: Box<str> = format!("user:{}", random.pick(&honest)).into();
        let fresh = self.broadcast(random, record);
        let number = number_of(&fresh);
        let args = format!("[\"news\",{number},\"{}\"]", "x".repeat(random.index(60)));
        let broadcast = Broadcast {
            rooms: vec![room],
            except: fresh.except.into_iter().filter(|room| !room.starts_with("user:")).collect(),
            delivery: Delivery::Queue,
            // What is not kept does not take its place.
            conflate: fresh.conflate.map(|key| format!("kept-{key}").into()),
            ..Broadcast::new(&fresh.namespace, Vec::new(), Arc::from(args.as_bytes()))
        };
        let ttl_ms = random.pick(&[1, 100, 700, 3_000, 20_000]);
        let keep = Keep { emitted_unix_ms: record.now, expires_unix_ms: record.now + ttl_ms };
        let key = random.one_in(2).then(|| OnceKey { name: u128::from(number), print: 0 });
        Remembered {
            broadcast: Arc::new(broadcast),
            id: EventId(number),
            key,
            keep: Some(keep),
            inquiries: Vec::new(),
            by: KeptBy::Us,
        }
    }

    /// Emits under keys, some of which it has used lately, for the same event or for another one.
    fn remembered(&mut self, random: &mut Random, record: &mut Record) -> Call {
        let mut emits = Vec::new();
        for _ in 0..random.within(1..=4) {
            if random.one_in(3) {
                emits.push(self.kept(random, record));
                continue;
            }
            let fresh = self.broadcast(random, record);
            let number = number_of(&fresh);
            let again = random.one_in(2).then(|| self.recent.get(random.index(self.recent.len().max(1)))).flatten();
            let emit = match again {
                None => Remembered {
                    broadcast: Arc::new(fresh),
                    id: EventId(number),
                    key: Some(OnceKey { name: u128::from(number), print: 0 }),
                    keep: None,
                    inquiries: Vec::new(),
                    by: KeptBy::Us,
                },
                Some(before) => {
                    // A number of its own shows who gets it.
                    let Broadcast { namespace, rooms, .. } = Broadcast::clone(&before.broadcast);
                    let key = before.key.map(|key| OnceKey { print: u64::from(random.one_in(6)), ..key });
                    let broadcast = Broadcast { namespace, rooms, ..fresh };
                    Remembered {
                        broadcast: Arc::new(broadcast),
                        id: EventId(number),
                        key,
                        keep: None,
                        inquiries: Vec::new(),
                        by: KeptBy::Us,
                    }
                }
            };
            self.recent.push(emit.clone());
            emits.push(emit);
        }
        let kept = self.recent.len().saturating_sub(RECENT);
        self.recent.drain(..kept);
        Call::Remembered(emits)
    }

    fn call(&mut self, context: &mut Context<'_>) -> Call {
        let user = random_of(context.random, &self.users);
        match context.random.below(16) {
            0 if context.random.one_in(2) => Call::All(Box::new(|| Mail::Metrics)),
            0 => Call::All(Box::new(|| Mail::Stats)),
            1 if context.random.one_in(2) => Call::All(Box::new(|| Mail::Users { from: 0, limit: usize::MAX })),
            1 if context.record.has_doubts && context.random.one_in(2) => Call::All(Box::new(|| Mail::Reconsider)),
            1 => Call::All(Box::new(move || Mail::UserStatus(user.clone()))),
            2 | 3 if self.has_keys && context.random.one_in(4) => {
                let room: Box<str> = format!("user:{user}").into();
                match context.random.below(3) {
                    0 => Call::All(Box::new(move || Mail::Unkeep { room: room.clone(), id: None })),
                    _ => Call::All(Box::new(move || Mail::Kept { room: room.clone(), after: None, limit: 3 })),
                }
            }
            2..=5 => self.manage(context.random, context.record),
            6..=8 if self.has_keys => self.remembered(context.random, context.record),
            _ => {
                let count = if context.random.one_in(4) { context.random.within(2..=6) } else { 1 };
                Call::Emit((0..count).map(|_| self.broadcast(context.random, context.record)).collect())
            }
        }
    }
}

impl Actor for Backend {
    fn wake(&mut self, context: &mut Context<'_>) {
        let sender = context.id as u64;
        if context.now >= self.until || context.now < self.next_call || context.office.is_waiting(sender) {
            return;
        }
        let call = self.call(context);
        context.calls.push((sender, call));
        // At times the next call follows at once on the answer.
        self.next_call = context.now;
        if !context.random.one_in(4) {
            self.next_call += 1 + context.random.below(self.pace_ms * 2);
            context.network.at(self.next_call, Event::Wake(context.id));
        }
    }
}

fn random_of(random: &mut Random, from: &[String]) -> String {
    from[random.index(from.len())].clone()
}
