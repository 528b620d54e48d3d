//! The scripts that Redis runs, by what they answer and what they leave.

use redis::{Value, cmd};

use crate::redis_server::RedisServer;

const KEEP: &str = include_str!("../../src/cluster/keep.lua");
const CONFIRM: &str = include_str!("../../src/cluster/confirm.lua");
const NONE: &str = "-----------";

/// An id of 11 characters.
fn id(name: &str) -> String {
    format!("{name:A<11}")
}

/// What is asked: an event of this name that ends then, under these keys.
struct Ask {
    name: &'static str,
    ends: u64,
    conflate: &'static str,
    print: &'static str,
    now: u64,
    attempt: &'static str,
}

const ASK: Ask = Ask { name: "a", ends: 9_000, conflate: NONE, print: "", now: 1_000, attempt: "new" };

/// The code, and the name of the event that it is about.
fn keep(redis: &RedisServer, ask: &Ask) -> (i64, String) {
    let entry = if ask.ends > 0 { format!("{:013}{}body", ask.ends, ask.conflate) } else { String::new() };
    let mut command = cmd("EVAL");
    command.arg(KEEP).arg(2).arg("mailbox").arg("key").arg(id(ask.name)).arg(ask.print).arg(5_000).arg(entry);
    command.arg(ask.ends).arg(ask.now).arg(3).arg(ask.attempt).arg("INCR").arg("published");
    let (code, id): (i64, String) = command.query(&mut redis.connect()).expect("an answer");
    (code, id.trim_end_matches('A').to_owned())
}

fn mailbox(redis: &RedisServer) -> String {
    let entries: Vec<String> = redis.run("LRANGE mailbox 0 -1");
    entries.iter().map(|entry| entry[..11].trim_end_matches('A')).collect::<Vec<_>>().join("")
}

fn published(redis: &RedisServer) -> Option<u64> {
    redis.run("GET published")
}

#[test]
fn keep_answers_for_each_key_and_mailbox_what_it_has_done() {
    let redis = RedisServer::start(&[]);
    let conflated = "kkkkkkkkkkk";
    for (number, (ask, answer, waiting, times)) in (0..).zip([
        (ASK, (0, "a"), "a", 1),
        (Ask { name: "b", print: "p", ..ASK }, (0, "b"), "ab", 2),
        // Under a key it is one event, whatever it is called; and it is done before, if it is the very same.
        (Ask { name: "c", print: "p", ..ASK }, (1, "b"), "ab", 2),
        (Ask { name: "c", print: "q", ..ASK }, (2, "b"), "ab", 2),
        (Ask { name: "b", print: "p", attempt: "again", ..ASK }, (0, "b"), "ab", 2),
        // So it is without a key, if it may have been there.
        (Ask { name: "a", attempt: "again", ..ASK }, (0, "a"), "ab", 2),
        (Ask { name: "d", conflate: conflated, ends: 2_000, ..ASK }, (0, "d"), "abd", 3),
        // What is full still publishes.
        (Ask { name: "e", ..ASK }, (3, "e"), "abd", 4),
        // The newest of a key takes the place of the older one, at the end.
        (Ask { name: "f", conflate: conflated, ends: 2_000, ..ASK }, (0, "f"), "abf", 5),
        // What is over makes room, wherever it stands.
        (Ask { name: "g", now: 2_000, ends: 9_500, ..ASK }, (0, "g"), "abg", 6),
        (Ask { name: "h", now: 9_000, ends: 9_500, ..ASK }, (0, "h"), "gh", 7),
        // What is not kept, or over already, is published alone.
        (Ask { name: "i", ends: 0, ..ASK }, (0, "i"), "gh", 8),
        (Ask { name: "j", ends: 9_000, now: 9_000, ..ASK }, (0, "j"), "gh", 9),
    ]) {
        assert_eq!(keep(&redis, &ask), (answer.0, answer.1.to_owned()), "{number}");
        assert_eq!((mailbox(&redis).as_str(), published(&redis)), (waiting, Some(times)), "{number}");
    }
    // The list lives as long as its last event, and the key for its window.
    let (list, key): (i64, i64) = (redis.run("PTTL mailbox"), redis.run("PTTL key"));
    assert!((6_500..=8_000).contains(&list) && (3_000..=5_000).contains(&key), "{list} {key}");
}

#[test]
fn confirm_takes_off_what_it_names_and_says_how_much_that_was() {
    let redis = RedisServer::start(&[]);
    for name in ["a", "b", "c"] {
        keep(&redis, &Ask { name, ..ASK });
    }
    for (names, count, waiting) in
        [(&["x"][..], 0, "abc"), (&["c", "a", "x"], 2, "b"), (&["b"], 1, ""), (&["b"], 0, "")]
    {
        let mut command = cmd("EVAL");
        command.arg(CONFIRM).arg(1).arg("mailbox");
        names.iter().for_each(|name| {
            command.arg(id(name));
        });
        let answer: Value = command.query(&mut redis.connect()).expect("an answer");
        assert_eq!((answer, mailbox(&redis).as_str()), (Value::Int(count), waiting), "{names:?}");
    }
    assert_eq!(redis.run::<u64>("EXISTS mailbox"), 0);
}
