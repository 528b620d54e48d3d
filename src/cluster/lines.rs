//! `Lines`: all streams of bytes to and from other instances over Redis, each worked by a task of its own.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Socket;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use redis::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::shard::Instance;

use super::Cluster;
use super::line::{Line, Torn, WINDOW_BYTES};
use super::neighbours::Published;
use super::outside::Stream;
use super::segment::{LineEnd, Purpose, Segment, Visitor};

/// While so much waits for Redis that events would be refused.
const LATER: Duration = Duration::from_millis(20);
/// A line that has ended is not opened again by what was under way, for so long.
const REMEMBERED: Duration = Duration::from_secs(30);
const READ_BYTES: usize = 16 << 10;
/// Where Redis has so often in a row nobody who hears of it, an instance is gone. It takes longer to come back to a Redis that
/// was away than to be asked for the first time.
const UNOPENED_MAX: u32 = 3;
const UNHEARD_MAX: u32 = 5;
/// Segments that wait for one line; its other end sends no more within its window.
const SEGMENTS_WAITING: usize = 256;

/// Who takes the connections that other instances bring. What it gives back is kept for as long as the line lives.
pub type Host = Box<dyn Fn(Visitor, OwnedFd) -> Result<Box<dyn Send>, Refused> + Send + Sync>;

/// A connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// A line as this instance knows it: the instance at its other end, its number, and at which end we are.
type Name = (u32, u64, LineEnd);

#[derive(Debug)]
enum Entry {
    Open {
        segments: mpsc::Sender<Segment>,
        run: Option<Box<str>>,
    },
    /// It has ended then.
    Ended(Instant),
}

/// The lines of this instance.
#[derive(Default)]
pub(super) struct Lines {
    entries: Mutex<HashMap<Name, Entry>>,
    host: OnceLock<Host>,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines").field("entries", &self.lock().len()).finish_non_exhaustive()
    }
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A segment has come. What is for a line that nobody knows is answered so that its other end gives it up.
    pub(super) fn take(&self, cluster: &Arc<Cluster>, body: &[u8]) {
        let Some(segment) = Segment::decode(body) else { return };
        let end = if segment.end == LineEnd::Opener { LineEnd::Owner } else { LineEnd::Opener };
        let name = (segment.from.number(), segment.line, end);
        let is_new = match self.lock().get(&name) {
            Some(Entry::Open { segments, .. }) => {
                // Beyond its window it is lost, as by Redis.
                let _ = segments.try_send(segment);
                return;
            }
            Some(Entry::Ended(_)) => false,
            None => true,
        };
        if segment.purpose == Purpose::Reset {
            return;
        }
        let opened = match segment.opens.filter(|_| is_new && end == LineEnd::Owner && segment.offset == 0) {
            Some(visitor) => self.answer(cluster, name, visitor),
            None => None,
        };
        match opened {
            Some(segments) => _ = segments.try_send(segment),
            None => _ = cluster.send_segment(segment.from, &Segment::reset(cluster.instance, end, segment.line)),
        }
    }

    /// Opens our end of a line that another instance has opened. `None`: what it brings is not taken.
    fn answer(&self, cluster: &Arc<Cluster>, name: Name, visitor: Visitor) -> Option<mpsc::Sender<Segment>> {
        let host = self.host.get()?;
        let (here, there) = Socket::pair().ok()?;
        here.set_nonblocking(true).ok()?;
        let here = UnixStream::from_std(here).ok()?;
        let kept = host(visitor, there.into()).ok()?;
        let line = Line::new(cluster.instance, LineEnd::Owner, name.1, None);
        Some(self.work(cluster, name, line, here, Some(kept)))
    }

    fn work(
        &self,
        cluster: &Arc<Cluster>,
        name: Name,
        line: Line,
        local: impl Stream + 'static,
        kept: Option<Box<dyn Send>>,
    ) -> mpsc::Sender<Segment> {
        let (segments, received) = mpsc::channel(SEGMENTS_WAITING);
        let peer = Instance::new(name.0);
        let run = cluster.neighbour(peer).map(|neighbour| neighbour.run);
        self.lock().insert(name, Entry::Open { segments: segments.clone(), run });
        let (reads, writes) = split(local);
        let (cluster, unread) = (Arc::clone(cluster), Vec::new());
        let worker = LineWorker {
            cluster,
            name,
            peer,
            line,
            received,
            reads,
            writes,
            unread,
            published: None,
            unheard: 0,
            unheard_max: UNOPENED_MAX,
        };
        tokio::task::spawn_local(async move {
            let _kept = kept;
            worker.run().await;
        });
        segments
    }

    /// Ends the lines to other starts of an instance than this.
    pub(super) fn reset_all_but(&self, instance: Instance, run: Option<&str>) {
        // Their tasks notice that nobody sends any more.
        self.lock().retain(|(peer, ..), entry| match entry {
            Entry::Open { run: known, .. } => *peer != instance.number() || (run.is_some() && known.as_deref() == run),
            Entry::Ended(_) => true,
        });
    }

    pub(super) fn forget_old(&self, now: Instant) {
        self.lock().retain(|_, entry| !matches!(entry, Entry::Ended(at) if now >= *at + REMEMBERED));
    }
}

