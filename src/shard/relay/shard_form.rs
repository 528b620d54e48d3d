//! The form of a whole shard: behind a number that stands for it what has to be the same on both sides, and then its parts.

use core::net::IpAddr;
use std::fmt;

use sockring_protocol::portable;
use sockring_protocol::portable::{Packer, Portable, Unpacker, Unreadable};

use crate::app::Application;
use crate::capacity::{Door, Stranger};
use crate::shard::clients::client::ConnectionKey;
use crate::shard::hub::Now;
use crate::shard::settings::EngineSettings;
use crate::shard::wire::stage::{Connection, Stage};
use crate::shard::{Shard, ShardParts};

use super::Carried;

/// Why a shard cannot go on with what another was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayError {
    /// It was packed by a program to which a shard is something else.
    OtherForm,
    /// It had other settings: its name, how many shards there are, namespaces, what is remembered, who keeps events.
    Settings,
    /// It is no shard, or not all of one.
    Unreadable,
}

impl fmt::Display for RelayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RelayError::OtherForm => f.write_str("it has another form"),
            RelayError::Settings => f.write_str("it had other settings"),
            RelayError::Unreadable => Unreadable.fmt(f),
        }
    }
}

impl std::error::Error for RelayError {}

impl From<Unreadable> for RelayError {
    fn from(Unreadable: Unreadable) -> RelayError {
        RelayError::Unreadable
    }
}

/// A connection that counts among those of its address that have no session.
struct Uncounted {
    key: ConnectionKey,
    is_at_api: bool,
    address: IpAddr,
}

portable!(struct Uncounted { key, is_at_api, address });

impl<A: Application> Shard<A> {
    /// Whether all that its last turn wanted of others has left, and nothing goes through TLS: that cannot be packed.
    pub fn is_portable(&self) -> bool {
        let outbound = &self.hub.outbound;
        let has_left = outbound.orders.is_empty()
            && outbound.looks.is_empty()
            && outbound.mails.is_empty()
            && outbound.replies.is_empty()
            && outbound.for_bus.is_empty()
            && outbound.departed.is_none();
        let is_plain = self.connections.iter().all(|(_, connection)| !connection.is_tls);
        has_left && is_plain && self.effects.is_empty() && !self.hub.broadcasts.has_concluded()
    }

    /// All of it as bytes, between two turns. What is counted for the whole process is not in them.
    pub fn pack(&self) -> Vec<u8> {
        debug_assert!(self.is_portable());
        let mut out = Packer::new(self.hub.now.at);
        out.put(&Self::FORM.to_le_bytes());
        same(&self.hub.settings, self.hub.shard.number, self.hub.shard.of).pack(&mut out);
        let strangers: Vec<Uncounted> = self.connections.iter().filter_map(uncounted).collect();
        strangers.pack(&mut out);
        self.pack_state(&mut out);
        out.into_bytes()
    }

    /// A shard that goes on where another was. `now` is when that one last turned: all times are counted from then. What it has
    /// counted for the whole process stays counted.
    pub fn unpack(bytes: &[u8], parts: ShardParts<A>, now: Now) -> Result<Shard<A>, RelayError> {
        let mut from = Unpacker::new(bytes, now.at);
        if from.take(size_of::<u64>())? != Self::FORM.to_le_bytes() {
            return Err(RelayError::OtherForm);
        }
        let place = parts.place;
        if Same::unpack(&mut from)? != same(&parts.settings, place.number, place.of) {
            return Err(RelayError::Settings);
        }
        let strangers = Vec::<Uncounted>::unpack(&mut from)?;
        let mut shard = Shard::new(parts, now);
        shard.unpack_state(&mut from)?;
        from.finish()?;
        if !shard.is_portable() {
            return Err(RelayError::Unreadable);
        }
        for Uncounted { key, is_at_api, address } in strangers {
            let Some(Connection { stage: Stage::Http(stage), .. }) = shard.connections.get_mut(key.0) else {
                return Err(RelayError::Unreadable);
            };
            let door = if is_at_api { Door::Api } else { Door::Clients };
            stage.stranger = Some(Stranger::again(&shard.hub.capacity, door, address));
        }
        Ok(shard)
    }
}

fn uncounted((key, connection): (crate::shard::Key, &Connection)) -> Option<Uncounted> {
    let Stage::Http(stage) = &connection.stage else { return None };
    let (door, address) = stage.stranger.as_ref()?.whom();
    Some(Uncounted { key: ConnectionKey(key), is_at_api: door == Door::Api, address })
}

/// What numbers mean: of instances, shards, namespaces and positions.
#[derive(PartialEq, Eq)]
struct Same {
    instance: u32,
    number: u16,
    of: u16,
    namespaces: Vec<String>,
    positions: u8,
    kept_at: u8,
}

portable!(struct Same { instance, number, of, namespaces, positions, kept_at });

fn same(settings: &EngineSettings, number: u16, of: u16) -> Same {
    Same {
        instance: settings.instance.number(),
        number,
        of,
        namespaces: settings.namespaces.clone(),
        positions: settings.recovery.positions as u8,
        kept_at: settings.kept_at as u8,
    }
}
