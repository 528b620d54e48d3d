//! `AcceptErrors`: how often connections could not be accepted, and why.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where connections come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The port of the clients.
    Clients,
    /// The API's own address.
    Api,
}

impl Door {
    pub const ALL: [Door; 2] = [Door::Clients, Door::Api];

    pub fn label(self) -> &'static str {
        match self {
            Door::Clients => "clients",
            Door::Api => "api",
        }
    }
}

/// Why a connection could not be accepted, as the operating system says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptError {
    /// The peer was gone before.
    ConnectionAborted,
    /// The process' limit of open files.
    ProcessFiles,
    /// The machine's.
    SystemFiles,
    Buffers,
    Memory,
    /// A firewall's rule.
    Permission,
    Other,
}

impl AcceptError {
    pub const ALL: [AcceptError; 7] = [
        AcceptError::ConnectionAborted,
        AcceptError::ProcessFiles,
        AcceptError::SystemFiles,
        AcceptError::Buffers,
        AcceptError::Memory,
        AcceptError::Permission,
        AcceptError::Other,
    ];

    /// `None`: it was cancelled, or interrupted.
    fn of(error: &io::Error) -> Option<AcceptError> {
        match error.raw_os_error() {
            Some(libc::ECANCELED | libc::EINTR | libc::EAGAIN) => None,
            Some(libc::ECONNABORTED) => Some(AcceptError::ConnectionAborted),
            Some(libc::EMFILE) => Some(AcceptError::ProcessFiles),
            Some(libc::ENFILE) => Some(AcceptError::SystemFiles),
            Some(libc::ENOBUFS) => Some(AcceptError::Buffers),
            Some(libc::ENOMEM) => Some(AcceptError::Memory),
            Some(libc::EPERM) => Some(AcceptError::Permission),
            _ => Some(AcceptError::Other),
        }
    }

    pub fn errno(self) -> &'static str {
        match self {
            AcceptError::ConnectionAborted => "ECONNABORTED",
            AcceptError::ProcessFiles => "EMFILE",
            AcceptError::SystemFiles => "ENFILE",
            AcceptError::Buffers => "ENOBUFS",
            AcceptError::Memory => "ENOMEM",
            AcceptError::Permission => "EPERM",
            AcceptError::Other => "other",
        }
    }
}

/// Counts since start, by door and reason.
#[derive(Debug, Default)]
pub struct AcceptErrors([[AtomicU64; AcceptError::ALL.len()]; Door::ALL.len()]);

impl AcceptErrors {
    /// Says what it was, unless accepting was merely cancelled or interrupted.
    pub fn count(&self, door: Door, error: &io::Error) -> Option<AcceptError> {
        let error = AcceptError::of(error)?;
        self.counter(door, error).fetch_add(1, Ordering::Relaxed);
        Some(error)
    }

    pub fn counted(&self, door: Door, error: AcceptError) -> u64 {
        self.counter(door, error).load(Ordering::Relaxed)
    }

    #[expect(clippy::indexing_slicing, reason = "there are as many as doors and reasons")]
    fn counter(&self, door: Door, error: AcceptError) -> &AtomicU64 {
        &self.0[door as usize][error as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_counts_at_its_door_under_its_name() {
        let errors = AcceptErrors::default();
        let count = |door, errno| errors.count(door, &io::Error::from_raw_os_error(errno)).map(AcceptError::errno);
        assert_eq!(count(Door::Clients, libc::EMFILE), Some("EMFILE"));
        assert_eq!(count(Door::Api, libc::ECONNABORTED), Some("ECONNABORTED"));
        assert_eq!(count(Door::Api, libc::EBADF), Some("other"));
        assert_eq!(count(Door::Api, libc::ECANCELED), None);
        let all = |door| AcceptError::ALL.map(|error| errors.counted(door, error));
        assert_eq!((all(Door::Clients), all(Door::Api)), ([0, 1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 1]));
    }
}
