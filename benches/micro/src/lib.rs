//! What the benchmarks and the instruction counts have in common: a shard with a crowd of clients.

mod crowd;

pub use crowd::{Crowd, Sent};
