//! `Broadcast`: one emit on its way, from whoever emits to every shard that may have members.

use std::sync::Arc;

/// What happens to a message when its receiver cannot take it at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    #[default]
    Queue,
    /// Dropped for a client that has other messages waiting, or no poll open.
    Volatile,
}

/// An event for the members of some rooms, or of a whole namespace.
#[derive(Clone, Debug)]
pub struct Broadcast {
    pub namespace: Box<str>,
    /// Empty: all sockets of the namespace. A user is the room `user:<id>`, a socket the room of its sid.
    pub rooms: Vec<Box<str>>,
    /// Members of these rooms do not get it.
    pub except: Vec<Box<str>>,
    pub delivery: Delivery,
    /// A JSON array, the event's name first; binary arguments are placeholders.
    pub args: Arc<[u8]>,
    pub attachments: Vec<Arc<[u8]>>,
}
