//! `Kernel`: what a worker asks of the operating system, by token, and what comes back. `Ring` is the real one.
//!
//! Operations are started one by one, are carried out by `enter`, and come back by `complete`: in any order, but what was
//! received from one connection, and what was looked at, in the order in which it was.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::{Descriptor, SendBytes, Token};

/// How a receive treats an empty socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Complete when bytes come.
    Wait,
    /// Complete at once with `WouldBlock`.
    DontWait,
}

/// Whether a multishot operation goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Armed {
    Still,
    /// It has ended and must be armed again.
    Ended,
}

/// Whether the peer of a watched socket may still send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Open,
    /// It has ended its side, or the connection is broken: behind the last bytes there is the end.
    Ended,
}

/// Whether the socket holds more bytes than were received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    More,
    Unknown,
}

/// What a look at a socket found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peeked {
    /// Bytes that no receive has taken yet, or the end.
    Something,
    Nothing,
}

/// What the kernel has done.
#[derive(Debug)]
pub enum Completion<'b, S = OwnedFd> {
    Accepted(io::Result<S>, Armed),
    /// A cancellation of accepting has run. Accepting has ended when `Accepted` says so.
    AcceptCancelled(Hit),
    /// The watched socket has become readable, or its peer has hung up.
    Readable(Token, Armed, Peer),
    /// Bytes in a buffer of the pool, valid during the call. Empty: the peer has ended its side.
    Received(Token, &'b mut [u8], Behind),
    /// A receive ended with an error; `OutOfBuffers` means that the pool was empty.
    ReceiveFailed(Token, ReceiveError),
    /// A look has run.
    Looked(Token, Peeked),
    /// All bytes of a send went out, or it failed.
    Sent(Token, io::Result<()>),
    ShutDown(Token),
    /// A cancellation has run.
    Cancelled(Token, Hit),
    /// The descriptor is closed; a slot may be used again.
    Closed(Token),
}

/// What came of a cancellation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hit {
    /// What it was for completes now, by itself.
    Found,
    /// It had completed already, or was about to run at that moment.
    Missed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiveError {
    /// Nothing to read (`Patience::DontWait`).
    WouldBlock,
    OutOfBuffers,
    Cancelled,
    /// The connection is broken, by this errno.
    Broken(i32),
}

/// Whoever carries out a worker's operations.
pub trait Kernel {
    /// A connection that was accepted; dropping it closes it.
    type Socket;
    /// A place in the file table that holds one. Only `close` ends it.
    type Slot;
    type Listener;

    /// Arms a multishot accept. One at a time.
    fn accept(&mut self, listener: &Self::Listener);

    /// Ends accepting; `AcceptCancelled` says whether it was found.
    fn cancel_accept(&mut self);

    /// Takes all that have connected and closes the listener. Nothing may be accepting from it.
    fn drain(listener: Self::Listener) -> Vec<Self::Socket>;

    /// The address at the other end.
    fn peer_of(socket: &Self::Socket) -> Option<IpAddr>;

    /// Arms an edge-triggered multishot poll for bytes and hang-up. What is there already is an edge.
    fn watch(&mut self, descriptor: &DescriptorOf<Self>, token: Token);

    /// Receives once, into a buffer of the pool.
    fn receive(&mut self, descriptor: &DescriptorOf<Self>, token: Token, patience: Patience);

    /// Sees whether the socket holds bytes or its end, and leaves them to a receive. What receives have taken before completes
    /// before it.
    fn look(&mut self, descriptor: &DescriptorOf<Self>, token: Token);

    /// Sends all of `bytes`, which must not be empty. One send per connection at a time, else bytes may interleave.
    fn send(&mut self, descriptor: &DescriptorOf<Self>, token: Token, bytes: SendBytes);

    /// Ends our side of the connection.
    fn shut_down(&mut self, descriptor: &DescriptorOf<Self>, token: Token);

    /// Ends both sides of the connection: what is under way on it completes.
    fn abort(&mut self, descriptor: &DescriptorOf<Self>, token: Token);

    /// Cancels the watch of this token; it completes by itself. The kernel finds it by its name, and not, as it would by the
    /// descriptor, by looking at all that are armed.
    fn cancel_watch(&mut self, descriptor: &DescriptorOf<Self>, token: Token);

    /// Cancels the receive of this token; it completes by itself, perhaps with bytes.
    fn cancel_receive(&mut self, descriptor: &DescriptorOf<Self>, token: Token);

    /// Closes the descriptor. Nothing may be under way on it: an armed poll would keep the file open.
    fn close(&mut self, descriptor: DescriptorOf<Self>, token: Token);

    /// Moves a connection into the file table. Gives it back when the table is full.
    fn settle(&mut self, socket: Self::Socket) -> Result<DescriptorOf<Self>, Self::Socket>;

    /// Submits what is queued, lets deferred completions in, and waits for `want` of them, `timeout` at the longest. No system
    /// call where there is nothing of that to do.
    fn enter(&mut self, want: u32, timeout: Option<Duration>);

    /// How many completions the next `enter` brings at once, where only sends were started since completions were last taken.
    /// `None`: something else was, and what it brings should not wait for more.
    fn sends_only(&self) -> Option<u32>;

    /// Hands out up to `limit` completions in the order in which they came; says how many.
    fn complete(&mut self, limit: usize, handle: impl FnMut(Completion<'_, Self::Socket>)) -> usize;

    /// Whether completions wait to be handed out or let in, or entries to be submitted.
    fn has_work(&mut self) -> bool;
}

/// What the operations of one connection go to.
pub type DescriptorOf<K> = Descriptor<<K as Kernel>::Socket, <K as Kernel>::Slot>;
