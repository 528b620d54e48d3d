//! `Client`: what the stock client does about recovery, and no more (socket.io-client 4.6 to 4.8).

use sockring_protocol::json::{Elements, Value};
use sockring_protocol::websocket::Opcode;

use super::super::wire;
use super::BrowserLine;
use super::model::Model;

/// One client object, over all its connections.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: u64,
    pub(crate) user: String,
    pub(crate) line: Option<usize>,
    /// What it has been told last that its socket is called.
    pub(crate) sid: Option<String>,
    pid: Option<String>,
    offset: Option<String>,
    is_open: bool,
    is_connected: bool,
    is_greeted: bool,
    input: Vec<u8>,
    pub(crate) returns_at: u64,
    /// It reads so many bytes more, and then its connection breaks.
    pub(crate) reads_bytes: usize,
    pub(crate) stalls_until: u64,
    /// When it was told last how far it had got.
    pub(crate) marked_at: u64,
    /// When it was connected last, and knew it.
    pub(crate) left_at: u64,
}

/// What it says to that.
pub(crate) enum Said {
    Text(String),
    /// It leaves.
    End,
}

impl Client {
    pub(crate) fn new(id: u64, user: String) -> Client {
        Client {
            id,
            user,
            line: None,
            sid: None,
            pid: None,
            offset: None,
            is_open: false,
            is_connected: false,
            is_greeted: false,
            input: Vec::new(),
            returns_at: 0,
            reads_bytes: usize::MAX,
            stalls_until: 0,
            marked_at: 0,
            left_at: 0,
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// Whether what it takes for its offset is one: an event whose marker was cut off may have ended in another text.
    pub(crate) fn has_offset(&self) -> bool {
        self.offset.as_ref().is_some_and(|offset| offset.starts_with('~') && offset.trim_end_matches('x') != "~")
    }

    pub(crate) fn begin(&mut self, line: usize) {
        self.line = Some(line);
        self.input.clear();
        (self.is_open, self.is_connected) = (false, false);
    }

    /// Its connection ends, and it tries again then.
    pub(crate) fn leave(&mut self, now: u64, returns_at: u64) -> Option<usize> {
        if self.is_connected {
            self.left_at = now;
        }
        self.is_connected = false;
        self.returns_at = returns_at;
        self.line.take()
    }

    /// Its page is loaded anew: it is another client object.
    pub(crate) fn reload(&mut self) {
        (self.sid, self.pid, self.offset) = (None, None, None);
    }

    pub(crate) fn stays_away(&mut self) {
        self.returns_at = u64::MAX;
    }

    fn connect(&self) -> Said {
        let mut payload = format!("40{{\"client\":{},\"user\":\"{}\"", self.id, self.user);
        if let Some(pid) = &self.pid {
            payload.push_str(&format!(",\"pid\":\"{pid}\""));
            if let Some(offset) = &self.offset {
                payload.push_str(&format!(",\"offset\":\"{offset}\""));
            }
        }
        Said::Text(payload + "}")
    }

    pub(crate) fn read(&mut self, line: &mut BrowserLine, model: &mut Model, now: u64) -> Vec<Said> {
        if self.stalls_until > now {
            return Vec::new();
        }
        let taken = line.output.len().min(self.reads_bytes);
        self.reads_bytes -= taken;
        self.input.extend(line.output.drain(..taken));
        let mut said = Vec::new();
        if !self.is_open {
            if wire::take_answer(&mut self.input).is_none() {
                return self.end_if_broken(line, said);
            }
            self.is_open = true;
        }
        for (opcode, data) in wire::take_frames(&mut self.input) {
            let text = String::from_utf8(data).expect("text");
            match (opcode, text.as_bytes()) {
                (Opcode::Close, _) => return vec![Said::End],
                (_, [b'0', ..]) => said.push(self.connect()),
                (_, [b'2']) => said.push(Said::Text("3".to_owned())),
                (_, [b'4', b'0', ..]) => self.on_answer(&text, model),
                (_, [b'4', b'1']) => {
                    // The page connects again.
                    (self.is_connected, self.left_at) = (false, now);
                    said.push(self.connect());
                }
                (_, [b'4', b'2', ..]) => self.on_event(&text[2..], model, now),
                other => panic!("{other:?}"),
            }
        }
        self.end_if_broken(line, said)
    }

    fn end_if_broken(&self, line: &BrowserLine, mut said: Vec<Said>) -> Vec<Said> {
        if self.reads_bytes == 0 || line.is_ended && line.output.is_empty() {
            said.push(Said::End);
        }
        said
    }

    fn on_answer(&mut self, text: &str, model: &mut Model) {
        let pid = text.split_once("\"pid\":\"").expect("a pid").1.split_once('"').expect("its end").0.to_owned();
        let is_recovered = self.pid.as_ref() == Some(&pid);
        let sid = wire::sid_in(text);
        assert!(!is_recovered || self.sid == sid, "another sid although recovered");
        (self.pid, self.sid, self.is_connected, self.is_greeted) = (Some(pid), sid, true, false);
        model.on_answer(self, is_recovered);
    }

    fn on_event(&mut self, args: &str, model: &mut Model, now: u64) {
        assert!(self.is_connected, "an event before the CONNECT answer");
        let elements: Vec<_> = Elements::of(args).collect();
        let last = Value::decode(elements.last().expect("a name")).expect("JSON").string();
        let number = match elements[..] {
            ["\"n\"", _, number, ..] => Some(number.parse().expect("a number")),
            _ => None,
        };
        if let Some(number) = number {
            model.on_received(self, number);
        }
        if let Some(last) = last {
            self.offset = Some(last.into_owned());
            if number.is_some() || elements[0].starts_with("\"~") {
                self.marked_at = now;
                model.on_marked(self);
            }
            let is_marker = elements[0].starts_with("\"~");
            if is_marker && self.is_greeted || elements[0] == "\"connected\"" && elements.len() > 1 {
                model.on_greeted(self);
            }
            self.is_greeted |= elements[0] == "\"connected\"";
        }
    }
}
