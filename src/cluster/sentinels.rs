//! Sentinels: who say which Redis is the master, and when it is another one.
//!
//! The library's own client for them dials by itself: without our streams, their bounds and their certificates.

use std::sync::Arc;
use std::time::Duration;

use redis::{PushInfo, PushKind, Value, cmd};
use tokio::time::{sleep, timeout};

use super::Cluster;
use super::link::{Backoff, Dialler, LinkError, RedisConnection, text};
use super::settings::{Address, SentinelSettings};

/// What a sentinel publishes when the master is another one: the name, the old address, and the new one.
const SWITCH: &str = "+switch-master";
/// How long a connection waits for somebody to know the master.
const KNOWN_WITHIN: Duration = Duration::from_secs(2);
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// How often a sentinel is asked without a reason: what it has published may have been lost.
const NOW_AND_THEN: Duration = Duration::from_secs(5);
/// Between two questions, however often the master seems to be another one.
const PAUSE: Duration = Duration::from_millis(100);
/// A sentinel that names so often a master that cannot be used gives way to the next one.
const PATIENCE: u32 = 5;

/// The master, as far as it is known.
pub(super) async fn master(cluster: &Cluster, settings: &SentinelSettings) -> Result<Address, LinkError> {
    let mut known = cluster.master.subscribe();
    match timeout(KNOWN_WITHIN, known.wait_for(Option::is_some)).await {
        Ok(Ok(master)) => master.clone().ok_or(LinkError::Silent),
        _ => Err(LinkError::NoMaster(format!("no sentinel has named the master `{}` so far", settings.master_name))),
    }
}

/// Asks one sentinel after the other, once.
pub(super) async fn find(dialler: &Dialler, settings: &SentinelSettings) -> Result<Address, LinkError> {
    let mut last = String::new();
    for address in &settings.addresses {
        match ask_at(dialler, settings, address).await {
            Ok((_, master)) => return Ok(master),
            Err(reason) => last = reason,
        }
    }
    Err(LinkError::NoMaster(last))
}

/// Follows what the sentinels say, one of them at a time.
pub(super) async fn follow(cluster: Arc<Cluster>, settings: SentinelSettings) {
    let dialler = cluster.dialler.for_sentinels(&settings);
    let mut backoff = Backoff::default();
    loop {
        for address in &settings.addresses {
            match ask_at(&dialler, &settings, address).await {
                Ok((link, master)) => {
                    backoff.reset();
                    learn(&cluster, master);
                    let reason = follow_one(&cluster, &settings, link).await;
                    tracing::debug!(sentinel = %address, reason, "another sentinel is asked");
                }
                Err(reason) => tracing::warn!("Redis has a sentinel of no use: {reason}"),
            }
        }
        sleep(backoff.next(cluster.chance())).await;
    }
}

/// Says why this one is of no use any more.
async fn follow_one(cluster: &Cluster, settings: &SentinelSettings, mut link: RedisConnection) -> &'static str {
    if link.connection.subscribe(SWITCH).await.is_err() {
        return "it does not say when the master is another one";
    }
    let mut in_vain = 0;
    loop {
        tokio::select! {
            biased;
            push = link.pushes.recv() => {
                let Some(push) = push else { return "its connection was closed" };
                link.flow.used(super::flow::size_of_push(&push));
                if let Some(master) = switched(&push, &settings.master_name) {
                    in_vain = 0;
                    learn(cluster, master);
                }
            }
            reason = timeout(NOW_AND_THEN, cluster.master_is_stale.notified()) => {
                sleep(PAUSE).await;
                match get_master(&link, settings).await {
                    Err(_) => return "it does not answer",
                    Ok(None) => return "it has forgotten the master",
                    Ok(Some(master)) => {
                        let is_new = learn(cluster, master);
                        in_vain = if is_new || reason.is_err() { 0 } else { in_vain + 1 };
                    }
                }
                if in_vain > PATIENCE {
                    return "the master that it names cannot be used";
                }
            }
        }
    }
}

/// Opens a connection to a sentinel, and asks.
async fn ask_at(
    dialler: &Dialler,
    settings: &SentinelSettings,
    address: &Address,
) -> Result<(RedisConnection, Address), String> {
    let link = dialler.open(address, "sockring-sentinel").await.map_err(|error| format!("{address} {error}"))?;
    match get_master(&link, settings).await {
        Ok(Some(master)) => Ok((link, master)),
        Ok(None) => Err(format!("{address} knows no master `{}`", settings.master_name)),
        Err(reason) => Err(format!("{address} {reason}")),
    }
}

async fn get_master(link: &RedisConnection, settings: &SentinelSettings) -> Result<Option<Address>, String> {
    let question = cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(&settings.master_name).take();
    let mut connection = link.connection.clone();
    match timeout(ANSWER_WITHIN, connection.send_packed_command(&question)).await {
        Err(_) => Err(LinkError::Silent.to_string()),
        Ok(Err(error)) => Err(format!("refused: {error}")),
        Ok(Ok(Value::ServerError(error))) => Err(format!("refused: {}", error.code())),
        Ok(Ok(answer)) => {
            link.flow.answered();
            Ok(named(&answer))
        }
    }
}

/// Host and port.
fn named(answer: &Value) -> Option<Address> {
    let Value::Array(parts) = answer else { return None };
    let [host, port] = parts.as_slice() else { return None };
    Some(Address { host: text(host)?.to_owned(), port: text(port)?.parse().ok()? })
}

/// `name old-host old-port new-host new-port`.
fn switched(push: &PushInfo, name: &str) -> Option<Address> {
    if push.kind != PushKind::Message {
        return None;
    }
    let mut words = text(push.data.get(1)?)?.split(' ');
    let is_ours = words.next() == Some(name);
    let (host, port) = (words.nth(2)?, words.next()?);
    is_ours.then_some(Address { host: host.to_owned(), port: port.parse().ok()? })
}

/// Says whether that is new.
fn learn(cluster: &Cluster, master: Address) -> bool {
    cluster.master.send_if_modified(|known| {
        let is_new = known.as_ref() != Some(&master);
        if is_new {
            tracing::info!("the sentinels name {master} as the master of Redis");
            *known = Some(master);
        }
        is_new
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn masters_are_read_as_sentinels_name_them() {
        let address = Address { host: "10.0.0.2".to_owned(), port: 6380 };
        assert_eq!(named(&Value::Array(vec![bulk("10.0.0.2"), bulk("6380")])), Some(address.clone()));
        assert_eq!((named(&Value::Nil), named(&Value::Array(vec![bulk("a")]))), (None, None));
        let push = |text: &str| PushInfo { kind: PushKind::Message, data: vec![bulk(SWITCH), bulk(text)] };
        assert_eq!(switched(&push("mymaster 10.0.0.1 6379 10.0.0.2 6380"), "mymaster"), Some(address));
        for other in ["other 10.0.0.1 6379 10.0.0.2 6380", "mymaster", "mymaster a 1 b", "mymaster a 1 b x", ""] {
            assert_eq!(switched(&push(other), "mymaster"), None, "{other}");
        }
    }
}
