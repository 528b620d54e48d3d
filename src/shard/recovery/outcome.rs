//! `Recovered`: what becomes of clients that come back.

/// What became of a CONNECT with a `pid`: the label of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovered {
    Yes,
    /// Something that it may have missed is not remembered any more.
    TooOld,
    /// Not signed by this shard, in this life of it, for this user and namespace.
    UnknownPid,
    /// Other rooms than its user's are not known any more: what its user missed was sent.
    RoomsUnknown,
}

impl Recovered {
    pub const ALL: [Recovered; 4] = [Recovered::Yes, Recovered::TooOld, Recovered::UnknownPid, Recovered::RoomsUnknown];

    pub fn label(self) -> &'static str {
        match self {
            Recovered::Yes => "recovered",
            Recovered::TooOld => "too_old",
            Recovered::UnknownPid => "unknown_pid",
            Recovered::RoomsUnknown => "rooms_unknown",
        }
    }
}
