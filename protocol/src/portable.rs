//! `Portable`: state of ours as bytes and back, for another process that goes on with it.
//!
//! Not a format to keep: both sides have to be of one form. `Portable::FORM` is what that comes to, field by field: two
//! programs whose types differ have two forms, and whoever carries state compares them first.
//!
//! Numbers are as short as they can be, lists and texts have their length before them, and of several cases the number comes
//! first. Times are what is between them and the moment of packing, so that they mean the same by another clock. Bytes and
//! texts that many refer to are written once.
//!
//! What is read is not trusted for its form: it is refused, and nothing is allocated by a length that it merely claims. What
//! it means is as true as who wrote it.

mod kinds;

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::error::Error;
use core::fmt;

use crate::Millis;

/// Bytes that are no packed state of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("these bytes are no packed state")
    }
}

impl Error for Unreadable {}

/// What can be written into bytes and read out of them again.
pub trait Portable: Sized {
    /// Its parts by name and form, in one number.
    const FORM: u64;

    /// Writes it.
    fn pack(&self, out: &mut Packer);

    /// Reads it.
    fn unpack(from: &mut Unpacker<'_>) -> Result<Self, Unreadable>;
}

/// The form of what is called so (FNV-1a).
pub const fn named(name: &str) -> u64 {
    let (mut form, mut rest) = (0xcbf2_9ce4_8422_2325, name.as_bytes());
    while let [first, behind @ ..] = rest {
        form = (form ^ *first as u64).wrapping_mul(0x0100_0000_01b3);
        rest = behind;
    }
    form
}

/// The form of what has a part of that form behind all before.
pub const fn with(form: u64, part: u64) -> u64 {
    (form.rotate_left(25) ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The form of what a function would take out of something. It is never called.
pub const fn form_of<S, T: Portable>(_: fn(S) -> T) -> u64 {
    T::FORM
}

/// Bytes that are being written.
#[derive(Debug)]
pub struct Packer {
    out: Vec<u8>,
    now: Millis,
    bytes: Shared,
    texts: Shared,
}

/// Things that others may refer to as well.
#[derive(Debug, Default)]
struct Shared {
    /// How many were written.
    count: u64,
    /// Their numbers, by where they are, if anybody else refers to them.
    numbers: BTreeMap<usize, u64>,
}

/// Bytes that are being read.
#[derive(Debug)]
pub struct Unpacker<'a> {
    rest: &'a [u8],
    now: Millis,
    bytes: Vec<Arc<[u8]>>,
    texts: Vec<Arc<str>>,
}

impl Packer {
    /// Nothing yet, at this time.
    pub fn new(now: Millis) -> Packer {
        Packer { out: Vec::new(), now, bytes: Shared::default(), texts: Shared::default() }
    }

    /// The time that others are counted from.
    pub fn now(&self) -> Millis {
        self.now
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// Bytes as they are: who reads them knows how many.
    pub fn put(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// A number in seven bits a byte, the lowest first.
    pub fn number(&mut self, mut number: u64) {
        while number > 0x7f {
            let [low, ..] = number.to_le_bytes();
            self.out.push(low | 0x80);
            number >>= 7;
        }
        let [low, ..] = number.to_le_bytes();
        self.out.push(low);
    }

    fn shared(&mut self, table: fn(&mut Packer) -> &mut Shared, at: usize, references: usize, bytes: &[u8]) {
        let Shared { count, numbers } = table(self);
        if let Some(number) = numbers.get(&at).copied() {
            return self.number(number + 1);
        }
        if references > 1 {
            numbers.insert(at, *count);
        }
        *count += 1;
        self.number(0);
        self.number(bytes.len() as u64);
        self.put(bytes);
    }
}

impl<'a> Unpacker<'a> {
    /// Begins to read at this time.
    pub fn new(bytes: &'a [u8], now: Millis) -> Unpacker<'a> {
        Unpacker { rest: bytes, now, bytes: Vec::new(), texts: Vec::new() }
    }

    /// Nothing may be left.
    pub fn finish(self) -> Result<(), Unreadable> {
        if self.rest.is_empty() { Ok(()) } else { Err(Unreadable) }
    }

    /// The time that others are counted from.
    pub fn now(&self) -> Millis {
        self.now
    }

    /// How many bytes there are still to read: nothing has more parts than that.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next so many bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Unreadable> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Unreadable)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A number in its shortest form.
    pub fn number(&mut self) -> Result<u64, Unreadable> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let &[byte] = self.take(1)? else { return Err(Unreadable) };
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if bits << shift >> shift != bits || (byte == 0 && shift > 0) {
                return Err(Unreadable);
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Unreadable)
    }

    /// The number of parts that follow, of which each takes a byte or more.
    pub fn count(&mut self) -> Result<usize, Unreadable> {
        let count = usize::try_from(self.number()?).map_err(|_| Unreadable)?;
        if count > self.left() { Err(Unreadable) } else { Ok(count) }
    }

    fn shared<T: ?Sized>(
        &mut self,
        table: fn(&mut Self) -> &mut Vec<Arc<T>>,
        make: fn(&[u8]) -> Result<Arc<T>, Unreadable>,
    ) -> Result<Arc<T>, Unreadable> {
        if let Some(number) = self.number()?.checked_sub(1) {
            let number = usize::try_from(number).map_err(|_| Unreadable)?;
            return table(self).get(number).cloned().ok_or(Unreadable);
        }
        let length = self.count()?;
        let made = make(self.take(length)?)?;
        table(self).push(Arc::clone(&made));
        Ok(made)
    }
}

impl Portable for Millis {
    const FORM: u64 = named("Millis");

    fn pack(&self, out: &mut Packer) {
        // 0 is never; else a sign in the lowest bit, and what is between.
        let between = self.0.wrapping_sub(out.now.0).cast_signed();
        match *self {
            Millis::NEVER => out.number(0),
            _ => out.number((between.unsigned_abs() << 1 | u64::from(between < 0)).saturating_add(1)),
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<Millis, Unreadable> {
        let Some(between) = from.number()?.checked_sub(1) else { return Ok(Millis::NEVER) };
        Ok(match between & 1 {
            0 => Millis(from.now.0.saturating_add(between >> 1)),
            _ => Millis(from.now.0.saturating_sub(between >> 1)),
        })
    }
}

impl Portable for Arc<[u8]> {
    const FORM: u64 = named("Arc<[u8]>");

    fn pack(&self, out: &mut Packer) {
        out.shared(|out| &mut out.bytes, self.as_ptr().addr(), Arc::strong_count(self), self);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<Arc<[u8]>, Unreadable> {
        from.shared(|from| &mut from.bytes, |bytes| Ok(bytes.into()))
    }
}

impl Portable for Arc<str> {
    const FORM: u64 = named("Arc<str>");

    fn pack(&self, out: &mut Packer) {
        out.shared(|out| &mut out.texts, self.as_ptr().addr(), Arc::strong_count(self), self.as_bytes());
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<Arc<str>, Unreadable> {
        from.shared(|from| &mut from.texts, |bytes| Ok(core::str::from_utf8(bytes).map_err(|_| Unreadable)?.into()))
    }
}

/// Makes a type portable: all of its fields are named, or it does not compile.
///
/// A field with a `by` is written by the functions `pack` and `unpack` of that module; one of those that are made `anew` is not
/// written.
#[macro_export]
macro_rules! portable {
    (struct $name:ident { $($field:ident $(by $by:ident)?),* $(,)? } $(anew { $($new:ident: $value:expr),* $(,)? })?) => {
        impl $crate::portable::Portable for $name {
            const FORM: u64 = {
                let form = $crate::portable::named(stringify!($name));
                $(let form = $crate::portable!(@form form, stringify!($field), |it: $name| it.$field $(, $by)?);)*
                form
            };

            fn pack(&self, out: &mut $crate::portable::Packer) {
                let $name { $($field,)* $($($new: _,)*)? } = self;
                $($crate::portable!(@pack $field, out $(, $by)?);)*
            }

            fn unpack(
                from: &mut $crate::portable::Unpacker<'_>,
            ) -> ::core::result::Result<$name, $crate::portable::Unreadable> {
                ::core::result::Result::Ok($name {
                    $($field: $crate::portable!(@unpack from $(, $by)?),)*
                    $($($new: $value,)*)?
                })
            }
        }
    };
    (struct $name:ident ($($field:ident),*)) => {
        impl $crate::portable::Portable for $name {
            const FORM: u64 = $crate::portable!(@form $crate::portable::named(stringify!($name)), "", |it: $name| {
                let $name($($field),*) = it;
                ($($field,)*)
            });

            fn pack(&self, out: &mut $crate::portable::Packer) {
                let $name($($field),*) = self;
                $($crate::portable::Portable::pack($field, out);)*
            }

            fn unpack(
                from: &mut $crate::portable::Unpacker<'_>,
            ) -> ::core::result::Result<$name, $crate::portable::Unreadable> {
                $(let $field = $crate::portable::Portable::unpack(from)?;)*
                ::core::result::Result::Ok($name($($field),*))
            }
        }
    };
    (enum $name:ident {
        $($tag:literal $variant:ident $({ $($field:ident),* $(,)? })? $(( $($part:ident),* ))?),* $(,)?
    }) => {
        impl $crate::portable::Portable for $name {
            #[allow(unreachable_patterns, reason = "there is one case")]
            const FORM: u64 = {
                let form = $crate::portable::named(stringify!($name));
                $(
                    let form = $crate::portable::with(form, $tag);
                    let form = $crate::portable!(@form form, stringify!($variant $({ $($field)* })?), |it: $name| match it {
                        $name::$variant $({ $($field),* })? $(( $($part),* ))? => ($($($field,)*)? $($($part,)*)?),
                        _ => unreachable!("it is never called"),
                    });
                )*
                form
            };

            fn pack(&self, out: &mut $crate::portable::Packer) {
                match self {
                    $($name::$variant $({ $($field),* })? $(( $($part),* ))? => {
                        out.put(&[$tag]);
                        $($($crate::portable::Portable::pack($field, out);)*)?
                        $($($crate::portable::Portable::pack($part, out);)*)?
                    })*
                }
            }

            fn unpack(
                from: &mut $crate::portable::Unpacker<'_>,
            ) -> ::core::result::Result<$name, $crate::portable::Unreadable> {
                match from.take(1)? {
                    $([$tag] => {
                        $($(let $field = $crate::portable::Portable::unpack(from)?;)*)?
                        $($(let $part = $crate::portable::Portable::unpack(from)?;)*)?
                        ::core::result::Result::Ok($name::$variant $({ $($field),* })? $(( $($part),* ))?)
                    })*
                    _ => ::core::result::Result::Err($crate::portable::Unreadable),
                }
            }
        }
    };
    (@form $form:expr, $name:expr, $take:expr) => {{
        let form = $crate::portable::with($form, $crate::portable::named($name));
        $crate::portable::with(form, $crate::portable::form_of($take))
    }};
    (@form $form:expr, $name:expr, $take:expr, $by:ident) => {{
        let form = $crate::portable::with($form, $crate::portable::named($name));
        $crate::portable::with(form, $by::form_of($take))
    }};
    (@pack $field:ident, $out:ident) => { $crate::portable::Portable::pack($field, $out) };
    (@pack $field:ident, $out:ident, $by:ident) => { $by::pack($field, $out) };
    (@unpack $from:ident) => { $crate::portable::Portable::unpack($from)? };
    (@unpack $from:ident, $by:ident) => { $by::unpack($from)? };
}

#[cfg(test)]
mod tests;
