//! Clients: one Engine.IO session each, whatever carries it, with what waits for it.

pub(super) mod client;
pub(super) mod draining;
pub(super) mod encode;
pub(super) mod ending;
pub(super) mod outbox;
pub(super) mod packets;
pub(super) mod polling;
pub(super) mod probe;
mod refusing;
mod sessions;
pub(super) mod silence;
