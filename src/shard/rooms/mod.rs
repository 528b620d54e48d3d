//! Rooms: who is in which, here and at other shards, and how a broadcast reaches its receivers.
//!
//! ```text
//!   a socket joins, leaves                     an emit
//!     | membership                               | deliver
//!     |   table         members here             v
//!     |   homes         members elsewhere ---> seats: whom it is for
//!     |   subscriptions asked of the bus         |
//!     v                                          v
//!   announcing                                 broadcasts: fan_out, over as many turns as it takes
//!     who is told that it is in a room           |-- outbox of each receiver
//!     waits until emits reach it                 |-- acks: who has still to acknowledge
//!                                                v
//!                                              tally: how many, here and at other shards ---> the answer
//! ```

pub(super) mod acks;
mod announcing;
pub(super) mod broadcasts;
mod changes;
mod collecting;
pub(super) mod deliver;
pub(super) mod fan_out;
mod homes;
mod inquiries;
mod inquiring;
mod keeping;
pub(super) mod kept;
pub(super) mod lingering;
pub(super) mod mailboxes;
mod manage;
pub(super) mod membership;
pub(super) mod once;
pub(super) mod receipts;
mod recognising;
mod remembered;
pub(super) mod seats;
mod selected;
pub(super) mod sockets;
mod subscriptions;
pub(super) mod table;
pub(super) mod tally;
