//! One shard and a bus, by hand: who waits for it, for how long, and what clients acknowledge.

use sockring::shard::{BusMail, EngineSettings, Instances, Mail, NamespaceId, RoomName, Target};
use sockring_protocol::adapter::{Broadcast, Ending, Selection};

use super::desk::payload_of;
use super::table::{Move, Table, USER, settings};
use super::wire;

fn over_bus() -> EngineSettings {
    EngineSettings { instances: Instances::OverBus, ..settings() }
}

fn room() -> RoomName {
    RoomName { namespace: NamespaceId(0), name: format!("user:{USER}").into() }
}

fn subscribed(epoch: u32) -> Move {
    Move::Bus(BusMail::Subscribed(vec![(room(), epoch)]))
}

/// A session behind a bus that is up; line 0 is for its requests, line 1 has a GET open.
fn waiting() -> Table {
    let mut table = Table::with(over_bus(), 2);
    table.turn(&[Move::Bus(BusMail::Up)]);
    connect(&mut table);
    assert_eq!(table.wishes(), ["subscribe user:u0 1"]);
    let poll = Move::Bytes(1, wire::poll(&table.sid));
    table.turn(&[poll]);
    table
}

fn connect(table: &mut Table) {
    let connect = format!("40{}", payload_of(USER));
    table.turn(&[Move::Bytes(0, wire::post(&table.sid, connect.as_bytes()))]);
    assert_eq!(table.take(0), "200 ok");
}

fn end_socket() -> Move {
    Move::Mail(|| Mail::Disconnect(Target::User(USER.into()), Ending::Socket))
}

#[test]
fn who_connects_is_told_when_the_bus_has_confirmed() {
    let mut table = waiting();
    table.turn(&[Move::Emit]);
    assert_eq!(table.take(1), "");
    table.turn(&[subscribed(1)]);
    let heard = table.take(1);
    assert!(heard.contains("welcome") && !heard.contains("news"), "{heard}");
    // Whoever else joins the room need not wait, and nobody asks the bus again.
    table.turn(&[Move::Mail(|| Mail::Join(Target::User(USER.into()), "room1".into()))]);
    assert_eq!(table.wishes(), ["subscribe room1 2"]);
    assert_eq!(table.replies().len(), 0, "the join waits");
    let room1 = RoomName { name: "room1".into(), ..room() };
    table.turn(&[Move::Bus(BusMail::Subscribed(vec![(room1, 2)]))]);
    assert_eq!(table.replies().len(), 1);
    table.turn(&[end_socket()]);
    let mut wishes = table.wishes();
    wishes.sort();
    assert_eq!(wishes, ["unsubscribe room1", "unsubscribe user:u0"]);
    table.drain();
}

#[test]
fn where_sockets_have_channels_who_connects_waits_for_its_own_too() {
    let mut table = Table::with(EngineSettings { instances: Instances::OverBusBySid, ..over_bus() }, 2);
    table.turn(&[Move::Bus(BusMail::Up)]);
    connect(&mut table);
    let wishes = table.wishes();
    let [of_user, of_socket] = wishes.as_slice() else { panic!("{wishes:?}") };
    assert_eq!(of_user, "subscribe user:u0 1");
    let sid = of_socket.strip_prefix("subscribe ").and_then(|rest| rest.strip_suffix(" 2")).expect(of_socket);
    assert_eq!(sid.len(), 20, "{sid}");
    let poll = Move::Bytes(1, wire::poll(&table.sid));
    table.turn(&[poll]);
    table.turn(&[subscribed(1)]);
    assert_eq!(table.take(1), "", "its own channel is not confirmed");
    let own = RoomName { name: sid.into(), ..room() };
    table.turn(&[Move::Bus(BusMail::Subscribed(vec![(own, 2)]))]);
    assert!(table.take(1).contains("welcome"));
    table.turn(&[end_socket()]);
    let mut left = table.wishes();
    left.sort();
    let mut expected = [format!("unsubscribe {sid}"), "unsubscribe user:u0".to_owned()];
    expected.sort();
    assert_eq!(left, expected);
    table.drain();
}

#[test]
fn nobody_waits_longer_than_250_ms_and_nobody_for_a_bus_that_is_down() {
    let mut table = waiting();
    table.pass(247);
    assert_eq!((table.take(1).as_str(), table.counters().subscriptions_late), ("", 0));
    table.pass(4);
    assert!(table.take(1).contains("welcome"));
    assert_eq!((table.counters().subscriptions_late, table.counters().subscriptions_unawaited), (1, 0));
    table.drain();

    let mut table = waiting();
    table.turn(&[Move::Bus(BusMail::Down)]);
    assert!(table.take(1).contains("welcome"));
    assert_eq!((table.counters().subscriptions_late, table.counters().subscriptions_unawaited), (0, 1));
    table.turn(&[Move::Bus(BusMail::Up), subscribed(1)]);
    assert!(table.wishes().is_empty(), "the bus subscribes again by itself");
    table.drain();

    // It has not come up yet.
    let table = Table::connected_with(over_bus(), 1);
    assert_eq!(table.counters().subscriptions_unawaited, 1);
}

