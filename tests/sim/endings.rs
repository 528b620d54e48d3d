//! What still comes for a client: more than fits into one answer, and how its session ended.

use sockring::shard::EngineSettings;

use super::races::head_and_body;
use super::table::{Move, Table, settings};
use super::wire;

const LARGE: usize = 100_000;

#[test]
fn a_queue_longer_than_an_answer_comes_in_parts_and_makes_room() {
    let mut table = Table::connected_with(EngineSettings { queue_bytes_max: 2 << 20, ..settings() }, 1);
    let poll = Move::Bytes(0, wire::poll(&table.sid));
    table.turn(&vec![Move::EmitBytes(LARGE); 15]);
    table.turn(std::slice::from_ref(&poll));
    // What is large leaves over several turns.
    table.pass(0);
    let mut heard = table.take(0);
    assert!((400_000..600_000).contains(&table.queued_bytes()), "{}", table.queued_bytes());
    // Beyond the limit, if what was taken had not been subtracted.
    table.turn(&vec![Move::EmitBytes(LARGE); 12]);
    for _ in 0..2 {
        table.turn(&[]);
        table.turn(std::slice::from_ref(&poll));
        table.pass(0);
        heard.push_str(&table.take(0));
    }
    assert_eq!((heard.matches("news").count(), table.queued_bytes()), (27, 0));
    table.drain();
}

#[test]
fn a_queue_beyond_its_limit_ends_the_client() {
    let mut table = Table::connected_with(EngineSettings { queue_bytes_max: 1 << 20, ..settings() }, 1);
    table.turn(&vec![Move::EmitBytes(LARGE); 10]);
    assert!(table.is_connected() && table.queued_bytes() <= 1 << 20);
    table.turn(&[Move::EmitBytes(LARGE)]);
    assert!(!table.is_connected());
    table.drain();
}

#[test]
fn a_post_that_is_complete_when_its_session_has_ended_connects_nothing() {
    let mut table = Table::new(1);
    let connect = head_and_body(0, &table.sid, "40{\"user\":\"late\"}");
    table.turn(&connect[..1]);
    // No CONNECT in time: the session is over, and waits for a GET only to say so.
    table.pass(600);
    table.turn(&connect[1..]);
    assert!(!table.is_connected(), "a socket of a session that is over: {}", table.take(0));
    table.drain();
}

#[test]
fn what_replaces_an_older_event_does_not_come_before_its_socket() {
    let mut table = Table::connected(1);
    table.turn(&[Move::EmitUnder("price")]);
    let again = wire::post(&table.sid, b"41\x1e40{\"user\":\"u0\"}");
    table.turn(&[Move::Bytes(0, again), Move::EmitUnder("price")]);
    assert_eq!(table.take(0), "200 ok");
    let poll = wire::poll(&table.sid);
    table.turn(&[Move::Bytes(0, poll)]);
    let heard = table.take(0);
    let (_, behind) = heard.split_once("welcome").expect("a new socket");
    assert!(behind.contains("news"), "the event for the new socket came before it: {heard}");
    table.drain();
}

#[test]
fn a_session_with_two_sockets_that_is_ended_is_told_so_once() {
    let mut table = Table::connected(2);
    let connect = wire::post(&table.sid, b"40/custom,{\"user\":\"u0\"}");
    table.turn(&[Move::Bytes(0, connect)]);
    let poll = wire::poll(&table.sid);
    table.turn(&[Move::Bytes(1, poll.clone())]);
    assert!(table.take(1).contains("welcome"));
    table.turn(&[Move::EndSessions]);
    table.turn(&[Move::Bytes(1, poll)]);
    assert_eq!(table.take(1), "200 1");
}
