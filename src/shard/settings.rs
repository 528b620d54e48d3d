//! `EngineSettings`: what a shard needs to know, each limit with its default and its consequence.

use std::fmt;
use std::sync::Arc;

use sockring_protocol::engineio::SessionTimes;
use sockring_protocol::http::{CorsPolicy, HeadLimits, Origins};
use sockring_protocol::socketio::PacketLimits;
use sockring_protocol::websocket::MessageLimits;

use crate::proxies::TrustedProxies;
use crate::tls::TlsServer;

use super::moving::sid::Instance;
use super::rooms::sockets::NamespaceId;

/// What happens to requests outside `path`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elsewhere {
    /// They go to the API's tasks of this core.
    HandOver,
    NotFound,
}

/// Whether there are other instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Instances {
    #[default]
    Alone,
    /// They reach each other by a bus: a shard wants the messages to the rooms that are at home there.
    OverBus,
    /// The same, and each socket has a channel of its own there, which is wanted as long as it lives.
    OverBusBySid,
}

/// The engine's settings. Times are milliseconds, sizes bytes.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    pub elsewhere: Elsewhere,
    pub instances: Instances,
    /// Made by chance when the process starts; what its sids begin with.
    pub instance: Instance,
    /// Prefix of the Engine.IO requests, with both slashes.
    pub path: String,
    /// `/` first.
    pub namespaces: Vec<String>,
    pub times: SessionTimes,
    pub cors: CorsPolicy,
    /// Whose `X-Forwarded-For` is believed.
    pub proxies: TrustedProxies,
    pub head: HeadLimits,
    pub packet: PacketLimits,
    /// Fragments of one WebSocket message; its bytes are bounded by `payload_bytes_max`.
    pub fragments_max: u32,
    /// A WebSocket message (close code 1009), a POST body (413), a packet with its attachments.
    pub payload_bytes_max: usize,
    /// A message, or a POST body, from a client that has no accepted CONNECT yet, and the payload of any CONNECT: as above.
    pub connect_bytes_max: usize,
    /// Packets in one POST; more: 400, and the session ends.
    pub payload_packets_max: usize,
    /// A polling answer that is as long is compressed for who takes gzip; 0: none is.
    pub polling_gzip_bytes_min: usize,
    /// No CONNECT in this time: the session ends.
    pub connect_timeout_ms: u64,
    /// A request head has to be complete in this time, else the connection closes.
    pub head_timeout_ms: u64,
    /// A POST body has to be complete in this time, else the session ends.
    pub body_timeout_ms: u64,
    /// A message, once begun, has to be complete in this time, else the session ends.
    pub message_timeout_ms: u64,
    /// An idle keep-alive connection closes after this.
    pub idle_timeout_ms: u64,
    /// Requests of one connection; the last one's answer closes it.
    pub requests_per_connection_max: u32,
    /// Sockets of one user in one namespace; a further CONNECT is refused.
    pub user_connections_max: usize,
    /// Refused CONNECTs of one client in a row, for each namespace that there is; with the last one it is closed.
    pub connect_refusals_max: usize,
    /// Engine.IO packets from one client in one second; more: the client is closed.
    pub events_per_second_max: u32,
    /// Namespaces of one client; a further CONNECT is refused.
    pub namespaces_per_client_max: usize,
    /// Rooms of one socket; a further join does nothing.
    pub rooms_per_socket_max: usize,
    /// Acknowledgements that a shard waits for, of broadcasts that ask each receiver for one; beyond it a broadcast is
    /// delivered, and its receiver's answer is not passed on.
    pub acks_pending_max: usize,
    /// What one emit's acknowledgements may say together where that is wanted; the rest counts, and what it says is dropped.
    pub ack_responses_bytes_max: usize,
    /// Kept events of one user, and what those of all users take in all shards together; more: not kept.
    pub kept_events_per_user_max: usize,
    pub kept_bytes_max: usize,
    /// For how long the key of an emit is remembered, and of how many the shards remember it together; more: the oldest are
    /// forgotten.
    pub idempotency_window_ms: u64,
    pub idempotency_keys_max: usize,
    /// Bytes that wait for one client; more: the client is closed.
    pub queue_bytes_max: usize,
    /// What is remembered for clients that come back.
    pub recovery: RecoverySettings,
    pub kept_at: KeptAt,
    /// What connections begin with; `None`: they speak plain text.
    pub tls: Option<Arc<TlsServer>>,
    /// What a shard does before it looks for what has come meanwhile.
    pub turn: TurnLimits,
}

/// Where events are kept for users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeptAt {
    /// Each shard keeps those of the users at home there.
    #[default]
    Shard,
    /// The bus keeps them for all instances, and shards only while it is away.
    Bus,
}

/// What is remembered for clients that come back.
#[derive(Clone, Debug, Default)]
pub struct RecoverySettings {
    /// Who comes back within this time gets what it has missed; 0: nobody.
    pub window_ms: u64,
    /// Of events that are remembered, in the whole process; the oldest go first.
    pub bytes_max: usize,
    pub offset: OffsetForm,
    pub positions: Positions,
    /// `None`: one is made by chance.
    pub secret: Option<RecoverySecret>,
}

/// What positions are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Positions {
    /// Each shard counts what it delivers.
    #[default]
    Counted,
    /// Places in the one stream that all servers read: a client may come back to any of them.
    OfStream,
}

/// How clients are told how far they have got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffsetForm {
    /// As an event of its own behind each event.
    #[default]
    Packet,
    /// As a further argument of each event.
    Argument,
}

