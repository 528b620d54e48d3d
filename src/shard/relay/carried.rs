//! `Carried`: a part of a shard whose state goes on in a fresh one, which has its settings and its memory already.

use sockring_protocol::portable::{Packer, Unpacker, Unreadable};

/// What is carried into one of the same kind that was just made.
pub(in crate::shard) trait Carried: Sized {
    /// As `Portable::FORM`.
    const FORM: u64;

    fn pack_state(&self, out: &mut Packer);

    /// After an error the part is of no use.
    fn unpack_state(&mut self, from: &mut Unpacker<'_>) -> Result<(), Unreadable>;
}

/// Names all fields of a part: those that are carried, those that are carried parts themselves, and those that stay as they
/// were made.
macro_rules! carried {
    (
        $([$($bound:tt)*])? $name:ident $(<$of:ident>)? { $($field:ident $(by $by:ident)?),* $(,)? }
        $(parts { $($part:ident),* $(,)? })?
        $(stays { $($stays:ident),* $(,)? })?
    ) => {
        impl $(<$($bound)*>)? $crate::shard::relay::Carried for $name $(<$of>)? {
            const FORM: u64 = {
                let form = sockring_protocol::portable::named(stringify!($name));
                $(
                    let form = sockring_protocol::portable!(
                        @form form, stringify!($field), |it: Self| it.$field $(, $by)?
                    );
                )*
                $($(
                    let part = $crate::shard::relay::form_of_part(|it: Self| it.$part);
                    let form = sockring_protocol::portable::with(form, part);
                )*)?
                form
            };

            fn pack_state(&self, out: &mut sockring_protocol::portable::Packer) {
                let $name { $($field,)* $($($part,)*)? $($($stays: _,)*)? } = self;
                $(sockring_protocol::portable!(@pack $field, out $(, $by)?);)*
                $($($crate::shard::relay::Carried::pack_state($part, out);)*)?
            }

            fn unpack_state(
                &mut self,
                from: &mut sockring_protocol::portable::Unpacker<'_>,
            ) -> Result<(), sockring_protocol::portable::Unreadable> {
                let $name { $($field,)* $($($part,)*)? $($($stays: _,)*)? } = self;
                $(*$field = sockring_protocol::portable!(@unpack from $(, $by)?);)*
                $($($crate::shard::relay::Carried::unpack_state($part, from)?;)*)?
                Ok(())
            }
        }
    };
}
pub(in crate::shard) use carried;

/// The form of a part that a function would take out of something. It is never called.
pub(in crate::shard) const fn form_of_part<S, T: Carried>(_: fn(S) -> T) -> u64 {
    T::FORM
}

/// Of what may be switched off: on both sides, or on none.
impl<T: Carried> Carried for Option<Box<T>> {
    const FORM: u64 = T::FORM;

    fn pack_state(&self, out: &mut Packer) {
        out.put(&[u8::from(self.is_some())]);
        if let Some(part) = self {
            part.pack_state(out);
        }
    }

    fn unpack_state(&mut self, from: &mut Unpacker<'_>) -> Result<(), Unreadable> {
        match (from.take(1)?, self) {
            ([1], Some(part)) => part.unpack_state(from),
            ([0], None) => Ok(()),
            _ => Err(Unreadable),
        }
    }
}
