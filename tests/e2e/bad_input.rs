//! Bad frames and packets over TCP: each ends its own session in the documented way, and harms nobody else.

use std::collections::BTreeMap;

use sockring_protocol::websocket::{Fin, Opcode, encode_client_frame};

use crate::client::{Client, MASK, WebSocket, frame};
use crate::server::Server;

/// A server with somebody who has to notice nothing.
pub struct Scene {
    pub server: Server,
    bystander: Client,
    descriptors: Vec<String>,
}

impl Scene {
    pub fn new() -> Scene {
        let server = Server::start(&[("SOCKRING_PAYLOAD_BYTES_MAX", "10000"), ("SOCKRING_FRAGMENTS_MAX", "8")]);
        let descriptors = server.idle_descriptors();
        let bystander = server.client("bystander");
        Scene { server, bystander, descriptors }
    }

    /// The bystander still gets its events, and nothing else.
    #[track_caller]
    pub fn assert_undisturbed(&mut self, row: &str) {
        let event = format!("after {row}");
        assert_eq!(self.server.emit_to("bystander", &event), 1, "{row}");
        assert_eq!(self.bystander.event().0, event);
    }

    /// All leave: nothing may be left.
    #[track_caller]
    pub fn end(mut self) {
        self.server.assert_healthy();
        self.bystander.leave();
        self.server.assert_empties_to(&self.descriptors);
    }
}

/// A frame that is not the last of its message.
fn begun(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_client_frame(opcode, Fin::More, MASK, payload, &mut bytes);
    bytes
}

/// A masked frame with these first two bytes, and what follows them.
fn raw(first: u8, second: u8, rest: &[u8]) -> Vec<u8> {
    [&[first, second], rest].concat()
}

#[test]
fn bad_frames_end_with_the_close_code_of_the_rfc() {
    let mut scene = Scene::new();
    let rows: Vec<(&str, Vec<u8>, u16, &str)> = vec![
        ("unmasked", raw(0x81, 0x02, b"40"), 1002, "unmasked"),
        ("reserved bit 1", raw(0xc1, 0x80, &MASK), 1002, "reserved_bits"),
        ("reserved bit 2", raw(0xa1, 0x80, &MASK), 1002, "reserved_bits"),
        ("reserved bit 3", raw(0x91, 0x80, &MASK), 1002, "reserved_bits"),
        ("reserved opcode", raw(0x83, 0x80, &MASK), 1002, "reserved_opcode"),
        ("reserved control opcode", raw(0x8b, 0x80, &MASK), 1002, "reserved_opcode"),
        ("long ping", frame(Opcode::Ping, &[0; 126]), 1002, "control_too_long"),
        ("fragmented ping", begun(Opcode::Ping, b""), 1002, "control_fragmented"),
        ("continuation of nothing", frame(Opcode::Continuation, b"x"), 1002, "continuation_unexpected"),
        (
            "text within text",
            [begun(Opcode::Text, b"4"), frame(Opcode::Text, b"2")].concat(),
            1002,
            "continuation_expected",
        ),
        ("length not minimal in 16 bits", raw(0x81, 0xfe, &[0, 125]), 1002, "length_not_minimal"),
        ("length not minimal in 64 bits", raw(0x81, 0xff, &[0, 0, 0, 0, 0, 0, 255, 255]), 1002, "length_not_minimal"),
        ("length of 2^63", raw(0x81, 0xff, &[128, 0, 0, 0, 0, 0, 0, 0]), 1002, "length_too_long"),
        (
            "length of 2^62",
            [raw(0x81, 0xff, &[64, 0, 0, 0, 0, 0, 0, 0]), MASK.to_vec()].concat(),
            1009,
            "message_too_big",
        ),
        ("a byte too long", frame(Opcode::Text, &[b'4'; 10_001]), 1009, "message_too_big"),
        (
            "too long in fragments",
            [begun(Opcode::Text, &[b'4'; 9000]), frame(Opcode::Continuation, &[b'4'; 1001])].concat(),
            1009,
            "message_too_big",
        ),
        (
            "too many fragments",
            [begun(Opcode::Text, b"4"), begun(Opcode::Continuation, b"").repeat(9)].concat(),
            1008,
            "too_many_fragments",
        ),
        ("text that is not UTF-8", frame(Opcode::Text, b"42[\"\xff\"]"), 1007, "invalid_utf8"),
        ("text that ends within a character", frame(Opcode::Text, b"42[\"\xe2\x82"), 1007, "invalid_utf8"),
        ("a surrogate", frame(Opcode::Text, b"\xed\xa0\x80"), 1007, "invalid_utf8"),
        ("close payload of one byte", frame(Opcode::Close, b"\x03"), 1002, "bad_close_payload"),
        ("close code 1005", frame(Opcode::Close, &1005_u16.to_be_bytes()), 1002, "bad_close_code"),
        ("close code 999", frame(Opcode::Close, &999_u16.to_be_bytes()), 1002, "bad_close_code"),
        ("close reason that is not UTF-8", frame(Opcode::Close, b"\x03\xe8\xff"), 1007, "invalid_utf8"),
    ];
    let mut counted = BTreeMap::<_, u64>::new();
    for (row, bytes, code, reason) in rows {
        println!("{row}");
        for mut socket in [WebSocket::open(scene.server.address()), scene.server.client("breaker").socket] {
            socket.connection.send(&bytes);
            assert_eq!(socket.close_code(), Some(code), "{row}");
        }
        *counted.entry(reason).or_default() += 2;
        scene.assert_undisturbed(row);
    }
    let metrics = scene.server.metrics();
    for (reason, count) in counted {
        let label = format!("layer=\"websocket\",reason=\"{reason}\"");
        assert_eq!(metrics.sum("sockring_packets_refused_total", &label), count, "{reason}");
    }
    scene.end();
}