impl Cluster {
    /// From now on connections that other instances bring over Redis are this one's.
    pub fn receive_visitors(&self, host: Host) {
        // The first stays.
        let _ = self.lines.host.set(host);
    }

    /// Opens a stream to an instance over Redis. Has to be called within the runtime of a core.
    pub fn open_line(self: &Arc<Self>, instance: Instance, visitor: Visitor) -> DuplexStream {
        let (here, there) = duplex(WINDOW_BYTES);
        let number = u64::from(self.chance()) << 32 | u64::from(self.chance());
        let line = Line::new(self.instance, LineEnd::Opener, number, Some(visitor));
        self.lines.work(self, (instance.number(), number, LineEnd::Opener), line, there, None);
        here
    }

    /// Tunnels that there may be at once.
    pub fn tunnels_max(&self) -> usize {
        self.settings.tunnels.tunnels_max
    }

    /// What instances know each other by where they dial each other.
    pub fn tunnel_secret(&self) -> Option<&[u8]> {
        self.settings.tunnels.secret.as_ref().map(|secret| secret.reveal().as_bytes())
    }

    /// Fills with random bytes.
    pub fn fill(&self, bytes: &mut [u8]) {
        self.outside.fill(bytes);
    }

    fn send_segment(&self, to: Instance, segment: &Segment) -> Option<Published> {
        self.publish_bytes(self.channel_of_instance(to), segment.encode())
    }
}

/// One end of a line at work.
struct LineWorker<S> {
    cluster: Arc<Cluster>,
    name: Name,
    peer: Instance,
    line: Line,
    received: mpsc::Receiver<Segment>,
    reads: ReadHalf<S>,
    writes: WriteHalf<S>,
    /// What came and was not written here yet.
    unread: Vec<u8>,
    /// What Redis will say of the last segment.
    published: Option<Published>,
    /// How often in a row nobody got one, and how often that may be.
    unheard: u32,
    unheard_max: u32,
}

impl<S: Stream> LineWorker<S> {
    async fn run(mut self) {
        let torn = self.work().await;
        if torn.is_err_and(|torn| torn != Torn::Reset) {
            let reset = Segment::reset(self.cluster.instance, self.name.2, self.name.1);
            drop(self.cluster.send_segment(self.peer, &reset));
        }
        self.cluster.lines.lock().insert(self.name, Entry::Ended(Instant::now()));
    }

    /// Carries bytes both ways until both have ended.
    async fn work(&mut self) -> Result<(), Torn> {
        let mut buffer = vec![0; READ_BYTES];
        let mut is_shut = false;
        loop {
            // Events go first where Redis is behind.
            let is_behind = self.cluster.backlog.is_half_full();
            while !is_behind && let Some(segment) = self.line.next(Instant::now())? {
                let published = self.cluster.send_segment(self.peer, &segment);
                if self.cluster.counts_all() {
                    self.published = published;
                    self.unheard_max = if segment.opens.is_some() { UNOPENED_MAX } else { UNHEARD_MAX };
                }
            }
            if self.line.has_received_all() && self.unread.is_empty() && !is_shut {
                is_shut = true;
                let _ = self.writes.shutdown().await;
            }
            if self.line.is_over() && self.unread.is_empty() {
                return Ok(());
            }
            let room = self.line.room().min(READ_BYTES);
            let deadline = match is_behind {
                true => Some(Instant::now() + LATER),
                false => self.line.deadline(),
            };
            tokio::select! {
                segment = self.received.recv() => {
                    let bytes = self.line.receive(segment.ok_or(Torn::Reset)?, Instant::now())?;
                    self.unread.extend(bytes);
                }
                written = self.writes.write(&self.unread), if !self.unread.is_empty() => match written {
                    Ok(count) if count > 0 => {
                        self.unread.drain(..count);
                        self.line.consume(count, Instant::now());
                    }
                    // Whoever was to read it is gone.
                    _ => return Err(Torn::Wrong),
                },
                read = self.reads.read(buffer.get_mut(..room).unwrap_or_default()), if room > 0 => match read {
                    Ok(0) => self.line.finish(),
                    Ok(count) => self.line.push(buffer.get(..count).unwrap_or_default()),
                    Err(_) => return Err(Torn::Wrong),
                },
                heard = heard_by(&mut self.published) => {
                    self.unheard = if heard == Some(0) { self.unheard + 1 } else { 0 };
                    if self.unheard >= self.unheard_max {
                        return Err(Torn::Silent);
                    }
                }
                () = sleep_until(deadline) => {}
            }
        }
    }
}

/// How many have got what was published, when Redis says so.
async fn heard_by(published: &mut Option<Published>) -> Option<i64> {
    let Some(answer) = published else { return std::future::pending().await };
    let answer = answer.await;
    *published = None;
    if let Ok(Ok(Value::Int(count))) = answer { Some(count) } else { None }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
