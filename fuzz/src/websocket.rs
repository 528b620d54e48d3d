//! `websocket`: frames from clients, however they are cut; frames of both sides, written and read back.

use sockring_protocol::websocket::{
    Decoded, Decoder, Event, Fin, FrameError, MessageLimits, Opcode, ServerFrames, Utf8Validator, encode_client_frame,
    encode_close, encode_frame, frame_header_length, is_valid_code, unmask,
};

use crate::{Random, assert_no_allocation};

/// Small, so that small inputs reach them.
const LIMITS: MessageLimits = MessageLimits { message_bytes_max: 1000, fragments_max: 16 };
/// A decoder that waits holds a begun message, a begun control frame and itself; the buffer doubles as it grows, and
/// while it does its old half is still there.
const MEMORY_BYTES_MAX: usize = 3 * (LIMITS.message_bytes_max + 125) + 256;

/// Takes the bytes as what a client sends after its upgrade, as what a server sends, as a text and as a payload.
pub fn websocket(data: &[u8]) {
    let said = cuts(data);
    memory(data);
    events(data, &said);
    let mut random = Random::of(data);
    round_trip(&said, &mut random);
    payload(data, &mut random);
    fragments_at_limit(&data[..data.len().min(LIMITS.message_bytes_max)]);
    sent_by_server(data);
    text(data, &mut random);
    mask(data, &mut random);
}

/// What a connection says: events, then why it fails, or whether something has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
    Refused(FrameError),
    Begun(bool),
}

impl Said {
    fn of(event: Event<'_>) -> Said {
        match event {
            Event::Text(text) => Said::Text(text.into()),
            Event::Binary(bytes) => Said::Binary(bytes.into()),
            Event::Ping(bytes) => Said::Ping(bytes.into()),
            Event::Pong(bytes) => Said::Pong(bytes.into()),
            Event::Close(frame) => Said::Close(frame.map(|frame| (frame.code, frame.reason.into()))),
        }
    }

    /// The frame that says it; none for what is not an event.
    fn frame(&self) -> Option<(Opcode, Vec<u8>)> {
        Some(match self {
            Said::Text(text) => (Opcode::Text, text.clone().into_bytes()),
            Said::Binary(bytes) => (Opcode::Binary, bytes.clone()),
            Said::Ping(bytes) => (Opcode::Ping, bytes.clone()),
            Said::Pong(bytes) => (Opcode::Pong, bytes.clone()),
            Said::Close(None) => (Opcode::Close, Vec::new()),
            Said::Close(Some((code, reason))) => (Opcode::Close, [&code.to_be_bytes(), reason.as_bytes()].concat()),
            Said::Refused(_) | Said::Begun(_) => return None,
        })
    }
}

fn run<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Said> {
    let mut decoder = Decoder::default();
    let mut said = Vec::new();
    for piece in pieces {
        let mut input = piece.to_vec();
        let mut rest = input.as_mut_slice();
        loop {
            match decoder.decode(rest, &LIMITS) {
                Ok(Decoded { consumed, event: Some(event) }) => {
                    said.push(Said::of(event));
                    assert!(consumed > 0, "an event out of nothing");
                    rest = rest.get_mut(consumed..).expect("no more is consumed than was there");
                }
                Ok(Decoded { consumed, event: None }) => {
                    assert_eq!(consumed, rest.len(), "all is taken while more is needed");
                    break;
                }
                Err(error) => {
                    assert!(matches!(error.close_code(), 1002 | 1007 | 1008 | 1009));
                    said.push(Said::Refused(error));
                    return said;
                }
            }
        }
    }
    said.push(Said::Begun(decoder.has_partial()));
    said
}

fn cuts(data: &[u8]) -> Vec<Said> {
    let expected = run([data]);
    assert_eq!(run(data.chunks(1)), expected, "byte by byte");
    let mut random = Random::of(data);
    for piece_max in [3, 40, data.len()] {
        assert_eq!(run(random.cut(data, piece_max)), expected, "in pieces up to {piece_max}");
    }
    expected
}

