//! `Limit`: every limit that a shard holds its peers to, by the name of its setting.

/// A limit that can be hit. The metric's label is the setting's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    ConnectionsMax,
    ClientsMax,
    UserConnectionsMax,
    HandshakesPerMinuteMax,
    UnknownSidsPerMinuteMax,
    HeadBytesMax,
    HeadTimeout,
    BodyTimeout,
    IdleTimeout,
    RequestsPerConnectionMax,
    PayloadBytesMax,
    PayloadPacketsMax,
    FragmentsMax,
    AttachmentsMax,
    MessageTimeout,
    ConnectTimeout,
    UpgradeTimeout,
    NamespacesPerClientMax,
    RoomsPerSocketMax,
    AcksPendingMax,
    EventsPerSecondMax,
    QueueBytesMax,
    MailBytesMax,
}

impl Limit {
    pub const ALL: [Limit; 23] = [
        Limit::ConnectionsMax,
        Limit::ClientsMax,
        Limit::UserConnectionsMax,
        Limit::HandshakesPerMinuteMax,
        Limit::UnknownSidsPerMinuteMax,
        Limit::HeadBytesMax,
        Limit::HeadTimeout,
        Limit::BodyTimeout,
        Limit::IdleTimeout,
        Limit::RequestsPerConnectionMax,
        Limit::PayloadBytesMax,
        Limit::PayloadPacketsMax,
        Limit::FragmentsMax,
        Limit::AttachmentsMax,
        Limit::MessageTimeout,
        Limit::ConnectTimeout,
        Limit::UpgradeTimeout,
        Limit::NamespacesPerClientMax,
        Limit::RoomsPerSocketMax,
        Limit::AcksPendingMax,
        Limit::EventsPerSecondMax,
        Limit::QueueBytesMax,
        Limit::MailBytesMax,
    ];

    /// The setting that holds it.
    pub fn setting(self) -> &'static str {
        match self {
            Limit::ConnectionsMax => "connections_max",
            Limit::ClientsMax => "clients_max",
            Limit::UserConnectionsMax => "user_connections_max",
            Limit::HandshakesPerMinuteMax => "handshakes_per_minute_max",
            Limit::UnknownSidsPerMinuteMax => "unknown_sids_per_minute_max",
            Limit::HeadBytesMax => "head_bytes_max",
            Limit::HeadTimeout => "head_timeout_ms",
            Limit::BodyTimeout => "body_timeout_ms",
            Limit::IdleTimeout => "idle_timeout_ms",
            Limit::RequestsPerConnectionMax => "requests_per_connection_max",
            Limit::PayloadBytesMax => "payload_bytes_max",
            Limit::PayloadPacketsMax => "payload_packets_max",
            Limit::FragmentsMax => "fragments_max",
            Limit::AttachmentsMax => "attachments_max",
            Limit::MessageTimeout => "message_timeout_ms",
            Limit::ConnectTimeout => "connect_timeout_ms",
            Limit::UpgradeTimeout => "upgrade_timeout_ms",
            Limit::NamespacesPerClientMax => "namespaces_per_client_max",
            Limit::RoomsPerSocketMax => "rooms_per_socket_max",
            Limit::AcksPendingMax => "acks_pending_max",
            Limit::EventsPerSecondMax => "events_per_second_max",
            Limit::QueueBytesMax => "queue_bytes_max",
            Limit::MailBytesMax => "mail_bytes_max",
        }
    }
}
