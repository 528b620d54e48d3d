//! `Pipe`: one TCP connection on virtual time: bytes that arrive late, in pieces, not for a while, or not at all.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::random::Random;

/// Milliseconds that a write takes to arrive, one of these each time.
pub type Delays = &'static [u64];

/// Reads that are remembered with their times: how many bytes had been read by then.
type Log = Vec<(Instant, u64)>;

#[derive(Debug)]
struct Direction {
    random: Random,
    delays: Delays,
    queue: VecDeque<(Instant, Vec<u8>)>,
    last_at: Instant,
    written: u64,
    read: u64,
    log: Log,
    /// The writer has gone; what it wrote still comes.
    is_ended: bool,
    /// The reader waits for a first byte.
    waker: Option<Waker>,
}

impl Direction {
    fn new(random: Random, delays: Delays) -> Direction {
        let queue = VecDeque::new();
        let last_at = Instant::now();
        Direction { random, delays, queue, last_at, written: 0, read: 0, log: Vec::new(), is_ended: false, waker: None }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.written += bytes.len() as u64;
        let at = Instant::now() + Duration::from_millis(self.random.pick(self.delays));
        let cut = if self.random.one_in(4) { self.random.index(bytes.len().max(1)) } else { 0 };
        let (first, second) = bytes.split_at(cut);
        let later = Duration::from_millis(self.random.pick(self.delays));
        for (part, at) in [(first, at), (second, if cut > 0 { at + later } else { at })] {
            if !part.is_empty() {
                self.last_at = self.last_at.max(at);
                self.queue.push_back((self.last_at, part.to_vec()));
            }
        }
        self.wake();
    }

    fn wake(&mut self) {
        self.waker.take().into_iter().for_each(Waker::wake);
    }
}

#[derive(Debug)]
struct State {
    /// From the one who dialled, and to it.
    directions: [Direction; 2],
    is_cut: bool,
    born_at: Instant,
    /// When who dialled has given it up.
    given_up_at: Option<Instant>,
    /// How long nothing came, all in all.
    held: Duration,
    frozen_until: Option<Instant>,
}

/// A connection, as the world sees it.
#[derive(Clone, Debug)]
pub struct Pipe(Arc<Mutex<State>>);

impl Pipe {
    /// The connection, the end of who dialled, and the other one.
    pub fn new(random: &mut Random, delays: Delays) -> (Pipe, End, End) {
        let directions = [(); 2].map(|()| Direction::new(random.fork(), delays));
        let pipe = Pipe(Arc::new(Mutex::new(State {
            directions,
            is_cut: false,
            born_at: Instant::now(),
            given_up_at: None,
            held: Duration::ZERO,
            frozen_until: None,
        })));
        let ends = [0, 1].map(|side| End { pipe: pipe.clone(), side, timer: None });
        let [client, server] = ends;
        (pipe, client, server)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is under way is lost, and both ends hear of it.
    pub fn cut(&self) {
        let mut state = self.lock();
        state.is_cut = true;
        for direction in &mut state.directions {
            direction.queue.clear();
            direction.wake();
        }
    }

    pub fn is_cut(&self) -> bool {
        self.lock().is_cut
    }

    /// Nothing arrives until then.
    pub fn freeze(&self, until: Instant) {
        let mut state = self.lock();
        state.held += until - Instant::now();
        state.frozen_until = Some(state.frozen_until.map_or(until, |known| known.max(until)));
    }

    /// Writes for who dialled.
    pub fn ask(&self, bytes: &[u8]) {
        self.lock().directions[0].write(bytes);
    }

    /// Writes to who dialled.
    pub fn answer(&self, bytes: &[u8]) {
        let mut state = self.lock();
        if !state.is_cut {
            state.directions[1].write(bytes);
        }
    }

    /// The other end answers nothing for so long.
    pub fn hold(&self, time: Duration) {
        self.lock().held += time;
    }

    /// When who dialled has given up a connection that had lived for a while, and on which nothing was late for so long.
    pub fn given_up_before(&self, late: Duration) -> Option<Instant> {
        let state = self.lock();
        let lived = state.given_up_at.map(|at| at - state.born_at);
        let is_wrong = !state.is_cut && state.held < late && lived.is_some_and(|lived| lived > Duration::from_secs(3));
        state.given_up_at.filter(|_| is_wrong)
    }

    /// Bytes that were written to who dialled.
    pub fn written(&self) -> u64 {
        self.lock().directions[1].written
    }

    /// When who dialled had read so many bytes; `None`: it has not.
    pub fn read_at(&self, bytes: u64) -> Option<Instant> {
        let state = self.lock();
        let log = &state.directions[1].log;
        log.get(log.partition_point(|(_, read)| *read < bytes)).map(|(at, _)| *at)
    }
}

/// One end of a connection.
#[derive(Debug)]
pub struct End {
    pipe: Pipe,
    side: usize,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Drop for End {
    fn drop(&mut self) {
        let mut state = self.pipe.lock();
        if self.side == 0 {
            state.given_up_at = Some(Instant::now());
        }
        state.directions[self.side].is_ended = true;
        state.directions[self.side].wake();
    }
}

fn cut_off() -> io::Error {
    io::Error::from(io::ErrorKind::ConnectionReset)
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut state = this.pipe.lock();
        if state.is_cut {
            return Poll::Ready(Err(cut_off()));
        }
        let (now, frozen_until) = (Instant::now(), state.frozen_until);
        let direction = &mut state.directions[1 - this.side];
        direction.waker = Some(context.waker().clone());
        let Some((at, bytes)) = direction.queue.front_mut() else {
            return if direction.is_ended { Poll::Ready(Ok(())) } else { Poll::Pending };
        };
        let at = frozen_until.map_or(*at, |until| until.max(*at));
        if at > now {
            let timer = this.timer.insert(Box::pin(sleep_until(at)));
            return match timer.as_mut().poll(context) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(()) => {
                    context.waker().wake_by_ref();
                    Poll::Pending
                }
            };
        }
        let length = bytes.len().min(buffer.remaining());
        buffer.put_slice(&bytes[..length]);
        bytes.drain(..length);
        if bytes.is_empty() {
            direction.queue.pop_front();
        }
        direction.read += length as u64;
        direction.log.push((now, direction.read));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.pipe.lock();
        if state.is_cut {
            return Poll::Ready(Err(cut_off()));
        }
        state.directions[self.side].write(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
