//! `Client`: who connects to a server of the simulation by a WebSocket, answers what wants an answer, and remembers what it got.

use sockring_protocol::websocket::Opcode;
use tokio::time::Instant;

use super::redis::SiteId;
use super::wire;

const MASK: [u8; 4] = [1, 2, 3, 4];

/// Names an operation: its sender, and its number there.
pub type OpId = (usize, usize);

/// What became of a client.
#[derive(Debug)]
pub struct Client {
    pub site: SiteId,
    pub user: String,
    pub sid: String,
    /// When it was told that it is connected.
    pub told_at: Option<Instant>,
    pub ended_at: Option<Instant>,
    /// The events that came.
    pub got: Vec<OpId>,
    input: Vec<u8>,
    is_open: bool,
}

impl Client {
    pub fn new(site: SiteId, user: String) -> Client {
        let (sid, told_at, ended_at) = Default::default();
        Client { site, user, sid, told_at, ended_at, got: Vec::new(), input: Vec::new(), is_open: false }
    }

    /// The name of its user's room.
    pub fn room(&self) -> String {
        format!("user:{}", self.user)
    }

    pub fn is_there(&self) -> bool {
        self.told_at.is_some() && self.ended_at.is_none()
    }

    /// Reads what a server sends; says what to answer.
    pub fn read(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.input.extend(bytes);
        if !self.is_open {
            let Some(answer) = wire::take_answer(&mut self.input) else { return Vec::new() };
            assert_eq!(answer.status, 101, "{answer:?}");
            self.is_open = true;
        }
        let mut answers = Vec::new();
        for (opcode, data) in wire::take_frames(&mut self.input) {
            match opcode {
                Opcode::Close => self.end(),
                _ => {
                    let text = String::from_utf8(data).expect("UTF-8");
                    if let Some(answer) = self.hear(&text) {
                        answers.extend(wire::text_frame(&answer, MASK));
                    }
                }
            }
        }
        answers
    }

    pub fn end(&mut self) {
        self.ended_at.get_or_insert_with(Instant::now);
    }

    fn hear(&mut self, text: &str) -> Option<String> {
        match text.as_bytes() {
            [b'0', ..] => return Some(format!("40{{\"user\":\"{}\"}}", self.user)),
            [b'2', ..] => return Some("3".to_owned()),
            [b'4', b'0', ..] => self.sid = wire::sid_in(text).expect("a sid"),
            [b'4', b'1', ..] | [b'1', ..] => self.end(),
            [b'4', b'2', rest @ ..] => {
                let rest = std::str::from_utf8(rest).expect("it was text");
                let (ack, args) = rest.split_at(rest.find('[').expect("arguments"));
                self.take_event(args);
                return (!ack.is_empty()).then(|| format!("43{ack}[\"{}\"]", self.sid));
            }
            _ => panic!("a packet that nobody expects: {text}"),
        }
        None
    }

    /// An event, as a JSON array.
    pub fn take_event(&mut self, args: &str) {
        match op_of(args) {
            None => self.told_at = Some(Instant::now()),
            Some(op) => {
                assert!(self.ended_at.is_none(), "{op:?} came to {} after its end", self.user);
                self.got.push(op);
            }
        }
    }
}

/// The arguments of an operation's event.
pub fn args_of((sender, number): OpId) -> String {
    format!("[\"e\",{sender},{number}]")
}

/// The operation of an event; `None`: it is the greeting.
pub fn op_of(args: &str) -> Option<OpId> {
    let (sender, number) = args.strip_prefix("[\"e\",")?.strip_suffix(']')?.split_once(',')?;
    Some((sender.parse().ok()?, number.parse().ok()?))
}