/// Never more than a message and a control frame, whatever a header announces.
fn memory(data: &[u8]) {
    let mut input = data.to_vec();
    let allocations = allocation_counter::measure(|| {
        let mut decoder = Decoder::default();
        'pieces: for piece in input.chunks_mut(7) {
            let mut rest = piece;
            loop {
                match decoder.decode(rest, &LIMITS) {
                    Ok(Decoded { consumed, event: Some(_) }) => rest = &mut rest[consumed..],
                    Ok(Decoded { event: None, .. }) => break,
                    Err(_) => break 'pieces,
                }
            }
        }
        // Between messages it holds nothing that would be missed when it is forgotten.
        let is_idle = !decoder.has_partial();
        decoder.release();
        if is_idle {
            std::mem::forget(decoder);
        }
    });
    assert!(allocations.bytes_max <= MEMORY_BYTES_MAX as u64, "{} bytes held", allocations.bytes_max);
    assert_eq!(allocations.bytes_current, 0, "held between messages");
}

/// Every event is within the limits, and all of them together are not more than came in.
fn events(data: &[u8], said: &[Said]) {
    let mut bytes = 0;
    for said in said {
        let Some((opcode, payload)) = said.frame() else { continue };
        bytes += 6 + payload.len();
        let is_message = matches!(opcode, Opcode::Text | Opcode::Binary);
        assert!(payload.len() <= if is_message { LIMITS.message_bytes_max } else { 125 });
        if let Said::Close(Some((code, _))) = said {
            assert!(may_be_sent(*code), "{code}");
        }
    }
    assert!(bytes <= data.len(), "{bytes} bytes of events out of {}", data.len());
}

/// RFC 6455 section 7.4 and the registry of IANA: 1004 has no meaning, 1005, 1006 and 1015 are for one side's own use.
fn may_be_sent(code: u16) -> bool {
    let is_valid = (1000..=1014).contains(&code) && !(1004..=1006).contains(&code) || (3000..5000).contains(&code);
    assert_eq!(is_valid_code(code), is_valid, "{code}");
    is_valid
}

/// What was said, said again: as whole frames, and in fragments with pings between them.
fn round_trip(said: &[Said], random: &mut Random) {
    let (mut whole, mut fragmented) = (Vec::new(), Vec::new());
    let (mut expected, mut expected_fragmented) = (Vec::new(), Vec::new());
    for said in said {
        let Some((opcode, payload)) = said.frame() else { continue };
        encode_client_frame(opcode, Fin::Last, random.mask(), &payload, &mut whole);
        expected.push(said.clone());
        let pings = if matches!(said, Said::Text(_) | Said::Binary(_)) {
            encode_fragments(opcode, &payload, random, &mut fragmented)
        } else {
            encode_client_frame(opcode, Fin::Last, random.mask(), &payload, &mut fragmented);
            0
        };
        expected_fragmented.extend(std::iter::repeat_n(Said::Ping(b"between".into()), pings));
        expected_fragmented.push(said.clone());
    }
    expected.push(Said::Begun(false));
    expected_fragmented.push(Said::Begun(false));
    assert_eq!(run([whole.as_slice()]), expected);
    assert_eq!(run([fragmented.as_slice()]), expected_fragmented);
    assert_eq!(run(random.cut(&fragmented, 50)), expected_fragmented);
}

/// As many fragments as there may be, and one more.
fn fragments_at_limit(payload: &[u8]) {
    let mut frames = Vec::new();
    encode_client_frame(Opcode::Binary, Fin::More, [0; 4], payload, &mut frames);
    for _ in 2..LIMITS.fragments_max {
        encode_client_frame(Opcode::Continuation, Fin::More, [0; 4], b"", &mut frames);
    }
    let mut one_more = frames.clone();
    encode_client_frame(Opcode::Continuation, Fin::Last, [0; 4], b"", &mut frames);
    assert_eq!(run([frames.as_slice()]), [Said::Binary(payload.into()), Said::Begun(false)]);
    encode_client_frame(Opcode::Continuation, Fin::More, [0; 4], b"", &mut one_more);
    encode_client_frame(Opcode::Continuation, Fin::Last, [0; 4], b"", &mut one_more);
    assert_eq!(run([one_more.as_slice()]), [Said::Refused(FrameError::TooManyFragments)]);
}

