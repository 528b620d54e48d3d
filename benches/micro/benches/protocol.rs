//! How long decoders and encoders take.

use std::hint::black_box;

use divan::Bencher;
use divan::counter::BytesCount;
use sockring_protocol::engineio::{Payload, PayloadEncoder};
use sockring_protocol::socketio::{Assembler, AssemblyStep, PacketLimits, SocketPacket, encode_event};
use sockring_protocol::websocket::{
    Decoder, Event, Fin, MessageLimits, Opcode, encode_client_frame, encode_frame, unmask,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// What a small event carries, and a large one.
const LENGTHS: [usize; 2] = [64, 16 << 10];
const PACKETS: usize = 10;

fn main() {
    divan::main();
}

/// The arguments of an event, 64 bytes of data among them.
fn args() -> String {
    format!("[\"message\",\"{}\"]", "x".repeat(64))
}

/// The header is read, the payload unmasked in place and checked to be UTF-8.
#[divan::bench(args = LENGTHS)]
fn websocket_decode(bencher: Bencher<'_, '_>, length: usize) {
    let mut frame = Vec::new();
    encode_client_frame(Opcode::Text, Fin::Last, MASK, "x".repeat(length).as_bytes(), &mut frame);
    let limits = MessageLimits::default();
    let mut decoder = Decoder::default();
    bencher.counter(BytesCount::new(length)).with_inputs(|| frame.clone()).bench_local_refs(|input| {
        let step = decoder.decode(input, &limits).expect("a frame");
        let Some(Event::Text(text)) = black_box(step.event) else { unreachable!("a whole text message") };
        text.len()
    });
}

#[divan::bench(args = LENGTHS)]
fn websocket_unmask(bencher: Bencher<'_, '_>, length: usize) {
    let mut payload = vec![b'x'; length];
    bencher.counter(BytesCount::new(length)).bench_local(|| unmask(black_box(&mut payload[..]), black_box(MASK), 0));
}

#[divan::bench]
fn socketio_decode_event(bencher: Bencher<'_, '_>) {
    let text = format!("2{}", args());
    let limits = PacketLimits::default();
    bencher.bench_local(|| {
        black_box(SocketPacket::decode(black_box(text.as_str()), &limits).expect("an event"));
    });
}

/// A packet, and the frame around it, into vectors that have the room.
#[divan::bench]
fn socketio_encode_event(bencher: Bencher<'_, '_>) {
    let args = args();
    let (mut packet, mut out) = (Vec::new(), Vec::new());
    bencher.bench_local(|| {
        packet.clear();
        out.clear();
        packet.push(b'4');
        encode_event(black_box("/"), None, 0, black_box(args.as_bytes()), &mut packet);
        encode_frame(Opcode::Text, &packet, &mut out);
        black_box(&out).len()
    });
}

#[divan::bench]
fn polling_decode(bencher: Bencher<'_, '_>) {
    let packet = format!("42{}", args());
    let body = vec![packet; PACKETS].join("\u{1e}");
    bencher.counter(BytesCount::of_str(&body)).bench_local(|| {
        let packets = Payload::decode(black_box(body.as_str()), PACKETS);
        packets.fold(0, |count, packet| count + usize::from(black_box(packet).is_ok()))
    });
}

/// Every other packet is binary, so base64.
#[divan::bench]
fn polling_encode(bencher: Bencher<'_, '_>) {
    let packet = format!("42{}", args());
    let data = [0xa5; 64];
    let mut out = Vec::new();
    bencher.bench_local(|| {
        out.clear();
        let mut payload = PayloadEncoder::new(&mut out);
        for _ in 0..PACKETS / 2 {
            payload.push_text(black_box(packet.as_bytes()));
            payload.push_binary(black_box(&data[..]));
        }
        black_box(&out).len()
    });
}

/// A binary event from its header to its second attachment of 64 bytes.
#[divan::bench]
fn assembler(bencher: Bencher<'_, '_>) {
    let header = r#"52-["message",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#;
    let attachment = [0xa5; 64];
    bencher.bench_local(|| {
        let mut assembler = Assembler::begin(black_box(header), 2, 1_000_000).expect("room for the header");
        let first = assembler.push(black_box(&attachment[..]));
        let second = assembler.push(black_box(&attachment[..]));
        assert_eq!((first, second), (Ok(AssemblyStep::More), Ok(AssemblyStep::Complete)));
        drop(black_box(assembler));
    });
}
