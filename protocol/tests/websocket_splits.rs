//! Frames mean the same however their bytes are cut and however a message is fragmented, the malformed ones included.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

use sockring_protocol::websocket::{Decoded, Decoder, Event, Fin, MessageLimits, Opcode, encode_client_frame};

const LIMITS: MessageLimits = MessageLimits { message_bytes_max: 300, fragments_max: 6 };

/// What a connection says, in words: events, then an error or whether something has begun.
fn run<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let mut decoder = Decoder::default();
    let mut said = Vec::new();
    for piece in pieces {
        let mut input = piece.to_vec();
        let mut rest = input.as_mut_slice();
        loop {
            match decoder.decode(rest, &LIMITS) {
                Ok(Decoded { consumed, event: Some(event) }) => {
                    said.push(format!("{event:?}"));
                    rest = &mut rest[consumed..];
                }
                Ok(Decoded { consumed, event: None }) => {
                    assert_eq!(consumed, rest.len());
                    break;
                }
                Err(error) => {
                    said.push(error.to_string());
                    return said;
                }
            }
        }
    }
    said.push(format!("{decoder:?}"));
    said
}

#[test]
fn random_frames_mean_the_same_at_every_cut() {
    for seed in seeds(400) {
        let stream = Random(seed).frames();
        let expected = run(std::iter::once(stream.as_slice()));
        let command = format!("SEED={seed} cargo test -p sockring-protocol --test websocket_splits every_cut");
        assert_eq!(run(stream.chunks(1)), expected, "byte by byte: {command}");
        for cut in 0..=stream.len() {
            let (first, second) = stream.split_at(cut);
            assert_eq!(run([first, second].into_iter()), expected, "cut at {cut}: {command}");
        }
    }
}

#[test]
fn random_changes_and_cuts_mean_the_same() {
    for seed in seeds(8_000) {
        let mut random = Random(seed);
        let mut stream = random.frames();
        for _ in 0..random.below(3) {
            let at = random.below(stream.len());
            match random.below(3) {
                0 => stream[at] ^= 1 << random.below(8),
                1 => stream.truncate(at + 1),
                _ => stream.insert(at, 0x80),
            }
        }
        let expected = run(std::iter::once(stream.as_slice()));
        let command = format!("SEED={seed} cargo test -p sockring-protocol --test websocket_splits random_changes");
        assert_eq!(run(stream.chunks(1)), expected, "byte by byte: {command}");
        assert_eq!(run(random.cut(&stream, 40).into_iter()), expected, "{command}");
    }
}

#[test]
fn a_message_is_what_its_fragments_say_together() {
    for seed in seeds(400) {
        let mut random = Random(seed);
        let text = random.text();
        let mut stream = Vec::new();
        let mut pieces = random.cut(text.as_bytes(), text.len());
        pieces.truncate(5);
        let length = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        pieces.push(&text.as_bytes()[length..]);
        let last = pieces.len() - 1;
        for (position, piece) in pieces.iter().enumerate() {
            let opcode = if position == 0 { Opcode::Text } else { Opcode::Continuation };
            let fin = if position == last { Fin::Last } else { Fin::More };
            encode_client_frame(opcode, fin, random.mask(), piece, &mut stream);
            if position < last {
                encode_client_frame(Opcode::Ping, Fin::Last, random.mask(), b"p", &mut stream);
            }
        }
        let mut expected = vec![format!("{:?}", Event::Ping(b"p")); last];
        expected.push(format!("{:?}", Event::Text(&text)));
        expected.push("MessageDecoder { has_partial: false }".into());
        let command = format!("SEED={seed} cargo test -p sockring-protocol --test websocket_splits fragments");
        assert_eq!(run(std::iter::once(stream.as_slice())), expected, "{command}");
        assert_eq!(run(random.cut(&stream, 40).into_iter()), expected, "{command}");
    }
}

/// `SEED` alone if it is set, else the first `count`.
fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let only = std::env::var("SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    only.into_iter().chain((0..count).take_while(move |_| only.is_none()))
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }

    fn mask(&mut self) -> [u8; 4] {
        self.next().to_le_bytes()[..4].try_into().unwrap()
    }

    fn text(&mut self) -> String {
        const PARTS: [&str; 6] = ["a", "µ", "€", "\u{10348}", "hello ", "\u{fffd}"];
        (0..self.below(40)).map(|_| PARTS[self.below(PARTS.len())]).collect()
    }

    /// Some frames that mostly make sense together, with payloads that mostly do.
    fn frames(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut begun = false;
        for _ in 0..=self.below(8) {
            let is_control = self.below(4) == 0;
            let opcode = match (is_control, begun, self.below(12)) {
                (_, _, 0) => [Opcode::Continuation, Opcode::Text, Opcode::Close][self.below(3)],
                (true, _, choice) if choice < 6 => Opcode::Ping,
                (true, _, _) => Opcode::Pong,
                (false, true, _) => Opcode::Continuation,
                (false, false, choice) if choice < 8 => Opcode::Text,
                (false, false, _) => Opcode::Binary,
            };
            let fin = if is_control || self.below(2) == 0 { Fin::Last } else { Fin::More };
            let mut payload = self.text().into_bytes();
            if self.below(8) == 0 {
                payload.truncate(self.below(payload.len() + 1));
            }
            if matches!(opcode, Opcode::Ping | Opcode::Pong | Opcode::Close) {
                payload.truncate(self.below(8));
            } else {
                begun = fin == Fin::More;
            }
            if opcode == Opcode::Close {
                payload = [[0x03, 0xe8].as_slice(), &payload].concat();
            }
            encode_client_frame(opcode, fin, self.mask(), &payload, &mut out);
        }
        out
    }

    fn cut<'a>(&mut self, bytes: &'a [u8], piece_max: usize) -> Vec<&'a [u8]> {
        let mut rest = bytes;
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(self.below(rest.len().min(piece_max) + 1));
            pieces.push(piece);
            rest = after;
        }
        pieces
    }
}
