//! What sockets say to emits: that they call back, with what, and that they have received it.

use std::time::Instant;

use serde_json::{Value, json};

use crate::client::{Client, Poller};
use crate::http::{Connection, request};
use crate::returning::Session;
use crate::server::{API, Server, data, token_for};
use crate::until;

fn server(shards: &str, environment: &[(&str, &str)]) -> Server {
    Server::start(&[&[("SOCKRING_SHARDS", shards)], environment].concat())
}

/// Both, as recovery off has its own ways.
const MODES: [(&str, &str); 2] = [("SOCKRING_RECOVERY_WINDOW_S", "0"), ("SOCKRING_RECOVERY_WINDOW_S", "60")];

/// An emit whose answer comes when everybody has said something.
struct Emitting(Connection);

impl Emitting {
    fn begin(server: &Server, body: &Value) -> Emitting {
        let route = if body.is_array() { "emit/batch" } else { "emit" };
        let mut connection = server.connect();
        let head = ["Content-Type: application/json"];
        connection.send(request("POST", &format!("{API}/{route}"), &head, &body.to_string()));
        Emitting(connection)
    }

    #[track_caller]
    fn answer(mut self) -> Value {
        let answer = self.0.answer();
        assert_eq!(answer.status, 200, "{answer:?}");
        data(&answer.json()).clone()
    }
}

fn ended(server: &Server, end: &str) -> u64 {
    server.metrics().sum("sockring_acks_total", &format!("end=\"{end}\""))
}

/// The id under which a question wants to be answered.
#[track_caller]
fn question(text: &str) -> &str {
    text.strip_prefix("42").and_then(|text| text.split_once("[\"question\"")).expect("a question").0
}

#[track_caller]
fn next_question(client: &mut Client) -> String {
    loop {
        let text = client.socket.text();
        match text.as_str() {
            "2" => client.socket.send("3"),
            marker if marker.starts_with("42[\"~") => {}
            _ => return question(&text).to_owned(),
        }
    }
}

#[test]
fn who_calls_back_is_counted_once_with_what_it_says() {
    for shards in ["1", "4"] {
        let server = server(shards, &[MODES[0]]);
        let mut clients: Vec<Client> = (0..5).map(|number| server.client(&format!("user-{number}"))).collect();
        let mut poller = Poller::connect(server.address(), &token_for("poller"));
        {
            let body = json!({"broadcast": true, "event": "question", "data": 7, "except": ["user:user-4"],
                "ack": {"timeoutMs": 30_000, "responses": true}});
            let answer = Emitting::begin(&server, &body);
            for (number, client) in clients.iter_mut().take(4).enumerate() {
                let id = next_question(client);
                // Twice, and to what it was not asked, and somebody else's.
                for id in [&*id, &*id, "1", "4294967296"] {
                    client.send(&format!("43{id}[{number},\"more\"]"));
                }
            }
            let asked = poller.poll();
            assert_eq!(poller.post(&format!("43{}[]", question(&asked))).status, 200);
            let answer = answer.answer();
            assert_eq!(
                (&answer["delivered"], &answer["acked"], &answer["timedOut"]),
                (&json!(5), &json!(5), &json!(0))
            );
            let mut responses = answer["responses"].as_array().expect("a list").clone();
            responses.sort_by_key(|response| response.as_u64().unwrap_or(9));
            assert_eq!(responses, [json!(0), json!(1), json!(2), json!(3), Value::Null]);
        }
        clients[4].socket.round_trip();
        assert_eq!(server.metrics().sum("sockring_acks_pending", ""), 0);
    }
}

