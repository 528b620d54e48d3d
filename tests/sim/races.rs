//! Two connections carry one polling session (E21, E24): every order in which their bytes can arrive, cut into
//! turns in every way, and what may come of it.

use super::table::{Move, Table};
use super::wire;

/// What came of one order of events.
struct Outcome {
    /// What each line got.
    lines: Vec<String>,
    /// Where in the order each line's moves were.
    order: Vec<usize>,
    is_alive: bool,
}

/// Plays every interleaving of some lines' moves, each in every division into turns.
fn every_order(prepare: impl Fn() -> (Table, Vec<Vec<Move>>), verify: impl Fn(&Outcome)) {
    let (_, moves) = prepare();
    let counts: Vec<usize> = moves.iter().map(Vec::len).collect();
    let total: usize = counts.iter().sum();
    let mut orders = Vec::new();
    interleave(&counts, &mut vec![0; counts.len()], &mut Vec::new(), &mut orders);
    for order in &orders {
        for divisions in 0..1u32 << (total - 1) {
            let (mut table, moves) = prepare();
            play(&mut table, &moves, order, divisions);
            let story = format!("order {order:?}, divisions {divisions:b}");
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let outcome = conclude(&mut table, &moves, order);
                verify(&outcome);
            }));
            if let Err(panic) = result {
                eprintln!("{story}");
                std::panic::resume_unwind(panic);
            }
        }
    }
}

fn interleave(counts: &[usize], used: &mut Vec<usize>, order: &mut Vec<usize>, orders: &mut Vec<Vec<usize>>) {
    if used == counts {
        return orders.push(order.clone());
    }
    for line in 0..counts.len() {
        if used[line] < counts[line] {
            used[line] += 1;
            order.push(line);
            interleave(counts, used, order, orders);
            order.pop();
            used[line] -= 1;
        }
    }
}

fn play(table: &mut Table, moves: &[Vec<Move>], order: &[usize], divisions: u32) {
    let mut used = vec![0; moves.len()];
    let mut turn = Vec::new();
    for (step, line) in order.iter().enumerate() {
        turn.push(moves[*line][used[*line]].clone());
        used[*line] += 1;
        if divisions & (1 << step) != 0 || step + 1 == order.len() {
            table.turn(&turn);
            turn.clear();
        }
    }
}

/// What holds after any race: the session works, or it is over and nothing of it is left; no message is lost or doubled.
fn conclude(table: &mut Table, moves: &[Vec<Move>], order: &[usize]) -> Outcome {
    table.pass(200);
    let lines: Vec<_> = (0..moves.len()).map(|line| table.take(line)).collect();
    let is_alive = table.is_alive();
    let mut everything = lines.join(" | ");
    if is_alive && table.is_connected() {
        everything.push_str(&ask(table));
        assert!(
            everything.contains("[\"echo\",\"are you well\"]"),
            "a session is there and does not work: {everything}"
        );
    } else if !is_alive {
        assert!(table.websockets().is_empty(), "the session is over and a WebSocket is left: {everything}");
    }
    let emits = moves.iter().flatten().filter(|step| matches!(step, Move::Emit)).count();
    let came = everything.matches("[\"news\"]").count();
    assert!(came == emits || (!is_alive && came < emits), "{came} of {emits} messages: {everything}");
    table.drain();
    Outcome { lines, order: order.to_vec(), is_alive }
}

/// Has a living session echo something by its transport.
fn ask(table: &mut Table) -> String {
    let text = "42[\"echo\",\"are you well\"]";
    let mut heard = String::new();
    if table.is_websocket_transport() {
        for line in table.websockets() {
            table.turn(&[Move::Bytes(line, wire::text_frame(text, [1, 2, 3, 4]))]);
            table.turn(&[]);
            heard.push_str(&table.take(line));
        }
        return heard;
    }
    let (post, poll) = (table.add_line(), table.add_line());
    table.turn(&[Move::Bytes(post, wire::post(&table.sid, text.as_bytes()))]);
    for _ in 0..3 {
        table.turn(&[Move::Bytes(poll, wire::poll(&table.sid))]);
        table.pass(150);
        heard.push_str(&table.take(poll));
    }
    table.turn(&[Move::End(post)]);
    heard
}

fn frame(line: usize, text: &str) -> Move {
    Move::Bytes(line, wire::text_frame(text, [9, 8, 7, 6]))
}

