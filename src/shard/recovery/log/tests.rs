//! The log against the plain list of all that was delivered.

use super::*;

const ROOT: NamespaceId = NamespaceId(0);
const OTHER: NamespaceId = NamespaceId(1);

fn frames(number: u64) -> Frames {
    Frames::from(number.to_be_bytes().as_slice())
}

fn names(names: &[&str]) -> Vec<Box<str>> {
    names.iter().map(|name| Box::from(*name)).collect()
}

fn append(log: &mut Log, rooms: &[&str], now: u64) -> Position {
    let position = log.next();
    let event = Delivered {
        namespace: ROOT,
        rooms: &names(rooms),
        except: &[],
        conflate: None,
        kept: None,
        frames: &frames(position.0),
    };
    log.append(event, position, Millis(now));
    position
}

fn stay(room: Option<&str>) -> Stay {
    Stay { room: room.map(Box::from), from: Position(0), until: Position::MAX }
}

fn reader(namespace: NamespaceId, stays: &[Stay]) -> LogReader<'_> {
    LogReader { namespace, stays, others: OtherRooms::None, now: Millis(0) }
}

fn missed(log: &Log, from: u64, stays: &[Stay]) -> Vec<u64> {
    let missed = log.since(Position(from), reader(ROOT, stays), usize::MAX);
    assert_eq!(missed.through, log.head());
    missed.events.iter().map(|event| u64::from_be_bytes(event.frames[..].try_into().unwrap())).collect()
}

#[test]
fn an_entry_is_small() {
    assert!(size_of::<Entry>() <= 48, "{}", size_of::<Entry>());
}

#[test]
fn what_a_socket_missed_is_that_of_all_its_rooms_once_and_in_order() {
    let mut log = Log::new(1 << 20, 10_000, Millis(0));
    for rooms in [&["user:a"][..], &["news"], &[], &["user:b"], &["news", "user:a", "news"], &["user:a"]] {
        append(&mut log, rooms, 0);
    }
    let stays = [stay(Some("user:a")), stay(None), stay(Some("news"))];
    assert_eq!(missed(&log, 0, &stays), [1, 2, 3, 5, 6]);
    assert_eq!(missed(&log, 2, &stays), [3, 5, 6]);
    assert_eq!(missed(&log, 6, &stays), [0; 0]);
    assert_eq!(missed(&log, 0, &[stay(Some("user:b")), stay(Some("nobody"))]), [4]);
    assert!(log.since(Position(0), reader(OTHER, &stays), usize::MAX).events.is_empty());
    // Who was in a room for a while gets what came in that while.
    let visit = Stay { room: Some("news".into()), from: Position(2), until: Position(4) };
    assert_eq!(missed(&log, 0, &[visit, stay(Some("user:b"))]), [4]);
}

#[test]
fn who_was_excepted_gets_nothing_and_of_a_key_the_newest_is_enough() {
    let mut log = Log::new(1 << 20, 10_000, Millis(0));
    let (rooms, except) = (names(&["news"]), names(&["mods"]));
    let key = ConflateKey::new(ROOT, "k");
    for (except, conflate) in [(&except[..], None), (&[], Some(key.clone())), (&[], None), (&[], Some(key))] {
        let frames = frames(log.next().0);
        log.append(
            Delivered { namespace: ROOT, rooms: &rooms, except, conflate, kept: None, frames: &frames },
            log.next(),
            Millis(0),
        );
    }
    assert_eq!(missed(&log, 0, &[stay(Some("news"))]), [1, 3, 4]);
    // Who may have been in any room may have been in that one.
    let (stays, others) = (&[stay(Some("news"))][..], OtherRooms::Unknown);
    assert_eq!(
        log.since(Position(0), LogReader { namespace: ROOT, stays, others, now: Millis(0) }, usize::MAX).events.len(),
        2
    );
    assert_eq!(missed(&log, 0, &[stay(Some("news")), stay(Some("mods"))]), [3, 4]);
    // It came to the excepted room only afterwards.
    let late = Stay { room: Some("mods".into()), from: Position(1), until: Position::MAX };
    assert_eq!(missed(&log, 0, &[stay(Some("news")), late]), [1, 3, 4]);
}

