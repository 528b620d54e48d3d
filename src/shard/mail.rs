//! `Mail`: what others tell a shard or ask of it, and what it answers.

use std::sync::Arc;

use sockring_protocol::Millis;
use sockring_protocol::adapter::{Broadcast, Ending, EntryId, Selection, SocketDescription, StoredSession};
use sockring_protocol::http::CorsPolicy;

use super::event_id::EventId;
use super::metrics::Counters;
use super::moving::emigrant::Emigrant;
use super::moving::sid::{Instance, Sid};
use super::rooms::sockets::NamespaceId;
use super::settings::RecoverySecret;
use sockring_protocol::portable;

/// Names a question, so that its answer finds who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

portable!(struct Ticket(number));

/// Names an answer that a shard puts together from its own counts and those of others (`Tally`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TallyKey(pub usize);

portable!(struct TallyKey(key));

/// One message to a shard.
#[derive(Debug)]
pub enum Mail {
    /// To the home of a room: deliver to all its members, wherever they are. Each names one room whose home this shard is.
    /// Answered by `Reply::Delivered` when every shard has them queued.
    Emit(Vec<Broadcast>),
    /// Deliver to the members that this shard has; answered by `Reply::Delivered`.
    Deliver(Vec<Broadcast>),
    /// To the home of a room, or of a namespace: deliver to all members, wherever they are, and remember what is to be remembered
    /// of each. Answered by `Reply::Remembered` when every shard has them queued.
    EmitRemembered(Vec<Remembered>),
    /// Remember these as if they had been delivered when they were emitted: they come before all that the shard has still to be
    /// told. Answered by `Reply::Changed(0)`.
    Recall(Vec<Broadcast>),
    /// To the home of a user's room: what is kept for it, behind the event of this id, up to so many; answered by
    /// `Reply::Kept`.
    Kept { room: Box<str>, after: Option<EventId>, limit: usize },
    /// To the home of a user's room: keeps this event for it no longer, or none; answered by `Reply::Unkept`.
    Unkeep { room: Box<str>, id: Option<EventId> },
    /// Puts sockets into a room; answered by `Reply::Changed` when emits to the room reach them.
    Join(Target, Box<str>),
    /// Takes sockets out of a room; answered by `Reply::Changed`. A user's own room is never left.
    Leave(Target, Box<str>),
    /// Ends sockets or their sessions; answered by `Reply::Changed`.
    Disconnect(Target, Ending),
    /// What sockets of this shard have said to an emit that was made with this inquiry, once it has been queued everywhere;
    /// answered by `Reply::Concluded` when all have said it, or its time is over.
    Conclude(InquiryKey),
    /// From now on every new socket gets this event behind its greeting: a JSON array, its name first. `None`: no more.
    /// Answered by `Reply::Changed(0)`.
    Stand(Option<Arc<[u8]>>),
    /// From now on pages of these origins may connect. Answered by `Reply::Changed(0)`.
    AllowOrigins(CorsPolicy),
    /// From now on the log has debug lines for clients of these users. Answered by `Reply::Changed(0)`.
    Watch(Arc<[String]>),
    /// CONNECTs that the application could not decide may be decided now. Answered by `Reply::Changed(0)`.
    Reconsider,
    /// Answered by `Reply::Stats`.
    Stats,
    /// Answered by `Reply::Metrics`.
    Metrics,
    /// How many sockets this user id has here; answered by `Reply::Sockets`.
    UserStatus(String),
    /// The users that have sockets here, so many at the most, from a place on that an answer has named, or 0; answered by
    /// `Reply::Users`.
    Users { from: u32, limit: usize },
    /// Who the selected sockets are; answered by `Reply::Described`, or where that takes more bytes than this by
    /// `Reply::TooMuch`.
    Describe(Selection, usize),
    /// The other shards with members of a room whose home this shard is; answered by `Reply::Outposts`.
    Outposts { namespace: Box<str>, room: Box<str> },
    /// The names of all rooms of this namespace that have members here, those of its sockets' sids among them; answered by
    /// `Reply::Rooms`, or where that takes more bytes than this by `Reply::TooMuch`.
    Rooms(Box<str>, usize),
    /// Puts the selected sockets into rooms; answered by `Reply::Joined` when emits to the rooms reach them.
    JoinSelected(Selection, Vec<Box<str>>),
    /// Takes the selected sockets out of rooms; answered by `Reply::Changed`.
    LeaveSelected(Selection, Vec<Box<str>>),
    /// Ends the selected sockets or their sessions; answered by `Reply::Changed`.
    EndSelected(Selection, Ending),
    /// Delivers to the members that this shard has, and asks each for an acknowledgement; answered by `Reply::Delivered`, with
    /// how many are awaited.
    /// Each acknowledgement that comes within `timeout_ms` leaves as `Effect::Acknowledged` with this number.
    DeliverForAck { broadcast: Box<Broadcast>, number: u64, timeout_ms: u64 },
}

