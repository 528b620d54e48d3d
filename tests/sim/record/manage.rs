//! What backends do to sockets, and how many a shard's answer has to name.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use sockring::shard::{Mail, Target, USER_PREFIX};
use sockring_protocol::adapter::{Broadcast, Ending, Selection};

use super::{LiveSocket, Record, place_of};

impl Record {
    /// Puts a mail that is no broadcast on the record as a shard takes it; says for how many sockets it counts there.
    pub fn on_mail(&mut self, shard: usize, mail: &Mail) -> RangeInclusive<u64> {
        let (count, target) = match mail {
            Mail::Join(target, room) => {
                let count = self.count(shard, target, |record, sid| {
                    record.on_join(sid, room);
                    record.live[sid].rooms.contains(&**room)
                });
                (count, target)
            }
            Mail::Leave(target, room) => {
                let count = self.count(shard, target, |record, sid| {
                    let was_in = record.live[sid].rooms.contains(&**room);
                    record.on_leave(sid, room);
                    was_in && !record.live[sid].rooms.contains(&**room)
                });
                (count, target)
            }
            Mail::Disconnect(target, Ending::Socket) => {
                let count = self.count(shard, target, |record, sid| {
                    record.on_disconnect_sent(sid);
                    true
                });
                (count, target)
            }
            Mail::Disconnect(target, Ending::Session) => {
                let sids = self.sids_of(shard, target);
                let sessions: BTreeSet<_> = sids.iter().map(|sid| place_of(sid)).collect();
                return sessions.len() as u64..=sids.len() as u64 + self.joining_of(target);
            }
            Mail::JoinSelected(selection, rooms) => {
                let count = self.count_selected(shard, selection, |record, sid| {
                    rooms.iter().for_each(|room| record.on_join(sid, room));
                    rooms.iter().all(|room| record.live[sid].rooms.contains(&**room))
                });
                return count..=count;
            }
            Mail::LeaveSelected(selection, rooms) => {
                let count = self.count_selected(shard, selection, |record, sid| {
                    let before = record.live[sid].rooms.len();
                    rooms.iter().for_each(|room| record.on_leave(sid, room));
                    record.live[sid].rooms.len() < before
                });
                return count..=count;
            }
            Mail::EndSelected(selection, Ending::Socket) => {
                let count = self.count_selected(shard, selection, |record, sid| {
                    record.on_disconnect_sent(sid);
                    true
                });
                return count..=count;
            }
            Mail::EndSelected(selection, Ending::Session) => {
                let count = self.selected(shard, selection).len() as u64;
                return count.min(1)..=count;
            }
            Mail::Describe(selection, _) => {
                let count = self.selected(shard, selection).len() as u64;
                return count..=count;
            }
            Mail::Rooms(namespace, _) => {
                let everybody = Selection { namespace: namespace.clone(), rooms: Vec::new(), except: Vec::new() };
                let sids = self.selected(shard, &everybody);
                let rooms: BTreeSet<_> = sids.iter().flat_map(|sid| &self.live[sid].rooms).collect();
                let count = (sids.len() + rooms.len()) as u64;
                return count..=count;
            }
            Mail::UserStatus(user) => {
                let target = Target::User(user.as_str().into());
                let sids = self.sids_of(shard, &target);
                let count = sids.iter().filter(|sid| self.live[*sid].namespace == "/").count() as u64;
                return count..=count + self.joining_of(&target);
            }
            Mail::Users { .. } => {
                let here = self.live.values().filter(|socket| socket.shard == shard);
                let of_users =
                    |socket: &LiveSocket| socket.rooms.iter().filter(|room| room.starts_with(USER_PREFIX)).count();
                let count = here.map(of_users).sum::<usize>() as u64;
                return count..=count + self.joining.values().sum::<u64>();
            }
            Mail::Stand(event) => {
                self.standing[shard].clone_from(event);
                return 0..=0;
            }
            // The world sees to emits and statistics; others count nothing.
            _ => return 0..=u64::MAX,
        };
        count..=count + self.joining_of(target)
    }

    /// What every new socket of a shard gets behind its greeting.
    pub fn standing(&self, shard: usize) -> Option<&[u8]> {
        self.standing[shard].as_deref()
    }

    /// Members that have not been told so: a shard may count them.
    fn joining_of(&self, target: &Target) -> u64 {
        match target {
            Target::User(user) => self.joining.get(&**user).copied().unwrap_or_default(),
            Target::Socket(_) => 0,
        }
    }

    /// The sockets of a shard that a selection names.
    fn selected(&self, shard: usize, selection: &Selection) -> Vec<String> {
        let Selection { namespace, rooms, except } = selection.clone();
        let broadcast = Broadcast { except, ..Broadcast::new(&namespace, rooms, Arc::default()) };
        self.targets(&broadcast, Some(shard))
    }

    fn count_selected(
        &mut self,
        shard: usize,
        selection: &Selection,
        mut does: impl FnMut(&mut Record, &str) -> bool,
    ) -> u64 {
        self.selected(shard, selection).iter().filter(|sid| does(self, sid)).count() as u64
    }

    fn count(&mut self, shard: usize, target: &Target, mut does: impl FnMut(&mut Record, &str) -> bool) -> u64 {
        self.sids_of(shard, target).iter().filter(|sid| does(self, sid)).count() as u64
    }

    fn sids_of(&self, shard: usize, target: &Target) -> Vec<String> {
        let is_meant = |sid: &str, socket: &LiveSocket| match target {
            Target::User(user) => socket.rooms.contains(&format!("{USER_PREFIX}{user}")),
            Target::Socket(wanted) => sid == &**wanted,
        };
        let live = self.live.iter().filter(|(_, socket)| socket.shard == shard);
        live.filter(|(sid, socket)| is_meant(sid, socket)).map(|(sid, _)| sid.clone()).collect()
    }
}
