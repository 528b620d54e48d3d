//! Shards of two processes that read one stream, by hand: who was at one comes to the other, under its name, and gets what it has
//! missed and nothing twice.

use sockring::shard::{
    BusMail, EngineSettings, FoundSession, Instance, Instances, Mail, Positions, RecoverySecret, RecoverySettings,
    SharedPast, Target,
};
use sockring_protocol::adapter::{Broadcast, EntryId, StoredSession};

use super::desk::payload_after;
use super::table::{Move, Table, USER, settings};
use super::wire;

fn streams(instance: u32) -> EngineSettings {
    let recovery = RecoverySettings {
        window_ms: 120_000,
        bytes_max: 1 << 20,
        positions: Positions::OfStream,
        secret: Some(RecoverySecret::new(b"of all")),
        ..RecoverySettings::default()
    };
    EngineSettings { instances: Instances::OverBus, instance: Instance::new(instance), recovery, ..settings() }
}

fn id(millis: u64) -> EntryId {
    EntryId { millis, sequence: 0 }
}

/// The entry of this time, to a room.
fn entry_to(room: &str, millis: u64) -> Broadcast {
    let args = format!("[\"news\",{millis}]");
    Broadcast { entry: Some(id(millis)), ..Broadcast::new("/", vec![room.into()], args.as_bytes().into()) }
}

fn entry(millis: u64) -> Broadcast {
    entry_to("user:u0", millis)
}

/// A process that knows all that was in the stream: what `recalled` gives. Line 0 is for requests, line 1 has a GET open.
fn process(instance: u32, recalled: fn() -> Mail) -> Table {
    let mut table = Table::with(streams(instance), 2);
    table.turn(&[
        Move::Bus(BusMail::Up),
        Move::Bus(BusMail::Past(SharedPast::From(None))),
        Move::Mail(recalled),
        Move::Bus(BusMail::Past(SharedPast::Known { secret: None })),
    ]);
    poll(&mut table);
    table
}

fn nothing() -> Mail {
    Mail::Recall(Vec::new())
}

fn poll(table: &mut Table) {
    let poll = wire::poll(&table.sid);
    table.turn(&[Move::Bytes(1, poll)]);
}

/// What has come since, with a GET open again.
fn heard(table: &mut Table) -> String {
    let heard = table.take(1);
    if !heard.is_empty() {
        poll(table);
    }
    heard
}

/// A CONNECT, of one who was at another process if it has a session and an offset.
fn connect(table: &mut Table, from: Option<(&StoredSession, &str)>) {
    let known = from.map_or_else(String::new, |(StoredSession { pid, .. }, offset)| {
        format!("\"pid\":\"{pid}\",\"offset\":\"{offset}\",")
    });
    let payload = format!("40{}", payload_after(&known, USER));
    table.turn(&[Move::Bytes(0, wire::post(&table.sid, payload.as_bytes()))]);
    assert_eq!(table.take(0), "200 ok");
    // Nobody waits for what the bus has still to confirm.
    table.turn(&[Move::Wait(250)]);
}

fn find(table: &mut Table, number: u64, found: FoundSession) {
    table.turn(&[Move::Bus(BusMail::Session { number, found })]);
}

fn known(session: &StoredSession) -> FoundSession {
    FoundSession::Known(Box::new(session.clone()))
}

/// The session of one who was at another process, and has got the entry of time 10.
fn left_elsewhere() -> StoredSession {
    let mut table = process(1, nothing);
    connect(&mut table, None);
    assert!(heard(&mut table).contains("welcome"));
    table.turn(&[Move::Mail(|| Mail::Emit(vec![entry(10)]))]);
    let heard = heard(&mut table);
    assert!(heard.contains("10-0"), "{heard}");
    table.sessions().pop().expect("others are told of it")
}

#[test]
fn who_was_elsewhere_gets_what_it_has_missed_under_its_name() {
    let session = left_elsewhere();
    let mut table = process(2, || Mail::Recall(vec![entry(10), entry(11), entry_to("user:u1", 12)]));
    connect(&mut table, Some((&session, "10-0")));
    assert!(table.wishes().contains(&format!("find 1 {}", session.pid)));
    table.turn(&[Move::Mail(|| Mail::Emit(vec![entry(13)]))]);
    assert_eq!(heard(&mut table), "", "it waits for its session");
    find(&mut table, 1, known(&session));
    let heard = heard(&mut table);
    assert!(heard.contains(&*session.sid) && heard.contains(&*session.pid), "{heard}");
    let news: Vec<_> = (10..14).filter(|n| heard.contains(&format!("[\"news\",{n}"))).collect();
    assert_eq!(news, [11, 13], "{heard}");
    // It is reached by its old name, and others find it here now.
    let again = table.sessions().pop().expect("others are told of it");
    assert_eq!((&again.sid, &again.pid), (&session.sid, &session.pid));
}

