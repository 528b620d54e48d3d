//! `Backend`: who emits from outside, to users, rooms and everybody.

use std::sync::Arc;

use sockring::broadcast::{Broadcast, Delivery};
use sockring::shard::{Ending, Mail, Target};

use super::network::Event;
use super::random::Random;
use super::record::Record;
use super::world::{Actor, Context};

/// Emits until a point in time.
pub struct Backend {
    pub users: Vec<String>,
    pub pace_ms: u64,
    pub until: u64,
    pub emitted: u64,
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
    fn manage(&mut self, random: &mut Random, record: &Record) -> Mail {
        let room = format!("room{}", random.below(4)).into();
        let sids: Vec<_> = record.live().map(|(sid, _)| sid.as_str()).collect();
        let target = match random.below(2) {
            0 if !sids.is_empty() => Target::Socket(random.pick(&sids).into()),
            _ => Target::User(random_of(random, &self.users).into()),
        };
        match random.below(8) {
            0..=2 => Mail::Join(target, room),
            3..=5 => Mail::Leave(target, room),
            6 => Mail::Stand(random.one_in(2).then(|| Arc::from(b"[\"standing\"]".as_slice()))),
            _ => {
                let user = format!("h{}", random.below(3)).into();
                Mail::Disconnect(Target::User(user), random.pick(&[Ending::Socket, Ending::Session]))
            }
        }
    }

    fn broadcast(&mut self, random: &mut Random, record: &Record) -> Broadcast {
        self.emitted += 1;
        let rooms = self.rooms(random, record);
        let except = match random.below(4) {
            0 => vec![format!("room{}", random.below(4)).into()],
            1 if rooms.is_empty() => vec![format!("user:{}", random_of(random, &self.users)).into()],
            _ => Vec::new(),
        };
        let with_data = random.one_in(6);
        let args = if with_data {
            format!("[\"news\",{},{{\"_placeholder\":true,\"num\":0}}]", self.emitted)
        } else {
            format!("[\"news\",{},\"{}\"]", self.emitted, "x".repeat(random.index(60)))
        };
        Broadcast {
            namespace: random.pick(&["/", "/", "/custom"]).into(),
            rooms,
            except,
            delivery: if random.one_in(5) { Delivery::Volatile } else { Delivery::Queue },
            args: Arc::from(args.as_bytes()),
            attachments: if with_data { vec![Arc::from([1, 2, 3, 4].as_slice())] } else { Vec::new() },
        }
    }
}

impl Actor for Backend {
    fn wake(&mut self, context: &mut Context<'_>) {
        if context.now >= self.until {
            return;
        }
        let burst = if context.random.one_in(5) { context.random.within(2..=6) } else { 1 };
        for _ in 0..burst {
            let mail = match context.random.below(16) {
                0 if context.random.one_in(2) => Mail::Metrics,
                0 => Mail::Stats,
                1 => Mail::UserStatus(random_of(context.random, &self.users)),
                2..=4 => self.manage(context.random, context.record),
                _ => Mail::Emit(self.broadcast(context.random, context.record)),
            };
            context.mails.push(mail);
        }
        let next = context.now + 1 + context.random.below(self.pace_ms * 2);
        context.network.at(next, Event::Wake(context.id));
    }
}

fn random_of(random: &mut Random, from: &[String]) -> String {
    from[random.index(from.len())].clone()
}
