//! Messages at random: what is written is read as it was.

use std::sync::Arc;

use super::{again, channels, decode, encode};
use crate::adapter::room::of_number;
use crate::adapter::{
    Adapter, Answer, Broadcast, Delivery, Ending, Envelope, Message, Selection, SocketDescription, TraceContext,
};
use crate::msgpack::number_text;

/// SplitMix64.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.number() % end as u64).expect("below `end`")
    }

    fn is(&mut self) -> bool {
        self.below(2) == 1
    }

    fn text(&mut self) -> Box<str> {
        const PIECES: [&str; 10] =
            ["user:", "7", "é€😀", "#", "\"\\", "\u{0}\n", "abcdefghijklmnopqrst", "*[?]", "_placeholder", "x"];
        (0..1 + self.below(4)).map(|_| PIECES[self.below(PIECES.len())]).collect::<String>().into()
    }

    /// Names of rooms.
    fn rooms(&mut self) -> Vec<Box<str>> {
        (0..self.below(4))
            .map(|_| if self.below(4) == 0 { of_number(self.room_number()) } else { self.text() })
            .collect()
    }

    fn room_number(&mut self) -> f64 {
        let number = f64::from_bits(self.number());
        let numbers = [0.0, 7.0, -1.0, 0.25, 1e21, 2f64.powi(53), if number.is_finite() { number } else { 1.5 }];
        numbers[self.below(numbers.len())]
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = [0, 1, 31, 300, 70_000][self.below(5)];
        (0..length).map(|_| self.number().to_le_bytes()[0]).collect()
    }

    /// JSON in the very form in which it is written when it comes back, and the byte strings in it.
    fn value(&mut self, depth: usize, attachments: &mut Vec<Vec<u8>>) -> String {
        match self.below(if depth == 0 { 7 } else { 9 }) {
            0 => "null".to_owned(),
            1 => self.is().to_string(),
            2 => (self.number() >> self.below(64)).to_string(),
            3 => format!("-{}", 1 + (self.number() >> (1 + self.below(60)))),
            4 => {
                // As JavaScript writes it; a whole number comes back as an integer.
                let number = f64::from_bits(self.number());
                if number.fract() == 0.0 || !number.is_finite() { "0.5".to_owned() } else { number_text(number) }
            }
            5 => serde_json::to_string(&self.text()).unwrap(),
            6 => {
                attachments.push(self.bytes());
                format!(r#"{{"_placeholder":true,"num":{}}}"#, attachments.len() - 1)
            }
            7 => {
                let length = if self.below(8) == 0 { 40 } else { self.below(4) };
                let items: Vec<String> = (0..length).map(|_| self.value(depth - 1, attachments)).collect();
                format!("[{}]", items.join(","))
            }
            _ => {
                let entry = |index: usize, random: &mut Random, attachments: &mut Vec<Vec<u8>>| {
                    format!(r#""k{index}":{}"#, random.value(depth - 1, attachments))
                };
                let length = if self.below(8) == 0 { 20 } else { self.below(4) };
                let entries: Vec<String> = (0..length).map(|index| entry(index, self, attachments)).collect();
                format!("{{{}}}", entries.join(","))
            }
        }
    }

    fn plain_value(&mut self) -> Box<[u8]> {
        loop {
            let mut attachments = Vec::new();
            let value = self.value(3, &mut attachments);
            if attachments.is_empty() {
                return value.into_bytes().into();
            }
        }
    }

    fn broadcast(&mut self) -> Broadcast {
        let mut attachments = Vec::new();
        let rest: String = (0..self.below(4)).map(|_| format!(",{}", self.value(4, &mut attachments))).collect();
        let args = format!("[{}{rest}]", serde_json::to_string(&self.text()).unwrap());
        Broadcast {
            namespace: "/".into(),
            rooms: self.rooms(),
            except: self.rooms(),
            delivery: if self.is() { Delivery::Volatile } else { Delivery::Queue },
            conflate: if self.is() { Some(self.text()) } else { None },
            args: Arc::from(args.as_bytes()),
            attachments: attachments.into_iter().map(Arc::from).collect(),
            entry: None,
            kept: None,
            trace: self.is().then(|| {
                let (trace, span) = (self.below(9) as u128 + 1, u64::MAX - self.below(9) as u64);
                Box::new(TraceContext { trace, span, is_sampled: self.is() })
            }),
        }
    }

    fn selection(&mut self) -> Selection {
        Selection { namespace: "/".into(), rooms: self.rooms(), except: self.rooms() }
    }

    fn answer(&mut self) -> Answer {
        match self.below(7) {
            0 => Answer::Ids(vec![self.text(), self.text()]),
            1 => Answer::Rooms(self.rooms()),
            2 => Answer::Sockets(
                (0..self.below(3))
                    .map(|_| SocketDescription {
                        id: self.text(),
                        rooms: self.rooms(),
                        user: if self.is() { Some(self.text()) } else { None },
                    })
                    .collect(),
            ),
            3 => Answer::Done,
            4 => Answer::ServerSide(self.plain_value()),
            5 => Answer::Receivers(self.number() >> 20),
            _ => {
                let mut attachments = Vec::new();
                let value = self.value(3, &mut attachments);
                // `null` is what Node's adapters do not tell from nothing.
                let value = (self.is() || !attachments.is_empty()).then_some(value).filter(|value| value != "null");
                Answer::Acknowledgement {
                    value: value.map(|value| value.into_bytes().into()),
                    attachments: attachments.into_iter().map(Box::from).collect(),
                }
            }
        }
    }

    pub(super) fn message(&mut self) -> Message {
        let request = self.text();
        match self.below(10) {
            0 | 1 => {
                let kept = if self.is() { Some(self.text()) } else { None };
                Message::Broadcast(Broadcast { kept, ..self.broadcast() })
            }
            2 => Message::BroadcastForAck { request, broadcast: self.broadcast(), timeout_ms: self.number() >> 30 },
            3 => Message::Ids { request, rooms: self.rooms() },
            4 => Message::Rooms { request },
            5 => Message::Fetch { request, selection: self.selection() },
            6 => Message::Join { selection: self.selection(), rooms: self.rooms(), confirm: None },
            7 => Message::Leave { selection: self.selection(), rooms: self.rooms(), confirm: None },
            8 => {
                let ending = [Ending::Socket, Ending::Client, Ending::Session][self.below(3)];
                Message::Disconnect { selection: self.selection(), ending, confirm: None }
            }
            _ if self.is() => {
                let args = format!("[\"event\",{}]", String::from_utf8(self.plain_value().into()).unwrap());
                Message::ServerSide { request: Some(request).filter(|_| self.is()), args: args.into_bytes().into() }
            }
            _ => Message::Answer { asker: Some("0123456789abcdef".into()), request, answer: self.answer() },
        }
    }
}

#[test]
fn what_is_written_is_read_as_it_was() {
    let mut unsaid = 0;
    for seed in 0..4000 {
        let message = Random(seed).message();
        for adapter in [Adapter::Classic, Adapter::Sharded] {
            let Some(outgoing) = encode(&channels(adapter), "me", "/", &message) else {
                assert_eq!(adapter, Adapter::Sharded, "{message:?}");
                unsaid += 1;
                continue;
            };
            let read = decode(&channels(adapter), outgoing.channel.as_bytes(), &outgoing.body);
            let expected = Envelope { uid: Some("me".into()), namespace: "/".into(), message: message.clone() };
            assert_eq!(read.as_ref(), Ok(&expected), "seed {seed}, {adapter:?}: {}", outgoing.body.escape_ascii());
            let again = again(adapter, &expected).expect("said before");
            assert_eq!(again, outgoing.body, "seed {seed}");
        }
    }
    assert!(unsaid > 100, "the sharded adapter has no ids, rooms and confirmations: {unsaid}");
}
