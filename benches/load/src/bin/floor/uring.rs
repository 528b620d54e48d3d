//! The floors on io_uring: sends of the same bytes to all, and an echo.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::bare::{Armed, Bare, Buffer, Done};
use crate::handshake::{Answers, Incoming, read};

/// Slots beside those of the clients: whoever emits.
const FILES_BESIDE: u32 = 16;

/// On each request to emit, queues a send of `frame` to all members, and nothing else.
pub fn send(listener: &OwnedFd, connections: u32, frame: Vec<u8>) -> Result<(), Box<dyn std::error::Error>> {
    let frame: &'static [u8] = Vec::leak(frame);
    let mut members: Vec<u32> = Vec::new();
    serve(listener, connections, |bare, action| match action {
        Action::Joined(slot) => members.push(slot),
        Action::Left(slot) => members.retain(|member| *member != slot),
        Action::Emit => members.iter().for_each(|member| bare.send_static(*member, frame)),
        // Pongs and farewells.
        Action::Frames(_, buffer) => bare.give_back(buffer),
    })
}

/// Sends frames back from the buffer that they came in.
pub fn echo(listener: &OwnedFd, connections: u32) -> Result<(), Box<dyn std::error::Error>> {
    serve(listener, connections, |bare, action| {
        if let Action::Frames(slot, buffer) = action {
            bare.send_buffer(slot, buffer);
        }
    })
}

/// Sends each member a ping of Engine.IO every `interval`, those that are due within `TICK` together, and nothing else.
pub fn heartbeat(
    listener: &OwnedFd,
    connections: u32,
    armed: Armed,
    interval: Duration,
) -> Result<(), Box<dyn std::error::Error>> {
    let ping: &'static [u8] = Vec::leak(sockring_load::frames::plain_text(b"2"));
    let mut bare = Bare::new(listener, connections + FILES_BESIDE, armed)?;
    let answers = Answers::new();
    let mut done = Vec::new();
    // In the order in which they are due; whoever has gone is dropped then.
    let mut due: VecDeque<(Instant, u32)> = VecDeque::new();
    let mut members = vec![false; (connections + FILES_BESIDE) as usize];
    loop {
        let now = Instant::now();
        let timeout = due.front().map(|(at, _)| at.saturating_duration_since(now) + TICK);
        bare.turn_within(timeout, &mut done)?;
        let now = Instant::now();
        for event in done.drain(..) {
            match event {
                Done::Received(slot, buffer) => {
                    on_received(&mut bare, &answers, slot, buffer, &mut |bare, action| match action {
                        Action::Joined(slot) => {
                            members[slot as usize] = true;
                            due.push_back((now + interval, slot));
                        }
                        Action::Frames(_, buffer) => bare.give_back(buffer),
                        Action::Left(_) | Action::Emit => {}
                    })?
                }
                Done::Ended(slot) => {
                    members[slot as usize] = false;
                    bare.close(slot);
                }
            }
        }
        while let Some((at, slot)) = due.pop_front_if(|(at, _)| *at <= now) {
            if members[slot as usize] {
                bare.send_static(slot, ping);
                due.push_back((at + interval, slot));
            }
        }
    }
}

/// How late a ping may be, so that several share a wake-up.
const TICK: Duration = Duration::from_millis(16);

enum Action {
    /// The handshake of this slot is complete.
    Joined(u32),
    Left(u32),
    Emit,
    /// Frames from this slot, as a server sends them.
    Frames(u32, Buffer),
}

fn serve(
    listener: &OwnedFd,
    connections: u32,
    mut act: impl FnMut(&mut Bare, Action),
) -> Result<(), Box<dyn std::error::Error>> {
    let mut bare = Bare::new(listener, connections + FILES_BESIDE, Armed::Receive)?;
    let answers = Answers::new();
    let mut done = Vec::new();
    loop {
        bare.turn(&mut done)?;
        for event in done.drain(..) {
            match event {
                Done::Received(slot, buffer) => on_received(&mut bare, &answers, slot, buffer, &mut act)?,
                Done::Ended(slot) => {
                    act(&mut bare, Action::Left(slot));
                    bare.close(slot);
                }
            }
        }
    }
}

fn on_received(
    bare: &mut Bare,
    answers: &Answers,
    slot: u32,
    mut buffer: Buffer,
    act: &mut impl FnMut(&mut Bare, Action),
) -> io::Result<()> {
    let incoming = read(bare.bytes(&buffer)).ok_or_else(|| io::Error::other("a message came in parts"))?;
    let answer = match incoming {
        Incoming::Frames(length) => {
            buffer.length = length;
            act(bare, Action::Frames(slot, buffer));
            return Ok(());
        }
        Incoming::Websocket => answers.websocket,
        Incoming::SocketIo => answers.socket_io,
        Incoming::Connect => answers.connect,
        Incoming::Emit => answers.emit,
    };
    bare.give_back(buffer);
    bare.send_static(slot, answer);
    match incoming {
        Incoming::Websocket | Incoming::Connect => act(bare, Action::Joined(slot)),
        Incoming::Emit => act(bare, Action::Emit),
        Incoming::SocketIo | Incoming::Frames(_) => {}
    }
    Ok(())
}
