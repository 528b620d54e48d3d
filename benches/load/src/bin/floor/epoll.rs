//! Echo by epoll: what the same frames cost without io_uring; and connections that are only held.

use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};

use crate::handshake::{Answers, Incoming, read};

const EVENTS_PER_TURN: usize = 1024;
const BUFFER_BYTES: usize = 64 << 10;
const LISTENER: u64 = u64::MAX;

pub fn serve(listener: &OwnedFd) -> Result<(), Box<dyn std::error::Error>> {
    rustix::io::ioctl_fionbio(listener, true)?;
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&poll, listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let answers = Answers::new();
    let mut connections: Vec<Option<OwnedFd>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut events = Vec::with_capacity(EVENTS_PER_TURN);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        events.clear();
        match epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let data = event.data.u64();
            if data == LISTENER {
                while let Ok(accepted) = accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                    let index = free.pop().unwrap_or_else(|| {
                        connections.push(None);
                        connections.len() - 1
                    });
                    epoll::add(&poll, &accepted, EventData::new_u64(index as u64), EventFlags::IN)?;
                    connections[index] = Some(accepted);
                }
                continue;
            }
            let index = usize::try_from(data)?;
            let Some(connection) = &connections[index] else { continue };
            let length = match recv(connection, &mut buffer[..], RecvFlags::empty()) {
                Ok((_, length)) if length > 0 => length,
                Err(Errno::AGAIN | Errno::INTR) => continue,
                Ok(_) | Err(_) => {
                    connections[index] = None;
                    free.push(index);
                    continue;
                }
            };
            let answer = match read(&mut buffer[..length]).ok_or("a message came in parts")? {
                Incoming::Websocket => answers.websocket,
                Incoming::SocketIo => answers.socket_io,
                Incoming::Connect => answers.connect,
                Incoming::Emit => answers.emit,
                Incoming::Frames(length) => &buffer[..length],
            };
            // A peer that is gone shows when it is read from.
            match send(connection, answer, SendFlags::NOSIGNAL) {
                Ok(sent) if sent < answer.len() => return Err("a peer does not read".into()),
                Ok(_) | Err(_) => {}
            }
        }
    }
}
