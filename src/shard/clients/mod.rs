//! Clients: one Engine.IO session each, whatever carries it, with what waits for it.
//!
//! ```text
//!   GET, POST       WebSocket       WebSocket beside polling
//!       | polling       |               | probe
//!       +---------> sessions <----------+
//!                       | Engine.IO packets
//!                       v
//!                   packets ---- what may not pass ----> refusing
//!                       | CONNECT, events, acks
//!                       v
//!                   application                  broadcasts, mail
//!                       | actions                     |
//!                       +-----> encode <--------------+
//!                                 | once per message
//!                                 v
//!                              outbox of each client ---> the flush
//!
//!   ends:  a fault, DISCONNECT, draining, silence (which lookout has confirmed) ---> ending
//! ```

mod aliases;
pub(super) mod client;
mod deciding;
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
mod telling;
pub(super) mod waiting;
