//! `Remains`: what of a shard outlives its process: kept events, the keys of emits, and what clients that come back have missed.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sockring_protocol::Millis;

use crate::app::Application;

use super::Shard;
use super::event_id::EventId;
use super::hub::Now;
use super::mail::{KeptBy, OnceKey, RoomName};
use super::moving::placement::home_of;
use super::moving::sid::Sid;
use super::recovery::ended::EndedRooms;
use super::recovery::log::remains::LogRemains;
use super::recovery::position::{Epoch, Position};
use super::rooms::kept::{Bounds, KeptEvent, Offer};
use super::rooms::lingering::Term;
use super::rooms::sockets::NamespaceId;

/// What is left of one shard. Times are those of the calendar: another process has another clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remains {
    kept: Vec<KeptLeft>,
    keys: Vec<KeyLeft>,
    /// `None`: nobody is told what it has missed.
    recovery: Option<RecoveryLeft>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KeptLeft {
    /// Of the user's room.
    room: String,
    id: u64,
    namespace: String,
    /// A JSON array, its name first.
    args: String,
    except: Vec<Box<str>>,
    conflate: Option<Box<str>>,
    emitted_unix_ms: u64,
    expires_unix_ms: u64,
    position: Option<Position>,
    offers: Vec<(String, Option<Position>)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KeyLeft {
    name: [u8; 16],
    print: u64,
    id: u64,
    came_unix_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RecoveryLeft {
    epoch: Epoch,
    log: LogRemains,
    /// In the order in which their time is over.
    rooms: Vec<RoomLeft>,
    sockets: Vec<SocketLeft>,
    /// Of sockets that ended before nothing may be known.
    sockets_from: Position,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RoomLeft {
    namespace: NamespaceId,
    name: Box<str>,
    since: Position,
    until_unix_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SocketLeft {
    namespace: NamespaceId,
    sid: String,
    rooms: EndedRooms,
    at: Position,
    until_unix_ms: u64,
}

/// Who takes over what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heir {
    /// As many shards with the same namespaces, under the same name and alone: nobody has missed anything.
    Same,
    /// Others: what was not kept is gone.
    Another,
}

impl Remains {
    /// How many events are kept, and how many are remembered for clients that come back.
    pub fn events(&self) -> (usize, usize) {
        (self.kept.len(), self.recovery.as_ref().map_or(0, |recovery| recovery.log.len()))
    }
}

/// A time of this process by the calendar, and back: what is over by then is over now.
fn unix_ms(at: Millis, now: Now) -> u64 {
    now.unix_ms.saturating_sub(now.at - at) + (at - now.at)
}

fn at(unix_ms: u64, now: Now) -> Millis {
    now.at + unix_ms.saturating_sub(now.unix_ms)
}

impl<A: Application> Shard<A> {
    /// What outlives the process.
    pub fn remains(&self) -> Remains {
        let now = self.hub.now;
        let text = |sid: Sid| sid.text().as_str().to_owned();
        let is_ours = |(_, event): &(&str, &KeptEvent)| event.by != KeptBy::Bus;
        let kept = self.hub.kept.all(now.at).filter(is_ours).map(|(room, event)| KeptLeft {
            room: room.to_owned(),
            id: event.id.0,
            namespace: self.hub.settings.namespace_name(event.namespace).to_owned(),
            args: String::from_utf8_lossy(&event.args).into_owned(),
            except: event.except.to_vec(),
            conflate: event.conflate.clone(),
            emitted_unix_ms: event.emitted_unix_ms,
            expires_unix_ms: event.expires_unix_ms,
            position: event.position,
            offers: event.offers.iter().map(|offer| (text(offer.sid), offer.position)).collect(),
        });
        let keys = self.hub.once.all().map(|(came_at, key, id)| KeyLeft {
            name: key.name.to_be_bytes(),
            print: key.print,
            id: id.0,
            came_unix_ms: unix_ms(came_at, now),
        });
        let recovery = self.hub.recovery.as_deref().map(|recovery| RecoveryLeft {
            epoch: recovery.epoch,
            log: recovery.log.remains(now),
            rooms: self
                .hub
                .membership
                .all_lingering()
                .map(|(room, term)| RoomLeft {
                    namespace: room.namespace,
                    name: room.name.clone(),
                    since: term.since,
                    until_unix_ms: unix_ms(term.until, now),
                })
                .collect(),
            sockets: recovery
                .ended
                .all()
                .map(|socket| SocketLeft {
                    namespace: socket.namespace,
                    sid: text(socket.sid),
                    rooms: socket.rooms.clone(),
                    at: socket.at,
                    until_unix_ms: unix_ms(socket.until, now),
                })
                .collect(),
            sockets_from: recovery.ended.floor(),
        });
        Remains { kept: kept.collect(), keys: keys.collect(), recovery }
    }

    /// Takes over what is left of the shards of an earlier process, as far as it belongs here and its time is not over.
    pub fn restore(&mut self, left: &[Remains], heir: Heir) {
        if heir == Heir::Same {
            self.restore_recovery(left);
        }
        self.restore_kept(left, heir);
        self.restore_keys(left, heir);
    }

    fn restore_kept(&mut self, left: &[Remains], heir: Heir) {
        let (now, shard) = (self.hub.now, self.hub.shard);
        // What was accepted stays accepted, also where less may be kept now.
        let bounds = Bounds { events_per_user_max: usize::MAX, bytes_max: usize::MAX };
        for event in left.iter().flat_map(|remains| &remains.kept) {
            let is_ours = home_of(&event.room, shard.of) == shard.number && event.expires_unix_ms > now.unix_ms;
            let Some(namespace) = self.hub.settings.namespace(&event.namespace).filter(|_| is_ours) else { continue };
            let offer = |(sid, position): &(String, Option<Position>)| {
                Some(Offer { sid: Sid::parse(sid)?, position: *position })
            };
            let (position, offers) = match heir {
                Heir::Same => (event.position, event.offers.iter().filter_map(offer).collect()),
                Heir::Another => (None, Vec::new()),
            };
            let kept = KeptEvent {
                id: EventId(event.id),
                namespace,
                args: Arc::from(event.args.as_bytes()),
                except: event.except.clone().into(),
                // The older ones of its key were replaced when it came.
                conflate: event.conflate.clone(),
                emitted_unix_ms: event.emitted_unix_ms,
                expires_at: at(event.expires_unix_ms, now),
                expires_unix_ms: event.expires_unix_ms,
                on_its_way: 0,
                place: 0,
                position,
                offers,
                // The process before may have given it away.
                by: KeptBy::Perhaps,
                known_as: None,
                key: None,
            };
            self.hub.kept.keep(&event.room, kept, bounds, now.at);
        }
    }

    /// With as many shards each goes on with its own keys; else a key's home is not known, and all have it.
    fn restore_keys(&mut self, left: &[Remains], heir: Heir) {
        let now = self.hub.now;
        let own = left.get(usize::from(self.hub.shard.number)).filter(|_| heir == Heir::Same);
        let mut keys: Vec<&KeyLeft> = match own {
            Some(remains) => remains.keys.iter().collect(),
            None => left.iter().flat_map(|remains| &remains.keys).collect(),
        };
        keys.sort_by_key(|key| key.came_unix_ms);
        for key in keys {
            // Of one that came before this clock began it is only known that it is remembered.
            let came_at = Millis(now.at.0.saturating_sub(now.unix_ms.saturating_sub(key.came_unix_ms)));
            let name = OnceKey { name: u128::from_be_bytes(key.name), print: key.print };
            self.hub.remember_key(&name, EventId(key.id), came_at);
        }
    }

    fn restore_recovery(&mut self, left: &[Remains]) {
        let (now, number) = (self.hub.now, self.hub.shard.number);
        for (shard, remains) in (0..).zip(left) {
            let Some(left) = &remains.recovery else { continue };
            for (epoch, room) in (1..).zip(&left.rooms) {
                let name = RoomName { namespace: room.namespace, name: room.name.clone() };
                let term = Term { since: room.since, until: at(room.until_unix_ms, now) };
                match shard == number {
                    true => self.hub.membership.linger_on(name, term, epoch),
                    false => self.hub.membership.expect_outpost(&name, shard, epoch),
                }
            }
        }
        let own = left.get(usize::from(number)).and_then(|remains| remains.recovery.as_ref());
        if let (Some(left), Some(recovery)) = (own, self.hub.recovery.as_deref_mut()) {
            recovery.epoch = left.epoch;
            recovery.log.restore(&left.log, now);
            for socket in &left.sockets {
                let Some(sid) = Sid::parse(&socket.sid) else { continue };
                recovery.ended.put(
                    socket.namespace,
                    sid,
                    socket.rooms.clone(),
                    socket.at,
                    at(socket.until_unix_ms, now),
                );
            }
            recovery.ended.forget(left.sockets_from);
        }
    }
}
