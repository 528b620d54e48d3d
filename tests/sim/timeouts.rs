//! Timeouts to the millisecond: who says nothing is gone in time, and no earlier.

use sockring::shard::{CloseReason, EngineSettings};

use super::desk::payload_of;
use super::table::{Move, Table, settings};
use super::wire;

/// How late a timer may be where the protocol's times are short (E18 and S9: the suites lose some at 10 ms).
const LATE_MS_MAX: u64 = 5;

fn until_gone(table: &mut Table, limit_ms: u64, is_there: impl Fn(&Table) -> bool) -> u64 {
    (0..limit_ms)
        .take_while(|_| {
            table.pass(1);
            is_there(table)
        })
        .count() as u64
        + 1
}

#[test]
fn a_silent_client_is_gone_after_interval_and_timeout() {
    for (ping_interval_ms, ping_timeout_ms) in [(300, 200), (1_000, 500), (25_000, 20_000)] {
        let mut settings = settings();
        (settings.times.ping_interval_ms, settings.times.ping_timeout_ms) = (ping_interval_ms, ping_timeout_ms);
        let (sum, jitter) = (ping_interval_ms + ping_timeout_ms, ping_interval_ms / 10);
        let mut table = Table::connected_with(settings, 0);
        let gone = until_gone(&mut table, sum + 100, Table::is_connected);
        let late = if sum > 2_000 { 40 } else { LATE_MS_MAX };
        assert!((sum - jitter - 20..=sum + late).contains(&gone), "{gone} of {sum}");
        table.drain();
    }
}

#[test]
fn a_session_without_connect_is_gone_in_time() {
    let settings = EngineSettings { connect_timeout_ms: 400, ..settings() };
    let mut table = Table::with(settings, 1);
    // The session of line 1, which nobody uses, goes by the same time; its slot is kept for its farewell.
    table.turn(&[Move::Bytes(0, wire::websocket(None))]);
    assert_eq!(table.websockets(), [0]);
    let gone = until_gone(&mut table, 1_000, |table| !table.websockets().is_empty());
    assert!((398..=400 + LATE_MS_MAX).contains(&gone), "{gone}");
    table.drain();
}

#[test]
fn a_short_time_after_a_long_pause_is_short() {
    let mut settings = settings();
    (settings.times.ping_interval_ms, settings.times.ping_timeout_ms) = (25_000, 20_000);
    for pause_ms in [1_700, 3_003, 9_999] {
        let mut table = Table::connected_with(settings.clone(), 1);
        table.pass(pause_ms);
        let close = wire::post(&table.sid, b"1");
        table.turn(&[Move::Bytes(0, close)]);
        let gone = until_gone(&mut table, 100, Table::is_alive);
        assert!(gone <= 10 + LATE_MS_MAX, "a grace of 10 ms took {gone} ms after a pause of {pause_ms}");
    }
}

#[test]
fn a_body_that_dribbles_does_not_move_its_deadline() {
    let mut settings = EngineSettings { body_timeout_ms: 1_000, ..settings() };
    settings.times.ping_interval_ms = 60_000;
    let mut table = Table::connected_with(settings, 1);
    let post = wire::post(&table.sid, &[b'6'; 40]);
    let (head, body) = post.split_at(post.len() - 40);
    table.turn(&[Move::Bytes(0, head.to_vec())]);
    for byte in &body[..30] {
        table.pass(100);
        table.turn(&[Move::Bytes(0, vec![*byte])]);
    }
    assert!(!table.is_alive(), "a body of 3 s where 1 s is allowed");
}

#[test]
fn a_head_that_dribbles_does_not_move_its_deadline() {
    let mut table = Table::with(EngineSettings { head_timeout_ms: 1_000, ..settings() }, 1);
    for byte in &wire::handshake()[..20] {
        table.pass(100);
        table.turn(&[Move::Bytes(0, vec![*byte])]);
    }
    assert!(table.take(0).starts_with("408"));
}

#[test]
fn a_message_that_dribbles_does_not_move_its_deadline() {
    let mut settings = EngineSettings { message_timeout_ms: 1_000, ..settings() };
    settings.times.ping_interval_ms = 60_000;
    let mut table = Table::connected_with(settings, 1);
    let connect = [wire::websocket(None), wire::text_frame("40{\"user\":\"w\"}", [1; 4])].concat();
    table.turn(&[Move::Bytes(0, connect)]);
    assert_eq!(table.websockets(), [0]);
    for byte in &wire::text_frame("42[\"echo\",\"a long message\"]", [1; 4])[..20] {
        table.pass(100);
        table.turn(&[Move::Bytes(0, vec![*byte])]);
    }
    assert!(table.websockets().is_empty());
}

