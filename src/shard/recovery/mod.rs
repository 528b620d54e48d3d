//! Recovery: what clients miss while their connection is broken, and how they get it when they come back.
//!
//! ```text
//!    an event    deliver ──► log, under the next position ──► outboxes, as event and marker
//!    a break     drop_socket ──► the rooms linger, so that the log goes on; rooms besides the user's are noted
//!    a CONNECT   with pid and offset ──► the older socket ends ──► answer, what the log has since, greeting
//! ```
//!
//! Of a connected client nothing is kept, but where clients may come back to other servers: those are told of it. Where recovery is off, there is no `Recovery`.

pub(super) mod behind;
pub(super) mod ended;
mod heartbeat;
pub(super) mod log;
pub(super) mod outcome;
pub(super) mod pid;
pub(super) mod position;
mod remembering;
pub(super) mod returning;
pub(super) mod sessions;
mod sharing;
mod slow;
pub(super) mod state;
pub(super) mod stays;
