//! `Remote`: another instance: it emits to rooms by the bus, asks for acknowledgements, and manages selected sockets.

use sockring::shard::Mail;
use sockring_protocol::adapter::{Broadcast, Ending, Selection};

use super::network::Event;
use super::random::Random;
use super::record::Record;
use super::world::{Actor, Call, Context};

/// Acts until a point in time, one call after the other.
pub struct Remote {
    pub users: Vec<String>,
    pub pace_ms: u64,
    pub until: u64,
    pub next_call: u64,
}

impl Remote {
    fn room(&self, random: &mut Random, record: &Record) -> Box<str> {
        let sids: Vec<_> = record.live().map(|(sid, _)| sid.as_str()).collect();
        match random.below(4) {
            0 if !sids.is_empty() => random.pick(&sids).into(),
            1 => format!("room{}", random.below(4)).into(),
            _ => format!("user:{}", self.users[random.index(self.users.len())]).into(),
        }
    }

    fn selection(&self, random: &mut Random, record: &Record) -> Selection {
        let mut rooms = |most| (0..random.below(most)).map(|_| self.room(random, record)).collect::<Vec<_>>();
        let (rooms, except) = (rooms(4), rooms(2));
        Selection { namespace: random.pick(&["/", "/custom"]).into(), rooms, except }
    }

    fn emit(&self, random: &mut Random, record: &mut Record, rooms: Vec<Box<str>>) -> Broadcast {
        let number = record.next_emit();
        let args = format!("[\"news\",{number}]");
        Broadcast::new(random.pick(&["/", "/", "/custom"]), rooms, args.as_bytes().into())
    }

    /// A change to many, and behind it, without waiting for its answer, what shows whether all of it is done.
    fn change(&self, random: &mut Random, record: &mut Record) -> Vec<Call> {
        let selection = Selection { rooms: Vec::new(), ..self.selection(random, record) };
        let room: Box<str> = format!("room{}", random.below(4)).into();
        let (change, rooms) = (random.below(2), vec![room.clone()]);
        let behind = match random.below(2) {
            0 => Call::Remote(Broadcast {
                namespace: selection.namespace.clone(),
                ..self.emit(random, record, rooms.clone())
            }),
            _ => {
                let named = Selection { rooms: rooms.clone(), except: Vec::new(), ..selection.clone() };
                Call::All(Box::new(move || Mail::Describe(named.clone(), usize::MAX)))
            }
        };
        let changed = Call::All(Box::new(move || match change {
            0 => Mail::JoinSelected(selection.clone(), rooms.clone()),
            _ => Mail::LeaveSelected(selection.clone(), rooms.clone()),
        }));
        vec![changed, behind]
    }

    fn call(&self, random: &mut Random, record: &mut Record) -> Call {
        let selection = self.selection(random, record);
        let rooms: Vec<Box<str>> =
            (0..random.within(1..=2)).map(|_| format!("room{}", random.below(4)).into()).collect();
        match random.below(16) {
            0..=2 => {
                let broadcast = self.emit(random, record, selection.rooms);
                Call::ForAck(Broadcast { except: selection.except, ..broadcast }, random.pick(&[0, 20, 200, 2_000]))
            }
            3 | 4 => Call::All(Box::new(move || Mail::JoinSelected(selection.clone(), rooms.clone()))),
            5 | 6 => Call::All(Box::new(move || Mail::LeaveSelected(selection.clone(), rooms.clone()))),
            7 => Call::All(Box::new(move || Mail::Describe(selection.clone(), usize::MAX))),
            8 => Call::All(Box::new(move || Mail::Rooms(selection.namespace.clone(), usize::MAX))),
            9 => {
                // An end only for hostile users, since an event on its way behind it is a parse error.
                let rooms = vec![format!("user:h{}", random.below(3)).into()];
                let (selection, ending) =
                    (Selection { rooms, ..selection }, random.pick(&[Ending::Socket, Ending::Session]));
                Call::All(Box::new(move || Mail::EndSelected(selection.clone(), ending)))
            }
            _ => {
                let rooms = vec![self.room(random, record)];
                Call::Remote(self.emit(random, record, rooms))
            }
        }
    }
}

impl Actor for Remote {
    fn wake(&mut self, context: &mut Context<'_>) {
        let sender = context.id as u64;
        if context.now >= self.until || context.now < self.next_call || context.office.is_waiting(sender) {
            return;
        }
        let calls = match context.random.below(6) {
            0 => self.change(context.random, context.record),
            _ => vec![self.call(context.random, context.record)],
        };
        context.calls.extend(calls.into_iter().map(|call| (sender, call)));
        self.next_call = context.now + 1 + context.random.below(self.pace_ms * 2);
        context.network.at(self.next_call, Event::Wake(context.id));
    }
}
