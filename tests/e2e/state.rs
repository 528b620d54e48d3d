//! The state file: what is kept, keys and what clients have missed outlive a planned restart.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::command::run;
use crate::returning::{Before, Session};
use crate::server::{SECRET, Server};
use crate::until;

/// A directory of this test's own, empty.
fn scratch(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("sockring-state-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir(&directory).expect("a directory of our own");
    directory
}

fn start(file: &Path, shards: &str) -> Server {
    let file = file.to_str().expect("a path in UTF-8");
    let environment = [("SOCKRING_STATE_FILE", file), ("SOCKRING_SHARDS", shards), ("SOCKRING_DRAIN", "0")];
    Server::start(&[&environment[..], &[("SOCKRING_RECOVERY_WINDOW_S", "60")]].concat())
}

#[track_caller]
fn stop(server: Server) {
    server.signal(Signal::TERM);
    let ended = server.finish();
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

fn emit(server: &Server, target: (&str, &str), number: u64) {
    let (kind, name) = target;
    let mut body = json!({kind: name, "event": "n", "data": number});
    if kind == "user" && number.is_multiple_of(2) {
        body["ttl"] = json!(60);
    }
    server.post("emit", &body);
}

#[test]
fn who_comes_back_after_a_restart_has_missed_nothing_of_its_user_its_rooms_and_all() {
    const USERS: [&str; 6] = ["alice", "bob", "carol", "dave", "erin", "frank"];
    let file = scratch("rolling").join("state");
    let mut server = start(&file, "2");
    let mut away: Vec<Before> = Vec::new();
    let mut open = Vec::new();
    for (place, user) in USERS.into_iter().enumerate() {
        let mut client = Session::begin(&server, user);
        assert_eq!(client.numbers(1), [json!("connected")]);
        client.marker();
        let joined = server.post("rooms/join", &json!({"user": user, "room": "news"}));
        assert_eq!(joined["sockets"], 1);
        match place % 2 {
            0 => away.push(client.ended()),
            // It is there when the server ends, and does not read.
            _ => open.push(client),
        }
    }
    let mut number = 0;
    for _ in 0..3 {
        // Before the end of the server, and after it: in rounds of one to all, three to each user, and one to a room.
        for _ in 0..2 {
            number += 5;
            let everybody = json!({"broadcast": true, "event": "n", "data": number});
            server.post("emit", &everybody);
            for user in USERS {
                (1..=3).for_each(|further| emit(&server, ("user", user), number + further));
            }
            emit(&server, ("room", "news"), number + 4);
            if number % 10 == 5 {
                stop(server);
                assert!(file.exists());
                server = start(&file, "2");
            }
        }
        away.extend(open.drain(..).map(Session::ended));
        let expected: Vec<Value> = (number - 5..number + 5).map(|number| json!(number)).collect();
        away = away
            .into_iter()
            .map(|before| {
                let user = before.0;
                let mut client = Session::back(&server, before);
                assert!(client.is_recovered, "{user}");
                assert_eq!(client.numbers(10), expected, "{user}");
                assert_eq!(client.numbers(1), [json!("connected")]);
                client.marker();
                client.ended()
            })
            .collect();
    }
    let recovered = server.metrics().sum("sockring_recoveries_total", "result=\"recovered\"");
    assert_eq!(recovered, 6, "of this process");
}

#[test]
fn what_is_kept_and_keys_outlive_a_restart_with_as_many_shards_or_not() {
    let file = scratch("restart").join("state");
    let mut server = start(&file, "2");
    let event = |number: u64| {
        let key = format!("key-{number}");
        json!({"user": "alice", "event": "kept", "data": [number], "ttl": 60, "idempotencyKey": key})
    };
    let first = server.post("emit", &event(1));
    assert_eq!((&first["kept"], &first["duplicate"]), (&json!("state"), &json!(false)));
    server.post("emit", &event(2));
    server.post("emit", &json!({"users": ["bob", "carol", "dave"], "event": "kept", "data": [7], "ttl": 60}));
    let news = json!({"room": "news", "event": "e", "idempotencyKey": "news"});
    assert_eq!(server.post("emit", &news)["duplicate"], false);
    for shards in ["2", "3", "1"] {
        stop(server);
        assert_eq!(fs::metadata(&file).expect("it was written").permissions().mode() & 0o777, 0o600);
        server = start(&file, shards);
        assert!(!file.exists(), "it was read");
        let again = server.post("emit", &event(1));
        assert_eq!((&again["duplicate"], &again["id"]), (&json!(true), &first["id"]), "{shards} shards");
        assert_eq!(server.post("emit", &news)["duplicate"], true);
    }
    for (user, numbers) in [("alice", &[1, 2][..]), ("bob", &[7]), ("carol", &[7]), ("dave", &[7])] {
        let mut client = Session::begin(&server, user);
        client.is_alive = true;
        let expected: Vec<Value> = numbers.iter().map(|number| json!([number])).collect();
        assert_eq!((client.numbers(1), client.numbers(numbers.len())), (vec![json!("connected")], expected), "{user}");
        client.until_confirmed(&server);
    }
    stop(server);
    let mut server = start(&file, "2");
    let mut alice = Session::begin(&server, "alice");
    assert_eq!(alice.numbers(1), [json!("connected")]);
    alice.assert_quiet();
    server.assert_healthy();
}

#[test]
fn a_file_of_another_kind_is_put_aside_and_one_that_cannot_be_written_is_refused() {
    let directory = scratch("aside");
    let file = directory.join("state");
    let path = file.to_str().expect("a path in UTF-8");
    let check = || run(&["check"], &[("SOCKRING_STATE_FILE", path), ("ACCESS_TOKEN_SECRET", SECRET), ("PORT", "0")]);
    let whole = {
        stop(start(&file, "1"));
        assert!(format!("{:?}", check()).contains("waits for the next start"), "{:?}", check());
        fs::read(&file).expect("it was written")
    };
    for (content, reason) in [
        (&b"{\"version\":99,\"shards\":[]}"[..], "version 99"),
        (b"nothing of the kind", "no state file"),
        (&whole[..whole.len() / 2], "not all of one"),
        (b"", "no state file"),
    ] {
        fs::write(&file, content).expect("a file");
        let said = format!("{:?}", check());
        assert!(said.contains("would be put aside") && said.contains(reason), "{said}");
        let mut server = start(&file, "1");
        server.assert_healthy();
        until("it says so", || server.log(), |log| log.contains("put aside") && log.contains(reason));
        assert!(!file.exists() && directory.join("state.unreadable").exists());
    }
    let nowhere = directory.join("nowhere/state");
    let nowhere = nowhere.to_str().expect("a path in UTF-8");
    let environment = [("SOCKRING_STATE_FILE", nowhere), ("ACCESS_TOKEN_SECRET", SECRET), ("PORT", "0")];
    for arguments in [&[][..], &["check"]] {
        let ended = run(arguments, &environment);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(format!("{ended:?}").contains("state_file"), "{ended:?}");
    }
}