/// What the bus tells a shard. Never refused: rooms bound it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusMail {
    /// The bus is there, for the first time or again, and all that was subscribed before is subscribed again.
    Up,
    /// It is gone, as it is until it is first up: nobody waits for subscriptions, and those who waited go on.
    Down,
    /// Messages to these rooms reach this shard from now on: what waits for that goes on. Each with the epoch of the
    /// `Effect::Subscribe` that this confirms; of several for one room the last, if only one is confirmed.
    Subscribed(Vec<(RoomName, u32)>),
    /// What is known of the session that an `Effect::FindSession` of this number asked for.
    Session { number: u64, found: FoundSession },
    /// All entries of the stream up to this one have come, as far as they are for this shard.
    Read(EntryId),
    /// What is known of the time before.
    Past(SharedPast),
    /// What the bus keeps for the user of this room, in order, as an `Effect::ReadKept` of this number has asked; `None`: that is
    /// not known.
    Mailbox { number: u64, room: RoomName, found: Option<Vec<Broadcast>> },
    /// Whether the bus knows that what an `Effect::ConfirmKept` of this number named was received.
    Confirmed { number: u64, answer: ConfirmAnswer },
    /// What became of an event that an `Effect::GiveKept` has given to the bus.
    Given { room: RoomName, id: EventId, answer: GiveAnswer },
    /// The instances to which requests of their sessions can be brought, as they are now.
    Neighbours(Arc<[Instance]>),
}

/// What the bus says to receipts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfirmAnswer {
    Done,
    /// It may not have heard of them.
    Unknown,
}

/// What the bus says to an event that is given to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveAnswer {
    /// It keeps it from now on.
    Kept,
    /// It knows the same event by this name: it has come under its key elsewhere.
    Repeated(EventId),
    /// Another event has come under its key meanwhile.
    Outdated,
    /// It has as much for this user as it may.
    Full,
    /// It has not heard of it.
    Unheard,
    /// It may have done it.
    Unknown,
}

/// Who keeps an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeptBy {
    /// This process; nobody else has heard of it.
    #[default]
    Us,
    /// This process, and the bus may do so too: it has not said.
    Perhaps,
    /// The bus, for all instances.
    Bus,
}

portable!(enum KeptBy { 0 Us, 1 Perhaps, 2 Bus });

/// What other servers know of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundSession {
    Known(Box<StoredSession>),
    /// Nothing.
    Nothing,
    /// Nobody has said, in time or at all.
    Unknown,
}

portable!(enum FoundSession { 0 Known(session), 1 Nothing, 2 Unknown });

/// What a shard knows of what was in the stream before it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SharedPast {
    /// All behind this entry follows, as `Mail::Recall`; `None`: all that there ever was.
    From(Option<EntryId>),
    /// It has come. `secret` is what all servers sign with, unless the settings say it.
    Known { secret: Option<RecoverySecret> },
    /// Some of it is gone that was not read.
    Lost,
}

/// Which user's kept events are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailboxQuestion {
    /// That the answer repeats.
    pub number: u64,
    pub room: RoomName,
}

/// What one of a user's clients has received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedEvents {
    /// That the answer repeats.
    pub number: u64,
    pub room: RoomName,
    pub ids: Vec<EventId>,
}

portable!(struct ReceivedEvents { number, room, ids });

/// An event that was kept here while the bus was away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenEvent {
    pub room: RoomName,
    pub broadcast: Broadcast,
    pub id: EventId,
    pub keep: Keep,
    pub key: Option<OnceKey>,
    /// `KeptBy::Us`: the other instances have still to hear of it.
    pub by: KeptBy,
    pub now_unix_ms: u64,
}

impl Mail {
    /// The bytes that count against `mail_bytes_max`; `None` for mail that is never refused.
    pub fn refusable_bytes(&self) -> Option<usize> {
        match self {
            Mail::Emit(broadcasts) | Mail::Deliver(broadcasts) | Mail::Recall(broadcasts) => {
                Some(broadcasts.iter().map(Broadcast::bytes).sum())
            }
            Mail::EmitRemembered(emits) => Some(emits.iter().map(|emit| emit.broadcast.bytes()).sum()),
            _ => None,
        }
    }
}

/// An emit of which its home remembers something.
#[derive(Clone, Debug)]
pub struct Remembered {
    /// To one room whose home the shard is; or to several or all, and it is the home of the namespace's name.
    pub broadcast: Arc<Broadcast>,
    /// What it is called if it is new.
    pub id: EventId,
    /// It is one event with all that come under this key.
    pub key: Option<OnceKey>,
    /// Where it goes to one user: it is kept until it was received.
    pub keep: Option<Keep>,
    /// What its sockets are to say.
    pub inquiries: Vec<Inquiry>,
    /// `KeptBy::Bus`: it has been judged and is remembered there.
    pub by: KeptBy,
}

