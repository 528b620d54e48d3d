//! What the clients have seen, all together.

use std::collections::BTreeMap;

use crate::histogram::Histogram;

#[derive(Debug, Default)]
pub struct Counts {
    /// Clients that have come as far as they will: joined, or ended before.
    pub settled: u32,
    pub joined: u32,
    pub pings: u64,
    /// Seconds between two pings of one client, as nanoseconds.
    pub ping_gaps: Histogram,
    /// Events to all that came in their turn, by the clients that behave well, since the last of them was emitted.
    pub arrived: u32,
    /// Events to all that came again, or before an earlier one.
    pub out_of_turn: u64,
    /// From when an event to one was due to be emitted until it was there.
    pub latencies: Histogram,
    pub to_one: u64,
    /// Events that are there to be many.
    pub loads: u64,
    /// Ends that no client had asked for, by what it saw of them.
    pub ends: BTreeMap<String, u64>,
    /// Those of clients that misbehave.
    pub faulty_ends: BTreeMap<String, u64>,
    /// How long packets waited until they were read: what is late by that much is late by this program.
    pub lags: Histogram,
    pub packets_in: u64,
    pub packets_out: u64,
    /// Packets that the kernel has not taken.
    pub packets_refused: u64,
    /// Segments that came before another one, which was lost.
    pub gaps: u64,
    /// Segments that had come before.
    pub repeated: u64,
    /// Steps of a handshake that were made again after a second.
    pub retries: u64,
}

impl Counts {
    pub fn ended(&self) -> u64 {
        self.ends.values().sum()
    }
}