#[test]
fn a_confirmation_of_an_earlier_subscription_says_nothing() {
    let orders: [&[u32]; 5] = [&[1, 2], &[2, 1], &[2], &[1, 1, 2, 2], &[0, 3, 1, 2]];
    for order in orders {
        for confirmed_before in [0, 1] {
            let mut table = waiting();
            let (before, after) = order.split_at(confirmed_before.min(order.len() - 1));
            table.turn(&[end_socket()]);
            assert_eq!(table.wishes(), ["unsubscribe user:u0"]);
            table.turn(&before.iter().map(|epoch| subscribed(*epoch)).collect::<Vec<_>>());
            connect(&mut table);
            assert_eq!(table.wishes(), ["subscribe user:u0 2"]);
            let poll = Move::Bytes(1, wire::poll(&table.sid));
            table.turn(&[poll]);
            let mut is_due = false;
            let mut heard = table.take(1);
            for epoch in after {
                table.turn(&[subscribed(*epoch)]);
                heard.push_str(&table.take(1));
                is_due |= *epoch == 2;
                assert_eq!(heard.contains("welcome"), is_due, "{order:?} behind {before:?}: {heard}");
            }
            if !is_due {
                table.pass(255);
                assert!(table.take(1).contains("welcome"), "{order:?} behind {before:?}");
            }
            table.drain();
        }
    }
}

fn ask(timeout_ms: u64, acks: impl FnOnce(&mut Table, &str)) -> Vec<String> {
    let mut table = Table::connected_with(over_bus(), 1);
    table.wishes();
    let mail = match timeout_ms {
        100 => || mail_with(100),
        _ => || mail_with(0),
    };
    table.turn(&[Move::Mail(mail)]);
    let poll = Move::Bytes(0, wire::poll(&table.sid));
    table.turn(&[poll]);
    let heard = table.take(0);
    let id = heard.trim_start_matches("200 42").split('[').next().expect("an id").to_owned();
    assert_eq!(heard, format!("200 42{id}[\"ask\"]"));
    acks(&mut table, &id);
    let wishes = table.wishes();
    table.drain();
    wishes
}

fn mail_with(timeout_ms: u64) -> Mail {
    let broadcast = Box::new(Broadcast::new("/", Vec::new(), b"[\"ask\"]".as_slice().into()));
    Mail::DeliverForAck { broadcast, number: 7, timeout_ms }
}

fn post(table: &mut Table, body: &str) {
    let line = table.add_line();
    table.turn(&[Move::Bytes(line, wire::post(&table.sid, body.as_bytes()))]);
    assert_eq!(table.take(line), "200 ok");
}

#[test]
fn an_acknowledgement_counts_once_and_in_time() {
    let in_time = ask(100, |table, id| {
        post(table, &format!("43{id}[\"yes\",1]"));
        post(table, &format!("43{id}[\"again\"]"));
        post(table, "430[\"something else\"]");
    });
    assert_eq!(in_time, ["acknowledged 7 [\"yes\",1] []"]);
    let with_data = ask(100, |table, id| {
        post(table, &format!("461-{id}[{{\"_placeholder\":true,\"num\":0}}]\u{1e}bAQID"));
    });
    assert_eq!(with_data, ["acknowledged 7 [{\"_placeholder\":true,\"num\":0}] [[1, 2, 3]]"]);
    let late = ask(100, |table, id| {
        table.pass(101);
        assert!(!table.wishes().iter().any(|wish| wish.starts_with("acknowledged")));
        post(table, &format!("43{id}[\"late\"]"));
    });
    assert!(late.is_empty(), "{late:?}");
    assert!(ask(0, |table, id| post(table, &format!("43{id}[\"late\"]"))).is_empty());
}

#[test]
fn more_acknowledgements_than_allowed_are_not_waited_for() {
    let settings = EngineSettings { acks_pending_max: 1, ..over_bus() };
    let mut table = Table::connected_with(settings, 1);
    table.turn(&[Move::Mail(|| mail_with(100)), Move::Mail(|| mail_with(100))]);
    assert_eq!(table.counters().hits(sockring::shard::Limit::AcksPendingMax), 1);
    let poll = Move::Bytes(0, wire::poll(&table.sid));
    table.turn(&[poll]);
    assert_eq!(table.take(0).matches("ask").count(), 2, "both are delivered");
    table.drain();
}

#[test]
fn a_socket_that_is_not_told_yet_is_nobodys() {
    let mut table = waiting();
    table.turn(&[Move::Mail(|| Mail::JoinSelected(all(), vec!["room1".into()]))]);
    assert!(table.wishes().is_empty());
    table.turn(&[subscribed(1)]);
    table.turn(&[Move::Mail(|| Mail::JoinSelected(all(), vec!["room1".into(), "room2".into()]))]);
    assert_eq!(table.wishes(), ["subscribe room1 2", "subscribe room2 3"]);
    // A user's own room is never left.
    let rooms = || Mail::LeaveSelected(all(), vec!["user:u0".into(), "room2".into()]);
    table.turn(&[Move::Mail(rooms)]);
    assert_eq!(table.wishes(), ["unsubscribe room2"]);
    table.turn(&[Move::Mail(|| Mail::EndSelected(all(), Ending::Session))]);
    assert!(!table.is_connected());
    table.drain();
}

fn all() -> Selection {
    Selection { namespace: "/".into(), rooms: Vec::new(), except: Vec::new() }
}
