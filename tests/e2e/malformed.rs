//! Bad request heads and bodies over TCP, and peers that go away in the middle.

use serde_json::Value;

use crate::bad_input::Scene;
use crate::client::upgrade_request;
use crate::http::{Connection, request};
use crate::server::{API, token_for};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

#[test]
fn bad_heads_get_their_status_and_the_end() {
    let mut scene = Scene::new();
    let rows: Vec<(&str, String, u16)> = vec![
        ("noise", "\u{16}\u{3}\u{1}\u{2}\0".to_owned(), 400),
        ("no method", " / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("a bare line feed", "GET / HTTP/1.1\nHost: a\n\n".to_owned(), 400),
        ("no Host", "GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".to_owned(), 400),
        ("a bad Host", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(), 400),
        ("a fragment", request("GET", "/#x", &[], ""), 400),
        ("a proxy's target", request("GET", "a:80", &[], ""), 400),
        ("a folded header", request("GET", "/", &["A: b", " c: d"], ""), 400),
        ("a blank before the colon", request("GET", "/", &["Content-Length : 5"], ""), 400),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 505),
        ("HTTP/3", "GET / HTTP/3.0\r\nHost: a\r\n\r\n".to_owned(), 505),
        ("two framings", request("GET", "/", &["Content-Length: 5", "Transfer-Encoding: chunked"], ""), 400),
        ("two lengths", request("GET", "/", &["Content-Length: 5", "Content-Length: 6"], ""), 400),
        ("a signed length", request("GET", "/", &["Content-Length: +5"], ""), 400),
        ("a negative length", request("GET", "/", &["Content-Length: -1"], ""), 400),
        ("another coding", request("GET", "/", &["Transfer-Encoding: gzip, chunked"], ""), 501),
        ("another expectation", request("GET", "/", &["Expect: 200-ok"], ""), 417),
        ("101 headers", request("GET", "/", &["A: b"; 101], ""), 431),
        ("a long header", request("GET", "/", &[&format!("A: {}", "b".repeat(20_000))], ""), 431),
        ("a long target", request("GET", &format!("/{}", "a".repeat(20_000)), &[], ""), 431),
        ("no end", format!("GET / HTTP/1.1\r\nA: {}", "b".repeat(17_000)), 431),
    ];
    for (row, bytes, status) in rows {
        // As the first request, and behind one that was served by the API.
        for is_first in [true, false] {
            let mut connection = scene.server.connect();
            if !is_first {
                assert_eq!(connection.get("/health").status, 200);
            }
            connection.send_what_is_taken(bytes.as_bytes());
            let answer = connection.answer();
            assert_eq!((answer.status, answer.header("connection")), (status, Some("close")), "{row}: {answer:?}");
            connection.assert_ends();
        }
        scene.assert_undisturbed(row);
    }
    scene.end();
}

#[test]
fn handshakes_that_are_none_get_the_code_of_the_reference() {
    let mut scene = Scene::new();
    for (query, code) in [
        ("", 0),
        ("?EIO=4", 0),
        ("?EIO=4&transport=__proto__", 0),
        ("?EIO=4&transport=webtransport", 0),
        ("?EIO=4&transport=polling&sid=constructor", 1),
        ("?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAA", 1),
        ("?EIO=4&transport=polling&sid=%00", 1),
        ("?EIO=4&transport=websocket", 3),
        ("?EIO=3&transport=polling", 5),
        ("?EIO=5&transport=polling", 5),
        ("?transport=polling", 5),
    ] {
        let mut connection = scene.server.connect();
        let answer = connection.get(&format!("/socket.io/{query}"));
        assert_eq!((answer.status, &answer.json()["code"]), (400, &Value::from(code)), "{query}: {answer:?}");
        // It was a well-formed request: the connection goes on.
        assert_eq!(connection.get(POLLING).status, 200, "{query}");
        connection.leave();
    }
    let mut connection = scene.server.connect();
    connection.send(request("POST", POLLING, &[], ""));
    assert_eq!(connection.answer().json()["code"], 2);
    connection.leave();
    for (row, from, to, status) in [
        ("version 12", "Version: 13", "Version: 12", 426),
        ("no key", "Sec-WebSocket-Key: ", "X-Key: ", 400),
        ("a short key", "dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=", 400),
        ("another protocol", "Upgrade: websocket", "Upgrade: h2c", 400),
    ] {
        let mut connection = scene.server.connect();
        connection.send(upgrade_request("/socket.io/?EIO=4&transport=websocket").replace(from, to));
        let answer = connection.answer();
        assert_eq!(answer.status, status, "{row}: {answer:?}");
        if row != "another protocol" {
            connection.assert_ends();
        }
        scene.assert_undisturbed(row);
    }
    scene.server.connect().leave();
    // The sessions of the good handshakes are still open: they are the bystander's company, not its trouble.
    assert_eq!(scene.server.held().clients, 12);
}

