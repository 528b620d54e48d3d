//! `Hostile`: a peer that keeps to nothing: it does whatever its seed says with the connections of one or two sessions.

use sockring_protocol::websocket::Opcode;

use super::desk::payload_of;
use super::network::{End, Event, TcpId};
use super::random::Random;
use super::wire;
use super::world::{Actor, Context};

/// Packets of Engine.IO and Socket.IO, right and wrong.
const PACKETS: [&str; 36] = [
    "1",
    "1",
    "2",
    "2probe",
    "3",
    "3",
    "3probe",
    "5",
    "6",
    "0",
    "",
    "abc",
    "7",
    "4",
    "4abc",
    "40",
    "40{\"user\":\"\"}",
    "40/custom,{\"user\":\"h\"}",
    "40/nowhere,",
    "41",
    "41/custom,",
    "42[\"echo\",1]",
    "42[\"echo\",1]",
    "427[\"echo\",\"x\"]",
    "42[\"join\",\"room1\"]",
    "421[\"join\",\"user:u0\"]",
    "42[\"leave\",\"room1\"]",
    "42[\"bye\",1]",
    "42[\"end\",1]",
    "42/custom,[\"echo\",1]",
    "42{}",
    "431[]",
    "451-[\"echo\",{\"_placeholder\":true,\"num\":0}]",
    "452-[\"echo\",{\"_placeholder\":true,\"num\":1}]",
    "bAQID",
    "b!",
];

#[derive(Debug)]
struct Line {
    tcp: TcpId,
    input: Vec<u8>,
    is_read: bool,
}

/// One hostile peer.
pub struct Hostile {
    user: String,
    steps: u64,
    pace_ms: u64,
    sids: Vec<String>,
    lines: Vec<Line>,
    next_step: u64,
    /// Leaves its connections open at the end, without a word.
    abandons: bool,
}

impl Hostile {
    pub fn new(user: String, random: &mut Random) -> Hostile {
        Hostile {
            user,
            steps: random.within(3..=25),
            pace_ms: random.pick(&[0, 1, 10, 60, 300]),
            sids: Vec::new(),
            lines: Vec::new(),
            next_step: 0,
            abandons: random.one_in(2),
        }
    }

    fn read(&mut self, context: &mut Context<'_>) {
        for line in self.lines.iter_mut().filter(|line| line.is_read) {
            line.input.extend(context.network.read(line.tcp));
            let text = String::from_utf8_lossy(&line.input);
            let sid = wire::sid_in(&text);
            // An open packet; in a CONNECT reply the sid is the only key.
            if let Some(sid) = sid.filter(|sid| text.contains("pingInterval") && !self.sids.contains(sid)) {
                self.sids.push(sid);
            }
            if line.input.len() > 2_000 {
                line.input.drain(..1_000);
            }
        }
    }

    /// Any of its sids, the latest most often.
    fn sid(&self, random: &mut Random) -> String {
        match self.sids.last() {
            Some(_) if random.one_in(10) => self.sids[random.index(self.sids.len())].clone(),
            Some(last) => last.clone(),
            None => "AAAAAAAAAAAAAAAAAAAA".to_owned(),
        }
    }

    fn line(&mut self, context: &mut Context<'_>) -> TcpId {
        let is_new = self.lines.is_empty() || context.random.one_in(2);
        if is_new {
            let tcp = context.network.connect(context.id);
            self.lines.push(Line { tcp, input: Vec::new(), is_read: true });
            return tcp;
        }
        self.lines[context.random.index(self.lines.len())].tcp
    }

