//! Answers to polls, as browsers ask for them.

use std::io::Read;

use flate2::read::GzDecoder;
use serde_json::json;

use crate::client::Poller;
use crate::http::{Answer, request};
use crate::server::{Server, token_for};

/// What a poll of a browser is answered when an event with so much data waits.
fn answer(server: &Server, poller: &mut Poller, data: &str) -> Answer {
    assert_eq!(server.emit(&json!({"user": "alice", "event": "long", "data": data})), 1);
    poller.connection.send(request("GET", &poller.target, &["Accept-Encoding: gzip, deflate, br"], ""));
    poller.connection.answer()
}

#[test]
fn what_is_long_is_compressed_unless_that_is_switched_off() {
    for (least, is_compressed) in [("1024", true), ("0", false), ("100000", false)] {
        let server = Server::start(&[("SOCKRING_POLLING_GZIP_BYTES_MIN", least), ("SOCKRING_RECOVERY_WINDOW_S", "0")]);
        let mut poller = Poller::connect(server.address(), &token_for("alice"));
        let data = "progress ".repeat(2_000);
        let long = answer(&server, &mut poller, &data);
        assert_eq!(long.header("content-encoding"), is_compressed.then_some("gzip"), "{least}");
        let mut text = String::new();
        match is_compressed {
            true => _ = GzDecoder::new(&*long.body).read_to_string(&mut text).expect("a gzip stream"),
            false => text = long.text(),
        }
        assert_eq!(text, format!("42[\"long\",\"{data}\"]"));
        assert_eq!(long.body.len() < 1_000, is_compressed);
        let short = answer(&server, &mut poller, "short");
        assert_eq!((short.header("content-encoding"), &*short.text()), (None, "42[\"long\",\"short\"]"));
    }
}
