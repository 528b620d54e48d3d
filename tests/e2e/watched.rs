//! `debug_users`: what the log has of some users' clients and not of others', from SIGHUP to SIGHUP.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::json;

use crate::client::WebSocket;
use crate::server::{SECRET, Server, signed, unix_ms};
use crate::until;

/// A server that reads who is watched from a file.
struct WatchScene {
    server: Server,
    file: PathBuf,
}

impl WatchScene {
    fn new(name: &str, log: &str) -> WatchScene {
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&file, "").expect("the directory for temporary files can be written");
        let path = file.to_str().expect("UTF-8");
        WatchScene { server: Server::start(&[("SOCKRING_CONFIG", path), ("SOCKRING_LOG", log)]), file }
    }

    fn watch(&self, users: &str) {
        fs::write(&self.file, users).expect("it can be written");
        self.read_again();
        // Each shard has read its mail.
        self.server.metrics();
    }

    /// The settings are read again, and with the line that says so all that the log had before it has come.
    fn read_again(&self) {
        let before = self.server.log().len();
        self.server.signal(Signal::HUP);
        until("it is read", || self.server.log()[before..].to_owned(), |log| log.contains("were read again"));
    }

    /// A visit: it connects, joins a room, leaves it and goes; then it comes with a token that is over. What the log has of it.
    fn visit(&self, user: &str) -> Vec<String> {
        let before = self.server.log().len();
        let client = self.server.client(user);
        for route in ["rooms/join", "rooms/leave"] {
            self.server.post(route, &json!({"user": user, "room": "news"}));
        }
        client.leave();
        let mut late = WebSocket::open(self.server.address());
        let claims = json!({"_id": user, "exp": unix_ms() / 1000 - 60});
        late.send(&format!(r#"40{{"token":"{}"}}"#, signed(SECRET, &claims)));
        assert!(late.text().contains("token_expired"));
        drop(late);
        until("all are gone", || self.server.held().clients, |clients| *clients == 0);
        self.read_again();
        let is_about_it = |line: &&str| line.contains(&format!("user=\"{user}\""));
        self.server.log()[before..].lines().filter(is_about_it).map(str::to_owned).collect()
    }
}

#[test]
fn the_log_has_the_users_that_are_watched_from_one_signal_to_the_next() {
    let scene = WatchScene::new("watched.toml", "info");
    assert_eq!(scene.visit("alice"), [""; 0]);
    scene.watch("debug_users = ['alice', 'carol']\n");
    assert_eq!(scene.visit("bob"), [""; 0]);
    let lines = scene.visit("alice");
    let expected = [
        ("a client has connected", "ms="),
        ("a socket has joined a room", "room=\"news\""),
        ("a socket has left a room", "room=\"news\""),
        ("a client has ended", "received_bytes="),
        ("a CONNECT was refused", "address=127.0.0.1 transport=\"websocket\" reason=\"token_expired\" ms="),
    ];
    for (line, (what, detail)) in lines.iter().zip(expected) {
        assert!(line.contains("DEBUG") && line.contains(what) && line.contains(detail), "{what}, {detail}: {line}");
    }
    assert_eq!(lines.len(), expected.len(), "{lines:?}");
    scene.watch("");
    assert_eq!(scene.visit("alice"), [""; 0]);
    assert!(!scene.server.log().contains("bob"), "{}", scene.server.log());
}

#[test]
fn where_the_log_has_all_users_each_line_is_there_once() {
    let scene = WatchScene::new("watched-all.toml", "info,sockring::shard=debug");
    scene.watch("debug_users = ['alice']\n");
    assert_eq!((scene.visit("alice").len(), scene.visit("bob").len()), (5, 5));
}