#[test]
fn bad_packets_end_the_session() {
    let mut scene = Scene::new();
    // Engine.IO and Socket.IO packets, after CONNECT.
    let rows = [
        "",
        "x",
        "7",
        "2",
        "9",
        "2probe",
        "4",
        "47",
        "4999",
        "42",
        "42{}",
        "42[]",
        "42[",
        "442[\"a\"",
        "42[null]",
        "42[true,\"a\"]",
        "42[{\"toString\":\"foo\"}]",
        "42[\"connect\"]",
        "42/none,[\"a\"]",
        "42[\"a\"]x",
        "4212345678901234567890[\"a\"]",
        "43[]",
        "431{}",
        "44{}",
        "44\"x\"",
        "40",
        "40{}",
        "40[]",
        "40/admin,\"x\"",
        "41/admin,{}",
        "45",
        "451",
        "451a-",
        "45.5-",
        "450-[\"x\"]",
        "4511-[\"x\"]",
        "45999999-[\"x\"]",
        "451-[\"a\",{\"_placeholder\":true,\"num\":1}]",
        "451-[\"a\",{\"_placeholder\":true,\"num\":-1}]",
        "451-[\"a\",{\"_placeholder\":true,\"num\":\"splice\"}]",
    ];
    for packet in rows {
        println!("{packet}");
        let mut client = scene.server.client("breaker");
        client.send(packet);
        client.socket.close_code();
        scene.assert_undisturbed(packet);
    }
    for (row, packets) in [
        ("binary without a header", vec![frame(Opcode::Binary, b"x")]),
        (
            "text instead of an attachment",
            vec![
                frame(Opcode::Text, b"451-[\"a\",{\"_placeholder\":true,\"num\":0}]"),
                frame(Opcode::Text, b"42[\"a\"]"),
            ],
        ),
    ] {
        println!("{row}");
        let mut client = scene.server.client("breaker");
        client.socket.connection.send(packets.concat());
        client.socket.close_code();
        scene.assert_undisturbed(row);
    }
    // The same before CONNECT.
    for packet in ["42[\"a\"]", "431[]", "451-[\"a\",{\"_placeholder\":true,\"num\":0}]", "4x", "44{}"] {
        println!("{packet} before CONNECT");
        let mut socket = WebSocket::open(scene.server.address());
        socket.send(packet);
        socket.close_code();
        scene.assert_undisturbed(packet);
    }
    scene.end();
}

#[test]
fn bad_packets_are_counted_by_what_is_wrong() {
    let mut scene = Scene::new();
    for (packet, layer, reason) in [
        ("", "engineio", "empty"),
        ("x", "engineio", "unknown_type"),
        ("4", "socketio", "empty"),
        ("47", "socketio", "unknown_type"),
        ("44{}", "socketio", "connect_error_from_client"),
        ("451a-", "socketio", "bad_attachments"),
        ("450-[\"x\"]", "socketio", "no_attachments"),
        ("4511-[\"x\"]", "socketio", "too_many_attachments"),
        ("42/\u{1},[\"a\"]", "socketio", "bad_namespace"),
        ("4212345678901234567890[\"a\"]", "socketio", "ack_id_too_large"),
        ("43[]", "socketio", "missing_ack_id"),
        ("42", "socketio", "missing_payload"),
        ("41/admin,{}", "socketio", "unexpected_payload"),
        ("40/admin,\"x\"", "socketio", "not_an_object"),
        ("42{}", "socketio", "not_an_array"),
        ("42[null]", "socketio", "not_an_event_name"),
        ("42[\"connect\"]", "socketio", "reserved_event_name"),
        ("451-[\"a\",{\"_placeholder\":true,\"num\":1}]", "socketio", "bad_placeholder"),
        ("42[", "socketio", "bad_json"),
        (&format!("42[\"a\",{}{}]", "[".repeat(128), "]".repeat(128)), "socketio", "json_too_deep"),
        ("2", "session", "ping"),
        ("42/none,[\"a\"]", "session", "not_connected"),
        ("40", "session", "already_connected"),
    ] {
        let mut client = scene.server.client("breaker");
        client.send(packet);
        client.socket.close_code();
        let metrics = scene.server.metrics();
        let count = metrics.sum("sockring_packets_refused_total", &format!("layer=\"{layer}\",reason=\"{reason}\""));
        assert_eq!(count, 1, "{packet}: {layer} {reason}");
    }
    assert_eq!(scene.server.metrics().sum("sockring_packets_refused_total", ""), 23, "each once");
    scene.assert_undisturbed("all of them");
    scene.end();
}

#[test]
fn harmless_oddities_end_nothing() {
    let scene = Scene::new();
    let mut client = scene.server.client("odd");
    for packet in [
        "3",
        "0",
        "5",
        "42[\"a\"]",
        "420[\"a\"]",
        "42[7]",
        "42[\"error\"]",
        "42[\"\"]",
        "42 [\"a\"]",
        "430[]",
        "43999[1]",
        "40/none,",
        "41/none,",
        "6",
        "451-[\"a\"]",
    ] {
        client.send(packet);
        if packet.starts_with("451-") {
            client.socket.connection.send(frame(Opcode::Binary, b"x"));
        }
        if packet == "40/none," {
            assert_eq!(client.socket.text(), r#"44/none,{"message":"Invalid namespace"}"#);
        }
        client.socket.round_trip();
        assert_eq!(scene.server.emit_to("odd", packet), 1, "{packet}");
        assert_eq!(client.event().0, packet);
    }
    client.leave();
    scene.end();
}
