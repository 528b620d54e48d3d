//! What of a log outlives its process: its events, their rooms by name, and how far it had got.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};
use sockring_protocol::Millis;

use crate::shard::clients::outbox::{ConflateKey, Frames};
use crate::shard::event_id::EventId;
use crate::shard::hub::Now;
use crate::shard::rooms::sockets::NamespaceId;

use super::super::position::Position;
use super::{Chain, Delivered, Entry, KeptUntil, Log};

/// A log without its clock, which another process does not share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogRemains {
    pub(crate) head: Position,
    floor: Position,
    events: Vec<EventRemains>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct EventRemains {
    position: Position,
    namespace: NamespaceId,
    /// None: everybody.
    rooms: Vec<Box<str>>,
    except: Vec<Box<str>>,
    conflate: Option<Box<str>>,
    kept: Option<KeptRemains>,
    /// Base64 of what goes on the wire, its marker included.
    frames: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KeptRemains {
    id: u64,
    expires_unix_ms: u64,
}

impl LogRemains {
    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }
}

impl Log {
    pub(crate) fn remains(&self, now: Now) -> LogRemains {
        let events = self.entries.iter().map(|entry| self.describe(entry, now)).collect();
        LogRemains { head: self.head, floor: self.floor, events }
    }

    fn describe(&self, entry: &Entry, now: Now) -> EventRemains {
        let extra = entry.extra.as_deref();
        let further = extra.into_iter().flat_map(|extra| &extra.links);
        let chains = std::iter::once(&entry.link).chain(further);
        let chains: Vec<&Chain> = chains.filter_map(|link| self.chains.get(link.chain as usize)).collect();
        EventRemains {
            position: entry.position,
            namespace: chains.first().map_or(NamespaceId(0), |chain| chain.namespace),
            rooms: chains.iter().filter_map(|chain| chain.room.clone()).collect(),
            except: extra.map_or(Vec::new(), |extra| extra.except.clone()),
            conflate: extra.and_then(|extra| extra.conflate.as_ref()).map(|key| key.text().into()),
            kept: extra.and_then(|extra| extra.kept).map(|kept| KeptRemains {
                id: kept.id.0,
                expires_unix_ms: now.unix_ms.saturating_sub(now.at - kept.expires_at) + (kept.expires_at - now.at),
            }),
            frames: STANDARD_NO_PAD.encode(&entry.frames),
        }
    }

    /// Goes on where another log has ended, which was empty before. Its events are as old as this process at the most.
    pub(crate) fn restore(&mut self, left: &LogRemains, now: Now) {
        for event in &left.events {
            let Ok(frames) = STANDARD_NO_PAD.decode(&event.frames) else { continue };
            let namespace = event.namespace;
            let kept = event.kept.as_ref().map(|kept| KeptUntil {
                id: EventId(kept.id),
                expires_at: match kept.expires_unix_ms.checked_sub(now.unix_ms) {
                    Some(left_ms) => now.at + left_ms,
                    None => Millis(0),
                },
            });
            let position = self.place(Some(event.position));
            let event = Delivered {
                namespace,
                rooms: &event.rooms,
                except: &event.except,
                conflate: event.conflate.as_deref().map(|key| ConflateKey::new(namespace, key)),
                kept,
                frames: &Frames::from(frames),
            };
            self.append(event, position, now.at);
        }
        self.head = self.head.max(left.head);
        self.told = self.head;
        self.forget(left.floor);
    }
}