    fn new_line(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> TcpId {
        let tcp = context.network.connect(context.id);
        self.lines.push(Line { tcp, input: Vec::new(), is_read: true });
        context.network.write(tcp, bytes);
        tcp
    }

    fn packet(&self, random: &mut Random) -> String {
        match random.below(5) {
            0 => format!("40{}", payload_of(&self.user)),
            1 => "3".to_owned(),
            _ => PACKETS[random.index(PACKETS.len())].to_owned(),
        }
    }

    fn payload(&self, random: &mut Random) -> String {
        let mut payload = self.packet(random);
        while random.one_in(2) {
            payload.push('\u{1e}');
            payload.push_str(&self.packet(random));
        }
        payload
    }

    fn frames(&self, random: &mut Random, first: &str) -> Vec<u8> {
        let mut bytes = if first.is_empty() { Vec::new() } else { wire::text_frame(first, random.mask()) };
        while !random.one_in(3) {
            let mask = random.mask();
            bytes.extend(match random.below(12) {
                0 => wire::frame(Opcode::Ping, b"are you there", mask),
                1 => wire::frame(Opcode::Close, &1001u16.to_be_bytes(), mask),
                2 => wire::frame(Opcode::Binary, &[1, 2, 3], mask),
                3 => wire::fragmented(&self.packet(random), mask),
                4 => vec![0x81, 0x01, 0x34],
                5 => wire::frame(Opcode::Text, &[0xff, 0xfe], mask),
                6 => {
                    // A frame that never ends.
                    let mut frame = wire::text_frame("42[\"echo\",1]", mask);
                    frame.truncate(frame.len() - 3);
                    frame
                }
                _ => wire::text_frame(&self.packet(random), mask),
            });
        }
        bytes
    }

    /// Something that needs a session.
    fn open(&mut self, context: &mut Context<'_>) {
        match context.random.below(4) {
            0 => {
                let bytes = [wire::websocket(None), self.frames(context.random, "40")].concat();
                self.new_line(context, &bytes);
            }
            1 => {
                let connect = format!("40{}", payload_of(&self.user));
                let bytes = [wire::websocket(None), wire::text_frame(&connect, context.random.mask())].concat();
                self.new_line(context, &bytes);
            }
            _ => {
                let tcp = self.line(context);
                context.network.write(tcp, &wire::handshake());
            }
        }
    }

    fn probe(&mut self, context: &mut Context<'_>) {
        let sid = self.sid(context.random);
        let mut bytes = wire::websocket(Some(&sid));
        let texts: &[&str] = context.random.pick(&[
            &["2probe", "5"],
            &["2probe", "5", "42[\"echo\",1]"],
            &["2probe"],
            &["5"],
            &["2probe", "2probe"],
            &["2probe", "abc", "2probe", "5"],
            &[],
        ]);
        for text in texts {
            bytes.extend(wire::text_frame(text, context.random.mask()));
        }
        if context.random.one_in(3) {
            bytes.extend(self.frames(context.random, ""));
        }
        let tcp = self.new_line(context, &bytes);
        if context.random.one_in(3) {
            context.network.end(tcp, context.random.pick(&[End::Fin, End::Reset]));
        }
    }

    fn half_post(&mut self, context: &mut Context<'_>) {
        let sid = self.sid(context.random);
        let connect = format!("40{}", payload_of(&self.user));
        let body = if context.random.one_in(2) { connect } else { self.payload(context.random) };
        let bytes = wire::post(&sid, body.as_bytes());
        let cut = bytes.len() - context.random.index(body.len() + 1);
        let tcp = self.new_line(context, &bytes[..cut]);
        if context.random.one_in(3) {
            context.network.end(tcp, context.random.pick(&[End::Fin, End::Reset]));
        }
    }

    /// Many requests, or frames, that are answered, on a connection that is not read.
    fn flood(&mut self, context: &mut Context<'_>) {
        let count = context.random.pick(&[20, 200, 2_000]);
        let bytes = match context.random.below(3) {
            0 => wire::frame(Opcode::Ping, &[b'p'; 100], context.random.mask()).repeat(count),
            1 => wire::text_frame("42[\"echo\",\"a long enough answer\"]", context.random.mask()).repeat(count),
            _ => wire::poll("AAAAAAAAAAAAAAAAAAAA").repeat(count),
        };
        let tcp = match context.random.below(2) {
            0 => self.line(context),
            _ => {
                let connect = format!("40{}", payload_of(&self.user));
                let open = [wire::websocket(None), wire::text_frame(&connect, context.random.mask())].concat();
                self.new_line(context, &open)
            }
        };
        for line in &mut self.lines {
            line.is_read &= line.tcp != tcp;
        }
        context.network.write(tcp, &bytes);
    }

    fn step(&mut self, context: &mut Context<'_>) {
        let sid = self.sid(context.random);
        match context.random.below(15) {
            0 | 1 => self.open(context),
            2..=4 => {
                let tcp = self.line(context);
                context.network.write(tcp, &wire::poll(&sid));
            }
            5..=7 => {
                let body = self.payload(context.random);
                let tcp = self.line(context);
                context.network.write(tcp, &wire::post(&sid, body.as_bytes()));
            }
            8 | 9 => self.probe(context),
            10 => self.half_post(context),
            11 => {
                let bytes = self.frames(context.random, "");
                let tcp = self.line(context);
                context.network.write(tcp, &bytes);
            }
            12 => {
                let tcp = self.line(context);
                context.network.end(tcp, context.random.pick(&[End::Fin, End::Reset]));
            }
            13 => match context.random.below(4) {
                0 => self.flood(context),
                1 => {
                    let garbage: Vec<u8> =
                        (0..context.random.within(1..=60)).map(|_| context.random.mask()[0]).collect();
                    let tcp = self.line(context);
                    context.network.write(tcp, &garbage);
                }
                2 => {
                    let tcp = self.line(context);
                    let bytes = [wire::poll(&sid), wire::elsewhere(), wire::handshake()].concat();
                    context.network.write(tcp, &bytes);
                }
                _ => self.lines.iter_mut().for_each(|line| line.is_read = !line.is_read),
            },
            // Both at once: a poll and a close packet, in any order on the wire.
            _ => {
                self.new_line(context, &wire::poll(&sid));
                self.new_line(context, &wire::post(&sid, b"1"));
            }
        }
    }
}

impl Actor for Hostile {
    fn wake(&mut self, context: &mut Context<'_>) {
        self.read(context);
        if context.now < self.next_step {
            return;
        }
        if self.steps == 0 {
            if !self.abandons {
                let ends: Vec<_> = self.lines.drain(..).map(|line| line.tcp).collect();
                ends.into_iter().for_each(|tcp| context.network.end(tcp, context.random.pick(&[End::Fin, End::Reset])));
            }
            self.next_step = u64::MAX;
            return;
        }
        self.steps -= 1;
        if self.sids.is_empty() && context.random.one_in(2) {
            self.open(context)
        } else {
            self.step(context)
        }
        self.next_step = context.now + context.random.below(self.pace_ms + 1);
        context.network.at(self.next_step, Event::Wake(context.id));
    }
}
