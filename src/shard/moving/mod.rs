//! Moving: where a client belongs, what its sid says of that, and how it gets there.
//!
//! ```text
//!   shard of the handshake                             home of its user (placement)
//!
//!   CONNECT is admitted
//!   the client        ------ MoveIn, an emigrant ----> joins its user's room, and is answered
//!   its connections   ------ parcels, each when -----> carry it on
//!                            nothing is under way
//!   later GET, POST   ------ sent on ----------------> answers them
//!   forgets it        <----- Gone -------------------- its end
//! ```

pub(super) mod emigrant;
pub(super) mod moves;
pub(super) mod placement;
pub(super) mod sid;
