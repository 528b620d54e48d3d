//! SIGHUP: secrets, API keys and allowed origins are read again from the settings file; what cannot be used changes nothing.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::client::{POLLING, WebSocket, frame};
use crate::http::request;
use crate::server::{API, Server, token_by};
use crate::until;
use sockring_protocol::websocket::Opcode;

/// A server with a settings file that changes.
struct ReloadScene {
    server: Server,
    file: PathBuf,
    reloads: usize,
}

impl ReloadScene {
    fn new(name: &str, text: &str) -> ReloadScene {
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&file, text).expect("the directory for temporary files can be written");
        let server = Server::start_as(&["serve", "--config", file.to_str().expect("UTF-8")], &[]);
        ReloadScene { server, file, reloads: 0 }
    }

    /// Reads this file from now on.
    #[track_caller]
    fn reload(&mut self, text: &str) {
        self.signal(text, "were read again");
    }

    /// Is given a file that cannot be used; what was logged about it.
    #[track_caller]
    fn reload_in_vain(&mut self, text: &str) -> String {
        self.signal(text, "nothing was changed")
    }

    #[track_caller]
    fn signal(&mut self, text: &str, words: &str) -> String {
        fs::write(&self.file, text).expect("the file can be written");
        self.server.signal(Signal::HUP);
        self.reloads += 1;
        let is_about_it = |line: &&str| line.contains("read again") || line.contains("nothing was changed");
        let lines = || self.server.log().lines().filter(is_about_it).map(str::to_owned).collect::<Vec<_>>();
        let lines = until("the signal was followed", lines, |lines| lines.len() == self.reloads);
        let line = lines.last().expect("at least one").clone();
        assert!(line.contains(words), "{line}");
        line
    }

    /// What a token of this secret gets for its CONNECT.
    #[track_caller]
    fn connect(&self, secret: &str) -> bool {
        let mut socket = WebSocket::open(self.server.address());
        socket.send(&format!(r#"40{{"token":"{}"}}"#, token_by(secret, "alice")));
        let answer = socket.text();
        let is_accepted = answer.starts_with("40{");
        assert!(
            is_accepted || answer == r#"44{"message":"Authentication failed","data":{"code":"token_invalid"}}"#,
            "{answer}"
        );
        if is_accepted {
            assert!(socket.text().starts_with(r#"42["connected","#));
        }
        socket.connection.send(frame(Opcode::Close, &1001_u16.to_be_bytes()));
        assert_eq!(socket.close_code(), Some(1001));
        is_accepted
    }

    /// The statuses that these API keys get.
    fn statuses<const N: usize>(&self, keys: [&str; N]) -> [u16; N] {
        keys.map(|key| {
            let mut connection = self.server.connect();
            connection.send(request("GET", &format!("{API}/events"), &[&format!("x-api-key: {key}")], ""));
            connection.answer().status
        })
    }

    /// The status of a handshake from a page of this origin, and which origin the answer allows.
    fn handshake(&self, origin: &str) -> (u16, Option<String>) {
        let mut connection = self.server.connect();
        connection.send(request("GET", POLLING, &[&format!("Origin: {origin}")], ""));
        let answer = connection.answer();
        (answer.status, answer.header("access-control-allow-origin").map(str::to_owned))
    }
}

#[test]
fn a_new_secret_counts_and_the_old_one_no_more_unless_it_is_the_previous_one() {
    let mut scene = ReloadScene::new("reload-secrets.toml", "access_token_secret = 'one'\nshards = 3\n");
    assert_eq!([scene.connect("one"), scene.connect("two")], [true, false]);
    let mut stays = crate::client::Client::connect(scene.server.address(), &token_by("one", "stays"));

    scene.reload("access_token_secret = 'two'\naccess_token_secret_previous = 'one'\n");
    // On whichever shard a connection comes in.
    for _ in 0..8 {
        assert_eq!([scene.connect("one"), scene.connect("two"), scene.connect("three")], [true, true, false]);
    }
    scene.reload("access_token_secret = 'two'\n");
    for _ in 0..8 {
        assert_eq!([scene.connect("one"), scene.connect("two")], [false, true]);
    }
    scene.reload("access_token_secret = 'three'\n");
    assert_eq!([scene.connect("one"), scene.connect("two"), scene.connect("three")], [false, false, true]);

    // Who is connected stays so.
    assert_eq!(scene.server.emit_to("stays", "e"), 1);
    assert_eq!(stays.event().0, "e");
}

#[test]
fn api_keys_are_replaced() {
    let mut scene = ReloadScene::new("reload-keys.toml", "api_key = 'old'\n");
    assert_eq!(scene.statuses(["old", "new"]), [200, 401]);
    scene.reload("api_key = ['old', 'new']\n");
    assert_eq!(scene.statuses(["old", "new"]), [200, 200]);
    scene.reload("api_key = 'new'\n");
    assert_eq!(scene.statuses(["old", "new"]), [401, 200]);
    // A connection that is there already is told the same.
    let mut connection = scene.server.connect();
    let ask = request("GET", &format!("{API}/events"), &["x-api-key: new"], "");
    connection.send(&ask);
    assert_eq!(connection.answer().status, 200);
    scene.reload("api_key = 'third'\n");
    connection.send(&ask);
    assert_eq!(connection.answer().status, 401);
}

#[test]
fn allowed_origins_are_replaced() {
    let mut scene = ReloadScene::new("reload-origins.toml", "cors_origin = 'https://a.example'\nshards = 3\n");
    let allowed = |origin: &str| (200, Some(origin.to_owned()));
    let refused = (403, None);
    assert_eq!(scene.handshake("https://a.example"), allowed("https://a.example"));
    assert_eq!(scene.handshake("https://b.example"), refused);
    scene.reload("cors_origin = ['https://b.example', 'https://c.example']\n");
    // The shards hear of it by mail, which may come after the next request.
    until("the old one is refused", || scene.handshake("https://a.example"), |answer| *answer == refused);
    for _ in 0..8 {
        until(
            "b is allowed",
            || scene.handshake("https://b.example"),
            |answer| *answer == allowed("https://b.example"),
        );
        assert_eq!(scene.handshake("https://c.example"), allowed("https://c.example"));
        assert_eq!(scene.handshake("https://a.example"), refused);
    }
    scene.reload("cors_origin = '*'\n");
    until("all are allowed", || scene.handshake("https://a.example").0, |status| *status == 200);
}

#[test]
fn a_file_that_cannot_be_used_changes_nothing_and_is_logged() {
    let good = "access_token_secret = 'one'\napi_key = 'key'\ncors_origin = 'https://a.example'\n";
    let mut scene = ReloadScene::new("reload-broken.toml", good);
    for (row, text, words) in [
        ("not TOML", "access_token_secret = \n", &["reload-broken.toml:1"][..]),
        ("an unknown key", "access_token_secret = 'two'\napi_keys = 'new'\n", &["reload-broken.toml", "`api_key`"]),
        ("a bad origin", "access_token_secret = 'two'\napi_key = 'new'\ncors_origin = 'b'\n", &["cors_origin"]),
        ("a bad number", "access_token_secret = 'two'\nclients_max = 'many'\n", &["clients_max", "`many`"]),
        ("no key in production", "env = 'production'\naccess_token_secret = 'two'\n", &["api_key"]),
        ("no key file", "token_public_key_file = '/nowhere/key.pem'\n", &["token_public_key_file", "/nowhere/key.pem"]),
    ] {
        println!("{row}");
        let logged = scene.reload_in_vain(text);
        for word in words {
            assert!(logged.contains(word), "{word} in {logged}");
        }
        assert_eq!([scene.connect("one"), scene.connect("two")], [true, false]);
        assert_eq!(scene.statuses(["key", "new"]), [200, 401]);
        assert_eq!(scene.handshake("https://a.example").0, 200);
        assert_eq!(scene.handshake("https://b.example").0, 403);
    }
    // A file that is gone is one that cannot be used.
    let elsewhere = scene.file.with_extension("gone");
    scene.file = elsewhere;
    let text = good.replace("one", "two");
    fs::remove_file(scene.file.with_extension("toml")).expect("it is there");
    scene.reload_in_vain(&text);
    assert_eq!([scene.connect("one"), scene.connect("two")], [true, false]);
    scene.file = scene.file.with_extension("toml");
    scene.reload(&text);
    assert_eq!([scene.connect("one"), scene.connect("two")], [false, true]);
}

#[test]
fn no_secret_and_no_key_is_ever_logged() {
    let text = "access_token_secret = 'the-first-secret'\napi_key = 'the-first-key'\n";
    let mut scene = ReloadScene::new("reload-silence.toml", text);
    scene.reload(&text.replace("first", "second"));
    scene.reload_in_vain("access_token_secret = 'the-third-secret'\napi_key = 'the-third-key'\nshards = 'x'\n");
    scene.reload_in_vain("access_token_secret = 'the-fourth-secret\napi_key = 'the-fourth-key'\n");
    let log = scene.server.log();
    for word in ["-secret", "-key"] {
        assert!(!log.contains(word), "{log}");
    }
}

#[test]
fn without_a_file_the_signal_does_no_harm() {
    let mut server = Server::start_bare(&[]);
    let token = server.line_with("ey").trim().to_owned();
    let mut client = crate::client::Client::connect(server.address(), &token);
    server.signal(Signal::HUP);
    until("it was followed", || server.log(), |log| log.contains("were read again"));
    assert_eq!(server.emit_to("demo", "e"), 1);
    assert_eq!(client.event().0, "e");
    // The secret that was made for this run is still the one.
    crate::client::Client::connect(server.address(), &token).leave();
    server.assert_healthy();
}