#[test]
fn the_answer_comes_in_time_and_says_who_has_not_called_back() {
    for mode in MODES {
        let server = server("2", &[mode]);
        let mut clients: Vec<Client> = (0..3).map(|_| server.client("alice")).collect();
        let begun = Instant::now();
        {
            let body = json!({"user": "alice", "event": "question", "ack": {"timeoutMs": 300}});
            let answer = Emitting::begin(&server, &body);
            let ids: Vec<String> = clients.iter_mut().map(next_question).collect();
            clients[0].send(&format!("43{}[]", ids[0]));
            let answer = answer.answer();
            assert_eq!((&answer["acked"], &answer["timedOut"]), (&json!(1), &json!(2)), "{answer}");
            assert_eq!(answer["responses"], Value::Null, "nobody has asked for them");
            assert!(begun.elapsed().as_millis() >= 300);
            // What comes late is nobody's.
            clients[1].send(&format!("43{}[]", ids[1]));
            assert_eq!([ended(&server, "received"), ended(&server, "timed_out"), ended(&server, "gone")], [1, 2, 0]);
        }
        let nobody = server.post("emit", &json!({"user": "nobody", "event": "q", "ack": {"timeoutMs": 30_000}}));
        assert_eq!((&nobody["acked"], &nobody["timedOut"]), (&json!(0), &json!(0)), "at once");
        assert_eq!(server.emit_to("alice", "undisturbed"), 3);
        assert_eq!(server.metrics().sum("sockring_acks_pending", ""), 0);
    }
}

#[test]
fn who_goes_away_is_not_waited_for_unless_it_may_come_back() {
    let server = server("2", &[MODES[0]]);
    let mut clients: Vec<Client> = (0..2).map(|_| server.client("alice")).collect();
    {
        let body = json!({"user": "alice", "event": "question", "ack": {"timeoutMs": 30_000}});
        let answer = Emitting::begin(&server, &body);
        let ids: Vec<String> = clients.iter_mut().map(next_question).collect();
        drop(clients.pop());
        clients[0].send(&format!("43{}[]", ids[0]));
        let answer = answer.answer();
        assert_eq!((&answer["acked"], &answer["timedOut"]), (&json!(1), &json!(1)), "{answer}");
        assert_eq!([ended(&server, "received"), ended(&server, "gone")], [1, 1]);
    }
}

#[test]
fn who_comes_back_may_still_call_back_and_is_not_asked_again() {
    for shards in ["1", "4"] {
        let server = server(shards, &[MODES[1]]);
        let mut alice = Session::begin(&server, "alice");
        assert_eq!(alice.event(), "connected");
        {
            let body = json!({"user": "alice", "event": "question", "ack": {"timeoutMs": 30_000, "responses": true}});
            let answer = Emitting::begin(&server, &body);
            let id = question(&alice.text_behind_markers()).to_owned();
            let mut alice = Session::back(&server, alice.leave(&server));
            assert!(alice.is_recovered);
            alice.send(&format!("43{id}[\"late\"]"));
            let answer = answer.answer();
            assert_eq!((&answer["acked"], &answer["responses"]), (&json!(1), &json!(["late"])), "{answer}");
            server.emit(&json!({"user": "alice", "event": "next", "data": 8}));
            assert_eq!([alice.event(), alice.event()], [json!("connected"), json!(8)], "the question comes once");
        }
    }
}

#[test]
fn a_receipt_needs_nothing_of_a_client_but_its_heartbeats() {
    for (shards, mode) in [("1", MODES[0]), ("4", MODES[1])] {
        let server = server(shards, &[mode]);
        let mut clients: Vec<Client> = (0..3).map(|number| server.client(&format!("user-{number}"))).collect();
        let mut poller = Poller::connect(server.address(), &token_for("poller"));
        {
            let body = json!({"broadcast": true, "event": "news", "receipt": {"timeoutMs": 30_000}});
            let answer = Emitting::begin(&server, &body);
            for client in &mut clients {
                while client.socket.text() != "2" {}
                client.send("3");
            }
            while !poller.poll().split('\u{1e}').any(|packet| packet == "2") {}
            assert_eq!(poller.post("3").status, 200);
            let answer = answer.answer();
            assert_eq!((&answer["delivered"], &answer["received"]), (&json!(4), &json!(4)), "{answer}");
        }
        let lost = server.post("emit", &json!({"user": "user-0", "event": "news", "receipt": {"timeoutMs": 200}}));
        assert_eq!((&lost["delivered"], &lost["received"]), (&json!(1), &json!(0)), "it has not answered: {lost}");
    }
}