/// A polling session on this connection that has said CONNECT; its requests' target.
fn session(connection: &mut Connection) -> String {
    let open = connection.get(POLLING);
    let open: Value = serde_json::from_slice(&open.body[1..]).expect("an open packet");
    let target = format!("{POLLING}&sid={}", open["sid"].as_str().expect("a sid"));
    connection.send(request("POST", &target, &[], &format!(r#"40{{"token":"{}"}}"#, token_for("breaker"))));
    assert_eq!(connection.answer().text(), "ok");
    assert!(connection.get(&target).text().contains("connected"));
    target
}

#[test]
fn bad_bodies_end_the_session_that_they_were_for() {
    let mut scene = Scene::new();
    let chunked = &["Transfer-Encoding: chunked"][..];
    let too_many = "3\u{1e}".repeat(1000) + "3";
    let too_long = "4".repeat(10_001);
    // The status, or what the next poll brings where the POST itself was in order.
    for (row, headers, body, status) in [
        ("no chunk size", chunked, "x\r\n", 400),
        ("a chunk without its end", chunked, "1\r\nxx\r\n0\r\n\r\n", 400),
        ("a signed chunk size", chunked, "+1\r\nx\r\n0\r\n\r\n", 400),
        ("a chunk size over the limit", chunked, "fffffffffff\r\n", 413),
        ("octets", &["Content-Type: application/octet-stream", "Content-Length: 1"], "4", 400),
        ("too long", &["Content-Length: 10001"], &too_long, 413),
        ("a length of nines", &["Content-Length: 99999999999999999999999"], "", 413),
        ("too many packets", &["Content-Length: 2001"], &too_many, 400),
        ("no packet", &["Content-Length: 1"], "x", 400),
        ("bad base64", &["Content-Length: 3"], "b@@", 400),
        ("not UTF-8", &["Content-Length: 4"], "4\u{80}\u{1e}", 400),
    ] {
        println!("{row}");
        let mut connection = scene.server.connect();
        let target = session(&mut connection);
        let head = request("GET", &target, headers, "").replacen("GET", "POST", 1);
        let mut bytes = [head, body.to_owned()].concat().into_bytes();
        if row == "not UTF-8" {
            bytes = bytes.into_iter().map(|byte| if byte == 0xc2 { 0xff } else { byte }).collect();
        }
        connection.send_what_is_taken(&bytes);
        let answer = connection.answer();
        assert_eq!(answer.status, status, "{row}: {answer:?}");
        drop(connection);
        assert_gone(&scene, &target, row);
        scene.assert_undisturbed(row);
    }
    // Packets that are wrong in themselves.
    for body in ["4x", "42[", "47", "42[\"a\"]\u{1e}4\u{1e}42[\"b\"]", "2", "bAAAA", "451-[\"a\"]\u{1e}42[\"b\"]"] {
        println!("{body}");
        let mut connection = scene.server.connect();
        let target = session(&mut connection);
        connection.send(request("POST", &target, &[], body));
        let status = connection.answer().status;
        assert!(status == 200 || status == 400, "{body}: {status}");
        connection.leave();
        assert_gone(&scene, &target, body);
        scene.assert_undisturbed(body);
    }
    scene.end();
}

/// A session has ended: at most one poll more brings its last packet.
#[track_caller]
fn assert_gone(scene: &Scene, target: &str, row: &str) {
    let mut connection = scene.server.connect();
    let mut answer = connection.get(target);
    if answer.status == 200 {
        assert!(["1", "6"].contains(&&*answer.text()), "{row}: {answer:?}");
        answer = connection.get(target);
    }
    assert_eq!((answer.status, &answer.json()["code"]), (400, &Value::from(1)), "{row}: {answer:?}");
    connection.leave();
}

#[test]
fn bad_bodies_to_the_api_get_their_status() {
    let mut scene = Scene::new();
    let json = "Content-Type: application/json";
    for (row, headers, body, status) in [
        ("no chunk size", &[json, "Transfer-Encoding: chunked"], "x\r\n", 400),
        ("a chunk without its end", &[json, "Transfer-Encoding: chunked"], "1\r\n{}\r\n0\r\n\r\n", 400),
        ("a huge chunk", &[json, "Transfer-Encoding: chunked"], "fffffffffff\r\n", 413),
        ("a huge length", &[json, "Content-Length: 99999999999999999999999"], "", 413),
    ] {
        let mut connection = scene.server.connect();
        let head = request("GET", &format!("{API}/emit"), headers, "").replacen("GET", "POST", 1);
        connection.send([head, body.to_owned()].concat());
        let answer = connection.answer();
        assert_eq!((answer.status, answer.header("connection")), (status, Some("close")), "{row}: {answer:?}");
        connection.assert_ends();
        scene.assert_undisturbed(row);
    }
    scene.end();
}

#[test]
fn peers_that_go_away_in_the_middle_leave_nothing_behind() {
    let mut scene = Scene::new();
    let polling = {
        let mut connection = scene.server.connect();
        session(&mut connection)
    };
    for bytes in [
        String::new(),
        "GET / HT".to_owned(),
        request("GET", "/", &[], ""),
        request("GET", POLLING, &[], "")[..20].to_owned(),
        request("POST", &format!("{API}/emit"), &["Content-Type: application/json"], "{\"user\"")
            .replace("Content-Length: 7", "Content-Length: 70"),
        upgrade_request("/socket.io/?EIO=4&transport=websocket"),
        // Last of all a poll that is held: who breaks it off ends the session.
        request("GET", &polling, &[], ""),
    ] {
        let mut connection = scene.server.connect();
        connection.send(&bytes);
        drop(connection);
        scene.assert_undisturbed("after a peer went away");
    }
    scene.end();
}