#[test]
fn a_part_of_it_says_how_far_it_reaches() {
    let mut log = Log::new(1 << 20, 10_000, Millis(0));
    for _ in 0..10 {
        append(&mut log, &["user:a"], 0);
        append(&mut log, &["user:b"], 0);
    }
    let mut from = Position(0);
    let mut parts = Vec::new();
    while from < log.head() {
        let missed = log.since(from, reader(ROOT, &[stay(Some("user:a"))]), 3 * 8);
        parts.push(missed.events.len());
        assert!(missed.through > from);
        from = missed.through;
    }
    assert_eq!(parts, [3, 3, 3, 1]);
}

#[test]
fn bytes_and_age_take_the_front_and_nothing_else() {
    let mut log = Log::new(1 << 20, 10_000, Millis(0));
    append(&mut log, &["user:a"], 0);
    let one = log.bytes();
    append(&mut log, &["user:a"], 5_000);
    log.expire(Millis(11_000));
    assert_eq!((log.len(), log.floor()), (2, Position(0)));
    assert_eq!(log.deadline(), Some(Millis(11_001)));
    log.expire(Millis(11_001));
    assert_eq!((log.len(), log.floor(), log.evicted()), (1, Position(1), 0));
    assert!(log.reaches_back_to(Position(1)) && !log.reaches_back_to(Position(0)));
    log.expire(Millis(60_000));
    assert_eq!((log.len(), log.bytes(), log.chains.len(), log.index.len()), (0, 0, 0, 0));
    assert_eq!((log.floor(), log.head(), log.deadline()), (Position(2), Position(2), None));
    // By bytes: an event that does not fit alone is forgotten at once, and nobody is told that all is there.
    let mut log = Log::new(one * 2, 10_000, Millis(0));
    for _ in 0..9 {
        append(&mut log, &["user:a"], 0);
        assert!(log.bytes() <= one * 2);
    }
    assert_eq!((log.len() as u64 + log.evicted(), log.floor().0), (9, log.evicted()));
    let mut log = Log::new(one - 1, 10_000, Millis(0));
    append(&mut log, &["user:a"], 0);
    assert_eq!((log.len(), log.bytes(), log.floor()), (0, 0, log.head()));
}

/// One event of the list: its position, rooms, and the excepted ones.
type Listed = (u64, Vec<Box<str>>, Vec<Box<str>>);

#[test]
fn a_log_knows_what_a_list_of_everything_knows() {
    let rooms = ["a", "b", "c", "d"];
    let mut state = 7u64;
    let mut below = move |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let mut log = Log::new(3_000, 2_000, Millis(0));
    let mut list: Vec<Listed> = Vec::new();
    for step in 0..20_000u64 {
        let now = Millis(step * 40);
        log.expire(now);
        let mut some =
            |most: u64| -> Vec<Box<str>> { (0..below(most + 1)).map(|_| rooms[below(4) as usize].into()).collect() };
        let (to, except) = (some(3), some(1));
        let position = log.next();
        let frames = frames(position.0);
        log.append(
            Delivered { namespace: ROOT, rooms: &to, except: &except, conflate: None, kept: None, frames: &frames },
            position,
            now,
        );
        list.push((position.0, to, except));
        assert!(log.bytes() <= 3_000 && log.oldest_ms(now) <= 4_000);
        let from = log.floor().0 + below(log.head().0 - log.floor().0 + 1);
        let stays: Vec<Stay> = (0..1 + below(3))
            .map(|_| Stay {
                room: (below(3) > 0).then(|| rooms[below(4) as usize].into()),
                from: Position(log.head().0.saturating_sub(below(40))),
                until: if below(3) > 0 { Position::MAX } else { Position(log.head().0.saturating_sub(below(10))) },
            })
            .collect();
        let was_in = |room: Option<&Box<str>>, position: u64| {
            stays.iter().any(|stay| stay.room.as_ref() == room && stay.covers(Position(position)))
        };
        let expected: Vec<u64> = list
            .iter()
            .rev()
            .take_while(|(position, ..)| *position > from)
            .filter(|(position, to, except)| {
                let is_for =
                    to.iter().any(|room| was_in(Some(room), *position)) || to.is_empty() && was_in(None, *position);
                is_for && !except.iter().any(|room| was_in(Some(room), *position))
            })
            .map(|(position, ..)| *position)
            .collect();
        let found = missed(&log, from, &stays);
        assert_eq!(found, expected.into_iter().rev().collect::<Vec<_>>(), "step {step}");
    }
    assert!(log.evicted() > 0);
}
