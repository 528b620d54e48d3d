//! Binary packets are put together from their header and their attachments, within limits (P16 to P21, A5 to A7).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

use sockring_protocol::socketio::{AssembleError, Assembler, AssemblyStep, PacketLimits, SocketPacket};

const HEADER: &str = r#"52-["message",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#;

/// S27: the header is decoded, then both attachments come, then it is decoded again.
#[test]
fn attachments_are_collected_in_order() {
    let Ok(SocketPacket::BinaryEvent { attachments, .. }) = SocketPacket::decode(HEADER, &PacketLimits::default())
    else {
        panic!()
    };
    let mut assembler = Assembler::begin(HEADER, attachments, 1_000_000).unwrap();
    assert_eq!((assembler.header(), assembler.attachments().len()), (HEADER, 0));
    assert_eq!(assembler.push(&[1, 2, 3, 4]), Ok(AssemblyStep::More));
    assert_eq!(assembler.push(&[5, 6]), Ok(AssemblyStep::Complete));
    assert_eq!(assembler.header(), HEADER);
    assert_eq!(assembler.attachments(), [Box::from([1, 2, 3, 4]), Box::from([5, 6])]);
    let (header, attachments) = assembler.into_parts();
    assert!(SocketPacket::decode(&header, &PacketLimits::default()).is_ok());
    assert_eq!(attachments.concat(), [1, 2, 3, 4, 5, 6]);
}

/// H08: empty attachments are attachments, and ten of them are possible.
#[test]
fn the_last_attachment_completes() {
    let mut assembler = Assembler::begin("510-[\"a\"]", 10, 100).unwrap();
    for _ in 0..9 {
        assert_eq!(assembler.push(&[]), Ok(AssemblyStep::More));
    }
    assert_eq!(assembler.push(&[]), Ok(AssemblyStep::Complete));
    assert_eq!(assembler.attachments().len(), 10);
}

/// A5: more than was announced is refused, not kept.
#[test]
fn more_than_announced_is_unexpected() {
    let mut assembler = Assembler::begin("51-[\"a\"]", 1, 100).unwrap();
    assert_eq!(assembler.push(b"x"), Ok(AssemblyStep::Complete));
    assert_eq!(assembler.push(b"y"), Err(AssembleError::UnexpectedBinary));
    assert_eq!(assembler.attachments().concat(), b"x");
    let mut nothing = Assembler::begin("", 0, 100).unwrap();
    assert_eq!(nothing.push(b"x"), Err(AssembleError::UnexpectedBinary));
}

/// A7: header and attachments share one limit.
#[test]
fn bytes_are_limited_exactly() {
    assert!(Assembler::begin("12345", 1, 5).is_ok());
    assert_eq!(Assembler::begin("12345", 1, 4).err(), Some(AssembleError::TooBig));

    let mut assembler = Assembler::begin("12345", 2, 10).unwrap();
    assert_eq!(assembler.push(b"123"), Ok(AssemblyStep::More));
    assert_eq!(assembler.push(b"123"), Err(AssembleError::TooBig));
    assert_eq!(assembler.attachments().len(), 1);
    // What did not fit has not been counted.
    assert_eq!(assembler.push(b"12"), Ok(AssemblyStep::Complete));

    let mut unlimited = Assembler::begin("12345", 1, usize::MAX).unwrap();
    assert_eq!(unlimited.push(&[0; 1000]), Ok(AssemblyStep::Complete));
}

/// Lives in a box per client while a packet is incomplete.
#[test]
fn an_assembler_is_small() {
    assert!(size_of::<Assembler>() <= 48);
}

#[test]
fn every_reason_has_its_own_words() {
    let errors = [AssembleError::UnexpectedBinary, AssembleError::TooBig];
    let mut reasons = errors.map(|error| error.to_string()).to_vec();
    reasons.sort();
    reasons.dedup();
    assert_eq!(reasons.len(), errors.len());
}
