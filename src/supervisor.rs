//! What a service manager is told, where one started us: systemd's notifications. Without one nothing is said.

use std::io;
use std::thread;
use std::time::Duration;

use sd_notify::NotifyState;
use sockring::mailbox::Postbox;
use sockring::shard::Mail;

/// It serves, here.
pub(crate) fn ready(address: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("serving on {address}"))]);
}

/// The settings are read again; `ready_again` follows.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "there is no clock for the service manager"),
    }
}

pub(crate) fn ready_again() {
    tell(&[NotifyState::Ready]);
}

/// All clients are closed, over this time.
pub(crate) fn stopping(drain: Duration) {
    let status = format!("closing all clients within {} s", drain.as_secs_f32());
    tell(&[NotifyState::Stopping, NotifyState::Status(&status)]);
}

/// Where the manager has a watchdog, tells it that we live for as long as every shard answers within half of its time.
pub(crate) fn watch(shards: Vec<Postbox>) -> io::Result<()> {
    let Some(half) = sd_notify::watchdog_enabled().map(|limit| limit / 2) else { return Ok(()) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
        runtime.block_on(async {
            loop {
                if tokio::time::timeout(half, answers_of(&shards)).await.is_ok_and(|all| all) {
                    tell(&[NotifyState::Watchdog]);
                } else {
                    tracing::warn!(
                        "a shard does not answer: the service manager's watchdog is not told that all is well"
                    );
                }
                tokio::time::sleep(half / 2).await;
            }
        });
    })?;
    Ok(())
}

/// Whether all of them answer, however long that takes.
async fn answers_of(shards: &[Postbox]) -> bool {
    for shard in shards {
        let Some(answer) = shard.ask(Mail::Stats) else { return false };
        if answer.await.is_err() {
            return false;
        }
    }
    true
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager could not be told");
    }
}
