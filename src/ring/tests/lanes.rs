//! A ring whose connections need more slots than one file table has.

use super::*;

/// A table each for two connections, and three of them.
const LANES: RingOptions = RingOptions { files: 2, tables_max: 3, ..OPTIONS };

/// Connections in all slots of all tables, by token.
fn in_all_lanes(ring: &mut Ring) -> Vec<(Descriptor, UnixStream)> {
    let sockets: Vec<_> = (0..6).map(|_| pair(ring)).collect();
    let lanes: Vec<_> = sockets.iter().map(|(descriptor, _)| descriptor.raw().lane()).collect();
    assert_eq!((ring.lanes.len(), &*lanes), (3, &[0, 0, 1, 1, 2, 2][..]));
    sockets
}

fn token(index: usize) -> Token {
    Token { index: index as u32, generation: 0 }
}

#[test]
fn when_a_table_is_full_there_is_another_one_up_to_the_last() {
    let mut ring = Ring::new(&LANES).unwrap();
    assert_eq!(ring.lanes.len(), 1, "nothing is paid for before it is needed");
    let mut sockets = in_all_lanes(&mut ring);
    let refused = UnixStream::pair().unwrap();
    assert!(ring.settle(OwnedFd::from(refused.0)).is_err());
    // Who leaves makes room in its own table, and the first that has room is filled first.
    for (leaver, lane) in [(4, 2), (2, 1)] {
        let (descriptor, mut peer) = sockets.remove(leaver);
        ring.close(descriptor, token(leaver));
        let mut seen = Vec::new();
        turn(&mut ring, &mut seen, 1, |completion| matches!(completion, Completion::Closed(_)).then_some(()));
        assert_eq!(std::io::Read::read(&mut peer, &mut [0; 8]).unwrap(), 0, "of the one that is meant");
        assert_eq!(ring.vacant, lane);
    }
    let lanes = [pair(&mut ring), pair(&mut ring)].map(|(descriptor, _)| descriptor.raw().lane());
    assert_eq!((lanes, ring.lanes.len()), ([1, 2], 3));
}

#[test]
fn connections_of_all_lanes_are_watched_received_from_and_sent_to() {
    use std::io::{Read, Write};
    let mut ring = Ring::new(&RingOptions { buffers: 8, ..LANES }).unwrap();
    let mut sockets = in_all_lanes(&mut ring);
    for (index, (descriptor, _)) in sockets.iter().enumerate() {
        ring.watch(descriptor, token(index));
    }
    ring.enter(0, None);
    assert!(!ring.has_work());
    for (index, (_, peer)) in sockets.iter_mut().enumerate() {
        peer.write_all(&[b'a' + index as u8; 3]).unwrap();
    }
    assert!(ring.has_work());
    let mut readable = Vec::new();
    turn(&mut ring, &mut readable, 6, |completion| match completion {
        Completion::Readable(token, Armed::Still, Peer::Open) => Some(token.index as usize),
        _ => None,
    });
    readable.sort_unstable();
    assert_eq!(readable, [0, 1, 2, 3, 4, 5]);
    for index in readable {
        ring.receive(&sockets[index].0, token(index), Patience::DontWait);
    }
    let mut received = Vec::new();
    turn(&mut ring, &mut received, 6, |completion| match completion {
        Completion::Received(token, bytes, _) => Some((token.index as usize, bytes.to_vec())),
        _ => None,
    });
    received.sort_unstable();
    for (index, (of, bytes)) in received.into_iter().enumerate() {
        assert_eq!((index, &*bytes), (of, &[b'a' + index as u8; 3][..]), "a buffer is one of its own lane");
        ring.send(&sockets[index].0, token(index), SendBytes::Owned(bytes));
    }
    assert_eq!(ring.sends_only(), Some(6));
    let mut sent = Vec::new();
    turn(&mut ring, &mut sent, 6, |completion| matches!(completion, Completion::Sent(_, Ok(()))).then_some(()));
    for (index, (_, peer)) in sockets.iter_mut().enumerate() {
        let mut bytes = [0; 3];
        peer.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, [b'a' + index as u8; 3]);
    }
    // A name is looked for in the lane of its connection, and a socket that has left another one is not found there.
    for (index, (descriptor, _)) in sockets.iter().enumerate() {
        ring.cancel_watch(descriptor, token(index));
    }
    let mut hits = Vec::new();
    turn(&mut ring, &mut hits, 6, |completion| match completion {
        Completion::Cancelled(_, hit) => Some(hit),
        _ => None,
    });
    assert_eq!(hits, [Hit::Found; 6]);
}

