//! A harness for AFL++: standard input is what a client sends on one connection, to a whole server that echoes.

use std::io::Read;

use sockring_protocol::Millis;
use sockring_protocol::server::{Server, ServerEvent, ServerSettings};

/// A line of only this in the input: a second passes, so that pings and ends are reached.
const TICK: &[u8] = b"\n~\n";

fn main() {
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input).expect("standard input");
    let mut server = Server::new(ServerSettings::default(), || [7; 15]);
    let connection = server.accept();
    let mut now = Millis(0);
    let mut written = 0;
    let mut rest = input.as_slice();
    while !rest.is_empty() {
        let end = rest.windows(TICK.len()).position(|window| window == TICK);
        let (bytes, after) = rest.split_at(end.unwrap_or(rest.len()));
        let mut events = server.receive(connection, bytes, now);
        now = now + if end.is_some() { 1000 } else { 0 };
        while !events.is_empty() || server.deadline() <= now {
            for event in events {
                if let ServerEvent::Message { session, message } = event {
                    let _ = server.send(session, message, now);
                }
            }
            events = server.expire(now);
        }
        while let Some(sent) = server.transmit() {
            assert_eq!(sent.connection, connection);
            written += sent.bytes.len();
        }
        rest = after.strip_prefix(TICK).unwrap_or(after);
    }
    println!("{} bytes in, {written} bytes out", input.len());
}
