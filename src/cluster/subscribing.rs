//! Subscribing and unsubscribing many channels at once, and what a node has against it.

use redis::Value;
use redis::aio::MultiplexedConnection;
use sockring_protocol::adapter::Adapter;

use super::publisher::is_elsewhere;
use super::settings::Address;
use super::topology::Moved;

/// What a node has against subscriptions.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    pub(super) moved: Vec<Moved>,
    /// Some of their slots are elsewhere.
    pub(super) is_stale: bool,
    pub(super) refused: Option<String>,
}

/// `address` is the node's.
pub(super) fn complaints(results: Vec<Result<(), String>>, address: &Address) -> Complaints {
    let mut complaints = Complaints::default();
    for reason in results.into_iter().filter_map(Result::err) {
        let (code, details) = reason.split_once([' ', ':']).unwrap_or((&reason, ""));
        if !is_elsewhere(code) {
            complaints.refused = Some(reason);
            continue;
        }
        complaints.is_stale = true;
        let moved = Moved::from_details(details.trim_start(), address).filter(|_| code == "MOVED");
        complaints.moved.extend(moved.filter(|moved| !complaints.moved.contains(moved)));
    }
    complaints
}

/// Subscribes channels; says of each what came of it.
pub(super) async fn subscribe(
    connection: &mut MultiplexedConnection,
    adapter: Adapter,
    channels: &[String],
) -> Vec<Result<(), String>> {
    if channels.is_empty() {
        return Vec::new();
    }
    match adapter {
        Adapter::Classic | Adapter::Streams => {
            let result = connection.subscribe(channels).await.map_err(|error| error.to_string());
            vec![result; channels.len()]
        }
        // Channels of one command would have to be of one slot.
        Adapter::Sharded => pipeline(connection, "SSUBSCRIBE", channels).await,
    }
}

/// The same command for each channel.
pub(super) async fn pipeline(
    connection: &mut MultiplexedConnection,
    command: &str,
    channels: &[String],
) -> Vec<Result<(), String>> {
    let mut commands = redis::Pipeline::with_capacity(channels.len());
    for channel in channels {
        commands.cmd(command).arg(channel);
    }
    match connection.send_packed_commands(&commands, 0, channels.len()).await {
        Err(error) => vec![Err(error.to_string()); channels.len()],
        Ok(answers) => answers
            .into_iter()
            .map(|answer| match answer {
                Value::ServerError(error) => Err(format!("{}: {}", error.code(), error.details().unwrap_or_default())),
                _ => Ok(()),
            })
            .collect(),
    }
}
