//! Who gets what: a user's events go to that user, wherever it is connected, and to nobody else.

use serde_json::Value;

use crate::http::{Answer, Connection, request};
use crate::server::{API, Server, data, token_for};

/// A client by polling, on one connection.
struct PollingUser {
    connection: Connection,
    target: String,
}

impl PollingUser {
    fn connect(server: &Server, user: &str) -> PollingUser {
        let mut connection = server.connect();
        let answer = connection.get("/socket.io/?EIO=4&transport=polling");
        let open: Value = serde_json::from_slice(&answer.body[1..]).expect("an open packet");
        let sid = open["sid"].as_str().expect("a sid");
        let mut poller = PollingUser { connection, target: format!("/socket.io/?EIO=4&transport=polling&sid={sid}") };
        assert_eq!(poller.post(&format!(r#"40{{"token":"{}"}}"#, token_for(user))).text(), "ok");
        assert!(poller.poll().contains(r#"42["connected","#));
        poller
    }

    fn post(&mut self, body: &str) -> Answer {
        self.connection.send(request("POST", &self.target, &["Content-Type: text/plain;charset=UTF-8"], body));
        self.connection.answer()
    }

    fn poll(&mut self) -> String {
        let answer = self.connection.get(&self.target);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.text()
    }
}

#[test]
fn an_emit_to_a_user_is_seen_by_that_user_only() {
    let server = Server::start(&[]);
    let mut alice = [server.client("alice"), server.client("alice")];
    let mut alice_polling = PollingUser::connect(&server, "alice");
    let mut bob = server.client("bob");
    let mut bob_polling = PollingUser::connect(&server, "bob");
    // Answered once it is queued everywhere: what bob gets first is what was sent to him first.
    assert_eq!(server.emit_to("alice", "for-alice"), 3);
    assert_eq!(server.emit_to("ali", "for-nobody"), 0);
    assert_eq!(server.emit_to("bob", "for-bob"), 2);
    for client in &mut alice {
        assert_eq!(client.event().0, "for-alice");
        client.socket.round_trip();
    }
    assert_eq!(bob.event().0, "for-bob");
    bob.socket.round_trip();
    assert_eq!(alice_polling.poll(), r#"42["for-alice"]"#);
    assert_eq!(bob_polling.poll(), r#"42["for-bob"]"#);
}

#[test]
fn what_a_client_says_about_rooms_and_users_grants_nothing() {
    let server = Server::start(&[]);
    let mut mallory = server.client("mallory");
    for packet in [
        r#"42["joinRoom",{"roomId":"user:alice"}]"#,
        r#"42["join","user:alice"]"#,
        r#"42["subscribe",{"user":"alice","userId":"alice"}]"#,
        r#"4217["joinRoom","user:alice"]"#,
    ] {
        mallory.send(packet);
    }
    mallory.socket.round_trip();
    assert_eq!(server.emit_to("alice", "for-alice"), 0);
    assert_eq!(server.emit_to("mallory", "for-mallory"), 1);
    assert_eq!(mallory.event().0, "for-mallory");
}

#[test]
fn a_user_is_known_while_connected() {
    let server = Server::start(&[]);
    let status = || {
        let answer = server.connect().get(&format!("{API}/user/alice/status"));
        let answer = answer.json();
        let data = data(&answer);
        (data["connected"].as_bool(), data["sockets"].as_u64())
    };
    assert_eq!(status(), (Some(false), Some(0)));
    let (first, second) = (server.client("alice"), server.client("alice"));
    assert_ne!(first.sid, second.sid);
    assert_eq!(status(), (Some(true), Some(2)));
    first.leave();
    assert_eq!(status(), (Some(true), Some(1)));
    second.leave();
    assert_eq!(status(), (Some(false), Some(0)));
}