/// Names an inquiry, so that what was said is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InquiryKey(pub u64);

portable!(struct InquiryKey(key));

/// What each socket that has an emit queued is to say, within a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inquiry {
    pub key: InquiryKey,
    pub kind: InquiryKind,
    pub timeout_ms: u64,
}

portable!(struct Inquiry { key, kind, timeout_ms });

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InquiryKind {
    /// It calls back; of so many at the most the first argument is wanted.
    Ack { responses_max: usize },
    /// It has received it.
    Receipt,
}

portable!(enum InquiryKind { 0 Ack { responses_max }, 1 Receipt });

/// Until when an event is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    pub emitted_unix_ms: u64,
    pub expires_unix_ms: u64,
}

/// Whether an event is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    Kept,
    /// For all instances.
    KeptByBus,
    /// As much waits for this user as may.
    UserFull,
    /// As much waits for all as may.
    MemoryFull,
}

portable!(enum Keeping { 0 Kept, 1 KeptByBus, 2 UserFull, 3 MemoryFull });

/// A kept event, as who asks sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptView {
    pub id: EventId,
    pub namespace: Box<str>,
    /// A JSON array, its name first.
    pub args: Arc<[u8]>,
    pub emitted_unix_ms: u64,
    pub expires_unix_ms: u64,
    /// A socket has it queued, and has not said that it has received it.
    pub is_sent: bool,
    pub by: KeptBy,
}

/// The key under which an event comes once, by its name and what it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnceKey {
    /// Of the key, the namespace and what it is emitted to: two that differ have two names.
    pub name: u128,
    /// Of the event, its arguments and whom it leaves out.
    pub print: u64,
}

portable!(struct OnceKey { name, print });

/// What an emit under a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    New,
    /// This event has come before.
    Repeated(EventId),
    /// Under the key another event has come.
    AnotherEvent,
}

portable!(enum Verdict { 0 New, 1 Repeated(id), 2 AnotherEvent });

/// What became of an emit of which something is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmitOutcome {
    /// Sockets that have it queued.
    pub delivered: u64,
    pub verdict: Verdict,
    /// `None`: it was not to be kept, or is not new.
    pub keeping: Option<Keeping>,
}

/// What one shard tells another. Mail between two shards keeps its order.
#[derive(Debug)]
pub enum SiblingMail {
    /// A client comes home; its connections follow.
    MoveIn(Box<Emigrant>),
    /// A client that had moved is gone.
    Gone(Sid),
    /// To a room's home: there are members here, `from` now on.
    RoomUp { room: RoomName, epoch: u32, from: u16 },
    /// To a room's home: there are none any more, since the `RoomUp` of this epoch.
    RoomDown { room: RoomName, epoch: u32, from: u16 },
    /// From a room's home: it knows of the `RoomUp` of this epoch.
    RoomReady { room: RoomName, epoch: u32 },
    /// From a room's home: deliver to the members there, and answer.
    Deliver { broadcast: Arc<Broadcast>, tally: TallyKey, index: usize, from: u16, inquiries: Vec<Inquiry> },
    /// The answer.
    Delivered { tally: TallyKey, index: usize, count: u64 },
    /// Look for requests that are not read yet, and answer behind those that are for `from`: some of its polling clients
    /// are past a deadline.
    Look { from: u16, round: u32 },
    /// The answer, and when the shard did not turn for long before and meanwhile.
    Looked { round: u32, aways: Vec<Away> },
}

portable!(enum SiblingMail {
    0 MoveIn(emigrant),
    1 Gone(sid),
    2 RoomUp { room, epoch, from },
    3 RoomDown { room, epoch, from },
    4 RoomReady { room, epoch },
    5 Deliver { broadcast, tally, index, from, inquiries },
    6 Delivered { tally, index, count },
    7 Look { from, round },
    8 Looked { round, aways },
});

impl SiblingMail {
    /// The bytes that count against `mail_bytes_max`; `None` for mail that is never refused, because clients and rooms
    /// bound it.
    pub fn refusable_bytes(&self) -> Option<usize> {
        match self {
            SiblingMail::Deliver { broadcast, .. } => Some(broadcast.bytes()),
            _ => None,
        }
    }
}

/// A time in which a shard did not turn: there was nothing to do, or it was late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Away {
    pub until: Millis,
    pub for_ms: u64,
}

portable!(struct Away { until, for_ms });

