//! `Swarm`: thousands of connections on a few rings of one thread.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use socket2::{Domain, Socket, Type};
use sockring::ring::{Kernel, Patience, Ring, RingOptions, SendBytes};

use crate::crowd::{Act, Crowd, Handler, Role, Sessions, Speech, Todo};
use crate::flags::Flags;

/// Completions read before what they ask for is done: fewer than there are buffers, so that these do not run out.
const COMPLETIONS_PER_TURN: usize = 1024;
const BUFFERS: u16 = 2048;
const BUFFER_BYTES: usize = 2048;
/// Connections beyond those of the run that a ring has room for.
const FILES_BESIDE: usize = 64;
/// What the kernel grants a ring, less what the process has open itself.
pub const FILES_PER_RING_MAX: usize = 19_000;
/// A server that does not accept within this has not enough of a queue.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Ports of ours, below those that the kernel chooses from. It would search long for a free one among many, and longer
/// while those of former runs are in TIME_WAIT.
const PORT_FIRST: u32 = 2048;
const PORTS: u32 = 30_000;
const CONNECTIONS_PER_SOURCE: usize = 15_000;
/// Ports in a row that may be taken by others.
const PORTS_TRIED_MAX: u32 = 2000;
/// Least receive buffer that the kernel grants is a little above.
const MUTE_RECEIVE_BUFFER_BYTES: usize = 4096;

pub struct Swarm {
    rings: Vec<Ring>,
    /// Says that one of several rings has completions.
    event: OwnedFd,
    crowd: Crowd,
    todo: Todo,
    target: SocketAddr,
    sources: u32,
    next_port: u32,
}

impl Swarm {
    /// Rings with room for `count` connections.
    pub fn new(flags: &Flags, count: usize) -> Result<Swarm, Box<dyn std::error::Error>> {
        let target = flags.target()?;
        let rings = flags.rings.unwrap_or(1).max(count.div_ceil(FILES_PER_RING_MAX));
        let options = RingOptions {
            submissions: 4096,
            completions: 65_536,
            files: u32::try_from(count.div_ceil(rings) + FILES_BESIDE)?,
            tables_max: 1,
            buffers: BUFFERS,
            buffer_bytes: BUFFER_BYTES.max((flags.payload + 64).next_power_of_two().min(65_536)),
        };
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let mut made = Vec::new();
        for _ in 0..rings {
            let mut ring = Ring::new(&options)?;
            if rings > 1 {
                ring.signal(&event)?;
            }
            made.push(ring);
        }
        let secret = if flags.no_auth { None } else { flags.secret.as_deref() };
        let speech = Speech::new(flags.protocol, &target.to_string(), flags.path(), secret)?;
        let sources = flags.sources.unwrap_or(count.div_ceil(CONNECTIONS_PER_SOURCE)).clamp(1, 250);
        Ok(Swarm {
            rings: made,
            event,
            crowd: Crowd::new(u32::try_from(count)?, u16::try_from(rings)?, speech),
            todo: Todo::default(),
            target,
            sources: u32::try_from(sources)?,
            // Runs that follow each other begin at different ports.
            next_port: std::process::id().wrapping_mul(7919) % PORTS,
        })
    }

    pub fn rings(&self) -> usize {
        self.rings.len()
    }

    /// Receives that found no buffer and went again.
    pub fn starved(&self) -> u64 {
        self.crowd.starved
    }

