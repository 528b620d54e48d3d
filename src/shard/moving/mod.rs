//! Moving: where a client belongs, what its sid says of that, and how it gets there.

pub(super) mod emigrant;
pub(super) mod moves;
pub(super) mod placement;
pub(super) mod sid;
