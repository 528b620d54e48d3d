//! `Socket`: a client's membership of a namespace, and the rooms that it is in.

use crate::shard::moving::sid::RANDOM_BYTES;
use serde::{Deserialize, Serialize};
use sockring_protocol::portable;

/// A namespace by its place in the settings; 0 is `/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NamespaceId(pub u16);

portable!(struct NamespaceId(place));

/// Names a room while it exists.
pub(crate) type RoomId = u32;

/// A socket of this shard: its client's slot and its place there.
pub(crate) type Seat = (u32, u16);

/// A socket's place in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub room: RoomId,
    pub position: u32,
}

portable!(struct Link { room, position });

/// One socket. Its sid is the shard's and client's numbers with these random bytes.
#[derive(Debug)]
pub(crate) struct Socket {
    pub random: [u8; RANDOM_BYTES],
    pub namespace: NamespaceId,
    pub stage: SocketStage,
    /// The room of the user that the socket belongs to; its name holds the user's id.
    pub user: Option<NonMaxRoom>,
    pub links: Links,
}

portable!(struct Socket { random, namespace, stage, user, links });

/// How far a socket has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketStage {
    /// A member already, but not told so yet: the home of its user's room has to know first.
    Joining,
    Connected,
}

portable!(enum SocketStage { 0 Joining, 1 Connected });

/// A room id that leaves room for `None` in four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NonMaxRoom(std::num::NonZeroU32);

portable!(struct NonMaxRoom(next));

impl NonMaxRoom {
    pub(crate) fn new(room: RoomId) -> Option<NonMaxRoom> {
        std::num::NonZeroU32::new(room.wrapping_add(1)).map(NonMaxRoom)
    }

    pub(crate) fn room(self) -> RoomId {
        self.0.get() - 1
    }
}

/// The rooms of a socket: the first inline, since most sockets are in their user's room only.
#[derive(Debug, Default)]
#[expect(clippy::box_collection, reason = "a box keeps the common small case small")]
pub(crate) enum Links {
    #[default]
    None,
    One(Link),
    Many(Box<Vec<Link>>),
}

portable!(enum Links { 0 None, 1 One(link), 2 Many(links) });

impl Links {
    pub(crate) fn as_slice(&self) -> &[Link] {
        match self {
            Links::None => &[],
            Links::One(link) => std::slice::from_ref(link),
            Links::Many(links) => links,
        }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [Link] {
        match self {
            Links::None => &mut [],
            Links::One(link) => std::slice::from_mut(link),
            Links::Many(links) => links,
        }
    }

    pub(crate) fn push(&mut self, link: Link) {
        match self {
            Links::None => *self = Links::One(link),
            Links::One(first) => *self = Links::Many(Box::new(vec![*first, link])),
            Links::Many(links) => links.push(link),
        }
    }

    /// Removes the link at `position`; the last one takes its place.
    pub(crate) fn swap_remove(&mut self, position: usize) -> Link {
        match self {
            Links::None => unreachable!("a socket without rooms leaves none"),
            Links::One(link) => {
                let link = *link;
                *self = Links::None;
                link
            }
            Links::Many(links) => links.swap_remove(position),
        }
    }
}

/// The sockets of a client. A place in it is stable while its socket lives, because rooms point to it.
#[derive(Debug, Default)]
#[expect(clippy::box_collection, reason = "a box keeps the common small case small")]
pub(crate) enum Sockets {
    #[default]
    None,
    One(Socket),
    Many(Box<Vec<Option<Socket>>>),
}

portable!(enum Sockets { 0 None, 1 One(socket), 2 Many(sockets) });

impl Sockets {
    /// Adds a socket and returns its place.
    pub(crate) fn insert(&mut self, socket: Socket) -> u16 {
        match self {
            Sockets::None => {
                *self = Sockets::One(socket);
                0
            }
            Sockets::One(_) => {
                if let Sockets::One(first) = std::mem::take(self) {
                    *self = Sockets::Many(Box::new(vec![Some(first), Some(socket)]));
                }
                1
            }
            Sockets::Many(sockets) => {
                let free = sockets.iter().position(Option::is_none).unwrap_or(sockets.len());
                match sockets.get_mut(free) {
                    Some(place) => *place = Some(socket),
                    None => sockets.push(Some(socket)),
                }
                let Ok(place) = u16::try_from(free) else { unreachable!("namespaces per client are limited") };
                place
            }
        }
    }

    pub(crate) fn remove(&mut self, place: u16) -> Option<Socket> {
        match self {
            Sockets::Many(sockets) => sockets.get_mut(usize::from(place))?.take(),
            Sockets::One(_) if place == 0 => match std::mem::take(self) {
                Sockets::One(socket) => Some(socket),
                _ => None,
            },
            _ => None,
        }
    }

    pub(crate) fn get(&self, place: u16) -> Option<&Socket> {
        match self {
            Sockets::One(socket) if place == 0 => Some(socket),
            Sockets::Many(sockets) => sockets.get(usize::from(place))?.as_ref(),
            _ => None,
        }
    }

    pub(crate) fn get_mut(&mut self, place: u16) -> Option<&mut Socket> {
        match self {
            Sockets::One(socket) if place == 0 => Some(socket),
            Sockets::Many(sockets) => sockets.get_mut(usize::from(place))?.as_mut(),
            _ => None,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, &Socket)> {
        let (one, many) = match self {
            Sockets::None => (None, [].as_slice()),
            Sockets::One(socket) => (Some((0, socket)), [].as_slice()),
            Sockets::Many(sockets) => (None, sockets.as_slice()),
        };
        one.into_iter().chain((0..).zip(many).filter_map(|(place, socket)| Some((place, socket.as_ref()?))))
    }

    pub(crate) fn place_in(&self, namespace: NamespaceId) -> Option<u16> {
        self.iter().find(|(_, socket)| socket.namespace == namespace).map(|(place, _)| place)
    }

    pub(crate) fn len(&self) -> usize {
        self.iter().count()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(namespace: u16) -> Socket {
        Socket {
            random: [0; RANDOM_BYTES],
            namespace: NamespaceId(namespace),
            stage: SocketStage::Connected,
            user: None,
            links: Links::None,
        }
    }

    #[test]
    fn places_are_stable_and_reused() {
        let mut sockets = Sockets::default();
        assert_eq!((0..3).map(|n| sockets.insert(socket(n))).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(sockets.remove(1).is_some() && sockets.remove(1).is_none());
        assert_eq!(sockets.place_in(NamespaceId(2)), Some(2));
        assert_eq!((sockets.insert(socket(7)), sockets.len()), (1, 3));
        assert_eq!(sockets.place_in(NamespaceId(7)), Some(1));
    }

    #[test]
    fn the_first_socket_and_the_first_link_are_inline() {
        assert!(size_of::<Socket>() <= 32, "{}", size_of::<Socket>());
        assert!(size_of::<Sockets>() <= 40, "{}", size_of::<Sockets>());
        let mut links = Links::default();
        for room in 0..3 {
            links.push(Link { room, position: 0 });
        }
        assert_eq!(links.swap_remove(0).room, 0);
        assert_eq!(links.as_slice().iter().map(|link| link.room).collect::<Vec<_>>(), [2, 1]);
    }
}