#[test]
fn completions_of_any_lane_signal_the_one_event() {
    use std::io::Write;
    let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
    let mut ring = Ring::new(&LANES).unwrap();
    ring.signal(&event).unwrap();
    ring.signal_off();
    let sockets = in_all_lanes(&mut ring);
    for (index, (descriptor, _)) in sockets.iter().enumerate() {
        ring.watch(descriptor, token(index));
    }
    ring.enter(0, None);
    let is_signalled = || rustix::io::read(&event, &mut [0; 8]).is_ok();
    for mut peer in sockets.iter().map(|(_, peer)| peer) {
        peer.write_all(b"x").unwrap();
        assert!(!is_signalled(), "signals are off, in lanes that were set up later too");
    }
    ring.enter(0, None);
    ring.signal_on();
    for mut peer in sockets.iter().map(|(_, peer)| peer) {
        peer.write_all(b"x").unwrap();
        assert!(is_signalled());
        ring.enter(0, None);
    }
}

#[test]
fn a_wait_is_for_a_lanes_share_of_what_is_wanted_of_all() {
    use std::io::Write;
    let mut ring = Ring::new(&LANES).unwrap();
    let sockets = in_all_lanes(&mut ring);
    for (index, (descriptor, _)) in sockets.iter().enumerate() {
        ring.watch(descriptor, token(index));
    }
    ring.enter(0, None);
    let write = |indices: &[usize]| {
        for index in indices {
            (&sockets[*index].1).write_all(b"x").unwrap();
        }
    };
    let long = Some(Duration::from_secs(20));
    let begun = std::time::Instant::now();
    // All of them are there before anybody waits: in whichever lane.
    write(&[0, 1, 2, 3, 4, 5]);
    ring.enter(6, long);
    assert_eq!(ring.complete(256, |_| {}), 6);
    // Of the lane in which most came lately half of what is wanted is enough, when half came through it.
    for _ in 0..8 {
        write(&[2, 3, 4]);
        ring.enter(0, None);
        assert_eq!(ring.complete(256, |_| {}), 3);
    }
    write(&[2]);
    ring.enter(2, long);
    assert_eq!(ring.complete(256, |_| {}), 1);
    // Sends complete as they are submitted, and are no arrivals.
    (0..6).for_each(|index| ring.send(&sockets[index].0, token(index), SendBytes::Owned(vec![b'x'])));
    write(&[3]);
    ring.enter(7, long);
    assert_eq!(ring.complete(256, |_| {}), 7);
    assert!(begun.elapsed() < Duration::from_secs(20), "nobody waited for what did not come");
    // And where nothing comes a wait ends in time.
    ring.enter(4, Some(Duration::from_millis(1)));
    assert_eq!(ring.complete(256, |_| {}), 0);
}

#[test]
fn no_lane_waits_for_the_others_and_the_first_one_always_has_a_share() {
    let mut ring = Ring::new(&LANES).unwrap();
    let sockets = in_all_lanes(&mut ring);
    let mut seen = Vec::new();
    for _ in 0..6 {
        for (index, (descriptor, _)) in sockets.iter().enumerate() {
            (0..8).for_each(|_| ring.receive(descriptor, token(index), Patience::DontWait));
        }
        ring.enter(0, None);
        let mut lanes = [0; 3];
        assert_eq!(
            ring.complete(8, |completion| match completion {
                Completion::ReceiveFailed(token, ReceiveError::WouldBlock) => lanes[token.index as usize / 2] += 1,
                other => panic!("{other:?}"),
            }),
            8
        );
        seen.push(lanes);
    }
    assert_eq!(seen, [[2, 6, 0], [2, 0, 6], [2, 6, 0], [2, 0, 6], [2, 6, 0], [2, 0, 6]]);
}

#[test]
fn a_ring_that_is_dropped_ends_what_is_under_way_in_all_lanes() {
    let mut ring = Ring::new(&LANES).unwrap();
    let message: Arc<[u8]> = Arc::from([b'x'; 64].as_slice());
    let sockets = in_all_lanes(&mut ring);
    for (index, (descriptor, peer)) in sockets.iter().enumerate() {
        ring.watch(descriptor, token(index));
        // It is full, so that the send waits within the kernel.
        peer.set_nonblocking(true).unwrap();
        (0..400).for_each(|_| ring.send(descriptor, token(index), SendBytes::Owned(vec![0; 4096])));
        ring.enter(0, None);
        ring.complete(1024, |_| {});
        ring.send(descriptor, token(index), SendBytes::Shared(Arc::clone(&message)));
        ring.receive(descriptor, token(index), Patience::Wait);
    }
    ring.enter(0, None);
    assert_eq!((Arc::strong_count(&message), ring.has_work()), (7, false));
    drop(ring);
    assert_eq!(Arc::strong_count(&message), 1);
    for (_, mut peer) in sockets {
        // What it had of the peer's goes with it, and the table closes its files.
        let until = std::time::Instant::now() + Duration::from_secs(10);
        let mut bytes = [0; 65536];
        while std::io::Read::read(&mut peer, &mut bytes).unwrap_or(1) > 0 {
            assert!(std::time::Instant::now() < until, "its file is still open");
        }
    }
}