/// Returns how many pings were put between the fragments.
fn encode_fragments(opcode: Opcode, payload: &[u8], random: &mut Random, out: &mut Vec<u8>) -> usize {
    let mut rest = payload;
    let mut opcode = opcode;
    let pings = random.below(LIMITS.fragments_max as usize);
    for _ in 0..pings {
        let (piece, after) = rest.split_at(random.below(rest.len() + 1));
        encode_client_frame(opcode, Fin::More, random.mask(), piece, out);
        encode_client_frame(Opcode::Ping, Fin::Last, random.mask(), b"between", out);
        (opcode, rest) = (Opcode::Continuation, after);
    }
    encode_client_frame(opcode, Fin::Last, random.mask(), rest, out);
    pings
}

/// The bytes as the payload of one frame, from a client and from a server.
fn payload(data: &[u8], random: &mut Random) {
    let mut frame = Vec::new();
    encode_client_frame(Opcode::Binary, Fin::Last, random.mask(), data, &mut frame);
    assert_eq!(frame.len(), frame_header_length(data.len()) + 4 + data.len());
    let expected = if data.len() <= LIMITS.message_bytes_max {
        vec![Said::Binary(data.into()), Said::Begun(false)]
    } else {
        vec![Said::Refused(FrameError::MessageTooBig)]
    };
    assert_eq!(run([frame.as_slice()]), expected);

    frame.clear();
    encode_frame(Opcode::Text, data, &mut frame);
    encode_frame(Opcode::Pong, b"", &mut frame);
    assert!(ServerFrames::new(&frame).eq([(Opcode::Text, data), (Opcode::Pong, b"".as_slice())]));

    // Most often one that is near to those that have a meaning.
    let code = if random.below(4) > 0 { 995 + random.below(30) } else { random.below(0x1_0000) };
    let code = u16::try_from(code).expect("two bytes");
    let reason = crate::text_of(data);
    frame.clear();
    encode_close(Some(code), reason, &mut frame);
    let frames: Vec<_> = ServerFrames::new(&frame).collect();
    let [(Opcode::Close, payload)] = frames.as_slice() else { panic!("{frames:?}") };
    match payload {
        [] => assert!(!may_be_sent(code)),
        [high, low, said @ ..] => {
            assert_eq!(u16::from_be_bytes([*high, *low]), code);
            assert!(reason.as_bytes().starts_with(said) && payload.len() <= 125);
            assert!(std::str::from_utf8(said).is_ok() && (said.len() == reason.len() || said.len() > 119));
        }
        payload => panic!("{payload:?}"),
    }
}

/// What `ServerFrames` takes is what `encode_frame` writes.
fn sent_by_server(data: &[u8]) {
    let mut frames = ServerFrames::new(data);
    let mut encoded = Vec::new();
    for (opcode, payload) in &mut frames {
        encode_frame(opcode, payload, &mut encoded);
    }
    assert_eq!(data.strip_prefix(encoded.as_slice()), Some(frames.rest()));
}

/// A text in pieces is text when the whole is, and is refused with the piece that spoils it.
fn text(data: &[u8], random: &mut Random) {
    let pieces = random.cut(data, 9);
    let mut validator = Utf8Validator::default();
    let mut seen = 0;
    assert_no_allocation("Utf8Validator", || {
        for piece in pieces {
            seen += piece.len();
            let can_become_text = match std::str::from_utf8(&data[..seen]) {
                Ok(_) => true,
                Err(error) => error.error_len().is_none(),
            };
            assert_eq!(validator.push(piece).is_ok(), can_become_text);
            if !can_become_text {
                return;
            }
        }
        assert_eq!(validator.finish().is_ok(), std::str::from_utf8(data).is_ok());
    });
}

/// Masked in two pieces is masked at once, and twice is not at all.
fn mask(data: &[u8], random: &mut Random) {
    let (mask, cut) = (random.mask(), random.below(data.len() + 1));
    let (mut whole, mut pieces) = (data.to_vec(), data.to_vec());
    unmask(&mut whole, mask, 0);
    let (first, second) = pieces.split_at_mut(cut);
    unmask(first, mask, 0);
    unmask(second, mask, cut);
    assert_eq!(whole, pieces);
    unmask(&mut whole, mask, 0);
    assert_eq!(whole, data);
}