#[test]
fn who_is_ahead_of_what_was_read_gets_nothing_twice() {
    let session = left_elsewhere();
    let mut table = process(2, nothing);
    connect(&mut table, Some((&session, "12-0")));
    find(&mut table, 1, known(&session));
    let welcome = heard(&mut table);
    assert!(welcome.contains(&*session.pid) && !welcome.contains("news"), "{welcome}");
    table.turn(&[Move::Mail(|| Mail::Emit(vec![entry(10), entry(11), entry(12)]))]);
    assert_eq!(heard(&mut table), "");
    table.turn(&[Move::Mail(|| Mail::Emit(vec![entry(13)]))]);
    assert!(heard(&mut table).contains("[\"news\",13"));
}

#[test]
fn of_whom_nothing_is_known_only_the_events_of_its_user_come() {
    let session = left_elsewhere();
    let recalled = || Mail::Recall(vec![entry(11), entry_to("news", 12)]);
    // Redis has no session, or does not say so in time.
    for is_answered in [true, false] {
        let mut table = process(2, recalled);
        connect(&mut table, Some((&session, "10-0")));
        match is_answered {
            true => find(&mut table, 1, FoundSession::Nothing),
            false => table.turn(&[Move::Wait(600)]),
        }
        let heard = heard(&mut table);
        assert!(heard.contains("[\"news\",11") && !heard.contains("[\"news\",12"), "{heard}");
        assert!(!heard.contains(&*session.sid) && !heard.contains(&*session.pid), "{heard}");
    }
}

#[test]
fn what_is_gone_from_the_stream_makes_nobody_believe_that_it_has_all() {
    let session = left_elsewhere();
    for past in [SharedPast::Lost, SharedPast::From(Some(id(12)))] {
        let mut table = process(2, || Mail::Recall(vec![entry(11)]));
        table.turn(&[Move::Bus(BusMail::Past(past))]);
        connect(&mut table, Some((&session, "10-0")));
        find(&mut table, 1, known(&session));
        let heard = heard(&mut table);
        assert!(heard.contains("welcome") && !heard.contains("news") && !heard.contains(&*session.pid), "{heard}");
    }
}

#[test]
fn who_comes_before_the_past_is_known_waits_for_it() {
    let session = left_elsewhere();
    let mut table = Table::with(streams(2), 2);
    poll(&mut table);
    connect(&mut table, Some((&session, "10-0")));
    assert_eq!((heard(&mut table).as_str(), table.wishes().iter().any(|wish| wish.starts_with("find"))), ("", false));
    table.turn(&[
        Move::Bus(BusMail::Past(SharedPast::From(None))),
        Move::Mail(|| Mail::Recall(vec![entry(11)])),
        Move::Bus(BusMail::Past(SharedPast::Known { secret: None })),
    ]);
    assert!(table.wishes().contains(&format!("find 1 {}", session.pid)));
    find(&mut table, 1, known(&session));
    let heard = heard(&mut table);
    assert!(heard.contains("[\"news\",11") && heard.contains(&*session.pid), "{heard}");
}

#[test]
fn of_a_node_server_a_session_is_its_users_and_nobody_elses() {
    let of_node = |user: &str| StoredSession {
        sid: "MVHAAfT1QzYDAAAAAAAB".into(),
        pid: "kJ7dYwWq0aFzAAAAAAAC".into(),
        rooms: vec!["MVHAAfT1QzYDAAAAAAAB".into(), user.into(), "news".into()],
        data: b"{\"a\":1}".as_slice().into(),
        stays: None,
    };
    let recalled = || Mail::Recall(vec![entry(11), entry_to("news", 12)]);
    for (user, is_its) in [("user:u0", true), ("user:u1", false)] {
        let session = of_node(user);
        let mut table = process(2, recalled);
        connect(&mut table, Some((&session, "10-0")));
        find(&mut table, 1, known(&session));
        let heard = heard(&mut table);
        assert_eq!(heard.contains(&*session.pid) && heard.contains(&*session.sid), is_its, "{heard}");
        let news: Vec<_> = (11..13).filter(|n| heard.contains(&format!("[\"news\",{n}"))).collect();
        assert_eq!(news, if is_its { vec![11, 12] } else { Vec::new() }, "{heard}");
        if is_its {
            let told = table.sessions().pop().expect("others are told of it");
            assert_eq!((told.pid, told.data), (session.pid, session.data));
        }
    }
}

#[test]
fn rooms_go_along_with_when_it_was_in_which() {
    let mut table = process(1, nothing);
    connect(&mut table, None);
    table.turn(&[Move::Mail(|| Mail::Emit(vec![entry(10)]))]);
    table.turn(&[Move::Mail(|| Mail::Join(Target::User(USER.into()), "news".into()))]);
    table.turn(&[Move::Wait(250)]);
    let session = table.sessions().pop().expect("others are told of its rooms");
    assert!(session.rooms.contains(&"news".into()), "{session:?}");
    // What the room got before that is not for it.
    let mut table = process(2, || Mail::Recall(vec![entry_to("news", 9), entry_to("news", 10), entry_to("news", 11)]));
    connect(&mut table, Some((&session, "8-0")));
    find(&mut table, 1, known(&session));
    let heard = heard(&mut table);
    let news: Vec<_> = (9..12).filter(|n| heard.contains(&format!("[\"news\",{n}"))).collect();
    assert_eq!(news, [11], "{heard}");
}
