//! The ring against the real kernel, on a loopback socket pair.

use std::os::unix::net::UnixStream;
use std::sync::Arc;

use super::*;

mod lanes;

const OPTIONS: RingOptions =
    RingOptions { submissions: 128, completions: 256, files: 4, tables_max: 1, buffers: 2, buffer_bytes: 1024 };

fn pair(ring: &mut Ring) -> (Descriptor, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (ring.settle(OwnedFd::from(ours)).unwrap(), theirs)
}

/// Turns the ring until `done` says so, collecting what `see` makes of the completions.
fn turn<T>(ring: &mut Ring, seen: &mut Vec<T>, count: usize, mut see: impl FnMut(Completion<'_>) -> Option<T>) {
    while seen.len() < count {
        ring.enter(1, Some(Duration::from_secs(5)));
        let handled = ring.complete(256, |completion| seen.extend(see(completion)));
        assert!(handled > 0, "nothing completed within 5 s; seen {} of {count}", seen.len());
    }
}

#[test]
fn what_the_kernel_puts_off_is_work_that_a_call_lets_in() {
    use std::io::Write;
    let mut ring = Ring::new(&OPTIONS).unwrap();
    let (descriptor, mut peer) = pair(&mut ring);
    ring.watch(&descriptor, Token { index: 1, generation: 1 });
    assert!(ring.has_work(), "an entry is to be submitted");
    ring.enter(0, None);
    assert!(!ring.has_work());
    peer.write_all(b"hello").unwrap();
    assert_eq!(ring.complete(256, |_| {}), 0, "nobody has let it in");
    assert!(ring.has_work());
    ring.enter(0, None);
    assert_eq!(ring.complete(256, |completion| assert!(matches!(completion, Completion::Readable(..)))), 1);
    assert!(!ring.has_work());
}

#[test]
fn a_settled_socket_receives_sends_and_closes() {
    use std::io::{Read, Write};
    let mut ring = Ring::new(&OPTIONS).unwrap();
    let (descriptor, mut peer) = pair(&mut ring);
    let token = Token { index: 5, generation: 9 };
    ring.watch(&descriptor, token);
    peer.write_all(b"hello").unwrap();
    let mut seen = Vec::new();
    turn(&mut ring, &mut seen, 1, |completion| {
        matches!(completion, Completion::Readable(t, Armed::Still, _) if t == token).then_some(Vec::new())
    });
    ring.receive(&descriptor, token, Patience::DontWait);
    turn(&mut ring, &mut seen, 2, |completion| match completion {
        Completion::Received(_, bytes, _) => Some(bytes.to_vec()),
        _ => None,
    });
    assert_eq!(seen[1], b"hello");

    // Much more than a socket buffer holds: the ring goes on by itself.
    let large = vec![b'x'; 4 << 20];
    ring.send(&descriptor, token, SendBytes::Owned(large));
    let reader = std::thread::spawn(move || {
        let mut got = vec![0; 4 << 20];
        peer.read_exact(&mut got).unwrap();
        (peer, got.iter().all(|byte| *byte == b'x'))
    });
    turn(&mut ring, &mut seen, 3, |completion| match completion {
        Completion::Sent(_, result) => Some(vec![u8::from(result.is_ok())]),
        _ => None,
    });
    let (mut peer, intact) = reader.join().unwrap();
    assert!(intact && seen[2] == [1]);

    // An armed poll is cancelled before the close, and the peer sees the end.
    ring.cancel_watch(&descriptor, token);
    let mut ended = Vec::new();
    turn(&mut ring, &mut ended, 2, |completion| {
        matches!(completion, Completion::Cancelled(_, Hit::Found) | Completion::Readable(_, Armed::Ended, _))
            .then_some(())
    });
    ring.close(descriptor, token);
    turn(&mut ring, &mut ended, 3, |completion| matches!(completion, Completion::Closed(_)).then_some(()));
    assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn sends_are_told_from_what_brings_something_to_handle() {
    let mut ring = Ring::new(&OPTIONS).unwrap();
    let (descriptor, _peer) = pair(&mut ring);
    let token = Token { index: 1, generation: 1 };
    assert_eq!(ring.sends_only(), Some(0));
    ring.send(&descriptor, token, SendBytes::Owned(b"hello".to_vec()));
    assert_eq!(ring.sends_only(), Some(1));
    ring.receive(&descriptor, token, Patience::DontWait);
    assert_eq!(ring.sends_only(), None);
    let mut seen = Vec::new();
    turn(&mut ring, &mut seen, 2, |_| Some(()));
    assert_eq!(ring.sends_only(), Some(0));
}

#[test]
fn an_empty_pool_says_so_and_refills() {
    use std::io::Write;
    let mut ring = Ring::new(&OPTIONS).unwrap();
    let sockets: Vec<_> = (0..3).map(|_| pair(&mut ring)).collect();
    for (index, (descriptor, peer)) in (0u32..).zip(&sockets) {
        let mut peer = peer;
        peer.write_all(b"data").unwrap();
        ring.receive(descriptor, Token { index, generation: 0 }, Patience::DontWait);
    }
    let mut seen = Vec::new();
    // All three run in one submission, before any buffer is given back.
    turn(&mut ring, &mut seen, 3, |completion| match completion {
        Completion::Received(token, ..) => Some((token.index, true)),
        Completion::ReceiveFailed(token, ReceiveError::OutOfBuffers) => Some((token.index, false)),
        _ => None,
    });
    assert_eq!(seen, [(0, true), (1, true), (2, false)]);
    ring.receive(&sockets[2].0, Token { index: 2, generation: 0 }, Patience::DontWait);
    turn(&mut ring, &mut seen, 4, |completion| match completion {
        Completion::Received(token, bytes, _) => Some((token.index, bytes == b"data")),
        _ => None,
    });
    assert_eq!(seen[3], (2, true));
}

#[test]
fn a_pool_that_was_found_empty_grows() {
    use std::io::Write;
    let mut ring = Ring::new(&RingOptions { files: 100, buffers: 128, ..OPTIONS }).unwrap();
    let sockets: Vec<_> = (0..100).map(|_| pair(&mut ring)).collect();
    // Of a hundred receives in one submission.
    let mut receive_all = || {
        let mut starved = Vec::new();
        for (index, (descriptor, peer)) in (0u32..).zip(&sockets) {
            let mut peer = peer;
            peer.write_all(b"data").unwrap();
            ring.receive(descriptor, Token { index, generation: 0 }, Patience::DontWait);
        }
        turn(&mut ring, &mut starved, 100, |completion| {
            Some(matches!(completion, Completion::ReceiveFailed(_, ReceiveError::OutOfBuffers)))
        });
        starved.into_iter().filter(|is_starved| *is_starved).count()
    };
    assert_eq!([receive_all(), receive_all()], [36, 0]);
}

#[test]
fn a_full_file_table_gives_the_descriptor_back() {
    let mut ring = Ring::new(&RingOptions { files: 1, ..OPTIONS }).unwrap();
    let (_held, _peer) = pair(&mut ring);
    let (ours, _theirs) = UnixStream::pair().unwrap();
    assert!(ring.settle(OwnedFd::from(ours)).is_err());
}

/// A socket that its peer, who does not read, has filled.
fn full_pair() -> (Descriptor, UnixStream) {
    use std::io::Write;
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    while (&ours).write(&[0; 4096]).is_ok() {}
    ours.set_nonblocking(false).unwrap();
    (Descriptor::Plain(ours.into()), theirs)
}

#[test]
fn what_found_no_room_goes_on_in_calls_that_carry_so_much_each() {
    use std::io::Read;
    const BYTES: usize = 64 << 10;
    let mut ring = Ring::new(&OPTIONS).unwrap();
    let message: Arc<[u8]> = Arc::from([b'x'; BYTES].as_slice());
    let mut pairs: Vec<_> = (0..64).map(|_| full_pair()).collect();
    for (index, (descriptor, _)) in (0u32..).zip(&pairs) {
        ring.send(descriptor, Token { index, generation: 0 }, SendBytes::Shared(Arc::clone(&message)));
    }
    ring.enter(0, None);
    assert_eq!(ring.sends_only(), Some(64));
    assert!(ring.complete(256, |_| panic!("there was room")) == 64);
    ring.enter(0, None);
    // Each peer reads all that there is: so all have room at once.
    let mut read_all = |is_text: &mut usize| {
        let mut bytes = vec![0; 1 << 20];
        for (_, peer) in &mut pairs {
            peer.set_nonblocking(true).unwrap();
            while let Ok(count) = peer.read(&mut bytes) {
                *is_text += bytes[..count].iter().filter(|byte| **byte == b'x').count();
            }
        }
    };
    read_all(&mut 0);
    let (mut sent, mut all) = (0, 0);
    while sent < 64 {
        ring.enter(0, None);
        let mut carried = 0;
        read_all(&mut carried);
        assert!(carried <= sending::RESUMED_BYTES_MAX, "{carried} bytes in one call");
        all += carried;
        ring.complete(256, |completion| sent += usize::from(matches!(completion, Completion::Sent(_, Ok(())))));
        assert!(ring.has_work() || sent == 64, "{sent} of 64 have gone out, and nothing is left to do");
    }
    assert_eq!(all, 64 * BYTES);
    assert_eq!(Arc::strong_count(&message), 1);
}

#[test]
fn where_there_was_to_be_room_and_is_none_the_kernel_sees_to_it() {
    use std::io::Read;
    let mut ring = Ring::new(&OPTIONS).unwrap();
    let (descriptor, mut peer) = full_pair();
    let token = Token { index: 7, generation: 2 };
    let index = ring.flight.lend(token, descriptor.raw(), SendBytes::Owned(vec![b'x'; 8 << 10]));
    ring.on_sent(Token { index, generation: sending::Attempt::Again as u32 }, -libc::EAGAIN, &mut |_| {
        panic!("it is sent")
    });
    ring.enter(0, None);
    assert_eq!(ring.complete(256, |_| {}), 0);
    peer.set_nonblocking(true).unwrap();
    while peer.read(&mut [0; 4096]).is_ok() {}
    // One call is enough, since nobody has to be told of room.
    ring.enter(0, None);
    assert_eq!(ring.complete(256, |completion| assert!(matches!(completion, Completion::Sent(_, Ok(()))))), 1);
}

#[test]
fn a_long_send_ends_with_its_socket() {
    let mut ring = Ring::new(&OPTIONS).unwrap();
    let (descriptor, _reads_nothing) = full_pair();
    let token = Token { index: 7, generation: 2 };
    ring.send(&descriptor, token, SendBytes::Owned(vec![b'x'; 64 << 10]));
    ring.enter(0, None);
    ring.complete(256, |_| panic!("there was room"));
    ring.abort(&descriptor, token);
    let mut seen = Vec::new();
    turn(&mut ring, &mut seen, 1, |completion| match completion {
        Completion::Sent(whose, result) => Some((whose, result.map_err(|error| error.raw_os_error()))),
        _ => None,
    });
    assert_eq!(seen, [(token, Err(Some(libc::EPIPE)))]);
}

#[test]
fn a_ring_that_is_dropped_gives_back_what_it_was_sending() {
    let mut ring = Ring::new(&OPTIONS).unwrap();
    let message: Arc<[u8]> = Arc::from([b'x'; 64].as_slice());
    let (stuck, _reads_nothing) = full_pair();
    let (fluent, _peer) = pair(&mut ring);
    // Two that wait for their peer, one that is done before anybody asks, one that the kernel has not seen.
    let (stuck_too, _reads_nothing_either) = full_pair();
    let long: Arc<[u8]> = Arc::from([b'x'; 64 << 10].as_slice());
    ring.send(&stuck_too, Token { index: 2, generation: 0 }, SendBytes::Shared(Arc::clone(&long)));
    ring.enter(0, None);
    ring.complete(256, |_| panic!("there was room"));
    ring.send(&stuck, Token { index: 0, generation: 0 }, SendBytes::Shared(Arc::clone(&message)));
    ring.send(&fluent, Token { index: 1, generation: 0 }, SendBytes::Shared(Arc::clone(&message)));
    ring.enter(0, None);
    ring.send(&fluent, Token { index: 1, generation: 0 }, SendBytes::Shared(Arc::clone(&message)));
    assert_eq!((Arc::strong_count(&message), Arc::strong_count(&long)), (4, 2));
    drop(ring);
    assert_eq!((Arc::strong_count(&message), Arc::strong_count(&long)), (1, 1));
}

#[test]
fn a_ring_that_is_dropped_receives_and_accepts_nothing_more() {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    let mut ring = Ring::new(&OPTIONS).unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut kept = ours.try_clone().unwrap();
    kept.set_nonblocking(true).unwrap();
    let descriptor = Descriptor::Plain(ours.into());
    let token = Token { index: 0, generation: 0 };
    ring.watch(&descriptor, token);
    ring.receive(&descriptor, token, Patience::Wait);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let listening = OwnedFd::from(listener.try_clone().unwrap());
    ring.accept(&listening);
    ring.enter(0, None);
    drop(ring);
    theirs.write_all(b"still here").unwrap();
    let mut bytes = [0; 16];
    assert_eq!(kept.read(&mut bytes).unwrap(), 10);
    let _connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_ok());
}

#[test]
fn more_entries_than_fit_are_all_carried_out() {
    let mut ring = Ring::new(&OPTIONS).unwrap();
    let (descriptor, _peer) = pair(&mut ring);
    let rounds = OPTIONS.submissions as usize * 3;
    for _ in 0..rounds {
        ring.receive(&descriptor, Token { index: 0, generation: 0 }, Patience::DontWait);
    }
    let mut seen = Vec::new();
    turn(&mut ring, &mut seen, rounds, |completion| {
        matches!(completion, Completion::ReceiveFailed(_, ReceiveError::WouldBlock)).then_some(())
    });
    assert!(!ring.has_work());
}

#[test]
fn smaller_rings_end_at_one_that_can_be_set_up() {
    let mut options = RingOptions::for_connections(4, 4, 1);
    let sizes: Vec<u32> = std::iter::from_fn(|| {
        options = options.smaller();
        drop(Ring::new(&options).expect("a smaller ring"));
        Some(options.completions)
    })
    .take(5)
    .collect();
    assert_eq!(sizes, [32_768, 16_384, 8_192, 8_192, 8_192]);
    assert_eq!(OPTIONS.smaller().completions, OPTIONS.completions, "no less than what a ring of its size wants");
}
