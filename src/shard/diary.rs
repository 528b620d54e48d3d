//! `Diary`: since when each connection, or each client, is there and how many bytes it has brought and got, for the line that
//! the log has of its end. Where the log has no such lines nothing is kept.

use core::net::IpAddr;

use sockring_protocol::Millis;

/// The accounts of all connections of a shard, or of all its clients, by their slots.
#[derive(Debug)]
pub(crate) struct Diary {
    is_kept: bool,
    accounts: Vec<Account>,
}

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

impl Diary {
    /// What the log has is decided at start.
    pub(crate) fn new() -> Diary {
        Diary { is_kept: tracing::enabled!(tracing::Level::DEBUG), accounts: Vec::new() }
    }

    #[inline]
    pub(crate) fn is_kept(&self) -> bool {
        self.is_kept
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
        if self.is_kept {
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
    fn it_is_kept_only_where_the_log_tells_of_ends() {
        let kept = written_at(Level::DEBUG);
        assert_eq!((kept.is_kept(), kept.account(2).since, kept.account(2).received_bytes), (true, Millis(7), 11));
        assert_eq!(kept.account(3).received_bytes, 0);
        let not_kept = written_at(Level::INFO);
        assert_eq!(
            (not_kept.is_kept(), not_kept.accounts.capacity(), not_kept.account(2).received_bytes),
            (false, 0, 0)
        );
    }
}
