//! What all shards of a process share goes on in another process: how many there are, and what each address has used.

use core::net::IpAddr;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use sockring_protocol::Millis;
use sockring_protocol::portable;
use sockring_protocol::portable::{Packer, Portable, Unpacker, Unreadable};

use super::{Bucket, Capacity};

/// All but what is given back by itself, which is counted anew by who has it: descriptors, and connections that have no session.
struct CarriedCounts {
    connections: usize,
    guests: usize,
    clients: usize,
    input_bytes: usize,
    forgotten: u64,
    /// By kind, each in the order of addresses.
    buckets: Vec<Vec<(IpAddr, Bucket)>>,
    refused_origins: Vec<Box<str>>,
}

portable!(struct CarriedCounts { connections, guests, clients, input_bytes, forgotten, buckets, refused_origins });
portable!(struct Bucket { tokens, at });

impl Capacity {
    /// What is counted, as bytes. Times are counted from `now`.
    pub fn pack(&self, now: Millis) -> Vec<u8> {
        let buckets = self.buckets.iter().map(|buckets| {
            let buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
            let mut buckets: Vec<_> = buckets.iter().map(|(address, bucket)| (*address, *bucket)).collect();
            buckets.sort_by_key(|(address, _)| *address);
            buckets
        });
        let counted = CarriedCounts {
            connections: self.connections.load(Ordering::Relaxed),
            guests: self.guests.load(Ordering::Relaxed),
            clients: self.clients.load(Ordering::Relaxed),
            input_bytes: self.input_bytes.load(Ordering::Relaxed),
            forgotten: self.forgotten.load(Ordering::Relaxed),
            buckets: buckets.collect(),
            refused_origins: self.refused_origins.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        };
        let mut out = Packer::new(now);
        out.put(&CarriedCounts::FORM.to_le_bytes());
        counted.pack(&mut out);
        out.into_bytes()
    }

    /// Goes on with what another process has counted, where nothing is counted yet.
    pub fn take_over(&self, bytes: &[u8], now: Millis) -> Result<(), Unreadable> {
        let mut from = Unpacker::new(bytes, now);
        if from.take(size_of::<u64>())? != CarriedCounts::FORM.to_le_bytes() {
            return Err(Unreadable);
        }
        let counted = CarriedCounts::unpack(&mut from)?;
        from.finish()?;
        if counted.buckets.len() != self.buckets.len() {
            return Err(Unreadable);
        }
        self.connections.fetch_add(counted.connections, Ordering::Relaxed);
        self.guests.fetch_add(counted.guests, Ordering::Relaxed);
        self.clients.fetch_add(counted.clients, Ordering::Relaxed);
        self.input_bytes.fetch_add(counted.input_bytes, Ordering::Relaxed);
        self.forgotten.fetch_add(counted.forgotten, Ordering::Relaxed);
        for (buckets, carried) in self.buckets.iter().zip(counted.buckets) {
            buckets.lock().unwrap_or_else(PoisonError::into_inner).extend(carried);
        }
        *self.refused_origins.lock().unwrap_or_else(PoisonError::into_inner) = counted.refused_origins;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CapacityLimits, Rate, Standing};
    use super::*;

    fn capacity() -> Capacity {
        Capacity::new(CapacityLimits {
            connections_max: 2,
            clients_max: 1,
            input_bytes_max: 100,
            handshakes_per_minute_max: 60,
            unknown_sids_per_minute_max: 3,
            ..CapacityLimits::UNLIMITED
        })
    }

    #[test]
    fn who_has_used_its_minute_up_has_used_it_up_for_the_next_process_too() {
        let (before, address) = (capacity(), Some(IpAddr::from([203, 0, 113, 1])));
        assert!((0..3).all(|_| before.admit(Rate::UnknownSids, address, Millis(90_000))));
        assert!(before.admit(Rate::Handshakes, address, Millis(80_000)));
        assert!(before.take_client() && before.take_input(60) && before.is_news("https://a.example"));
        assert_eq!(before.take_seat(), Some(Standing::Member));
        let bytes = before.pack(Millis(100_000));
        // Its clock may be another one.
        let after = capacity();
        assert_eq!(after.take_over(&bytes, Millis(500_000)), Ok(()));
        assert_eq!(after.pack(Millis(500_000)), bytes);
        assert!(!after.has_left(Rate::UnknownSids, address, Millis(509_999)), "a third of a minute has not passed");
        assert!(after.admit(Rate::UnknownSids, address, Millis(510_000)));
        assert!(!after.take_client() && !after.take_input(41) && !after.is_news("https://a.example"));
        assert!(after.take_seat().is_some() && after.take_seat().is_none() && after.clients() == 1);
    }

    #[test]
    fn what_is_no_count_of_this_form_is_refused_and_nothing_is_counted() {
        let bytes = capacity().pack(Millis(0));
        for end in 0..bytes.len() {
            assert_eq!(capacity().take_over(&bytes[..end], Millis(0)), Err(Unreadable));
        }
        let mut other = bytes;
        other[0] ^= 1;
        assert_eq!(capacity().take_over(&other, Millis(0)), Err(Unreadable));
    }
}