/// A request in two pieces.
fn halves(line: usize, request: &[u8], at: usize) -> Vec<Move> {
    let (first, second) = request.split_at(at);
    vec![Move::Bytes(line, first.to_vec()), Move::Bytes(line, second.to_vec())]
}

pub fn head_and_body(line: usize, sid: &str, body: &str) -> Vec<Move> {
    let request = wire::post(sid, body.as_bytes());
    halves(line, &request, request.len() - body.len())
}

/// A connected session whose line 1 is a probe that was not asked yet.
fn probing(lines: usize) -> Table {
    let mut table = Table::connected(lines);
    let request = wire::websocket(Some(&table.sid));
    table.turn(&[Move::Bytes(1, request)]);
    assert_eq!(table.take(1), "101");
    table
}

/// Whether the `a`-th move of one line comes before the `b`-th of another.
fn before(order: &[usize], (line_a, a): (usize, usize), (line_b, b): (usize, usize)) -> bool {
    let place = |line, count| order.iter().enumerate().filter(|(_, at)| **at == line).nth(count).expect("a move").0;
    place(line_a, a) < place(line_b, b)
}

const OK: &str = "200 ok";
const NOOP: &str = "200 6";
const BAD_REQUEST: &str = "400 {\"code\":3,\"message\":\"Bad request\"}";
const UNKNOWN: &str = "400 {\"code\":1,\"message\":\"Session ID unknown\"}";

#[test]
fn a_close_packet_and_the_get_beside_it() {
    let prepare = || {
        let table = Table::connected(2);
        let moves = vec![halves(0, &wire::poll(&table.sid), 20), head_and_body(1, &table.sid, "1")];
        (table, moves)
    };
    every_order(prepare, |outcome| {
        assert_eq!(outcome.lines, [NOOP, OK]);
        assert!(!outcome.is_alive);
    });
}

#[test]
fn a_get_after_the_grace_of_a_close_packet_is_refused() {
    let mut table = Table::connected(2);
    let (post, poll) = (wire::post(&table.sid, b"1"), wire::poll(&table.sid));
    table.turn(&[Move::Bytes(1, post)]);
    assert!(table.is_alive());
    table.turn(&[Move::Wait(11)]);
    assert!(!table.is_alive());
    table.turn(&[Move::Bytes(0, poll)]);
    assert_eq!((table.take(0).as_str(), table.take(1).as_str()), (UNKNOWN, OK));
}

#[test]
fn an_upgrade_and_the_get_beside_it() {
    let prepare = || {
        let table = probing(2);
        let moves = vec![
            halves(0, &wire::poll(&table.sid), 20),
            vec![frame(1, "2probe"), frame(1, "5"), frame(1, "42[\"echo\",1]")],
        ];
        (table, moves)
    };
    every_order(prepare, |outcome| {
        // Before the probe's question the GET is released by its answer; parked behind it, `5` refuses it.
        let expected = if before(&outcome.order, (0, 1), (1, 0)) { NOOP } else { BAD_REQUEST };
        assert_eq!(outcome.lines, [expected, "3probe, 42[\"echo\",1]"]);
        assert!(outcome.is_alive);
    });
}

#[test]
fn an_upgrade_a_get_and_a_message_on_its_way() {
    let prepare = || {
        let table = probing(2);
        let moves = vec![
            vec![Move::Bytes(0, wire::poll(&table.sid))],
            vec![frame(1, "2probe"), frame(1, "5")],
            vec![Move::Emit, Move::Emit],
        ];
        (table, moves)
    };
    every_order(prepare, |outcome| assert!(outcome.is_alive));
}

#[test]
fn a_parked_get_is_released_in_time_while_upgrading() {
    let mut table = probing(2);
    let poll = wire::poll(&table.sid);
    table.turn(&[frame(1, "2probe")]);
    table.turn(&[Move::Bytes(0, poll)]);
    table.pass(100);
    assert_eq!((table.take(0).as_str(), table.take(1).as_str()), (NOOP, "3probe"));
}

#[test]
fn a_get_whose_connection_ends_during_an_upgrade() {
    let prepare = || {
        let table = probing(2);
        let moves = vec![
            vec![Move::Bytes(0, wire::poll(&table.sid)), Move::End(0)],
            vec![frame(1, "2probe"), frame(1, "5"), frame(1, "42[\"echo\",1]")],
        ];
        (table, moves)
    };
    every_order(prepare, |_| {});
}

