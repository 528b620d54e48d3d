//! `Idlers`: the connections that idle, who go first where there are too many.

use sockring_protocol::Millis;

use crate::shard::clients::client::ConnectionKey;
use sockring_protocol::portable;

/// A connection that has not asked for anything for so long goes when another one comes.
const IDLE_MS: u64 = 1_000;
/// In which time a guest has to say what it wants.
pub(crate) const GUEST_HEAD_TIMEOUT_MS: u64 = 2_000;

/// Connections that idle, as they were seen last: the one that has longest comes last.
#[derive(Debug, Default)]
pub(crate) struct Idlers {
    pub(crate) found: Vec<ConnectionKey>,
    /// No use to look before.
    pub(crate) look_at: Millis,
}

portable!(struct Idlers { found, look_at });

/// Whoever has idled since before this time may go.
pub(crate) fn idle_before(now: Millis) -> Millis {
    Millis(now.0.saturating_sub(IDLE_MS))
}
