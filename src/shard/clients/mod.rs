//! Clients: one Engine.IO session each, whatever carries it, with what waits for it.

pub(super) mod client;
pub(super) mod encode;
pub(super) mod outbox;