/// A room by its full name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoomName {
    pub namespace: NamespaceId,
    pub name: Box<str>,
}

portable!(struct RoomName { namespace, name });

/// The sockets that a mail is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// All sockets of a user.
    User(Box<str>),
    /// The socket with this Socket.IO sid.
    Socket(Box<str>),
}

/// A shard's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Sockets that have it queued, for each broadcast.
    Delivered(Vec<u64>),
    /// Of what is kept for a user: some, whether there are more behind them, and how many there are in all.
    Kept {
        events: Vec<KeptView>,
        has_more: bool,
        total: u64,
    },
    /// How many events were kept for a user: here, and of those that the bus keeps as far as that was known here.
    Unkept {
        here: u64,
        by_bus: u64,
    },
    /// What became of each emit.
    Remembered(Vec<EmitOutcome>),
    /// Sockets that have said what they were asked, and what some of them have said: JSON values.
    Concluded {
        sockets: u64,
        responses: Vec<Box<[u8]>>,
    },
    /// Sockets that it was done to.
    Changed(u64),
    /// Sockets that are in all of the rooms, and those that would have been in more than a socket may.
    Joined {
        sockets: u64,
        refused: u64,
    },
    Stats(Box<ShardStats>),
    Metrics(Box<ShardMetrics>),
    Sockets(u64),
    /// Users, each with the sockets that it has here, and from where to ask on, unless these were the last. There may be none
    /// among them although others follow: one answer is a look at a part of the shard.
    Users {
        users: Vec<(Box<str>, u64)>,
        next: Option<u32>,
    },
    Described(Vec<SocketDescription>),
    Outposts(Vec<u16>),
    Rooms(Vec<Box<str>>),
    /// The answer would take more bytes than it may.
    TooMuch,
}

/// Everything that a shard counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardMetrics {
    pub stats: ShardStats,
    pub counters: Counters,
}

/// How many of each there are in a shard now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardStats {
    /// TCP connections that the shard holds.
    pub connections: u64,
    /// Engine.IO sessions, those without a socket among them.
    pub clients: u64,
    /// Clients that have a socket.
    pub connected: u64,
    /// Sockets over all namespaces.
    pub sockets: u64,
    /// Whose home is this shard, so that each counts once.
    pub users: u64,
    pub rooms: u64,
    /// Of the connected clients: those whose transport is a WebSocket, and the others.
    pub websocket: u64,
    pub polling: u64,
    /// Bytes that wait for clients, with what is kept about them.
    pub queued_bytes: u64,
    /// The same of connections whose client is gone and that have still to send it.
    pub closing_bytes: u64,
    /// Bytes of what has begun to leave that the kernel has not taken.
    pub sending_bytes: u64,
    /// Bytes of heads, messages, bodies and attachments that peers have begun and not ended.
    pub input_bytes: u64,
    /// Half open: clients that have sent no CONNECT that was accepted.
    pub unclaimed: u64,
    /// Half open: clients with a probe that is not their transport yet.
    pub probing: u64,
    /// Half open: clients whose attachments have not all come.
    pub assembling: u64,
    /// Polling clients that are over and have still to fetch how.
    pub leaving: u64,
    /// Connections that wait for their peer to end its side.
    pub closing: u64,
    /// Half open: requests whose head, or body, has not all come.
    pub heads: u64,
    pub bodies: u64,
    /// Connections that idle, and would be closed for others.
    pub idle: u64,
    /// Of the sockets: those that wait until emits to their user reach them from everywhere.
    pub joining: u64,
    /// CONNECTs that cannot be decided yet.
    pub connects_waiting: u64,
    /// Rooms that the bus has been asked for and has still to confirm.
    pub subscriptions_pending: u64,
    /// Acknowledgements of broadcasts that clients have still to send.
    pub acks_pending: u64,
    /// Messages of broadcasts that have still to be queued for their receivers.
    pub deliveries_pending: u64,
    /// Events that are kept, the users that they are for, and what they take.
    pub kept_events: u64,
    pub kept_users: u64,
    pub kept_bytes: u64,
    /// Keys of emits that are remembered.
    pub idempotency_keys: u64,
    /// Polling clients that have moved to another shard and are still there.
    pub moved_away: u64,
    /// Events that are remembered for clients that come back, what they take, and how long ago the oldest was delivered.
    pub recovery_events: u64,
    pub recovery_bytes: u64,
    pub recovery_oldest_ms: u64,
    /// Rooms that have lost their last member, and are remembered for members that come back.
    pub lingering_rooms: u64,
    /// Sockets that get what they have missed as fast as they read.
    pub behind: u64,
    /// No more clients are taken, and those that are here end.
    pub is_draining: bool,
    /// Within the last five seconds mail or completions have waited too long.
    pub is_slow: bool,
}