#[test]
fn who_comes_back_has_received_what_it_had_or_gets_then() {
    let server = server("2", &[MODES[1]]);
    for reads_first in [true, false] {
        let mut alice = Session::begin(&server, "alice");
        assert_eq!(alice.event(), "connected");
        alice.marker();
        {
            let body = json!({"user": "alice", "event": "news", "data": 5, "receipt": {"timeoutMs": 30_000}});
            let answer = Emitting::begin(&server, &body);
            if reads_first {
                assert_eq!(alice.event(), 5);
                alice.marker();
            } else {
                until("it is queued", || server.metrics().sum("sockring_acks_pending", ""), |pending| *pending == 1);
            }
            let mut alice = Session::back(&server, alice.leave(&server));
            alice.is_alive = true;
            assert!(alice.is_recovered);
            if !reads_first {
                assert_eq!(alice.event(), 5);
            }
            assert_eq!(alice.event(), "connected");
            server.emit(&json!({"user": "alice", "event": "last", "data": 6}));
            assert_eq!(alice.event(), 6);
            let answer = answer.answer();
            assert_eq!(answer["received"], 1, "{answer}");
            alice.leave(&server);
        }
    }
}

#[test]
fn both_may_be_asked_of_each_of_several_and_of_what_is_kept_or_repeated() {
    let server = server("2", &[MODES[0]]);
    let mut alice = server.client("alice");
    let mut bob = server.client("bob");
    {
        let both = json!({"timeoutMs": 30_000});
        let body = json!([
            {"user": "alice", "event": "question", "ack": both, "receipt": both},
            {"user": "bob", "event": "kept", "ttl": 60, "receipt": both},
            {"users": ["alice", "bob"], "event": "question", "idempotencyKey": "k", "ack": both},
            {"user": "bob", "event": "plain"},
            {"user": "bob", "event": "wrong", "ttl": 60, "ack": both},
        ]);
        let answers = Emitting::begin(&server, &body);
        for _ in 0..2 {
            let id = next_question(&mut alice);
            alice.send(&format!("43{id}[]"));
        }
        while alice.socket.text() != "2" {}
        alice.send("3");
        let mut texts: Vec<String> = Vec::new();
        while texts.len() < 4 {
            texts.push(bob.socket.text());
            if texts.last().is_some_and(|text| text == "2") {
                bob.send("3");
            }
        }
        let asked = texts.iter().find(|text| text.contains("question")).expect("it was asked");
        bob.send(&format!("43{}[]", question(asked)));
        let answers = answers.answer();
        let of = |at: usize, field: &str| answers[at][field].clone();
        assert_eq!((of(0, "acked"), of(0, "timedOut"), of(0, "received")), (json!(1), json!(0), json!(1)), "{answers}");
        assert_eq!((of(1, "received"), of(1, "kept")), (json!(1), json!("memory")), "{answers}");
        assert_eq!((of(2, "acked"), of(2, "duplicate")), (json!(2), json!(false)), "{answers}");
        assert_eq!((of(3, "acked"), of(3, "received")), (Value::Null, Value::Null));
        assert_eq!((of(4, "statusCode"), &of(4, "errors")[0]["path"]), (json!(422), &json!("[4].ack")));
    }
    let again = json!({"users": ["alice", "bob"], "event": "question", "idempotencyKey": "k",
        "ack": {"timeoutMs": 30_000}});
    let again = server.post("emit", &again);
    assert_eq!((&again["duplicate"], &again["acked"], &again["timedOut"]), (&json!(true), &json!(0), &json!(0)));
}
