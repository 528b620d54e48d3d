//! How long a turn of a shard takes, without a kernel: what comes is given to it, what it sends is counted and dropped.

use divan::Bencher;
use divan::counter::ItemsCount;
use sockring_micro::Crowd;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CLIENTS: usize = 1_000;

fn main() {
    divan::main();
}

/// One client's event of 64 bytes of data, and its way back; another client each time.
#[divan::bench]
fn echo_turn(bencher: Bencher<'_, '_>) {
    let mut crowd = Crowd::new(CLIENTS);
    bencher.bench_local(|| assert_eq!(crowd.echo().sends, 1));
}

/// One emit of 200 bytes of data to all; items are deliveries.
#[divan::bench]
fn fan_out_turn(bencher: Bencher<'_, '_>) {
    let mut crowd = Crowd::new(CLIENTS);
    bencher.counter(ItemsCount::new(CLIENTS)).bench_local(|| assert_eq!(crowd.fan_out().sends, CLIENTS));
}

/// The shard is packed, and another one made of the bytes; items are clients.
#[divan::bench]
fn relay(bencher: Bencher<'_, '_>) {
    const CLIENTS: usize = 10_000;
    let mut crowd = Crowd::new(CLIENTS);
    println!("{} bytes per client", crowd.relay() / CLIENTS);
    bencher.counter(ItemsCount::new(CLIENTS)).bench_local(|| crowd.relay());
}
