//! Values and their bytes, and bytes that are no values.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Debug;
use core::net::IpAddr;

use super::*;

const NOW: Millis = Millis(1_000);

#[derive(Debug, PartialEq)]
struct Pair {
    number: u64,
    text: Option<Box<str>>,
}

#[derive(Debug, PartialEq)]
enum Case {
    Empty,
    Parts(u16, Pair),
    Named { at: Millis },
}

crate::portable!(struct Pair { number, text });
crate::portable!(enum Case { 0 Empty, 1 Parts(number, pair), 7 Named { at } });

fn packed<T: Portable>(value: &T, now: Millis) -> Vec<u8> {
    let mut out = Packer::new(now);
    value.pack(&mut out);
    out.into_bytes()
}

fn unpacked<T: Portable>(bytes: &[u8], now: Millis) -> Result<T, Unreadable> {
    let mut from = Unpacker::new(bytes, now);
    let value = T::unpack(&mut from)?;
    from.finish().map(|()| value)
}

/// Reads back what it was, and nothing if a byte is missing or left.
fn check<T: Portable + PartialEq + Debug>(value: &T) {
    let bytes = packed(value, NOW);
    assert_eq!(unpacked::<T>(&bytes, NOW).as_ref(), Ok(value));
    assert_eq!(unpacked::<T>(&[bytes.as_slice(), &[0]].concat(), NOW), Err(Unreadable));
    for end in 0..bytes.len() {
        assert_eq!(unpacked::<T>(&bytes[..end], NOW), Err(Unreadable), "{value:?}");
    }
}

#[test]
fn everything_reads_back_and_nothing_of_a_part_of_it() {
    let numbers = [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX - 1, u64::MAX];
    numbers.iter().for_each(check);
    check(&(u16::MAX, u128::MAX, 255u8));
    check(&Vec::from([Case::Empty, Case::Parts(3, Pair { number: 9, text: Some("é".into()) })]));
    check(&Pair { number: 0, text: None });
    for at in [Millis(0), NOW, Millis(999), Millis(1_001), Millis::NEVER] {
        check(&Case::Named { at });
    }
    let addresses: [IpAddr; 2] = [[203, 0, 113, 1].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()];
    addresses.iter().for_each(check);
}

#[test]
fn a_time_is_as_far_away_by_another_clock() {
    let bytes = packed(&(Millis(1_500), Millis(400), Millis::NEVER), NOW);
    let (ahead, past, never) = unpacked::<(Millis, Millis, Millis)>(&bytes, Millis(50_000)).unwrap();
    assert_eq!((ahead, past, never), (Millis(50_500), Millis(49_400), Millis::NEVER));
    // What was before the clock began was at its beginning.
    assert_eq!(unpacked::<(Millis, Millis, Millis)>(&bytes, Millis(5)).unwrap().1, Millis(0));
}

#[test]
fn what_many_refer_to_is_written_once_and_is_one_again() {
    let message: Arc<[u8]> = Arc::from([7; 500]);
    let other: Arc<[u8]> = Arc::from([8; 500]);
    let list = Vec::from([Arc::clone(&message), other, Arc::clone(&message)]);
    let bytes = packed(&list, NOW);
    assert!(bytes.len() < 1_020, "{}", bytes.len());
    let back: Vec<Arc<[u8]>> = unpacked(&bytes, NOW).unwrap();
    assert_eq!(back, list);
    assert!(Arc::ptr_eq(&back[0], &back[2]));
}

#[test]
fn what_is_no_form_of_ours_is_refused() {
    let wrong: [&[u8]; 5] =
        [&[0x80, 0], &[0xff; 11], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], &[], &[0x80]];
    for bytes in wrong {
        assert_eq!(unpacked::<u64>(bytes, NOW), Err(Unreadable), "{bytes:?}");
    }
    assert_eq!(unpacked::<bool>(&[2], NOW), Err(Unreadable));
    assert_eq!(unpacked::<Case>(&[2], NOW), Err(Unreadable));
    assert_eq!(unpacked::<Box<str>>(&[1, 0xff], NOW), Err(Unreadable));
    assert_eq!(unpacked::<Arc<[u8]>>(&[2], NOW), Err(Unreadable), "nothing was written before");
    // Of a length that is claimed nothing is made.
    assert_eq!(unpacked::<Vec<u64>>(&[0xff, 0xff, 0xff, 0xff, 0xf], NOW), Err(Unreadable));
}

/// Types that differ from those above in one thing each.
mod renamed {
    pub(super) struct Pair {
        number: u64,
        words: Option<alloc::boxed::Box<str>>,
    }
    crate::portable!(struct Pair { number, words });
}
mod narrower {
    pub(super) struct Pair {
        number: u32,
        text: Option<alloc::boxed::Box<str>>,
    }
    crate::portable!(struct Pair { number, text });
}
mod further {
    pub(super) enum Case {
        Empty,
        Parts(u16, super::Pair),
        Named { at: super::Millis },
        More,
    }
    crate::portable!(enum Case { 0 Empty, 1 Parts(number, pair), 7 Named { at }, 8 More });
    pub(super) const LAST: [Case; 2] = [Case::More, Case::Empty];
}
mod within {
    pub(super) struct Outer {
        pair: super::narrower::Pair,
    }
    crate::portable!(struct Outer { pair });
}

#[test]
fn a_form_is_that_of_all_parts_by_name_and_kind() {
    struct Outer {
        pair: Pair,
    }
    crate::portable!(struct Outer { pair });
    assert_eq!(packed(&further::LAST[0], NOW), [8]);
    let pairs = [Pair::FORM, renamed::Pair::FORM, narrower::Pair::FORM, <(u64, Option<Box<str>>)>::FORM];
    let others = [Case::FORM, further::Case::FORM, Outer::FORM, within::Outer::FORM];
    let forms: alloc::collections::BTreeSet<u64> = pairs.into_iter().chain(others).collect();
    assert_eq!(forms.len(), 8);
}
