//! `Counters`: how often things happened in one shard. Written by its core alone.

use super::client::CloseReason;

/// Counts since start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes received from and handed to the kernel for connections.
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Sessions opened.
    pub opened: u64,
    /// Messages from clients.
    pub messages_in: u64,
    /// Messages queued for clients by broadcasts.
    pub delivered: u64,
    /// Volatile messages that a client could not take.
    pub volatile_dropped: u64,
    /// CONNECTs that the application refused.
    pub refused: u64,
    /// Joins beyond `rooms_per_socket_max`.
    pub rooms_refused: u64,
    /// Requests from an origin that is not allowed.
    pub origins_refused: u64,
    /// Connections and handshakes beyond `connections_max` and `clients_max`.
    pub full: u64,
    /// Requests, frames and bodies that were no such thing.
    pub malformed: u64,
    /// HTTP requests that were too slow.
    pub slow_requests: u64,
    closed: [u64; CloseReason::ALL.len()],
}

impl Counters {
    pub fn count_close(&mut self, reason: CloseReason) {
        self.closed[reason as usize] += 1;
    }

    /// Sessions that ended for this reason.
    pub fn closed(&self, reason: CloseReason) -> u64 {
        self.closed[reason as usize]
    }
}
