//! A carriage: one request of a client, brought to the owner of its session, and the answer brought back; where the answer is
//! that this is a WebSocket now, both ways for as long as it lives.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sockring_protocol::http::{BodyDecoder, BodyState, Framing, Head, KeepAlive, Method, Response, ResponseHead};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::capacity::Rate;
use crate::cluster::{Stream, Visitor};
use crate::mailbox::Letter;
use crate::shard::{Instance, Parcel, Sid};

use super::client::{Client, Intake};
use super::counters::TunnelRefusal;
use super::pool::{Goal, Medium, Tunnel, TunnelFile};
use super::{Tunnels, lock};

/// What the owner has said, while the client is not told it yet.
const FROM_OWNER_BYTES_MAX: usize = 64 << 10;
/// Beyond the time of a heartbeat and its answer: who says nothing for longer is not there.
const SLACK: Duration = Duration::from_secs(5);
/// A client that is told the last is read for so long, so that it gets it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 8 << 20;
/// For a client to take the last of an answer.
const WRITTEN_WITHIN: Duration = Duration::from_secs(30);
/// What a request has to be shorter than, so that it can be brought again where an idle way turned out to be closed.
const KEPT_BYTES_MAX: usize = 64 << 10;
/// How the body begins that says that a session is not known.
const UNKNOWN: &[u8] = br#"{"code":1,"#;

/// Carries one request, and gives the connection back to its shard.
pub(super) async fn run(tunnels: Arc<Tunnels>, core: usize, instance: Instance, descriptor: OwnedFd, parcel: Parcel) {
    let Ok(client) = Client::new(descriptor, parcel) else { return };
    let shards = tunnels.shards.clone();
    let Some((descriptor, parcel)) = bring(tunnels, core, instance, client).await else { return };
    if let Some(shard) = shards.get(core) {
        shard.post(Letter::Arrival(descriptor, Box::new(parcel)));
    }
}

/// Counts something up until it is dropped.
struct GaugeGuard<'c>(&'c AtomicU64);