    /// Connects and begins the handshake. The kernel of a loopback does all of the former within the call.
    pub fn open(&mut self, index: u32, role: Role) -> io::Result<()> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM.cloexec(), None)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_reuse_address(true)?;
        if role == Role::Mute {
            socket.set_recv_buffer_size(MUTE_RECEIVE_BUFFER_BYTES)?;
        }
        if self.target.ip().is_loopback() {
            self.bind(&socket)?;
        }
        socket.set_write_timeout(Some(CONNECT_TIMEOUT))?;
        socket.connect(&self.target.into())?;
        let ring = &mut self.rings[usize::from(self.crowd.get(index).ring)];
        let descriptor = ring.settle(socket.into()).map_err(|_| io::Error::other("the ring's file table is full"))?;
        self.crowd.begin(index, role, descriptor);
        self.perform(Act::Watch(index));
        if role != Role::Api {
            let upgrade = SendBytes::Shared(self.crowd.speech.upgrade.clone());
            self.perform(Act::Send(index, upgrade));
        }
        Ok(())
    }

    /// Gives the socket a source address and port, all addresses in turn.
    fn bind(&mut self, socket: &Socket) -> io::Result<()> {
        let [a, b, c, _] = Ipv4Addr::LOCALHOST.octets();
        for _ in 0..PORTS_TRIED_MAX {
            let last = u8::try_from(self.next_port % self.sources + 2).unwrap_or(1);
            let port = u16::try_from(PORT_FIRST + self.next_port / self.sources % PORTS).unwrap_or(0);
            self.next_port = self.next_port.wrapping_add(1);
            match socket.bind(&SocketAddr::from((Ipv4Addr::new(a, b, c, last), port)).into()) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                result => return result,
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    pub fn send(&mut self, index: u32, bytes: SendBytes) {
        self.perform(Act::Send(index, bytes));
    }

    /// From now on clients keep what they come back with.
    pub fn remember_sessions(&mut self, count: u32) {
        self.crowd.sessions = Sessions::of(count);
    }

    /// How many came back to the session that they had.
    pub fn recovered(&self) -> u64 {
        self.crowd.sessions.recovered
    }

    /// Closes these connections as a client does.
    pub fn leave_all(&mut self, indices: Range<u32>) {
        indices.for_each(|index| self.leave(index));
    }

    /// Closes the connection as a client does.
    fn leave(&mut self, index: u32) {
        let bytes = self.crowd.leave(index);
        self.perform(Act::Send(index, bytes));
    }

    /// Lets those read that have not.
    pub fn unmute(&mut self) -> io::Result<()> {
        let mut todo = Todo::default();
        self.crowd.unmute(&mut todo);
        self.perform_all(&mut todo)
    }

    pub fn perform_all(&mut self, todo: &mut Todo) -> io::Result<()> {
        for act in todo.0.drain(..) {
            match act {
                Act::Open(index, role) => self.open(index, role)?,
                Act::Leave(index) => self.leave(index),
                act => self.perform(act),
            }
        }
        Ok(())
    }

    /// Submits, waits for completions this long at most, and handles them.
    pub fn turn(&mut self, wait: Duration, handler: &mut impl Handler) -> io::Result<()> {
        if let [ring] = self.rings.as_mut_slice() {
            match wait.is_zero() {
                true => ring.enter(0, None),
                false => ring.enter(1, Some(wait)),
            }
            self.reap(0, handler)?;
            return Ok(());
        }
        let mut count = 0;
        for ring in 0..self.rings.len() {
            self.rings[ring].enter(0, None);
            count += self.reap(ring, handler)?;
        }
        if count == 0 && !wait.is_zero() {
            let timeout = Timespec::try_from(wait).map_err(io::Error::other)?;
            poll(&mut [PollFd::new(&self.event, PollFlags::IN)], Some(&timeout))?;
            // Nothing to read is as good.
            let _ = rustix::io::read(&self.event, &mut [0u8; 8]);
        }
        Ok(())
    }

    fn reap(&mut self, ring: usize, handler: &mut impl Handler) -> io::Result<usize> {
        let Swarm { rings, crowd, todo, .. } = self;
        let count = rings[ring].complete(COMPLETIONS_PER_TURN, |completion| {
            crowd.on_completion(completion, todo, handler);
        });
        let mut todo = std::mem::take(&mut self.todo);
        let performed = self.perform_all(&mut todo);
        self.todo = todo;
        performed.map(|()| count)
    }

    fn perform(&mut self, act: Act) {
        let (Act::Watch(index) | Act::Receive(index) | Act::Cancel(index) | Act::Close(index) | Act::Send(index, _)) =
            act
        else {
            return;
        };
        let token = self.crowd.token(index);
        let connection = &mut self.crowd.connections[index as usize];
        let ring = &mut self.rings[usize::from(connection.ring)];
        if let Act::Close(_) = act {
            if let Some(descriptor) = connection.descriptor.take() {
                ring.close(descriptor, token);
            }
            return;
        }
        let Some(descriptor) = &connection.descriptor else { return };
        match act {
            Act::Watch(_) => ring.watch(descriptor, token),
            Act::Receive(_) => ring.receive(descriptor, token, Patience::DontWait),
            Act::Cancel(_) => ring.cancel_watch(descriptor, token),
            Act::Send(_, bytes) => ring.send(descriptor, token, bytes),
            Act::Close(_) | Act::Open(..) | Act::Leave(_) => {}
        }
    }
}
