//! A harness for cargo-fuzz: what a client sends on two connections, with pauses, to a whole server that echoes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sockring_protocol::Millis;
use sockring_protocol::server::{Server, ServerEvent, ServerSettings};

// libFuzzer's bytes become a list of pauses, which of the connections it is, and what the client sends.
fuzz_target!(|script: Vec<(u16, bool, &[u8])>| {
    let mut server = Server::new(ServerSettings::default(), || [7; 15]);
    let connections = [server.accept(), server.accept()];
    let (mut now, mut open_sessions) = (Millis(0), 0);
    for (pause_ms, is_second, bytes) in script {
        now = now + u64::from(pause_ms);
        let mut events = server.receive(connections[usize::from(is_second)], bytes, now);
        while !events.is_empty() || server.deadline() <= now {
            for event in events {
                match event {
                    ServerEvent::Opened { .. } => open_sessions += 1,
                    ServerEvent::Closed { .. } => open_sessions -= 1,
                    ServerEvent::Message { session, message } => drop(server.send(session, message, now)),
                    _ => {}
                }
            }
            events = server.expire(now);
        }
        while let Some(sent) = server.transmit() {
            assert!(connections.contains(&sent.connection));
        }
        assert_eq!(server.deadline() == Millis::NEVER, open_sessions == 0, "a session is forgotten, or not over");
    }
});