impl<'c> GaugeGuard<'c> {
    fn one(count: &'c AtomicU64) -> GaugeGuard<'c> {
        count.fetch_add(1, Ordering::Relaxed);
        GaugeGuard(count)
    }
}

impl Drop for GaugeGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the head says of a request.
struct CarriedRequest {
    goal: Goal,
    /// What it counts under.
    address: Option<IpAddr>,
    method: Method,
    keep_alive: KeepAlive,
    /// `None`: all of it has come.
    body: Option<BodyDecoder>,
    cors: Vec<u8>,
}

/// How far the answer has come.
enum AnswerProgress {
    Head {
        scanned: usize,
    },
    /// With what the owner does behind it.
    Body(BodyDecoder, KeepAlive),
    Whole(KeepAlive),
    /// Until the owner ends.
    ToTheEnd,
    /// From here on bytes go both ways.
    WebSocket,
}

/// What has come of a carriage.
enum CarriageOutcome {
    /// The request has its answer; the first is what becomes of the client's connection, the second what becomes of the way.
    Answered(KeepAlive, KeepAlive),
    WebSocket,
    /// The way was closed before anything came back.
    Closed,
    Refused(TunnelRefusal),
    /// One of the two is gone.
    Over,
}

/// What has come of a step.
enum CarriageStep {
    Done,
    TooLate,
}

async fn bring(
    tunnels: Arc<Tunnels>,
    core: usize,
    instance: Instance,
    mut client: Client,
) -> Option<(OwnedFd, Parcel)> {
    let mut bytes = Vec::new();
    let mut request = tunnels.read(instance, &mut client, &mut bytes)?;
    let counters = &tunnels.counters;
    let is_full = counters.requests.load(Ordering::Relaxed) + counters.websockets.load(Ordering::Relaxed)
        >= tunnels.cluster.tunnels_max() as u64;
    if is_full {
        return tunnels.refuse(client, &request, TunnelRefusal::TunnelsMax).await;
    }
    let counted = GaugeGuard::one(&counters.requests);
    let pool = tunnels.pools.get(core)?;
    let kept = (bytes.len() <= KEPT_BYTES_MAX && request.body.is_none()).then(|| bytes.clone());
    let mut used = lock(pool).take(&request.goal);
    let carriage = loop {
        let way = match used.take() {
            Some(way) => way,
            None => match tunnels.open_passage(&request.goal).await {
                Ok(way) => way,
                Err(refusal) => return tunnels.refuse(client, &request, refusal).await,
            },
        };
        let is_again = way.is_used;
        let mut carriage = Carriage::new(&tunnels, client, way, std::mem::take(&mut bytes));
        match carriage.ask(&mut request).await {
            CarriageOutcome::WebSocket => break carriage,
            CarriageOutcome::Answered(keep_alive, of_way) => {
                let (client, way) = carriage.into_parts();
                if of_way == KeepAlive::Keep {
                    lock(pool).put(&request.goal, way);
                }
                return client.go_on(keep_alive).await;
            }
            // The request was not read: who closes an idle way reads nothing more of it.
            CarriageOutcome::Closed if is_again && let Some(kept) = &kept => {
                bytes.clone_from(kept);
                client = carriage.into_parts().0;
            }
            CarriageOutcome::Closed => {
                let refusal = match tunnels.cluster.neighbour(instance) {
                    None => TunnelRefusal::Gone,
                    Some(_) => TunnelRefusal::Unreachable,
                };
                return tunnels.refuse(carriage.into_parts().0, &request, refusal).await;
            }
            CarriageOutcome::Refused(refusal) => {
                return tunnels.refuse(carriage.into_parts().0, &request, refusal).await;
            }
            CarriageOutcome::Over => return None,
        }
    };
    drop(counted);
    let _counted = GaugeGuard::one(&counters.websockets);
    carriage.pass_on().await;
    None
}

impl Tunnels {
    /// Reads the head that a connection begins with, and moves it and what has come of its body to `bytes`.
    fn read(&self, instance: Instance, client: &mut Client, bytes: &mut Vec<u8>) -> Option<CarriedRequest> {
        let input = std::mem::take(&mut client.input);
        let (head, length) = Head::decode(&input, &mut 0, &self.engine.head).ok()??;
        let sid = head.query.value("sid").and_then(|sid| Sid::parse(&sid))?;
        let address = client.papers.origin.map_or_else(|| client.peer(), |origin| origin.address);
        let mut cors = Vec::new();
        self.engine.cors.encode_headers(head.origin(), head.host(), &mut cors);
        let mut request = CarriedRequest {
            goal: Goal { instance, visitor: Visitor { shard: sid.shard(), address } },
            address: self.engine.proxies.client_address(address, head.header_values("x-forwarded-for")),
            method: head.method,
            keep_alive: head.keep_alive,
            body: match head.framing {
                Framing::None | Framing::Length(0) => None,
                // How much it may be its owner knows.
                framing => Some(BodyDecoder::new(framing, usize::MAX).ok()?),
            },
            cors,
        };
        let (head, rest) = input.split_at_checked(length)?;
        bytes.extend_from_slice(head);
        client.input = rest.to_vec();
        client.requests += 1;
        request.take_body(client, bytes);
        Some(request)
    }

