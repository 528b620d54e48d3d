//! The floors on io_uring: sends of the same bytes to all, and an echo.

use std::io;
use std::os::fd::OwnedFd;

use crate::bare::{Bare, Buffer, Done};
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
    let mut bare = Bare::new(listener, connections + FILES_BESIDE)?;
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
