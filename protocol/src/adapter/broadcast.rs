//! `Broadcast`: one emit on its way, from whoever emits to every shard that may have members. `Selection`: the sockets that
//! something is done to.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::entry_id::EntryId;
use super::trace::TraceContext;

/// What happens to a message when its receiver cannot take it at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// It waits for its receiver, up to the limit of what may wait for a client.
    #[default]
    Queue,
    /// Dropped for a client that has other messages waiting, or no poll open.
    Volatile,
}

/// An event for the members of some rooms, or of a whole namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broadcast {
    /// `/` or a longer name.
    pub namespace: Box<str>,
    /// Empty: all sockets of the namespace. A user is the room `user:<id>`, a socket the room of its sid.
    pub rooms: Vec<Box<str>>,
    /// Members of these rooms do not get it.
    pub except: Vec<Box<str>>,
    /// What becomes of it for a receiver that is behind.
    pub delivery: Delivery,
    /// Of the messages that wait for a client under one key only the newest is kept.
    pub conflate: Option<Box<str>>,
    /// A JSON array, the event's name first; binary arguments are placeholders.
    pub args: Arc<[u8]>,
    /// The byte strings that the placeholders number.
    pub attachments: Vec<Arc<[u8]>>,
    /// Where it stands in the stream that it was read from, with the streams adapter.
    pub entry: Option<EntryId>,
    /// What servers like us call it while one of them keeps it for the user that it goes to; Node's pass over it.
    pub kept: Option<Box<str>>,
    /// Of which span it was emitted, where somebody traces it.
    pub trace: Option<Box<TraceContext>>,
}

impl Broadcast {
    /// An event to rooms, or to everybody, and nothing else.
    pub fn new(namespace: &str, rooms: Vec<Box<str>>, args: Arc<[u8]>) -> Broadcast {
        Broadcast {
            namespace: namespace.into(),
            rooms,
            except: Vec::new(),
            delivery: Delivery::Queue,
            conflate: None,
            args,
            attachments: Vec::new(),
            entry: None,
            kept: None,
            trace: None,
        }
    }

    /// What it takes while it is on its way to a shard.
    pub fn bytes(&self) -> usize {
        let names: usize = self.rooms.iter().chain(&self.except).map(|name| name.len() + size_of::<Box<str>>()).sum();
        let attachments: usize = self.attachments.iter().map(|data| data.len()).sum();
        size_of::<Broadcast>() + names + self.args.len() + attachments
    }
}

/// Sockets of a namespace: the members of some rooms, or all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// `/` or a longer name.
    pub namespace: Box<str>,
    /// Empty: all sockets of the namespace. A user is the room `user:<id>`, a socket the room of its sid.
    pub rooms: Vec<Box<str>>,
    /// Members of these rooms are left out.
    pub except: Vec<Box<str>>,
}

crate::portable!(struct Broadcast {
    namespace, rooms, except, delivery, conflate, args, attachments, entry, kept, trace,
});
crate::portable!(enum Delivery { 0 Queue, 1 Volatile });
