//! Rows of frames and the events that they make.

use super::super::frame::{encode_client_frame, encode_frame};
use super::*;
use Fin::{Last, More};
use Opcode::{Binary, Close, Continuation, Ping, Pong, Text};

const MASK: [u8; 4] = [0x9e, 0x01, 0x5c, 0xf3];
const LIMITS: MessageLimits = MessageLimits { message_bytes_max: 1000, fragments_max: 8 };

type Row<'a> = (&'a str, &'a [(Opcode, Fin, &'a [u8])], &'a [&'a str], Option<FrameError>);

fn encode(frames: &[(Opcode, Fin, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (opcode, fin, payload) in frames {
        encode_client_frame(*opcode, *fin, MASK, payload, &mut out);
    }
    out
}

/// The same frames as a server sends them.
fn encode_plain(frames: &[(Opcode, Fin, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for frame in frames {
        let masked = encode(&[(frame.0, frame.1, frame.2)]);
        let header_length = masked.len() - frame.2.len() - MASK.len();
        out.extend_from_slice(&[masked[0], masked[1] & 0x7f]);
        out.extend_from_slice(&masked[2..header_length]);
        out.extend_from_slice(frame.2);
    }
    out
}

fn run<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<String>, Option<FrameError>) {
    run_with(Decoder::default(), pieces)
}

/// Feeds the pieces; every event in words, and the error if there was one.
fn run_with<'a, S: Sender>(
    mut decoder: MessageDecoder<S>,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Vec<String>, Option<FrameError>) {
    let mut events = Vec::new();
    for piece in pieces {
        let mut input = piece.to_vec();
        let mut rest = input.as_mut_slice();
        loop {
            match decoder.decode(rest, &LIMITS) {
                Err(error) => return (events, Some(error)),
                Ok(Decoded { consumed, event: None }) => {
                    assert_eq!(consumed, rest.len());
                    break;
                }
                Ok(Decoded { consumed, event: Some(event) }) => {
                    events.push(in_words(event));
                    rest = &mut rest[consumed..];
                }
            }
        }
    }
    (events, None)
}

fn in_words(event: Event<'_>) -> String {
    match event {
        Event::Text(text) => format!("text {text}"),
        Event::Binary(bytes) => format!("binary {}", bytes.escape_ascii()),
        Event::Ping(bytes) => format!("ping {}", bytes.escape_ascii()),
        Event::Pong(bytes) => format!("pong {}", bytes.escape_ascii()),
        Event::Close(None) => "close".into(),
        Event::Close(Some(frame)) => format!("close {} {}", frame.code, frame.reason),
    }
}

const LONG: &[u8] = &[b'x'; 126];
const LONG_EVENT: &str = concat!(
    "text xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
);
const TOO_LONG: &[u8] = &[b'x'; 1001];
const HALF: &[u8] = &[b'x'; 501];

/// Numbers in brackets are Autobahn's.
const ROWS: &[Row<'static>] = &[
    (
        "whole messages (1.1, 1.2)",
        &[(Text, Last, b""), (Text, Last, b"a"), (Binary, Last, b"\0")],
        &["text ", "text a", "binary \\x00"],
        None,
    ),
    (
        "controls (2.1 to 2.9)",
        &[(Ping, Last, b"p"), (Pong, Last, b""), (Close, Last, b"")],
        &["ping p", "pong ", "close"],
        None,
    ),
    ("close with a reason (7.3.4)", &[(Close, Last, b"\x03\xe8bye")], &["close 1000 bye"], None),
    ("fragments (5.3)", &[(Text, More, b"fra"), (Continuation, Last, b"gment")], &["text fragment"], None),
    (
        "controls between fragments (5.19)",
        &[
            (Binary, More, b"a"),
            (Ping, Last, b"1"),
            (Continuation, More, b"b"),
            (Ping, Last, b"2"),
            (Continuation, Last, b"c"),
            (Text, Last, b"d"),
        ],
        &["ping 1", "ping 2", "binary abc", "text d"],
        None,
    ),
    (
        "empty fragments (6.1.2)",
        &[(Text, More, b""), (Continuation, More, b""), (Continuation, Last, b"")],
        &["text "],
        None,
    ),
    (
        "characters across fragments (6.2.3)",
        &[(Text, More, b"\xe2"), (Ping, Last, b""), (Continuation, More, b"\x82"), (Continuation, Last, b"\xac")],
        &["ping ", "text €"],
        None,
    ),
    ("a long message", &[(Text, Last, LONG), (Ping, Last, b"")], &[LONG_EVENT, "ping "], None),
    (
        "a continuation of nothing (5.9)",
        &[(Text, Last, b"a"), (Continuation, Last, b"b")],
        &["text a"],
        Some(FrameError::ContinuationUnexpected),
    ),
    (
        "a continuation after the end (5.13)",
        &[(Continuation, More, b"b")],
        &[],
        Some(FrameError::ContinuationUnexpected),
    ),
    (
        "a message within a message (5.18)",
        &[(Text, More, b"a"), (Text, Last, b"b")],
        &[],
        Some(FrameError::ContinuationExpected),
    ),
    (
        "a binary within a text",
        &[(Text, More, b"a"), (Binary, Last, b"b")],
        &[],
        Some(FrameError::ContinuationExpected),
    ),
    ("a fragmented ping (5.1)", &[(Ping, More, b"a")], &[], Some(FrameError::ControlFragmented)),
    ("a long ping (2.5)", &[(Ping, Last, LONG)], &[], Some(FrameError::ControlTooLong)),
    ("invalid text (6.3.1)", &[(Text, Last, b"\xce\xba\xed\xa0\x80z")], &[], Some(FrameError::InvalidUtf8)),
    ("text that ends early", &[(Text, Last, b"a\xe2\x82")], &[], Some(FrameError::InvalidUtf8)),
    (
        "fragmented text that ends early",
        &[(Text, More, b"a\xe2"), (Continuation, Last, b"\x82")],
        &[],
        Some(FrameError::InvalidUtf8),
    ),
    (
        "invalid bytes in a binary are fine",
        &[(Binary, More, b"\xff"), (Continuation, Last, b"\xc0")],
        &["binary \\xff\\xc0"],
        None,
    ),
    ("a close of one byte (7.3.2)", &[(Close, Last, b"\x03")], &[], Some(FrameError::BadClosePayload)),
    ("a close code of no peer (7.9)", &[(Close, Last, b"\x03\xed")], &[], Some(FrameError::BadCloseCode)),
    ("an invalid close reason (7.5.1)", &[(Close, Last, b"\x03\xe8\xff")], &[], Some(FrameError::InvalidUtf8)),
    ("a message over the limit", &[(Binary, Last, TOO_LONG)], &[], Some(FrameError::MessageTooBig)),
    (
        "fragments over the limit",
        &[(Binary, More, HALF), (Ping, Last, b""), (Continuation, More, HALF)],
        &["ping "],
        Some(FrameError::MessageTooBig),
    ),
    (
        "as many fragments as may be",
        &[
            (Text, More, b""),
            (Continuation, More, b""),
            (Continuation, More, b""),
            (Continuation, More, b""),
            (Continuation, More, b""),
            (Continuation, More, b""),
            (Continuation, More, b""),
            (Continuation, Last, b"a"),
        ],
        &["text a"],
        None,
    ),
    (
        "one fragment more (A9)",
        &[
            (Text, More, b"1"),
            (Continuation, More, b""),
            (Continuation, More, b""),
            (Continuation, More, b""),
            (Continuation, More, b""),
            (Continuation, More, b""),
            (Continuation, More, b""),
            (Continuation, More, b""),
            (Continuation, Last, b""),
        ],
        &[],
        Some(FrameError::TooManyFragments),
    ),
];

#[test]
fn rows_mean_the_same_at_every_cut() {
    for (name, frames, events, error) in ROWS {
        let bytes = encode(frames);
        let expected = (events.iter().map(ToString::to_string).collect::<Vec<_>>(), *error);
        assert_eq!(run(std::iter::once(bytes.as_slice())), expected, "{name}: whole");
        assert_eq!(run(bytes.chunks(1)), expected, "{name}: byte by byte");
        for cut in 0..=bytes.len() {
            let (first, second) = bytes.split_at(cut);
            assert_eq!(run([first, second].into_iter()), expected, "{name}: cut at {cut}");
        }
    }
}

#[test]
fn rows_mean_the_same_without_masks_from_a_server() {
    for (name, frames, events, error) in ROWS {
        let bytes = encode_plain(frames);
        let expected = (events.iter().map(ToString::to_string).collect::<Vec<_>>(), *error);
        let run = |pieces: &[&[u8]]| run_with(ServerDecoder::default(), pieces.iter().copied());
        assert_eq!(run(&[&bytes]), expected, "{name}: whole");
        for cut in 0..=bytes.len() {
            assert_eq!(run(&[&bytes[..cut], &bytes[cut..]]), expected, "{name}: cut at {cut}");
        }
    }
    let masked = encode(&[(Text, Last, b"a")]);
    let refused = run_with(ServerDecoder::default(), masked.chunks(1));
    assert_eq!(refused, (vec![], Some(FrameError::Masked)));
}

#[test]
fn refuses_what_a_client_must_not_send() {
    let mut unmasked = Vec::new();
    encode_frame(Text, b"a", &mut unmasked);
    // A17 is the second one: a body after the head of the upgrade.
    for (bytes, expected) in [(unmasked.as_slice(), FrameError::Unmasked), (b"test", FrameError::ReservedBits)] {
        assert_eq!(run(bytes.chunks(1)), (vec![], Some(expected)));
    }
}

#[test]
fn a_whole_message_is_lent_from_the_input() {
    let mut input = encode(&[(Text, Last, b"hello"), (Ping, Last, b"x")]);
    let range = input.as_ptr_range();
    let mut decoder = Decoder::default();
    let step = decoder.decode(&mut input, &LIMITS).unwrap();
    let Some(Event::Text(text)) = step.event else { panic!("no text") };
    assert!(range.contains(&text.as_ptr()));
    assert_eq!(step.consumed, 11);
    assert!(decoder.partial.is_none());
}

#[test]
fn a_ping_between_fragments_is_lent_from_the_input() {
    let mut input = encode(&[(Text, More, b"hello"), (Ping, Last, b"x")]);
    let range = input.as_ptr_range();
    let mut decoder = Decoder::default();
    let Some(Event::Ping(payload)) = decoder.decode(&mut input, &LIMITS).unwrap().event else { panic!("no ping") };
    assert!(range.contains(&payload.as_ptr()));
    assert!(decoder.has_partial());
}

#[test]
fn an_idle_decoder_is_small_and_holds_no_heap() {
    assert!(size_of::<Decoder>() <= 16);
    let bytes = encode(&[(Text, More, b"a"), (Ping, Last, b"b"), (Continuation, Last, b"c")]);
    let mut decoder = Decoder::default();
    assert!(!decoder.has_partial());
    for (position, byte) in bytes.iter().enumerate() {
        let mut input = [*byte];
        let is_last = position + 1 == bytes.len();
        assert_eq!(decoder.decode(&mut input, &LIMITS).unwrap().event == Some(Event::Text("ac")), is_last);
        assert_eq!(decoder.has_partial(), !is_last);
    }
    assert!(decoder.partial.is_some());
    decoder.release();
    assert!(decoder.partial.is_none());
    // The next call does it too.
    let mut halves = encode(&[(Text, Last, b"abc")]);
    let (first, second) = halves.split_at_mut(4);
    decoder.decode(first, &LIMITS).unwrap();
    assert!(decoder.decode(second, &LIMITS).unwrap().event.is_some());
    assert_eq!(decoder.decode(&mut [], &LIMITS).unwrap(), Decoded { consumed: 0, event: None });
    assert!(decoder.partial.is_none());
}

#[test]
fn a_split_header_leaves_no_heap_behind_its_message() {
    let mut bytes = encode(&[(Binary, Last, b"abc")]);
    let (first, second) = bytes.split_at_mut(3);
    let mut decoder = Decoder::default();
    assert_eq!(decoder.decode(first, &LIMITS).unwrap().event, None);
    assert!(decoder.has_partial());
    assert_eq!(decoder.decode(second, &LIMITS).unwrap().event, Some(Event::Binary(b"abc")));
    assert!(decoder.partial.is_none());
}

#[test]
fn reserves_nothing_for_what_is_only_announced() {
    // A25 and A29: 2^62 bytes over the limit, and just within it.
    let limits = MessageLimits { message_bytes_max: 1 << 40, fragments_max: 8 };
    let mut huge = *b"\x82\xff\x40\x00\x00\x00\x00\x00\x00\x00\x01\x02\x03\x04";
    assert_eq!(Decoder::default().decode(&mut huge, &limits), Err(FrameError::MessageTooBig));
    let mut large = *b"\x82\xff\x00\x00\x01\x00\x00\x00\x00\x00\x01\x02\x03\x04abc";
    let mut decoder = Decoder::default();
    assert_eq!(decoder.decode(&mut large, &limits).unwrap().event, None);
    assert!(decoder.partial.unwrap().buffer.capacity() < 100);
}

#[test]
fn many_fragments_cost_no_more_than_their_bytes() {
    // A9: 100,000 fragments of a byte each, and as many that are empty.
    let limits = MessageLimits { message_bytes_max: 1_000_000, fragments_max: 1_000_000 };
    let mut bytes = encode(&[(Binary, More, b"a")]);
    for _ in 0..100_000 {
        bytes.extend(encode(&[(Continuation, More, b"a"), (Continuation, More, b"")]));
    }
    let mut decoder = Decoder::default();
    let mut seen = 0;
    for piece in bytes.chunks_mut(5) {
        let step = decoder.decode(piece, &limits).unwrap();
        assert_eq!(step.event, None);
        seen += step.consumed;
    }
    assert_eq!(seen, bytes.len());
    assert!(decoder.partial.unwrap().buffer.capacity() <= 2 * 100_001);
}

#[test]
fn invalid_text_fails_before_its_frame_is_complete() {
    // Autobahn 6.4: the frame announces 20 bytes, the fourth makes it wrong.
    let payload = b"\xce\xba\xf4\x90\x80\x80edited, much later";
    let bytes = encode(&[(Text, Last, payload)]);
    let mut decoder = Decoder::default();
    let mut taken = 0;
    let error = bytes.iter().find_map(|byte| {
        taken += 1;
        decoder.decode(&mut [*byte], &LIMITS).err()
    });
    assert_eq!((error, taken), (Some(FrameError::InvalidUtf8), 6 + 4));
}

#[test]
fn debug_shows_no_payload() {
    let mut decoder = Decoder::default();
    decoder.decode(&mut encode(&[(Text, More, b"secret")]), &LIMITS).unwrap();
    assert_eq!(format!("{decoder:?}"), "MessageDecoder { has_partial: true }");
}
