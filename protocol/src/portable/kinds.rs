//! What is not ours: numbers, texts, lists and what is made of them.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::num::NonZeroU32;
use core::ops::Range;

use super::{Packer, Portable, Unpacker, Unreadable, named, with};

macro_rules! numbers {
    ($($kind:ident),*) => {
        $(impl Portable for $kind {
            const FORM: u64 = named(stringify!($kind));

            fn pack(&self, out: &mut Packer) {
                out.number(*self as u64);
            }

            fn unpack(from: &mut Unpacker<'_>) -> Result<$kind, Unreadable> {
                $kind::try_from(from.number()?).map_err(|_| Unreadable)
            }
        })*
    };
}

numbers!(u16, u32, u64, usize);

impl Portable for u8 {
    const FORM: u64 = named("u8");

    fn pack(&self, out: &mut Packer) {
        out.put(&[*self]);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<u8, Unreadable> {
        <[u8; 1]>::unpack(from).map(|[byte]| byte)
    }
}

impl Portable for u128 {
    const FORM: u64 = named("u128");

    fn pack(&self, out: &mut Packer) {
        self.to_le_bytes().pack(out);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<u128, Unreadable> {
        Portable::unpack(from).map(u128::from_le_bytes)
    }
}

impl Portable for NonZeroU32 {
    const FORM: u64 = named("NonZeroU32");

    fn pack(&self, out: &mut Packer) {
        self.get().pack(out);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<NonZeroU32, Unreadable> {
        NonZeroU32::new(u32::unpack(from)?).ok_or(Unreadable)
    }
}

impl Portable for bool {
    const FORM: u64 = named("bool");

    fn pack(&self, out: &mut Packer) {
        out.put(&[u8::from(*self)]);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<bool, Unreadable> {
        match from.take(1)? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(Unreadable),
        }
    }
}

impl<T: Portable> Portable for Option<T> {
    const FORM: u64 = with(named("Option"), T::FORM);

