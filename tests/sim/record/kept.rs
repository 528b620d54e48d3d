//! Kept events: for whom each waits, and who has got it. What the shard knows of that comes later, by receipts.

use std::collections::BTreeMap;

use sockring::shard::{USER_PREFIX, home_of};
use sockring_protocol::adapter::{Broadcast, Delivery};
use sockring_protocol::socketio;

use super::emits::number_of;
use super::{Record, shard_of};

/// One that has come.
#[derive(Debug)]
struct KeptEvent {
    broadcast: Broadcast,
    shard: usize,
    expires_at: u64,
    /// By one socket of its user, at the least.
    is_received: bool,
}

/// All that nothing has ended yet but a receipt or their time, by number; shards get them in this order from a sender.
#[derive(Debug, Default)]
pub struct Kept {
    events: BTreeMap<u64, KeptEvent>,
    /// In the order in which they came.
    order: Vec<u64>,
}

impl Kept {
    fn remove(&mut self, number: u64) {
        self.events.remove(&number);
        self.order.retain(|other| *other != number);
    }

    fn at(&self, shard: usize, now: u64) -> impl Iterator<Item = &KeptEvent> {
        self.events.values().filter(move |event| event.shard == shard && event.expires_at > now)
    }
}

impl Record {
    /// The home of a user has taken an event to keep.
    pub fn on_kept(&mut self, shard: usize, broadcast: &Broadcast, expires_at: u64) {
        let is_older = |event: &KeptEvent| {
            let (one, other) = (&event.broadcast, broadcast);
            one.conflate.is_some()
                && (&one.conflate, &one.namespace, &one.rooms) == (&other.conflate, &other.namespace, &other.rooms)
        };
        let older: Vec<u64> =
            self.kept.events.iter().filter(|(_, event)| is_older(event)).map(|(number, _)| *number).collect();
        older.into_iter().for_each(|number| self.kept.remove(number));
        let event = KeptEvent { broadcast: broadcast.clone(), shard, expires_at, is_received: false };
        self.kept.events.insert(number_of(broadcast), event);
        self.kept.order.push(number_of(broadcast));
    }

    /// A socket that is told at this time that it is connected gets what is kept for its user, behind its greeting. What
    /// somebody has got may come again, as long as the shard does not know.
    pub fn expect_kept(&mut self, sid: &str, now: u64) {
        let socket = self.live[sid].clone();
        let room = format!("{USER_PREFIX}{}", socket.user);
        let shards = u16::try_from(self.standing.len()).expect("few shards");
        if usize::from(home_of(&room, shards)) != shard_of(sid) {
            return;
        }
        for number in self.kept.order.clone() {
            let KeptEvent { broadcast, expires_at, is_received, .. } = &self.kept.events[&number];
            let is_his = broadcast.namespace.as_ref() == socket.namespace && *broadcast.rooms[0] == *room;
            let is_excepted = broadcast.except.iter().any(|room| socket.rooms.contains(&**room) || **room == *sid);
            if !is_his || is_excepted || *expires_at <= now {
                continue;
            }
            let mut text = Vec::new();
            socketio::encode_event(&broadcast.namespace, None, 0, &broadcast.args, &mut text);
            let delivery = if *is_received { Delivery::Volatile } else { Delivery::Queue };
            let conflate = broadcast.conflate.clone();
            self.expect_as::<Vec<u8>>(sid, text, &[], delivery, conflate);
        }
    }

    /// A socket has got a packet.
    pub(super) fn on_kept_received(&mut self, text: &str) {
        let args = text.find('[').and_then(|at| text[at..].strip_prefix("[\"news\","));
        let digits = args.and_then(|args| args.split([',', ']']).next());
        if let Some(event) = digits.and_then(|digits| self.kept.events.get_mut(&digits.parse().ok()?)) {
            event.is_received = true;
        }
    }

    /// How many events a shard keeps, for a user or all of them: at the least what nobody has got, at the most all whose time is
    /// not over.
    pub fn kept_at(&self, shard: usize, room: Option<&str>, now: u64) -> (u64, u64) {
        let of = |event: &&KeptEvent| room.is_none_or(|room| *event.broadcast.rooms[0] == *room);
        let all = self.kept.at(shard, now).filter(of).count();
        let unreceived = self.kept.at(shard, now).filter(of).filter(|event| !event.is_received).count();
        (unreceived as u64, all as u64)
    }

    /// A backend has taken back what is kept for a user.
    pub fn on_taken_back(&mut self, shard: usize, room: &str) {
        let of_user = |event: &KeptEvent| event.shard == shard && *event.broadcast.rooms[0] == *room;
        let numbers: Vec<u64> =
            self.kept.events.iter().filter(|(_, event)| of_user(event)).map(|(number, _)| *number).collect();
        numbers.into_iter().for_each(|number| self.kept.remove(number));
    }
}