#[test]
fn attachments_that_do_not_come_end_the_session() {
    let mut settings = EngineSettings { message_timeout_ms: 1_000, ..settings() };
    settings.times.ping_interval_ms = 60_000;
    let mut table = Table::connected_with(settings, 1);
    let header = wire::post(&table.sid, b"451-[\"echo\",{\"_placeholder\":true,\"num\":0}]");
    table.turn(&[Move::Bytes(0, header)]);
    let gone = until_gone(&mut table, 2_000, Table::is_connected);
    assert!((998..=1_000 + LATE_MS_MAX).contains(&gone), "{gone}");
}

#[test]
fn messages_that_follow_each_other_without_a_gap_have_their_time_each() {
    let mut settings = EngineSettings { message_timeout_ms: 1_000, ..settings() };
    settings.times.ping_interval_ms = 60_000;
    let mut table = Table::connected_with(settings, 1);
    let connect = [wire::websocket(None), wire::text_frame("40{\"user\":\"w\"}", [1; 4])].concat();
    table.turn(&[Move::Bytes(0, connect)]);
    let message = wire::text_frame("42[\"echo\",\"a message\"]", [1; 4]);
    let (begun, rest) = message.split_at(5);
    table.turn(&[Move::Bytes(0, begun.to_vec())]);
    for _ in 0..10 {
        table.pass(300);
        table.turn(&[Move::Bytes(0, [rest, begun].concat())]);
        assert_eq!(table.websockets(), [0]);
    }
    // The last of them does not end.
    let gone = until_gone(&mut table, 2_000, |table| !table.websockets().is_empty());
    assert!((998..=1_000 + LATE_MS_MAX).contains(&gone), "{gone}");
    table.drain();
}

#[test]
fn a_pong_that_lies_unread_at_its_deadline_is_in_time() {
    let mut settings = settings();
    (settings.times.ping_interval_ms, settings.times.ping_timeout_ms) = (300, 200);
    let mut table = Table::with(settings, 2);
    let connect = [wire::websocket(None), wire::text_frame("40{\"user\":\"w\"}", [1; 4])].concat();
    table.turn(&[Move::Bytes(0, connect)]);
    let polling = format!("40{}", payload_of("p"));
    table.turn(&[Move::Bytes(1, wire::post(&table.sid, polling.as_bytes())), Move::Bytes(2, wire::poll(&table.sid))]);
    table.turn(&[Move::Bytes(2, wire::poll(&table.sid))]);
    let pongs = [Move::Bytes(0, wire::text_frame("3", [1; 4])), Move::Bytes(1, wire::post(&table.sid, b"3"))];
    for pardons in 1..=2 {
        while !table.is_looking() {
            table.turn(&[]);
        }
        table.turn(&pongs);
        table.turn(&[Move::Bytes(2, wire::poll(&table.sid))]);
        assert_eq!(table.connected_clients(), 2);
        assert!(table.counters().pardoned >= pardons);
    }
    let gone = until_gone(&mut table, 2_000, Table::is_connected);
    assert!(gone <= 500 + LATE_MS_MAX, "{gone}");
    assert_eq!((table.counters().closed(CloseReason::PingTimeout), table.counters().late_turns), (2, 0));
    table.drain();
}

#[test]
fn time_in_which_the_shard_did_not_turn_does_not_count() {
    let begun = || {
        let mut table = Table::with(EngineSettings { head_timeout_ms: 1_000, ..settings() }, 1);
        let request = wire::handshake();
        table.turn(&[Move::Bytes(0, request[..20].to_vec())]);
        table.pass(500);
        table.oversleep(5_000);
        table.turn(&[]);
        table.turn(&[]);
        assert_eq!((table.take(0), table.counters().late_turns), (String::new(), 1));
        (table, request)
    };
    let (mut table, request) = begun();
    table.pass(300);
    table.turn(&[Move::Bytes(0, request[20..].to_vec())]);
    assert!(table.take(0).starts_with("200"));
    // It has what was left when the shard fell asleep, and no more.
    let (mut table, _) = begun();
    table.pass(600);
    assert!(table.take(0).starts_with("408"));
}
