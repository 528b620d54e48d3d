//! Sessions beside a stream: what stands under their keys in Redis, as Node's streams adapter writes and reads it, and the secret
//! that servers like us sign them with.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use redis::{Cmd, Value, cmd};
use sockring_protocol::adapter::StoredSession;
use tokio::time::{Instant, sleep};

use crate::mailbox::Letter;
use crate::shard::{BusMail, FoundSession, KeptSession, RecoverySecret, SessionQuestion, Sid};

use super::publisher::To;
use super::{Cluster, PUBLISHED_WITHIN};

/// A longer one, with all its rooms, is none that we or Node's adapter have written.
const SESSION_BYTES_MAX: usize = 1 << 20;
const SECRET_BYTES: usize = 32;
/// How long a Node server is waited for, and how often it is looked whether it has written; a CONNECT waits for half a second.
const WRITTEN_WITHIN: Duration = Duration::from_millis(300);
const LOOK_AGAIN: Duration = Duration::from_millis(40);

impl Cluster {
    /// Whether clients come back to any server.
    pub(super) fn shares_sessions(&self) -> bool {
        self.settings.streams.sessions.is_some()
    }

    fn session_key(&self, pid: &str) -> Option<String> {
        Some([&*self.settings.streams.sessions.as_ref()?.prefix, pid].concat())
    }

    /// What makes the secret of all servers, if nobody has, and what asks for it; `None`: it is in the settings.
    pub(super) fn secret_commands(&self) -> Option<[Cmd; 2]> {
        self.settings.streams.sessions.as_ref().filter(|sessions| sessions.secret.is_none())?;
        let key = self.settings.streams.secret_key();
        let mut secret = [0; SECRET_BYTES];
        self.outside.fill(&mut secret);
        let made = cmd("SET").arg(&key).arg(STANDARD_NO_PAD.encode(secret)).arg("NX").take();
        Some([made, cmd("GET").arg(&key).take()])
    }
}

/// The secret of all servers, as Redis has it.
pub(super) fn secret_in(answer: Value) -> Option<RecoverySecret> {
    let Value::BulkString(text) = answer else { return None };
    let secret = STANDARD_NO_PAD.decode(text).ok()?;
    Some(RecoverySecret::new(&secret))
}

/// Asks Redis for a session, and tells the shard of this core. It stays there: the process that takes it may be killed.
pub(super) fn find(cluster: &Arc<Cluster>, core: usize, SessionQuestion { number, pid }: SessionQuestion) {
    let Some(key) = cluster.session_key(&pid) else { return };
    let cluster = Arc::clone(cluster);
    tokio::task::spawn_local(async move {
        let begun = Instant::now();
        let mut found = cluster.get_session(&key).await;
        // A Node server writes it when it has noticed that its client is gone, which may be here by then.
        while found == FoundSession::Nothing && Sid::parse(&pid).is_some() && begun.elapsed() < WRITTEN_WITHIN {
            sleep(LOOK_AGAIN).await;
            found = cluster.get_session(&key).await;
        }
        if let Some(shard) = cluster.postboxes.get(core) {
            shard.post(Letter::Bus(BusMail::Session { number, found }));
        }
    });
}

impl Cluster {
    async fn get_session(&self, key: &str) -> FoundSession {
        let command = cmd("GET").arg(key).take();
        match self.backlog.ask(command, To::OwnerOf(key.to_owned()), PUBLISHED_WITHIN).await {
            Ok(Value::Nil) => FoundSession::Nothing,
            Ok(Value::BulkString(text)) if text.len() <= SESSION_BYTES_MAX => match StoredSession::decode(&text) {
                Ok(session) => FoundSession::Known(Box::new(session)),
                Err(error) => {
                    self.counters.malformed(error);
                    FoundSession::Nothing
                }
            },
            Ok(_) => FoundSession::Nothing,
            Err(_) => FoundSession::Unknown,
        }
    }
}

/// Tells other servers of a session. That Redis does not take it is counted, and it is told again when something about it changes.
pub(super) fn keep(cluster: &Arc<Cluster>, KeptSession { session, for_ms }: &KeptSession) {
    let Some(key) = cluster.session_key(&session.pid) else { return };
    let text = session.encode();
    let bytes = key.len() + text.len();
    let command = cmd("SET").arg(&key).arg(text).arg("PX").arg(*for_ms).take();
    if let Err(error) = cluster.backlog.send(command, To::OwnerOf(key), bytes) {
        cluster.count_loss(error);
    }
}
