//! Faults that recovery and keeping could have, each in one expression: `cargo run --bin seeds` puts them in, and counts the
//! seeds of the simulation that find them.

/// One expression that is replaced, and the test of the simulation that has to find it.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// What holds, and does not with it.
    pub invariant: Invariant,
    /// What would be wrong.
    pub what: &'static str,
    /// The file, from the root of the project.
    pub path: &'static str,
    /// The expression that stands there, once.
    pub right: &'static str,
    /// The one that is put in its place.
    pub wrong: &'static str,
    /// Of `tests/sim`.
    pub test: &'static str,
}

/// What the simulation holds recovery and keeping to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invariant {
    /// Each client object gets events in order and once; one again only where its marker was cut off.
    OrderedAndOnce,
    /// Who is told that it is recovered has missed nothing.
    NothingMissed,
    /// Nobody is told that it is not without a reason.
    RefusedWithReason,
    /// What is kept comes within its time, until it was received.
    KeptUntilReceived,
    /// Nobody gets what is not for it, whatever it claims.
    NobodyElse,
    /// A session has one socket.
    OneSocket,
    /// A key is one event.
    OneEventPerKey,
    /// All that is remembered is within its bounds, and gone in the end.
    Bounded,
    /// Whatever happens at the same time.
    AnyInterleaving,
    /// Without recovery nothing of it is on the wire.
    OffIsOff,
    /// A shard that is made of another's bytes goes on where that was.
    GoesOnAsBytes,
}

impl Invariant {
    pub const ALL: [Invariant; 11] = [
        Invariant::OrderedAndOnce,
        Invariant::NothingMissed,
        Invariant::RefusedWithReason,
        Invariant::KeptUntilReceived,
        Invariant::NobodyElse,
        Invariant::OneSocket,
        Invariant::OneEventPerKey,
        Invariant::Bounded,
        Invariant::AnyInterleaving,
        Invariant::OffIsOff,
        Invariant::GoesOnAsBytes,
    ];
}

const fn fault(
    invariant: Invariant,
    test: &'static str,
    path: &'static str,
    right: &'static str,
    wrong: &'static str,
    what: &'static str,
) -> Fault {
    Fault { invariant, what, path, right, wrong, test }
}

const RETURNING: &str = "who_is_recovered";
const WORLDS: &str = "returns";
const ALL_WORLDS: &str = "seeds";

