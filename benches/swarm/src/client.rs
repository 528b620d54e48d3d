//! What is kept of a client: sixteen bytes. Its address is its index.

/// How far a client has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Has not begun.
    Absent,
    /// Its SYN is under way.
    Calling,
    /// Connected; its request is under way.
    Upgrading,
    /// Has the answer, and waits for Engine.IO's open packet.
    Opening,
    /// Its CONNECT is under way.
    Joining,
    Joined,
    /// Nothing is left of it here; what still comes for it is reset.
    Gone,
}

#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// Sequence number of the next byte that it says.
    pub sent: u32,
    /// And of the next byte that it hears.
    pub received: u32,
    /// Number of the last event to all; 0: none yet.
    pub event: u16,
    /// When it was pinged last, in tenths of a second since the run began; 0: not yet.
    pub pinged: u16,
    pub state: State,
    pub window: Window,
}

/// Whether it takes what the server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    Open,
    Shut,
}

impl Window {
    pub fn bytes(self) -> u16 {
        match self {
            Window::Open => u16::MAX,
            Window::Shut => 0,
        }
    }
}

impl Client {
    pub const ABSENT: Client =
        Client { sent: 0, received: 0, event: 0, pinged: 0, state: State::Absent, window: Window::Open };

    /// The sequence number of a client's SYN: another one for each, and of some it runs over.
    pub fn first_sequence(index: u32) -> u32 {
        index.wrapping_mul(2_654_435_761)
    }

    /// Of a segment that begins at `sequence`: how many of its bytes were heard before, or that some are missing before it.
    pub fn heard(&self, sequence: u32) -> Result<usize, Missing> {
        let behind = self.received.wrapping_sub(sequence);
        if behind > 1 << 31 { Err(Missing) } else { Ok(behind as usize) }
    }
}

/// Bytes before a segment have not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_client() {
        assert_eq!(size_of::<Client>(), 16);
    }

    #[test]
    fn sequence_numbers_run_over() {
        let client = Client { received: 5, ..Client::ABSENT };
        assert_eq!(client.heard(5), Ok(0));
        assert_eq!(client.heard(u32::MAX), Ok(6));
        assert_eq!(client.heard(6), Err(Missing));
    }
}
