//! Ways in which a client misbehaves at the level of packets, and what a server has to make of each.

use crate::client::State;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// All it says comes as segments that overlap, in the wrong order, and twice.
    Shuffled,
    /// All it says comes byte by byte.
    Bytewise,
    /// Its window is shut for half of the time.
    Blinking,
    /// Its window is shut for good as soon as it is connected.
    Shut,
    /// Somebody resets its connection without knowing where it stands.
    Blind,
    /// Segments with flags that make no sense there.
    Flagged,
    /// What it has said before, and what is far ahead of its window.
    Stale,
    ResetCalling,
    ResetUpgrading,
    ResetOpening,
    ResetJoining,
    ResetJoined,
    /// Never answers the SYN-ACK.
    Knocking,
    /// Connects and says nothing.
    Mute,
    /// Upgrades and says nothing more.
    Unclaimed,
    /// Does not even acknowledge any more once it is connected.
    Vanished,
    /// Acknowledges and never answers a ping.
    Pongless,
    /// Ends its half, and listens on.
    HalfClosed,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It gets what others get.
    Stays,
    /// It had a session, and the server has ended it for this reason.
    Closed(&'static str),
    /// The same, if the server was quick enough to see the beginning of it.
    Perhaps(&'static str),
    /// It never had a session.
    Nobody,
}

/// What it does again and again once it is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    Blink,
    ResetBlindly,
    Flag,
    Repeat,
}

impl Fault {
    pub const ALL: [Fault; 18] = [
        Fault::Shuffled,
        Fault::Bytewise,
        Fault::Blinking,
        Fault::Shut,
        Fault::Blind,
        Fault::Flagged,
        Fault::Stale,
        Fault::ResetCalling,
        Fault::ResetUpgrading,
        Fault::ResetOpening,
        Fault::ResetJoining,
        Fault::ResetJoined,
        Fault::Knocking,
        Fault::Mute,
        Fault::Unclaimed,
        Fault::Vanished,
        Fault::Pongless,
        Fault::HalfClosed,
    ];

    /// The state in which it resets its connection, once it has said what belongs to that state.
    pub fn resets_at(self) -> Option<State> {
        match self {
            Fault::ResetCalling => Some(State::Calling),
            Fault::ResetUpgrading => Some(State::Upgrading),
            Fault::ResetOpening => Some(State::Opening),
            Fault::ResetJoining => Some(State::Joining),
            Fault::ResetJoined => Some(State::Joined),
            _ => None,
        }
    }

    /// The state in which it says nothing any more, and which it never leaves.
    pub fn stops_at(self) -> Option<State> {
        match self {
            Fault::Knocking => Some(State::Calling),
            Fault::Mute => Some(State::Upgrading),
            Fault::Unclaimed => Some(State::Joining),
            _ => None,
        }
    }

    pub fn habit(self) -> Option<Habit> {
        match self {
            Fault::Blinking => Some(Habit::Blink),
            Fault::Blind => Some(Habit::ResetBlindly),
            Fault::Flagged => Some(Habit::Flag),
            Fault::Stale => Some(Habit::Repeat),
            _ => None,
        }
    }

    pub fn fate(self) -> Fate {
        match self {
            Fault::Shuffled | Fault::Bytewise | Fault::Blinking | Fault::Blind | Fault::Flagged | Fault::Stale => {
                Fate::Stays
            }
            Fault::ResetCalling | Fault::Knocking | Fault::Mute => Fate::Nobody,
            Fault::ResetUpgrading => Fate::Perhaps("transport_close"),
            Fault::ResetOpening | Fault::ResetJoining | Fault::ResetJoined | Fault::HalfClosed => {
                Fate::Closed("transport_close")
            }
            Fault::Unclaimed => Fate::Closed("connect_timeout"),
            Fault::Shut | Fault::Vanished | Fault::Pongless => Fate::Closed("ping_timeout"),
        }
    }
}