    /// Answers in place of the owner.
    async fn refuse(
        &self,
        mut client: Client,
        request: &CarriedRequest,
        refusal: TunnelRefusal,
    ) -> Option<(OwnedFd, Parcel)> {
        self.counters.refuse(refusal);
        let (status, body) = match refusal {
            TunnelRefusal::Gone => {
                self.capacity.admit(Rate::UnknownSids, request.address, self.clock.at());
                (400, r#"{"code":1,"message":"Session ID unknown"}"#)
            }
            TunnelRefusal::TunnelsMax => (503, r#"{"code":3,"message":"too many requests for other instances"}"#),
            _ => (504, r#"{"code":3,"message":"the instance of this session does not answer"}"#),
        };
        let keep_alive = if request.body.is_none() { request.keep_alive } else { KeepAlive::Close };
        let response = Response {
            status,
            content_type: "application/json",
            headers: &[("Cache-Control", "no-store")],
            cors: &request.cors,
            body: body.as_bytes(),
            keep_alive,
        };
        let mut bytes = Vec::new();
        match request.method {
            Method::Head => response.encode_head_only(&mut bytes),
            _ => response.encode(&mut bytes),
        }
        client.tell(&bytes).ok()?;
        client.go_on(keep_alive).await
    }
}

impl CarriedRequest {
    /// Moves what has come of the body.
    fn take_body(&mut self, client: &mut Client, into: &mut Vec<u8>) {
        let Some(body) = &mut self.body else { return };
        let mut payload = Vec::new();
        match body.decode(&client.input, &mut payload) {
            Ok((used, state)) => {
                into.extend(client.input.drain(..used));
                if state == BodyState::Complete {
                    self.body = None;
                }
            }
            // Its owner says so.
            Err(_) => into.append(&mut client.input),
        }
    }
}

/// A client, and the way to the owner of its session.
struct Carriage<'t> {
    tunnels: &'t Tunnels,
    client: Client,
    reads: ReadHalf<Box<dyn Stream>>,
    writes: WriteHalf<Box<dyn Stream>>,
    medium: Medium,
    descriptor: Option<TunnelFile>,
    to_owner: Vec<u8>,
    from_owner: Vec<u8>,
    has_heard: bool,
    owner_has_ended: bool,
}

impl<'t> Carriage<'t> {
    fn new(tunnels: &'t Tunnels, client: Client, way: Tunnel, to_owner: Vec<u8>) -> Carriage<'t> {
        let Tunnel { stream, medium, descriptor, .. } = way;
        let (reads, writes) = split(stream);
        let (from_owner, has_heard, owner_has_ended) = Default::default();
        Carriage {
            tunnels,
            client,
            reads,
            writes,
            medium,
            descriptor,
            to_owner,
            from_owner,
            has_heard,
            owner_has_ended,
        }
    }

    fn into_parts(self) -> (Client, Tunnel) {
        let Carriage { client, reads, writes, medium, descriptor, .. } = self;
        (client, Tunnel { stream: reads.unsplit(writes), medium, descriptor, is_used: true })
    }

    /// For how long nobody has to say anything.
    fn patience(&self) -> Duration {
        let times = &self.tunnels.engine.times;
        Duration::from_millis(times.ping_interval_ms.saturating_add(times.ping_timeout_ms)) + SLACK
    }

    /// Reads and writes what can be, on either side.
    async fn step(&mut self, reading: Intake, deadline: Instant) -> io::Result<CarriageStep> {
        let Carriage { client, reads, writes, to_owner, from_owner, .. } = self;
        let counters = &self.tunnels.counters;
        // What the owner says waits there while the client does not read.
        let may_read = client.is_told() && from_owner.len() < FROM_OWNER_BYTES_MAX && !self.owner_has_ended;
        tokio::select! {
            stepped = client.step(reading) => stepped?,
            written = writes.write(to_owner), if !to_owner.is_empty() => match written? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => {
                    to_owner.drain(..count);
                    counters.sent_bytes.fetch_add(count as u64, Ordering::Relaxed);
                }
            },
            read = reads.read_buf(from_owner), if may_read => match read? {
                0 => self.owner_has_ended = true,
                count => {
                    self.has_heard = true;
                    counters.received_bytes.fetch_add(count as u64, Ordering::Relaxed);
                }
            },
            () = sleep_until(deadline) => return Ok(CarriageStep::TooLate),
        }
        Ok(CarriageStep::Done)
    }

    /// Brings the request, and the answer back.
    async fn ask(&mut self, request: &mut CarriedRequest) -> CarriageOutcome {
        match self.medium {
            Medium::Tcp => &self.tunnels.counters.by_tcp,
            Medium::Redis => &self.tunnels.counters.by_redis,
        }
        .fetch_add(1, Ordering::Relaxed);
        let mut answer = AnswerProgress::Head { scanned: 0 };
        let deadline = Instant::now() + self.patience();
        loop {
            if self.tell_answer(&mut answer, request).is_err() {
                return CarriageOutcome::Over;
            }
            match &answer {
                AnswerProgress::WebSocket if self.client.is_told() => return CarriageOutcome::WebSocket,
                AnswerProgress::Whole(of_way) if self.client.is_told() => return self.answered(*of_way, request),
                AnswerProgress::ToTheEnd if self.owner_has_ended && self.client.is_told() => {
                    return CarriageOutcome::Answered(KeepAlive::Close, KeepAlive::Close);
                }
                AnswerProgress::Head { .. } if self.owner_has_ended && !self.has_heard => {
                    return CarriageOutcome::Closed;
                }
                AnswerProgress::Head { .. } | AnswerProgress::Body(..) if self.owner_has_ended => {
                    return CarriageOutcome::Over;
                }
                // Where a request is held, the owner notices that its way is gone.
                _ if self.client.has_ended => return CarriageOutcome::Over,
                _ => {}
            }
            if self.to_owner.is_empty() {
                request.take_body(&mut self.client, &mut self.to_owner);
            }
            let reading = match self.client.input.len() {
                // More than a head of the next request is nothing that a client sends.
                length if length > self.tunnels.engine.head.head_bytes_max && request.body.is_none() => {
                    return CarriageOutcome::Over;
                }
                _ if request.body.is_some() && !self.to_owner.is_empty() => Intake::Unwanted,
                _ => Intake::Wanted,
            };
            match self.step(reading, deadline).await {
                Ok(CarriageStep::Done) => {}
                Ok(CarriageStep::TooLate) if !self.has_heard => {
                    return CarriageOutcome::Refused(TunnelRefusal::Unreachable);
                }
                Err(_) if !self.has_heard && !self.client.has_ended => return CarriageOutcome::Closed,
                Ok(CarriageStep::TooLate) | Err(_) => return CarriageOutcome::Over,
            }
        }
    }

    /// The client has the whole answer.
    fn answered(&self, of_way: KeepAlive, request: &CarriedRequest) -> CarriageOutcome {
        let is_clean = request.body.is_none() && self.to_owner.is_empty() && self.from_owner.is_empty();
        match (is_clean && of_way == KeepAlive::Keep && !self.owner_has_ended, request.keep_alive) {
            (false, _) => CarriageOutcome::Answered(KeepAlive::Close, KeepAlive::Close),
            (true, keep_alive) => CarriageOutcome::Answered(keep_alive, of_way),
        }
    }

    /// Tells the client what has come of the answer.
    fn tell_answer(&mut self, answer: &mut AnswerProgress, request: &CarriedRequest) -> io::Result<()> {
        while !self.from_owner.is_empty() {
            let used = match answer {
                AnswerProgress::Head { scanned } => {
                    let decoded = ResponseHead::decode(&self.from_owner, scanned, &self.tunnels.engine.head);
                    let Some((head, length)) = decoded.map_err(|_| io::ErrorKind::InvalidData)? else { return Ok(()) };
                    let (status, keep_alive) = (head.status, head.keep_alive);
                    let next = match (status, head.framing) {
                        (101, _) => AnswerProgress::WebSocket,
                        (100..=199, _) => AnswerProgress::Head { scanned: 0 },
                        (_, Some(Framing::None | Framing::Length(0))) => AnswerProgress::Whole(keep_alive),
                        (_, Some(_)) if request.method == Method::Head => AnswerProgress::Whole(keep_alive),
                        (_, None) => AnswerProgress::ToTheEnd,
                        (_, Some(framing)) => {
                            let body = BodyDecoder::new(framing, usize::MAX);
                            AnswerProgress::Body(body.map_err(|_| io::ErrorKind::InvalidData)?, keep_alive)
                        }
                    };
                    self.note(status, length, request);
                    *answer = next;
                    length
                }
                AnswerProgress::Body(body, keep_alive) => {
                    let decoded = body.decode(&self.from_owner, &mut Vec::new());
                    let (used, state) = decoded.map_err(|_| io::ErrorKind::InvalidData)?;
                    if state == BodyState::Complete {
                        *answer = AnswerProgress::Whole(*keep_alive);
                    }
                    used
                }
                AnswerProgress::ToTheEnd => self.from_owner.len(),
                AnswerProgress::Whole(_) | AnswerProgress::WebSocket => return Ok(()),
            };
            self.client.tell(self.from_owner.get(..used).unwrap_or_default())?;
            self.from_owner.drain(..used);
        }
        Ok(())
    }

    /// What the owner's answer says of the client.
    fn note(&mut self, status: u16, length: usize, request: &CarriedRequest) {
        let body = self.from_owner.get(length..).unwrap_or_default();
        match status {
            // It has a session.
            101 | 200..=299 => self.client.papers.stranger = None,
            400 if body.starts_with(UNKNOWN) => {
                // The owner counts it too, and either may refuse the next.
                self.tunnels.capacity.admit(Rate::UnknownSids, request.address, self.tunnels.clock.at());
            }
            _ => {}
        }
    }

    /// Passes bytes on both ways until both have ended, or one says nothing for too long.
    async fn pass_on(mut self) {
        let mut ending = self.tunnels.ending.subscribe();
        let mut ends_at = None;
        let mut is_shut = false;
        loop {
            if !self.from_owner.is_empty() && self.client.is_told() {
                if self.client.tell(&self.from_owner).is_err() {
                    return;
                }
                self.from_owner.clear();
            }
            if self.to_owner.is_empty() {
                self.to_owner.append(&mut self.client.input);
            }
            if self.client.has_ended && self.to_owner.is_empty() && !is_shut {
                is_shut = true;
                if self.writes.shutdown().await.is_err() {
                    return;
                }
            }
            if self.owner_has_ended && self.from_owner.is_empty() && self.client.is_told() {
                return self.client.linger().await;
            }
            let reading = match self.to_owner.is_empty() && !self.client.has_ended {
                true => Intake::Wanted,
                false => Intake::Unwanted,
            };
            let deadline = Instant::now() + self.patience();
            let deadline = ends_at.map_or(deadline, |at: Instant| at.min(deadline));
            tokio::select! {
                stepped = self.step(reading, deadline) => match stepped {
                    Ok(CarriageStep::Done) => {}
                    Ok(CarriageStep::TooLate) => return self.client.linger().await,
                    Err(_) => return,
                },
                over = ended(&mut ending), if ends_at.is_none() => {
                    ends_at = Some(Instant::now() + over.mul_f64(self.tunnels.chance()));
                }
            }
        }
    }
}

/// Over how long all have to end, when it is said.
async fn ended(ending: &mut watch::Receiver<Option<Duration>>) -> Duration {
    match ending.wait_for(Option::is_some).await {
        Ok(over) => over.unwrap_or_default(),
        Err(_) => std::future::pending().await,
    }
}

impl Client {
    /// What becomes of a connection whose request is answered.
    async fn go_on(mut self, keep_alive: KeepAlive) -> Option<(OwnedFd, Parcel)> {
        let deadline = Instant::now() + WRITTEN_WITHIN;
        while !self.is_told() {
            timeout_at(deadline, self.step(Intake::Unwanted)).await.ok()?.ok()?;
        }
        match keep_alive {
            KeepAlive::Keep if !self.has_ended => self.give_back(),
            _ => {
                self.linger().await;
                None
            }
        }
    }

    /// Closing with unread bytes would destroy what is on its way: ends our side, and reads until the client ends its.
    async fn linger(mut self) {
        self.end();
        let deadline = Instant::now() + LINGER;
        let mut discarded = 0;
        while !self.has_ended && discarded < LINGER_BYTES_MAX {
            match timeout_at(deadline, self.step(Intake::Wanted)).await {
                Ok(Ok(())) => discarded += std::mem::take(&mut self.input).len(),
                _ => return,
            }
        }
    }
}