pub const FAULTS: &[Fault] = &[
    fault(
        Invariant::OrderedAndOnce,
        RETURNING,
        "src/shard/recovery/log.rs",
        "numbers.sort_unstable()",
        "numbers.sort_unstable_by(|one, other| other.cmp(one))",
        "what was missed comes from its end",
    ),
    fault(
        Invariant::OrderedAndOnce,
        RETURNING,
        "src/shard/recovery/returning.rs",
        "offset.filter(|offset| *offset >= pid.start).unwrap_or(pid.start)",
        "offset.filter(|offset| *offset >= pid.start).map_or(pid.start, |offset| offset.before())",
        "the last event that a client has got comes again",
    ),
    fault(
        Invariant::NothingMissed,
        RETURNING,
        "src/shard/recovery/log.rs",
        "entry.position > from",
        "entry.position.0 > from.0 + 1",
        "the first event that was missed is passed over",
    ),
    fault(
        Invariant::NothingMissed,
        RETURNING,
        "src/shard/recovery/slow.rs",
        "recovery.behind.put(seat, position.before())",
        "recovery.behind.put(seat, position)",
        "a slow client does not get the event that found no room",
    ),
    fault(
        Invariant::NothingMissed,
        RETURNING,
        "src/shard/rooms/lingering.rs",
        "!self.rooms.is_empty() && self.rooms.contains_key(&Named(namespace, name))",
        "false",
        "what is emitted to a room whose last member is away is not remembered",
    ),
    fault(
        Invariant::RefusedWithReason,
        RETURNING,
        "src/shard/recovery/log.rs",
        "self.floor <= position",
        "self.floor < position",
        "who has got as far as the log begins is not recovered",
    ),
    fault(
        Invariant::RefusedWithReason,
        RETURNING,
        "src/shard/recovery/state.rs",
        "now + self.keep_ms",
        "now + self.keep_ms / 4",
        "rooms are forgotten before their time",
    ),
    fault(
        Invariant::KeptUntilReceived,
        RETURNING,
        "src/shard/rooms/receipts.rs",
        "on_the_way.sent.drain(..on_the_way.before_ping).collect()",
        "on_the_way.sent.drain(..).collect()",
        "a pong is a receipt of what follows its ping",
    ),
    fault(
        Invariant::KeptUntilReceived,
        RETURNING,
        "src/shard/recovery/returning.rs",
        "self.confirm_kept(room, pid.sid, *from)",
        "self.confirm_kept(room, pid.sid, Position::MAX)",
        "who comes back is taken to have received all that it was to get",
    ),
    fault(
        Invariant::KeptUntilReceived,
        ALL_WORLDS,
        "src/shard/rooms/keeping.rs",
        "self.now.at + keep.expires_unix_ms.saturating_sub(self.now.unix_ms)",
        "self.now.at + (keep.expires_unix_ms.saturating_sub(self.now.unix_ms) + 500)",
        "what is kept comes after its time",
    ),
    fault(
        Invariant::NobodyElse,
        RETURNING,
        "src/shard/recovery/log.rs",
        "extra.except.iter().any(|room| is_in(room))",
        "false",
        "who comes back gets what it was excepted from",
    ),
    fault(
        Invariant::NobodyElse,
        RETURNING,
        "src/shard/recovery/log.rs",
        "entry.position <= stay.until",
        "true",
        "who comes back gets what a room got after it had left it",
    ),
    fault(
        Invariant::NobodyElse,
        RETURNING,
        "src/shard/recovery/log.rs",
        "from.max(stay.from)",
        "from",
        "who comes back gets what a room got before it had joined it",
    ),
    fault(
        Invariant::NobodyElse,
        WORLDS,
        "src/shard/recovery/pid.rs",
        "user.unwrap_or_default().as_bytes()",
        "b\"\"",
        "a session goes on for another user",
    ),
    fault(
        Invariant::OneSocket,
        RETURNING,
        "src/shard/recovery/returning.rs",
        "self.drop_client(key, CloseReason::TakenOver, None, Farewell::Now)",
        "()",
        "the older socket of a session stays",
    ),
    fault(
        Invariant::OneEventPerKey,
        ALL_WORLDS,
        "src/shard/rooms/once.rs",
        "*at + window_ms <= now",
        "*at + window_ms / 2 <= now",
        "a key is forgotten before its time",
    ),
    fault(
        Invariant::OneEventPerKey,
        ALL_WORLDS,
        "src/shard/rooms/remembered.rs",
        "self.remember_key(key, emit.id, self.now.at)",
        "()",
        "a key is not remembered",
    ),
    fault(
        Invariant::Bounded,
        RETURNING,
        "src/shard/recovery/log.rs",
        "self.bytes > self.bytes_max && self.drop_front()",
        "false",
        "the log grows beyond its bound",
    ),
    fault(
        Invariant::Bounded,
        RETURNING,
        "src/shard/recovery/state.rs",
        "self.log.expire(now)",
        "()",
        "the log keeps what is too old",
    ),
    fault(
        Invariant::AnyInterleaving,
        RETURNING,
        "src/shard/recovery/heartbeat.rs",
        "recovery.reached_by((key.0.index, place))",
        "recovery.log.told()",
        "a heartbeat tells a slow client of what it has still to be sent",
    ),
    fault(
        Invariant::AnyInterleaving,
        RETURNING,
        "src/shard/recovery/returning.rs",
        "recovery.stays.restore(seat, left)",
        "drop(left)",
        "who comes back twice is not known to have left a room before",
    ),
    fault(
        Invariant::OffIsOff,
        ALL_WORLDS,
        "src/shard/recovery/state.rs",
        "recovery.window_ms == 0",
        "false",
        "a server without recovery says how far clients have got",
    ),
    fault(
        Invariant::GoesOnAsBytes,
        ALL_WORLDS,
        "src/shard/relay/slabs.rs",
        "entries.push((slot, entry))",
        "entries.push((entries.len(), entry))",
        "what was behind an empty slot has another number",
    ),
    fault(
        Invariant::GoesOnAsBytes,
        ALL_WORLDS,
        "src/shard/timers.rs",
        "self.place(hint)",
        "drop(hint)",
        "deadlines are forgotten",
    ),
    fault(
        Invariant::GoesOnAsBytes,
        ALL_WORLDS,
        "src/shard/relay/shard_form.rs",
        "Some(Stranger::again(&shard.hub.capacity, door, address))",
        "None",
        "who has no session is not counted",
    ),
];
