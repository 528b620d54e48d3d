//! A broadcast that takes several turns: how much of it a turn does, and that no client can tell.

use std::sync::Arc;

use sockring::shard::{BusMail, EngineSettings, Instances, Mail, NamespaceId, Reply, RoomName, Target, TurnLimits};
use sockring_protocol::adapter::{Broadcast, Ending, Selection, SocketDescription};
use sockring_protocol::websocket::Opcode;

use super::desk::payload_of;
use super::table::{Move, Table, settings};
use super::wire;

const CLIENTS: usize = 8;
/// The last one whom a broadcast reaches.
const LAST: usize = CLIENTS - 1;

/// Two messages of broadcasts in a turn, and what goes to one client at once.
fn two_a_turn() -> EngineSettings {
    let mut settings = settings();
    settings.turn = TurnLimits { messages_max: 2, at_once_max: 1, ..TurnLimits::default() };
    // So that the only bytes are those of the test.
    settings.times.ping_interval_ms = 60_000;
    settings
}

/// Users `u0` to `u7` on WebSockets, on the line of their number.
fn crowd(settings: EngineSettings) -> Table {
    let mut table = Table::with(settings, CLIENTS);
    for line in 0..CLIENTS {
        let connect = wire::text_frame(&format!("40{}", payload_of(&format!("u{line}"))), [1; 4]);
        table.turn(&[Move::Bytes(line, [wire::websocket(None), connect].concat())]);
        table.turn(&[]);
        let heard = table.take(line);
        assert!(heard.ends_with(r#"42["welcome"]"#), "{heard}");
    }
    table
}

fn to_last(text: &str) -> Mail {
    to_user(LAST, text)
}

fn to_user(number: usize, text: &str) -> Mail {
    Mail::Deliver(vec![Broadcast::new("/", vec![format!("user:u{number}").into()], Arc::from(text.as_bytes()))])
}

fn last() -> Target {
    Target::User(format!("u{LAST}").into())
}

/// Who has something to read.
fn heard(table: &mut Table) -> Vec<usize> {
    (0..CLIENTS).filter(|line| !table.take(*line).is_empty()).collect()
}

#[test]
fn a_turn_does_its_part_and_leaves_the_rest() {
    let mut table = crowd(two_a_turn());
    table.turn(&[Move::Emit]);
    for turn in 0..CLIENTS / 2 {
        assert_eq!(heard(&mut table), [2 * turn, 2 * turn + 1]);
        table.turn(&[]);
    }
    assert_eq!(heard(&mut table), [0; 0], "each once");
}

#[test]
fn an_emit_to_one_overtakes_a_broadcast_at_others_and_not_at_its_own() {
    let mut table = crowd(two_a_turn());
    table.turn(&[Move::Emit, Move::Mail(|| to_last(r#"["one"]"#)), Move::Emit, Move::Mail(|| to_last(r#"["two"]"#))]);
    assert_eq!(table.take(LAST), r#"42["news"], 42["one"], 42["news"], 42["two"]"#);
    assert_eq!(table.replies().len(), 2, "who emits to one client waits for nobody else");
    assert_eq!(table.take(LAST - 1), "");
    (0..CLIENTS).for_each(|_| table.turn(&[]));
    assert_eq!((table.take(LAST - 1), table.take(LAST)), (r#"42["news"], 42["news"]"#.to_owned(), String::new()));
}

#[test]
fn who_ends_has_what_was_emitted_before_and_nothing_else() {
    for (ending, end) in [(Ending::Socket, ", 41"), (Ending::Client, ", 41, close"), (Ending::Session, ", close")] {
        let mut table = crowd(two_a_turn());
        let end_last: fn() -> Mail = match ending {
            Ending::Socket => || Mail::Disconnect(last(), Ending::Socket),
            Ending::Client => || Mail::Disconnect(last(), Ending::Client),
            Ending::Session => || Mail::Disconnect(last(), Ending::Session),
        };
        table.turn(&[Move::Emit, Move::Mail(end_last), Move::Emit]);
        (0..CLIENTS).for_each(|_| table.turn(&[]));
        let heard = table.take(LAST);
        assert!(heard.starts_with(&format!(r#"42["news"]{end}"#)), "{heard}");
        assert_eq!(heard.matches("news").count(), 1, "{heard}");
    }
}

#[test]
fn many_who_are_to_end_end_over_several_turns_and_have_nothing_more_to_say() {
    let mut table = crowd(two_a_turn());
    let end_all: fn() -> Mail = || {
        let everybody = Selection { namespace: "/".into(), rooms: Vec::new(), except: Vec::new() };
        Mail::EndSelected(everybody, Ending::Socket)
    };
    table.turn(&[Move::Emit, Move::Mail(end_all)]);
    assert_eq!(table.take(0), r#"42["news"]"#);
    assert!(!table.takes_mail(), "who is to be gone is still there");
    // One of them says something meanwhile.
    table.turn(&[Move::Bytes(LAST, wire::text_frame(r#"42["echo",1]"#, [1; 4]))]);
    let heard = table.take(LAST);
    assert!(heard.starts_with(r#"42["news"], 41"#) && !heard.contains("echo"), "{heard}");
    (0..CLIENTS).for_each(|_| table.turn(&[]));
    assert!(matches!(table.replies()[..], [Reply::Changed(8)]) && table.takes_mail());
    assert_eq!((table.take(0), table.take(1)), ("41".to_owned(), r#"42["news"], 41"#.to_owned()));
}

#[test]
fn who_is_in_a_room_when_it_is_emitted_to_gets_it() {
    let to_room = || Mail::Deliver(vec![Broadcast::new("/", vec!["r".into()], Arc::from(&br#"["room"]"#[..]))]);
    let everybody = |table: &mut Table| {
        for user in 0..CLIENTS - 1 {
            table.mail(Mail::Join(Target::User(format!("u{user}").into()), "r".into()));
        }
        table.turn(&[]);
    };
    let join_last: fn() -> Mail = || Mail::Join(last(), "r".into());
    let leave_last: fn() -> Mail = || Mail::Leave(last(), "r".into());
    for (moves, expected) in [
        ([Move::Mail(join_last), Move::Mail(to_room), Move::Mail(leave_last)], 1),
        ([Move::Mail(to_room), Move::Mail(join_last), Move::Wait(0)], 0),
        ([Move::Mail(join_last), Move::Mail(leave_last), Move::Mail(to_room)], 0),
    ] {
        let mut table = crowd(two_a_turn());
        everybody(&mut table);
        table.turn(&moves);
        (0..CLIENTS).for_each(|_| table.turn(&[]));
        assert_eq!(table.take(LAST).matches("room").count(), expected, "{moves:?}");
        assert_eq!(table.take(LAST - 1).matches("room").count(), 1);
    }
}

#[test]
fn who_is_not_told_yet_that_it_is_connected_gets_nothing_emitted_before() {
    let mut table = Table::with(EngineSettings { instances: Instances::OverBus, ..two_a_turn() }, CLIENTS);
    table.turn(&[Move::Bus(BusMail::Up)]);
    let subscribed = |line: usize| {
        let room = RoomName { namespace: NamespaceId(0), name: format!("user:u{line}").into() };
        Move::Bus(BusMail::Subscribed(vec![(room, u32::try_from(line).expect("few") + 1)]))
    };
    for line in 0..CLIENTS {
        let connect = wire::text_frame(&format!("40{}", payload_of(&format!("u{line}"))), [1; 4]);
        table.turn(&[Move::Bytes(line, [wire::websocket(None), connect].concat())]);
        if line < LAST {
            table.turn(&[subscribed(line)]);
        }
        table.turn(&[]);
        table.take(line);
    }
    table.turn(&[Move::Emit]);
    table.turn(&[subscribed(LAST)]);
    (0..CLIENTS).for_each(|_| table.turn(&[]));
    let heard = table.take(LAST);
    assert!(heard.starts_with("40") && !heard.contains("news"), "{heard}");
    assert_eq!(table.take(LAST - 1), r#"42["news"]"#);
}

#[test]
fn a_turn_hands_the_kernel_so_many_bytes() {
    let mut settings = two_a_turn();
    settings.turn = TurnLimits { sent_bytes_max: 1_500, small_bytes_max: 500, ..TurnLimits::default() };
    let mut table = crowd(settings);
    table.turn(&[Move::EmitBytes(1_000)]);
    assert_eq!(heard(&mut table), [0, 1]);
    // What is small does not wait behind what is large, unless it is for the same client.
    table.mail(to_last(r#"["one"]"#));
    table.mail(Mail::Deliver(vec![Broadcast::new("/", vec!["user:u0".into()], Arc::from(&br#"["small"]"#[..]))]));
    table.turn(&[]);
    assert_eq!(heard(&mut table), [0, 2, 3]);
    (0..2).for_each(|_| table.turn(&[]));
    assert_eq!(heard(&mut table), [4, 5, 6, 7]);
}

#[test]
fn what_is_large_leaves_in_pieces_and_what_has_begun_goes_on_first() {
    let mut settings = two_a_turn();
    settings.turn =
        TurnLimits { sent_bytes_max: 800, small_bytes_max: 50, piece_bytes_max: 400, ..TurnLimits::default() };
    let mut table = crowd(settings);
    table.sends();
    table.turn(&[Move::EmitBytes(1_000)]);
    // The frame with its head, and what is around the text.
    let last = 4 + 13 + 1_000 - 800;
    assert_eq!(table.sends(), [(0, 400), (1, 400)]);
    assert_eq!(table.queued_bytes(), 6 * (40 + 1_017), "what has begun to leave waits for its client no longer");
    // What comes meanwhile comes behind it, also if it is the connection's own and small.
    let ping = wire::frame(Opcode::Ping, b"p", [1; 4]);
    table.turn(&[Move::Bytes(0, ping), Move::Mail(|| to_user(0, r#"["one"]"#)), Move::Mail(|| to_last(r#"["two"]"#))]);
    assert_eq!(table.sends(), [(0, 400), (1, 400)]);
    table.turn(&[]);
    assert_eq!(table.sends(), [(0, last), (1, last), (2, 400)]);
    assert!(table.take(1).ends_with("xx\"]"));
    table.turn(&[]);
    let small = r#"42["one"]"#.len() + 2;
    assert_eq!(table.sends(), [(2, 400), (3, 400), (0, 3 + small)]);
    let heard = table.take(0);
    assert!(heard.ends_with(r#"xx"], p, 42["one"]"#), "{heard}");
    (0..10).for_each(|_| table.turn(&[]));
    for line in 2..CLIENTS {
        let heard = table.take(line);
        assert_eq!((heard.matches("news").count(), heard.ends_with("two\"]")), (1, line == LAST), "{heard}");
    }
    assert!(table.sends().iter().all(|(_, bytes)| *bytes <= 400));
}

#[test]
fn who_ends_in_the_middle_of_a_large_message_gets_the_rest_of_it() {
    let mut settings = two_a_turn();
    settings.turn = TurnLimits { piece_bytes_max: 400, ..TurnLimits::default() };
    let mut table = crowd(settings);
    table.turn(&[Move::EmitBytes(1_000), Move::Mail(|| to_last(r#"["one"]"#))]);
    table.turn(&[Move::Mail(|| Mail::Disconnect(last(), Ending::Session))]);
    (0..5).for_each(|_| table.turn(&[]));
    let heard = table.take(LAST);
    assert!(heard.ends_with(r#"xx"], 42["one"], close, end"#), "{heard}");
}

fn everybody() -> Selection {
    Selection { namespace: "/".into(), rooms: Vec::new(), except: Vec::new() }
}

#[test]
fn many_join_and_leave_over_several_turns_and_what_is_emitted_behind_it_knows_who_has() {
    let mut settings = two_a_turn();
    settings.turn.changes_per_message = 1;
    let mut table = crowd(settings);
    let join_all: fn() -> Mail = || Mail::JoinSelected(everybody(), vec!["r".into(), "s".into()]);
    let leave_all: fn() -> Mail = || Mail::LeaveSelected(everybody(), vec!["r".into()]);
    let all = CLIENTS as u64;
    let joined = Reply::Joined { sockets: all, refused: 0 };
    for (change, answer, in_room) in [(join_all, joined, all), (leave_all, Reply::Changed(all), 0)] {
        table.turn(&[Move::Mail(change)]);
        let mut answers = Vec::new();
        let turns = (1..).find(|_| {
            answers = table.replies();
            assert!(!table.takes_mail(), "what comes behind it waits");
            table.turn(&[]);
            !answers.is_empty()
        });
        assert_eq!((turns, answers), (Some(CLIENTS / 2), vec![answer]));
        table.turn(&[Move::Mail(|| {
            Mail::Deliver(vec![Broadcast::new("/", vec!["r".into()], Arc::from(&br#"["room"]"#[..]))])
        })]);
        (0..CLIENTS).for_each(|_| table.turn(&[]));
        assert_eq!(table.replies(), [Reply::Delivered(vec![in_room])]);
        let heard: usize = (0..CLIENTS).map(|line| table.take(line).matches("room").count()).sum();
        assert_eq!(heard as u64, in_room);
    }
}

#[test]
fn who_is_about_to_join_does_so_before_anything_else_happens_to_it() {
    let mut settings = two_a_turn();
    settings.turn.changes_per_message = 1;
    let mut table = crowd(settings);
    table.turn(&[Move::Mail(|| Mail::JoinSelected(everybody(), vec!["r".into()]))]);
    // One of them goes, and another says something.
    table.turn(&[Move::End(LAST), Move::Bytes(LAST - 1, wire::text_frame(r#"42["rooms"]"#, [1; 4]))]);
    (0..CLIENTS).for_each(|_| table.turn(&[]));
    let joined = Reply::Joined { sockets: CLIENTS as u64, refused: 0 };
    assert_eq!(table.replies(), [joined], "the one that is gone had joined");
    table.turn(&[Move::Mail(|| Mail::Stats)]);
    assert!(matches!(&table.replies()[..], [Reply::Stats(stats)] if (stats.rooms, stats.sockets) == (8, 7)));
}

#[test]
fn a_question_about_many_takes_several_turns_and_so_many_bytes() {
    let mut settings = two_a_turn();
    settings.turn.changes_per_message = 1;
    let mut table = crowd(settings);
    table.turn(&[Move::Mail(|| Mail::Describe(everybody(), 10_000))]);
    assert!(table.replies().is_empty() && !table.takes_mail());
    // Who goes while it is being answered was there when it was asked.
    table.turn(&[Move::End(LAST)]);
    (0..CLIENTS).for_each(|_| table.turn(&[]));
    let replies = table.replies();
    let [Reply::Described(sockets)] = &replies[..] else { panic!("{replies:?}") };
    let mut users: Vec<_> = sockets.iter().filter_map(|socket| socket.user.as_deref()).collect();
    users.sort_unstable();
    assert_eq!(users, ["u0", "u1", "u2", "u3", "u4", "u5", "u6", "u7"]);
    let bytes: usize = sockets.iter().map(SocketDescription::bytes).sum();
    let left = bytes / CLIENTS * LAST;
    for (bytes_max, is_enough) in [(left, true), (left - 1, false), (0, false)] {
        table.ask(Mail::Describe(everybody(), bytes_max));
        (0..CLIENTS).for_each(|_| table.turn(&[]));
        let replies = table.replies();
        match (&replies[..], is_enough) {
            ([Reply::Described(sockets)], true) => assert_eq!(sockets.len(), LAST),
            ([Reply::TooMuch], false) => {}
            _ => panic!("{replies:?} within {bytes_max} bytes"),
        }
    }
}

#[test]
fn a_room_that_is_named_often_is_one_room() {
    let mut table = crowd(two_a_turn());
    table.turn(&[Move::Mail(|| {
        let rooms = vec![format!("user:u{LAST}").into(); 1_000];
        Mail::Deliver(vec![Broadcast::new("/", rooms, Arc::from(&br#"["one"]"#[..]))])
    })]);
    assert_eq!(table.take(LAST), r#"42["one"]"#);
}

#[test]
fn however_many_ask_a_shard_counts_once_in_a_while() {
    let mut settings = two_a_turn();
    settings.turn.counted_per_ms = 1;
    let mut table = crowd(settings);
    let count = |table: &mut Table| {
        table.turn(&[Move::Mail(|| Mail::Stats)]);
        match &table.replies()[..] {
            [Reply::Stats(stats)] => stats.connected,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(count(&mut table), 8);
    table.mail(Mail::Disconnect(last(), Ending::Session));
    let asked = (1..100).find(|_| count(&mut table) == 7).expect("it counts again");
    let counted = CLIENTS + 1 + CLIENTS + 1;
    assert!((counted - 2..=counted + 2).contains(&asked), "it counted again after {asked} ms, at {counted} for one");
}

#[test]
fn a_ping_that_is_due_soon_goes_along_with_an_event_for_few() {
    // The first ping of each comes between 9,062 and 9,688 ms after its handshake.
    let mut settings = settings();
    (settings.times.ping_interval_ms, settings.times.ping_timeout_ms) = (10_000, 5_000);
    let many = 40;
    let mut table = Table::with(settings, many);
    for line in 0..many {
        let connect = wire::text_frame(&format!("40{}", payload_of(&format!("u{line}"))), [1; 4]);
        table.turn(&[Move::Bytes(line, [wire::websocket(None), connect].concat())]);
        table.turn(&[]);
    }
    let all = || Mail::Deliver(vec![Broadcast::new("/", Vec::new(), Arc::from(&br#"["all"]"#[..]))]);
    let hear = |table: &mut Table, mail: Mail| {
        (0..many).for_each(|line| drop(table.take(line)));
        table.mail(mail);
        (0..3).for_each(|_| table.turn(&[]));
        (0..many).map(|line| table.take(line)).filter(|heard| !heard.is_empty()).collect::<Vec<_>>()
    };
    table.pass(6_500);
    assert_eq!(hear(&mut table, to_user(7, r#"["news"]"#)), [r#"42["news"]"#], "it is not due soon");
    table.pass(1_400);
    assert_eq!(hear(&mut table, to_user(7, r#"["news"]"#)), [r#"42["news"], 2"#]);
    assert_eq!(hear(&mut table, to_user(7, r#"["news"]"#)), [r#"42["news"]"#], "until it is answered there is one");
    table.turn(&[Move::Bytes(7, wire::text_frame("3", [1; 4]))]);
    assert_eq!(hear(&mut table, all()), vec![r#"42["all"]"#; many], "the pings of many stay apart");
    table.drain();
}
