//! Clients: one Engine.IO session each, whatever carries it, with what waits for it.

mod aliases;
pub(super) mod client;
pub(super) mod directory;
pub(super) mod drain;
mod draining;
pub(super) mod encode;
mod ending;
pub(super) mod lookout;
pub(super) mod outbox;
mod packets;
pub(super) mod polling;
pub(super) mod probe;
mod refusing;
mod sessions;
mod silence;