#[test]
fn another_get_when_the_first_ends() {
    let prepare = || {
        let table = probing(3);
        let poll = wire::poll(&table.sid);
        let first = vec![Move::Bytes(0, poll.clone()), Move::End(0)];
        let moves = vec![first, vec![frame(1, "2probe"), frame(1, "5")], vec![Move::Bytes(2, poll)]];
        (table, moves)
    };
    every_order(prepare, |_| {});
}

#[test]
fn a_close_packet_and_an_upgrade() {
    let prepare = || {
        let table = probing(2);
        let moves = vec![
            head_and_body(0, &table.sid, "1"),
            vec![frame(1, "2probe"), frame(1, "5"), frame(1, "42[\"echo\",1]")],
        ];
        (table, moves)
    };
    every_order(prepare, |outcome| {
        let is_closed = before(&outcome.order, (0, 1), (1, 1));
        assert_eq!(outcome.is_alive, !is_closed);
        assert!(outcome.lines[0].starts_with(if is_closed { OK } else { BAD_REQUEST }), "{:?}", outcome.lines);
    });
}

#[test]
fn a_post_and_an_upgrade() {
    let prepare = || {
        let table = probing(2);
        let moves = vec![head_and_body(0, &table.sid, "42[\"echo\",7]"), vec![frame(1, "2probe"), frame(1, "5")]];
        (table, moves)
    };
    every_order(prepare, |outcome| {
        let in_time = before(&outcome.order, (0, 1), (1, 1));
        assert!(outcome.lines[0].starts_with(if in_time { OK } else { BAD_REQUEST }), "{:?}", outcome.lines);
        assert_eq!(outcome.lines[1].contains("[\"echo\",7]"), in_time, "{:?}", outcome.lines);
        assert!(outcome.is_alive);
    });
}

#[test]
fn two_gets_at_once_end_the_session() {
    let prepare = || {
        let table = Table::connected(2);
        let poll = wire::poll(&table.sid);
        let moves = vec![halves(0, &poll, 20), halves(1, &poll, 20)];
        (table, moves)
    };
    every_order(prepare, |outcome| {
        let (first, second) = if before(&outcome.order, (0, 1), (1, 1)) { (0, 1) } else { (1, 0) };
        assert_eq!((outcome.lines[first].as_str(), outcome.lines[second].as_str()), ("200 1", BAD_REQUEST));
        assert!(!outcome.is_alive);
    });
}

#[test]
fn two_posts_at_once_end_the_session() {
    let prepare = || {
        let table = Table::connected(2);
        let moves = vec![head_and_body(0, &table.sid, "3"), head_and_body(1, &table.sid, "3")];
        (table, moves)
    };
    every_order(prepare, |outcome| {
        let one_after_the_other = before(&outcome.order, (0, 1), (1, 0)) || before(&outcome.order, (1, 1), (0, 0));
        assert_eq!(outcome.is_alive, one_after_the_other, "{:?}", outcome.lines);
    });
}

#[test]
fn a_second_probe_behind_one_that_misbehaves() {
    let prepare = || {
        let table = probing(3);
        let first = ["abc", "2probe", "5"].into_iter().map(|text| frame(1, text)).chain([Move::End(1)]).collect();
        let request = Move::Bytes(2, wire::websocket(Some(&table.sid)));
        let moves = vec![Vec::new(), first, vec![request, frame(2, "2probe"), frame(2, "5")]];
        (table, moves)
    };
    every_order(prepare, |_| {});
}

#[test]
fn a_second_probe_behind_one_that_ends() {
    let prepare = || {
        let table = probing(3);
        let request = Move::Bytes(2, wire::websocket(Some(&table.sid)));
        let first = vec![frame(1, "2probe"), Move::End(1)];
        let moves =
            vec![Vec::new(), first, vec![request, frame(2, "2probe"), frame(2, "5"), frame(2, "42[\"echo\",1]")]];
        (table, moves)
    };
    every_order(prepare, |outcome| {
        let is_next = before(&outcome.order, (1, 1), (2, 0));
        let expected = if is_next { "101, 3probe, 42[\"echo\",1]" } else { "101, close, end" };
        assert_eq!((outcome.lines[2].as_str(), outcome.is_alive), (expected, true));
    });
}