    fn pack(&self, out: &mut Packer) {
        self.is_some().pack(out);
        if let Some(value) = self {
            value.pack(out);
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<Option<T>, Unreadable> {
        bool::unpack(from)?.then(|| T::unpack(from)).transpose()
    }
}

impl<T: Portable> Portable for Box<T> {
    const FORM: u64 = with(named("Box"), T::FORM);

    fn pack(&self, out: &mut Packer) {
        T::pack(self, out);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<Box<T>, Unreadable> {
        T::unpack(from).map(Box::new)
    }
}

impl<T: Portable> Portable for Vec<T> {
    const FORM: u64 = with(named("Vec"), T::FORM);

    fn pack(&self, out: &mut Packer) {
        out.number(self.len() as u64);
        self.iter().for_each(|part| part.pack(out));
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<Vec<T>, Unreadable> {
        // They come one by one: a part may be larger than its bytes.
        (0..from.count()?).map(|_| T::unpack(from)).collect()
    }
}

impl<T: Portable> Portable for VecDeque<T> {
    const FORM: u64 = with(named("VecDeque"), T::FORM);

    fn pack(&self, out: &mut Packer) {
        out.number(self.len() as u64);
        self.iter().for_each(|part| part.pack(out));
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<VecDeque<T>, Unreadable> {
        Vec::unpack(from).map(VecDeque::from)
    }
}

impl<T: Portable> Portable for Box<[T]> {
    const FORM: u64 = with(named("Box<[]>"), T::FORM);

    fn pack(&self, out: &mut Packer) {
        out.number(self.len() as u64);
        self.iter().for_each(|part| part.pack(out));
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<Box<[T]>, Unreadable> {
        Vec::unpack(from).map(Vec::into_boxed_slice)
    }
}

impl<T: Portable + Ord> Portable for BTreeSet<T> {
    const FORM: u64 = with(named("BTreeSet"), T::FORM);

    fn pack(&self, out: &mut Packer) {
        out.number(self.len() as u64);
        self.iter().for_each(|part| part.pack(out));
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<BTreeSet<T>, Unreadable> {
        Vec::unpack(from).map(BTreeSet::from_iter)
    }
}

impl<K: Portable + Ord, V: Portable> Portable for BTreeMap<K, V> {
    const FORM: u64 = with(with(named("BTreeMap"), K::FORM), V::FORM);

    fn pack(&self, out: &mut Packer) {
        out.number(self.len() as u64);
        for (key, value) in self {
            key.pack(out);
            value.pack(out);
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<BTreeMap<K, V>, Unreadable> {
        Vec::<(K, V)>::unpack(from).map(BTreeMap::from_iter)
    }
}

impl Portable for Box<str> {
    const FORM: u64 = named("Box<str>");

    fn pack(&self, out: &mut Packer) {
        out.number(self.len() as u64);
        out.put(self.as_bytes());
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<Box<str>, Unreadable> {
        String::unpack(from).map(String::into_boxed_str)
    }
}

impl Portable for String {
    const FORM: u64 = named("String");

    fn pack(&self, out: &mut Packer) {
        out.number(self.len() as u64);
        out.put(self.as_bytes());
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<String, Unreadable> {
        let length = from.count()?;
        core::str::from_utf8(from.take(length)?).map(String::from).map_err(|_| Unreadable)
    }
}

impl<const N: usize> Portable for [u8; N] {
    const FORM: u64 = with(named("u8s"), N as u64);

    fn pack(&self, out: &mut Packer) {
        out.put(self);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<[u8; N], Unreadable> {
        from.take(N)?.try_into().map_err(|_| Unreadable)
    }
}

impl<const N: usize> Portable for [u64; N] {
    const FORM: u64 = with(named("u64s"), N as u64);

    fn pack(&self, out: &mut Packer) {
        self.iter().for_each(|number| number.pack(out));
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<[u64; N], Unreadable> {
        let mut numbers = [0; N];
        for number in &mut numbers {
            *number = Portable::unpack(from)?;
        }
        Ok(numbers)
    }
}

impl Portable for Range<u32> {
    const FORM: u64 = named("Range<u32>");

    fn pack(&self, out: &mut Packer) {
        (self.start, self.end).pack(out);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<Range<u32>, Unreadable> {
        Portable::unpack(from).map(|(start, end)| start..end)
    }
}

impl Portable for IpAddr {
    const FORM: u64 = named("IpAddr");

    fn pack(&self, out: &mut Packer) {
        match self {
            IpAddr::V4(address) => (4u8, address.octets()).pack(out),
            IpAddr::V6(address) => (6u8, address.octets()).pack(out),
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<IpAddr, Unreadable> {
        match u8::unpack(from)? {
            4 => Portable::unpack(from).map(|octets: [u8; 4]| Ipv4Addr::from(octets).into()),
            6 => Portable::unpack(from).map(|octets: [u8; 16]| Ipv6Addr::from(octets).into()),
            _ => Err(Unreadable),
        }
    }
}

macro_rules! tuples {
    ($(($($part:ident $name:ident),*)),*) => {
        $(impl<$($part: Portable),*> Portable for ($($part,)*) {
            const FORM: u64 = {
                let form = named("tuple");
                $(let form = with(form, $part::FORM);)*
                form
            };

            fn pack(&self, out: &mut Packer) {
                let ($($name,)*) = self;
                $($name.pack(out);)*
            }

            fn unpack(from: &mut Unpacker<'_>) -> Result<($($part,)*), Unreadable> {
                $(let $name = $part::unpack(from)?;)*
                Ok(($($name,)*))
            }
        })*
    };
}

impl Portable for () {
    const FORM: u64 = named("nothing");

    fn pack(&self, _: &mut Packer) {}

    fn unpack(_: &mut Unpacker<'_>) -> Result<(), Unreadable> {
        Ok(())
    }
}

tuples!((A a), (A a, B b), (A a, B b, C c), (A a, B b, C c, D d), (A a, B b, C c, D d, E e));

/// Each of those who refer to it has one of its own.
impl<T: Portable> Portable for Arc<T> {
    const FORM: u64 = with(named("Arc"), T::FORM);

    fn pack(&self, out: &mut Packer) {
        T::pack(self, out);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<Arc<T>, Unreadable> {
        T::unpack(from).map(Arc::new)
    }
}
