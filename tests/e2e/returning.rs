//! Who comes back while events are kept: what was missed comes in one order, whether it had a `ttl` or not, and once.

use serde_json::{Value, json};
use sockring_protocol::websocket::Opcode;

use crate::client::{Frame, WebSocket, frame};
use crate::http::request;
use crate::server::{API, Server, data, token_for};
use crate::until;

fn server(environment: &[(&str, &str)]) -> Server {
    Server::start(&[&[("SOCKRING_SHARDS", "2"), ("SOCKRING_RECOVERY_WINDOW_S", "60")], environment].concat())
}

/// What a client object knows while it has no connection: its user, its `pid` and how far it has got.
pub type Before = (&'static str, String, Option<String>);

/// A client object that knows what the stock client knows, over several connections; its pongs are up to the test.
pub struct Session {
    user: &'static str,
    socket: WebSocket,
    pid: String,
    offset: Option<String>,
    pub is_recovered: bool,
    /// Whether it answers heartbeats.
    pub is_alive: bool,
}

impl Session {
    #[track_caller]
    pub fn begin(server: &Server, user: &'static str) -> Session {
        Session::connect(server, user, None)
    }

    /// Its connection breaks, which the server notices when it likes. What it comes back with.
    pub fn ended(self) -> Before {
        let Session { user, pid, offset, .. } = self;
        (user, pid, offset)
    }

    /// Its connection breaks, whatever was under way.
    pub fn leave(self, server: &Server) -> Before {
        let Session { user, socket, pid, offset, .. } = self;
        drop(socket);
        until("it is gone", || server.held().sockets, |sockets| *sockets == 0);
        (user, pid, offset)
    }

    #[track_caller]
    pub fn back(server: &Server, (user, pid, offset): Before) -> Session {
        Session::connect(server, user, Some((pid, offset)))
    }

    #[track_caller]
    fn connect(server: &Server, user: &'static str, before: Option<(String, Option<String>)>) -> Session {
        let mut socket = WebSocket::open(server.address());
        let mut auth = json!({"token": token_for(user)});
        if let Some((pid, offset)) = &before {
            (auth["pid"], auth["offset"]) = (json!(pid), json!(offset));
        }
        socket.send(&format!("40{auth}"));
        let answer = socket.text();
        let answer: Value = serde_json::from_str(answer.strip_prefix("40").expect("a CONNECT answer")).expect("JSON");
        let pid = answer["pid"].as_str().expect("a pid").to_owned();
        let is_recovered = before.as_ref().is_some_and(|(known, _)| *known == pid);
        Session { user, socket, pid, offset: before.and_then(|(_, offset)| offset), is_recovered, is_alive: false }
    }

    /// The next events by their first arguments, pings passed over; as the stock client does it takes the last string of an
    /// event for its offset.
    #[track_caller]
    pub fn numbers(&mut self, count: usize) -> Vec<Value> {
        std::iter::repeat_with(|| self.event()).take(count).collect()
    }

    #[track_caller]
    pub fn event(&mut self) -> Value {
        loop {
            let text = self.socket.text();
            if text == "2" {
                if self.is_alive {
                    self.socket.send("3");
                }
                continue;
            }
            let mut event: Vec<Value> = serde_json::from_str(text.strip_prefix("42").expect("an event")).expect("JSON");
            let name = event[0].as_str().expect("a name").to_owned();
            if name.starts_with('~') {
                self.offset = Some(name);
                continue;
            }
            return if name == "connected" { json!(name) } else { event.remove(1) };
        }
    }

    /// What comes next that is neither a marker nor a ping, as it came.
    #[track_caller]
    pub fn text_behind_markers(&mut self) -> String {
        loop {
            let text = self.socket.text();
            if text != "2" && !text.starts_with("42[\"~") {
                return text;
            }
        }
    }

    #[track_caller]
    pub fn send(&mut self, text: &str) {
        self.socket.send(text);
    }

    /// The marker behind what it has read.
    #[track_caller]
    pub fn marker(&mut self) {
        let text = self.socket.text();
        let name = text.strip_prefix("42[\"~").and_then(|name| name.strip_suffix("\"]"));
        self.offset = Some(format!("~{}", name.unwrap_or_else(|| panic!("a marker expected: {text}"))));
    }

    /// Nothing else is kept for it when it has answered a heartbeat behind all of it.
    #[track_caller]
    pub fn until_confirmed(&mut self, server: &Server) {
        let confirmed = "all is confirmed";
        until(
            confirmed,
            || {
                self.assert_quiet();
                kept(server, self.user)
            },
            |left| *left == 0,
        );
    }

    /// Nothing comes but heartbeats and markers, and those it answers.
    #[track_caller]
    pub fn assert_quiet(&mut self) {
        self.socket.connection.send(frame(Opcode::Ping, b"quiet"));
        loop {
            match self.socket.frame() {
                Frame::Text(text) if text == "2" => self.socket.send("3"),
                Frame::Text(text) if text.starts_with("42[\"~") => {}
                Frame::Pong(_) => return,
                other => panic!("{other:?}"),
            }
        }
    }
}

#[track_caller]
fn emit(server: &Server, user: &str, number: u64) {
    server.post("emit", &json!({"user": user, "event": "n", "data": number}));
}

#[track_caller]
fn keep(server: &Server, user: &str, number: u64) -> Value {
    let answer = server.post("emit", &json!({"user": user, "event": "n", "data": number, "ttl": 60}));
    assert_eq!(answer["kept"], "memory", "{answer}");
    answer
}

#[track_caller]
fn kept(server: &Server, user: &str) -> u64 {
    let mut connection = server.connect();
    connection.send(request("GET", &format!("{API}/user/{user}/status"), &["Content-Type: application/json"], ""));
    data(&connection.answer().json())["kept"].as_u64().expect("a number")
}

fn received(server: &Server) -> u64 {
    server.metrics().sum("sockring_kept_total", "end=\"received\"")
}

#[test]
fn what_was_missed_comes_in_the_order_in_which_it_was_emitted_whether_kept_or_not() {
    let server = server(&[]);
    let mut alice = Session::begin(&server, "alice");
    assert_eq!(alice.numbers(1), [json!("connected")]);
    alice.marker();
    let away = alice.leave(&server);
    for number in 0..20 {
        match number % 2 {
            0 => emit(&server, "alice", number),
            _ => drop(keep(&server, "alice", number)),
        }
    }
    let mut alice = Session::back(&server, away);
    assert!(alice.is_recovered);
    let expected: Vec<Value> = (0..20).map(|number| json!(number)).collect();
    assert_eq!(alice.numbers(20), expected);
    assert_eq!(alice.numbers(1), [json!("connected")], "all of it is before its greeting");
    assert_eq!((kept(&server, "alice"), received(&server)), (10, 0), "nothing was heard of it yet");
    alice.until_confirmed(&server);
    assert_eq!(received(&server), 10);
}

#[test]
fn the_offset_of_who_comes_back_confirms_what_is_kept() {
    let server = server(&[]);
    keep(&server, "alice", 1);
    keep(&server, "alice", 2);
    let mut alice = Session::begin(&server, "alice");
    assert_eq!(alice.numbers(2), [json!("connected"), json!(1)]);
    alice.marker();
    let away = alice.leave(&server);
    emit(&server, "alice", 3);
    // It has the first one, and has never answered a heartbeat.
    let mut alice = Session::back(&server, away);
    assert!(alice.is_recovered);
    assert_eq!(alice.numbers(2), [json!(2), json!(3)]);
    assert_eq!((kept(&server, "alice"), received(&server)), (1, 1));
    assert_eq!(alice.numbers(1), [json!("connected")]);
    keep(&server, "alice", 4);
    emit(&server, "alice", 5);
    assert_eq!(alice.numbers(2), [json!(4), json!(5)]);
    alice.marker();
    let away = alice.leave(&server);
    assert_eq!(kept(&server, "alice"), 2);
    let mut alice = Session::back(&server, away);
    assert_eq!((alice.is_recovered, kept(&server, "alice")), (true, 0));
    assert_eq!(alice.numbers(1), [json!("connected")]);
    alice.assert_quiet();
    assert_eq!(received(&server), 3);
}

#[test]
fn an_offset_from_before_an_event_confirms_nothing() {
    let server = server(&[]);
    keep(&server, "alice", 1);
    let mut alice = Session::begin(&server, "alice");
    assert_eq!(alice.numbers(1), [json!("connected")]);
    alice.marker();
    let (user, pid, offset) = alice.leave(&server);
    // The next page has another session, and its place is behind the first one's.
    let mut page = Session::begin(&server, "alice");
    assert_eq!(page.numbers(2), [json!("connected"), json!(1)]);
    page.marker();
    let (_, _, later) = page.leave(&server);
    let mut alice = Session::back(&server, (user, pid.clone(), offset));
    assert_eq!((alice.is_recovered, alice.numbers(2)), (true, vec![json!(1), json!("connected")]));
    let (user, _, _) = alice.leave(&server);
    assert_eq!((kept(&server, "alice"), received(&server)), (1, 0));
    let alice = Session::back(&server, (user, pid, later));
    assert_eq!((alice.is_recovered, kept(&server, "alice")), (true, 0), "it says that it has got that far");
}

#[test]
fn what_comes_while_more_is_kept_than_a_client_takes_at_once_comes_behind_it() {
    let server = server(&[("SOCKRING_QUEUE_BYTES_MAX", "20000")]);
    let text = "x".repeat(3_000);
    let large = |number: u64| json!({"user": "alice", "event": "n", "args": [number, {"text": text}], "ttl": 60});
    for number in 0..20 {
        server.post("emit", &large(number));
    }
    let mut alice = Session::begin(&server, "alice");
    assert_eq!(alice.numbers(1), [json!("connected")]);
    for number in 20..40 {
        match number % 2 {
            0 => emit(&server, "alice", number),
            _ => drop(server.post("emit", &large(number))),
        }
    }
    alice.is_alive = true;
    for number in 0..40 {
        assert_eq!(alice.event(), json!(number));
    }
    alice.until_confirmed(&server);
    assert_eq!(received(&server), 30);
}

#[test]
fn what_is_taken_back_or_over_is_not_sent_to_who_comes_back() {
    let server = server(&[]);
    let mut alice = Session::begin(&server, "alice");
    assert_eq!(alice.numbers(1), [json!("connected")]);
    alice.marker();
    let away = alice.leave(&server);
    let taken_back = keep(&server, "alice", 1);
    emit(&server, "alice", 2);
    let answer = server.post("emit", &json!({"user": "alice", "event": "n", "data": 3, "ttl": 1}));
    assert_eq!(answer["kept"], "memory");
    keep(&server, "alice", 4);
    let id = taken_back["id"].as_str().expect("an id");
    let mut connection = server.connect();
    let route = format!("{API}/user/alice/kept/{id}");
    connection.send(request("DELETE", &route, &["Content-Type: application/json"], ""));
    assert_eq!(data(&connection.answer().json())["events"], 1);
    until("the third is over", || kept(&server, "alice"), |left| *left == 1);
    let mut alice = Session::back(&server, away);
    assert!(alice.is_recovered);
    assert_eq!(alice.numbers(3), [json!(2), json!(4), json!("connected")]);
    alice.assert_quiet();
}

#[test]
fn each_client_of_a_user_gets_it_also_when_another_one_has_received_it() {
    let server = server(&[]);
    let mut phone = Session::begin(&server, "alice");
    assert_eq!(phone.numbers(1), [json!("connected")]);
    phone.marker();
    let away = phone.leave(&server);
    let mut page = Session::begin(&server, "alice");
    assert_eq!(page.numbers(1), [json!("connected")]);
    page.is_alive = true;
    keep(&server, "alice", 1);
    emit(&server, "alice", 2);
    assert_eq!(page.numbers(2), [json!(1), json!(2)]);
    page.until_confirmed(&server);
    let mut phone = Session::back(&server, away);
    assert_eq!((phone.is_recovered, phone.numbers(3)), (true, vec![json!(1), json!(2), json!("connected")]));
}