/// What signs the proofs that clients come back with.
#[derive(Clone, PartialEq, Eq)]
pub struct RecoverySecret(Box<[u8]>);

impl RecoverySecret {
    pub fn new(secret: &[u8]) -> RecoverySecret {
        RecoverySecret(secret.into())
    }

    /// What it is.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for RecoverySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoverySecret")
    }
}

/// Limits of one turn. What is beyond them waits for the next, and nobody notices but by the time that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnLimits {
    /// Messages queued by broadcasts. A message takes 4 to 10 us, nearly all of it the kernel's: 128
    /// take half a millisecond to one and a third.
    pub messages_max: usize,
    /// Sockets that join rooms, leave them or are described, instead of each of these messages: one takes some 0.3 us.
    pub changes_per_message: usize,
    /// Bytes handed to the kernel; beyond it only sends up to `small_bytes_max` go.
    pub sent_bytes_max: usize,
    pub small_bytes_max: usize,
    /// Bytes of one send. What is larger leaves in pieces, each in its turn.
    pub piece_bytes_max: usize,
    /// Bytes of polling answers that are compressed; more go as they are. 1 KiB takes some 9 us.
    pub compressed_bytes_max: usize,
    /// Clients that are seen to because their time has come.
    pub clients_due_max: usize,
    /// Steps of TLS handshakes. A client's first takes 150 to 400 us, nearly all of it a signature and an agreement on a key.
    pub handshake_steps_max: usize,
    /// Clients whose CONNECT has waited, each of which may take a signature to verify.
    pub connects_decided_max: usize,
    /// A broadcast to so few members is queued for them at once, before larger ones that are under way.
    pub at_once_max: usize,
    /// A count of all clients and connections serves all who ask for it, for a millisecond per so many counted.
    pub counted_per_ms: usize,
    /// Broadcasts under way: beyond so many messages, bytes, or broadcasts, no mail is read.
    pub backlog_messages_max: usize,
    pub backlog_bytes_max: usize,
    pub backlog_broadcasts_max: usize,
}

impl TurnLimits {
    /// What a turn may do, counted in sockets that join.
    pub(super) fn parts_max(&self) -> usize {
        self.messages_max.saturating_mul(self.changes_per_message)
    }
}

impl Default for TurnLimits {
    fn default() -> TurnLimits {
        TurnLimits {
            messages_max: 128,
            changes_per_message: 16,
            sent_bytes_max: 512 << 10,
            small_bytes_max: 4 << 10,
            piece_bytes_max: 64 << 10,
            compressed_bytes_max: 128 << 10,
            clients_due_max: 1_024,
            handshake_steps_max: 4,
            connects_decided_max: 64,
            at_once_max: 64,
            counted_per_ms: 64,
            backlog_messages_max: 1 << 18,
            backlog_bytes_max: 16 << 20,
            backlog_broadcasts_max: 256,
        }
    }
}

impl Default for EngineSettings {
    fn default() -> EngineSettings {
        EngineSettings {
            elsewhere: Elsewhere::NotFound,
            instances: Instances::Alone,
            instance: Instance::default(),
            path: "/socket.io/".to_owned(),
            namespaces: vec!["/".to_owned()],
            times: SessionTimes::default(),
            proxies: TrustedProxies::default(),
            cors: CorsPolicy { origins: Origins::SameOrigin, credentials: false },
            head: HeadLimits::default(),
            packet: PacketLimits::default(),
            fragments_max: 1024,
            payload_bytes_max: 1_000_000,
            connect_bytes_max: 16 << 10,
            payload_packets_max: 1_000,
            polling_gzip_bytes_min: 1_024,
            connect_timeout_ms: 45_000,
            head_timeout_ms: 10_000,
            body_timeout_ms: 30_000,
            message_timeout_ms: 30_000,
            idle_timeout_ms: 65_000,
            requests_per_connection_max: 1_000,
            user_connections_max: 10_000,
            connect_refusals_max: 5,
            events_per_second_max: 2_000,
            namespaces_per_client_max: 16,
            rooms_per_socket_max: 128,
            acks_pending_max: 100_000,
            ack_responses_bytes_max: 1 << 20,
            kept_events_per_user_max: 128,
            kept_bytes_max: 64 << 20,
            idempotency_window_ms: 300_000,
            idempotency_keys_max: 100_000,
            queue_bytes_max: 1 << 20,
            recovery: RecoverySettings::default(),
            kept_at: KeptAt::default(),
            tls: None,
            turn: TurnLimits::default(),
        }
    }
}

impl EngineSettings {
    /// Whether a shard answers requests with this path. Files under the path, as the client bundle, are the API's.
    pub fn is_engine_path(&self, path: &str) -> bool {
        path.starts_with(&self.path) && !path.ends_with(".js") && !path.ends_with(".map")
    }

    pub(super) fn namespace(&self, name: &str) -> Option<NamespaceId> {
        let place = self.namespaces.iter().position(|namespace| namespace == name)?;
        u16::try_from(place).ok().map(NamespaceId)
    }

    pub(super) fn namespace_name(&self, id: NamespaceId) -> &str {
        self.namespaces.get(usize::from(id.0)).map_or("/", String::as_str)
    }

    pub(super) fn message_limits(&self) -> MessageLimits {
        MessageLimits { message_bytes_max: self.payload_bytes_max, fragments_max: self.fragments_max }
    }
}
