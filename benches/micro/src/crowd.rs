//! `Crowd`: a shard with WebSocket clients in one room, driven turn by turn as a worker drives it, without a kernel.

use std::sync::Arc;

use sockring::app::{Action, Actions, Admission, Application, ConnectRequest, ReceivedEvent, Refusal, SocketInfo};
use sockring::capacity::{Capacity, CapacityLimits};
use sockring::shard::{
    ConnectionKey, Effect, EngineSettings, Entropy, Mail, Now, Shard, ShardNumber, ShardParts, Ticket,
};
use sockring_protocol::Millis;
use sockring_protocol::adapter::Broadcast;
use sockring_protocol::socketio::EventName;
use sockring_protocol::websocket::{Fin, Opcode, encode_client_frame};

/// The room that all clients are in.
const ROOM: &str = "everyone";
/// Time stands still, so that no heartbeat is due in one run and not in the next.
const NOW: Now = Now { at: Millis(1_000), unix_ms: 0 };
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const ECHO_BYTES: usize = 64;
const FAN_OUT_BYTES: usize = 200;
const HANDSHAKE: &[u8] = b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: micro\r\n\
    Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A shard and its connected clients.
pub struct Crowd {
    shard: Shard<Echo>,
    clients: Vec<ConnectionKey>,
    /// Whose turn it is to speak.
    next: usize,
    /// An event of a client, masked.
    event: Vec<u8>,
    /// What is read into: the shard changes it in place.
    input: Vec<u8>,
    /// What all clients get.
    news: Arc<[u8]>,
    effects: Vec<Effect>,
    /// Whose sends the next turn completes.
    sending: Vec<ConnectionKey>,
}

/// What a turn sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    pub sends: usize,
    pub bytes: usize,
}

fn parts(clients: usize) -> ShardParts<Echo> {
    let limits = CapacityLimits { connections_max: clients, clients_max: clients, ..CapacityLimits::UNLIMITED };
    let settings = EngineSettings { events_per_second_max: u32::MAX, ..EngineSettings::default() };
    ShardParts {
        settings: Arc::new(settings),
        capacity: Arc::new(Capacity::new(limits)),
        place: ShardNumber { number: 0, of: 1 },
        app: Echo,
        entropy: Box::new(Count(0)),
    }
}

impl Crowd {
    /// A shard with this many clients, all connected and in one room, and nothing under way.
    pub fn new(clients: usize) -> Crowd {
        let mut crowd = Crowd {
            shard: Shard::new(parts(clients), NOW),
            clients: Vec::new(),
            next: 0,
            event: frame(&format!("42[\"message\",\"{}\"]", "x".repeat(ECHO_BYTES))),
            input: Vec::new(),
            news: Arc::from(format!("[\"news\",\"{}\"]", "x".repeat(FAN_OUT_BYTES)).as_bytes()),
            effects: Vec::new(),
            sending: Vec::new(),
        };
        crowd.connect(clients);
        crowd
    }

    /// The shard is packed, and goes on as another one that is made of the bytes. Says how many they are.
    pub fn relay(&mut self) -> usize {
        let bytes = self.shard.pack();
        self.shard = Shard::unpack(&bytes, parts(self.clients.len()), NOW).expect("it is whole");
        bytes.len()
    }

    fn connect(&mut self, clients: usize) {
        let mut keys = Vec::with_capacity(clients);
        self.turn(|shard| keys.extend((0..clients).map_while(|_| shard.on_accept(None))));
        for bytes in [HANDSHAKE.to_vec(), frame("40")] {
            self.turn(|shard| keys.iter().for_each(|key| shard.on_bytes(*key, &mut bytes.clone())));
        }
        self.turn(|_| {});
        self.clients = keys;
        let stats = self.shard.stats();
        assert_eq!((stats.connected, stats.websocket), (clients as u64, clients as u64), "not all are connected");
        assert!(self.sending.is_empty(), "something is still being sent");
    }

    /// One turn: the event of one client comes, the next one's at the next call, and goes back.
    pub fn echo(&mut self) -> Sent {
        let key = self.clients[self.next];
        self.next = (self.next + 1) % self.clients.len();
        let mut input = std::mem::take(&mut self.input);
        input.clear();
        input.extend_from_slice(&self.event);
        let sent = self.turn(|shard| shard.on_bytes(key, &mut input));
        self.input = input;
        sent
    }

    /// An emit to the room comes from the API, and goes to all, in as many turns as that takes.
    pub fn fan_out(&mut self) -> Sent {
        let broadcast = Broadcast::new("/", vec![ROOM.into()], Arc::clone(&self.news));
        let mut sent = self.turn(|shard| shard.on_mail(Ticket(1), Mail::Emit(vec![broadcast])));
        while self.shard.is_behind() {
            let more = self.turn(|_| {});
            sent.sends += more.sends;
            sent.bytes += more.bytes;
        }
        sent
    }

    /// What was sent in the turn before is with the kernel, then this happens.
    fn turn(&mut self, happen: impl FnOnce(&mut Shard<Echo>)) -> Sent {
        self.shard.on_time(NOW);
        for key in self.sending.drain(..) {
            self.shard.on_sent(key, Ok(()));
        }
        happen(&mut self.shard);
        self.shard.on_tick();
        self.shard.flush(&mut self.effects);
        let mut sent = Sent::default();
        for effect in self.effects.drain(..) {
            if let Effect::Send(key, bytes) = effect {
                sent.sends += 1;
                sent.bytes += bytes.as_slice().len();
                self.sending.push(key);
            }
        }
        sent
    }
}

/// A text frame of a client.
fn frame(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_client_frame(Opcode::Text, Fin::Last, MASK, text.as_bytes(), &mut bytes);
    bytes
}

/// `message` comes back as `message-back`, as in `examples/echo.rs`; all sockets are in one room.
struct Echo;

impl Application for Echo {
    fn admit(&mut self, _: &ConnectRequest<'_>) -> Result<Admission, Refusal> {
        Ok(Admission::default())
    }

    fn connected(&mut self, _: &SocketInfo<'_>, _: &ConnectRequest<'_>, actions: &mut Actions) {
        actions.push(Action::Join(ROOM.to_owned()));
    }

    fn event(&mut self, _: &SocketInfo<'_>, event: &ReceivedEvent<'_>, actions: &mut Actions) {
        if event.args.event() != Some(EventName::Text("message".into())) {
            return;
        }
        let arguments = event.args.after_event();
        let comma = if arguments.is_empty() { "" } else { "," };
        let args = ["[\"message-back\"", comma, arguments, "]"].concat().into_bytes();
        actions.push(Action::Emit { ack: None, args, attachments: event.attachments.to_vec() });
    }
}

/// The same session ids in every run.
struct Count(u8);

impl Entropy for Count {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_add(1);
            *byte = self.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_comes_back_to_every_client_in_its_turn() {
        let mut crowd = Crowd::new(3);
        for _ in 0..7 {
            // Frame header 2, `42["message-back","` 19, `"]` 2.
            assert_eq!(crowd.echo(), Sent { sends: 1, bytes: 2 + 19 + ECHO_BYTES + 2 });
        }
    }

    #[test]
    fn an_emit_goes_to_all_clients() {
        let mut crowd = Crowd::new(3);
        for _ in 0..3 {
            // Frame header 4, `42["news","` 11, `"]` 2.
            assert_eq!(crowd.fan_out(), Sent { sends: 3, bytes: 3 * (4 + 11 + FAN_OUT_BYTES + 2) });
        }
    }
}
