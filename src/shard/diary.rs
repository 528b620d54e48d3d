//! `Diary`: since when each connection, or each client, is there and how many bytes it has brought and got, for the line that
//! the log has of its end. Where the log has no such lines nothing is kept.

use crate::shard::relay::{carried, words};
use core::net::IpAddr;
use sockring_protocol::portable;
use std::sync::Arc;

use sockring_protocol::Millis;

/// The accounts of all connections of a shard, or of all its clients, by their slots.
#[derive(Debug)]
pub(crate) struct Diary {
    /// The log has lines for all.
    is_told: bool,
    /// Or for the clients of these users.
    users: Arc<[String]>,
    accounts: Vec<Account>,
}

carried!(Diary { accounts } stays { is_told, users });

/// Under which target the log has a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogVoice {
    /// That of the module.
    Log,
    /// `sockring::users`, which is open while users are watched.
    User,
}

/// A debug line in a voice, if there is one.
macro_rules! tell {
    ($voice:expr, $($fields:tt)*) => {
        match $voice {
            Some($crate::shard::diary::LogVoice::Log) => tracing::debug!($($fields)*),
            Some($crate::shard::diary::LogVoice::User) => tracing::debug!(target: "sockring::users", $($fields)*),
            None => {}
        }
    };
}
pub(crate) use tell;

/// What is told of one of them at its end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Account {
    pub(crate) address: Option<IpAddr>,
    pub(crate) since: Millis,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
    /// Of a connection: whether it has become a WebSocket.
    pub(crate) is_websocket: bool,
    /// Of a connection: how the peer ended it, if it did.
    pub(crate) ended_by: Option<&'static str>,
}

portable!(struct Account { address, since, received_bytes, sent_bytes, is_websocket, ended_by by words });

impl Diary {
    /// What the log has is decided at start.
    pub(crate) fn new() -> Diary {
        Diary { is_told: tracing::enabled!(tracing::Level::DEBUG), users: Arc::default(), accounts: Vec::new() }
    }

    /// Whether the log has lines for all.
    pub(crate) fn is_told(&self) -> bool {
        self.is_told
    }

    /// From now on the log has lines for these users, whatever it has for others.
    pub(crate) fn watch(&mut self, users: Arc<[String]>) {
        self.users = users;
        if !self.is_kept() {
            // Who is watched later is told from then on.
            self.accounts = Vec::new();
        }
    }

    /// How the log tells of a client of this user, if it does.
    pub(crate) fn voice(&self, user: Option<&str>) -> Option<LogVoice> {
        let is_watched = || user.is_some_and(|user| self.users.iter().any(|watched| watched == user));
        if self.is_told { Some(LogVoice::Log) } else { is_watched().then_some(LogVoice::User) }
    }

    /// For how many milliseconds what has this slot has been there, if that was noted when it came.
    pub(crate) fn since(&self, slot: u32, now: Millis) -> Option<u64> {
        let account = self.accounts.get(slot as usize)?;
        (account.since > Millis(0)).then(|| now - account.since)
    }

    #[inline]
    pub(crate) fn is_kept(&self) -> bool {
        self.is_told || !self.users.is_empty()
    }

    /// What has this slot now begins here, or has come from another shard with its account.
    pub(crate) fn begin(&mut self, slot: u32, account: Account) {
        self.note(slot, |kept| *kept = account);
    }

    #[inline]
    pub(crate) fn received(&mut self, slot: u32, bytes: usize) {
        self.note(slot, |account| account.received_bytes += bytes as u64);
    }

    #[inline]
    pub(crate) fn sent(&mut self, slot: u32, bytes: usize) {
        self.note(slot, |account| account.sent_bytes += bytes as u64);
    }

    /// Writes something down, where that is done at all.
    #[inline]
    pub(crate) fn note(&mut self, slot: u32, write: impl FnOnce(&mut Account)) {
        if self.is_kept() {
            self.write(slot as usize, write);
        }
    }

    #[cold]
    fn write(&mut self, slot: usize, write: impl FnOnce(&mut Account)) {
        if slot >= self.accounts.len() {
            self.accounts.resize(slot + 1, Account::default());
        }
        if let Some(account) = self.accounts.get_mut(slot) {
            write(account);
        }
    }

    pub(crate) fn account(&self, slot: u32) -> Account {
        self.accounts.get(slot as usize).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    /// The diary of a shard whose log goes down to this level, after something was received in slot 2.
    fn written_at(level: Level) -> Diary {
        let log = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::sink).finish();
        tracing::subscriber::with_default(log, || {
            let mut diary = Diary::new();
            diary.begin(2, Account { since: Millis(7), ..Account::default() });
            diary.received(2, 5);
            diary.received(2, 6);
            diary
        })
    }

    #[test]
    fn where_the_log_has_nothing_else_watched_users_are_told() {
        let mut diary = written_at(Level::INFO);
        let watch = |users: &[&str]| users.iter().map(|user| (*user).to_owned()).collect();
        assert!(!diary.is_kept() && diary.voice(Some("alice")).is_none());
        diary.watch(watch(&["alice", "bob"]));
        diary.received(2, 5);
        assert_eq!(diary.account(2).received_bytes, 5);
        let voices = [Some("alice"), Some("carol"), None].map(|user| diary.voice(user));
        assert_eq!(voices, [Some(LogVoice::User), None, None]);
        diary.watch(watch(&[]));
        assert!(!diary.is_kept() && diary.voice(Some("alice")).is_none() && diary.account(2).received_bytes == 0);
        assert_eq!(written_at(Level::DEBUG).voice(None), Some(LogVoice::Log));
    }

    #[test]
    fn it_is_kept_only_where_the_log_tells_of_ends() {
        let kept = written_at(Level::DEBUG);
        assert_eq!((kept.is_kept(), kept.account(2).since, kept.account(2).received_bytes), (true, Millis(7), 11));
        assert_eq!(kept.account(3).received_bytes, 0);
        assert_eq!((kept.since(2, Millis(9)), kept.since(3, Millis(9))), (Some(2), None));
        let not_kept = written_at(Level::INFO);
        assert_eq!(
            (not_kept.is_kept(), not_kept.accounts.capacity(), not_kept.account(2).received_bytes),
            (false, 0, 0)
        );
    }
}
