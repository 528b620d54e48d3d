//! One connection of the API: request after request, until it ends or one comes that is for a shard.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sockring_protocol::adapter::TraceContext;
use sockring_protocol::http::{
    BodyDecoder, BodyState, CONTINUE, Framing, Head, KeepAlive, Method, RequestError, Response,
};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::shard::{Limit, Papers, Parcel};
use crate::spans::Span;

use super::answer::{ApiAnswer, ApiError};
use super::crowd::Class;
use super::crowd::{Counted, Crowd, Full};
use super::routes;
use super::stream::ApiStream;
use super::{Api, Entrance};

/// How long a peer may take to read an answer, and one that has shown no key.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
const OPEN_WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// A body that nobody wants is read up to this size, so that the connection may go on behind it.
const SKIPPED_BYTES_MAX: u64 = 64 << 10;
/// After the last answer: read on for this long, so that the peer gets it even if it is still sending a body.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 8 << 20;

/// Serves requests. Gives the connection back, with the bytes that are not used, when one comes for a shard.
pub(super) async fn serve(
    api: &Arc<Api>,
    entrance: Entrance,
    descriptor: OwnedFd,
    parcel: Parcel,
) -> Option<(OwnedFd, Parcel)> {
    let mut connection = ApiConnection::new(entrance, descriptor, parcel).ok()?;
    let crowd = api.crowd(entrance);
    let mut scanned = 0;
    loop {
        match connection.next_head(api, crowd, &mut scanned).await {
            Heard::Head => {}
            Heard::Crowded if entrance == Entrance::Api => {
                api.hits.connections.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            // A connection that waits costs a shard less than it costs us.
            Heard::Crowded => return connection.give_back(),
            Heard::Nothing => return None,
            Heard::Silence => {
                api.hits.count(Limit::IdleTimeout);
                connection.say_goodbye().await;
                return None;
            }
            // As a shard does with one that says nothing at first.
            Heard::Mute => {
                api.hits.count(Limit::HeadTimeout);
                connection.say_goodbye().await;
                return None;
            }
            Heard::TooSlow => {
                api.hits.count(Limit::HeadTimeout);
                let answer = ApiAnswer::from(ApiError::new(408, "the request head took too long"));
                return connection.finish(crowd, &answer).await;
            }
            Heard::Wrong(error) => {
                if matches!(error, RequestError::HeadTooLarge | RequestError::TooManyHeaders) {
                    api.hits.count(Limit::HeadBytesMax);
                }
                let answer = ApiAnswer::from(ApiError::new(error.status(), error.reason()));
                return connection.finish(crowd, &answer).await;
            }
        }
        match connection.answer_one(api).await {
            Served::Next => {}
            Served::ForShard => return connection.give_back(),
            Served::Over => return None,
        }
    }
}

struct ApiConnection {
    entrance: Entrance,
    stream: ApiStream,
    peer: Option<SocketAddr>,
    /// Requests that were answered on it, here and by shards.
    requests: u32,
    /// Whether a request on it had a key.
    is_known: bool,
    papers: Papers,
    /// Read and not used yet.
    input: Vec<u8>,
}

enum Heard {
    /// `input` begins with a whole head.
    Head,
    /// The peer is gone.
    Nothing,
    /// Nothing that could be answered, and there are too many others.
    Crowded,
    /// It was idle for too long.
    Silence,
    /// It has never said anything.
    Mute,
    /// A head was begun and not completed in time.
    TooSlow,
    Wrong(RequestError),
}

enum Served {
    Next,
    ForShard,
    Over,
}

/// What a request gets.
enum RequestReply<'a> {
    /// Its body was read.
    Behind(ApiAnswer, Option<Counted<'a>>),
    /// Its body, if it has one, is of no interest.
    Before(ApiAnswer, Option<Counted<'a>>),
    /// Where its body ends is not known.
    Last(ApiAnswer),
    /// The peer is gone.
    None,
}

/// What of a request's body has still to come when it has been answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyRest {
    Nothing,
    Bytes(usize),
    /// Much, or nobody knows how much.
    Unknown,
}

impl BodyRest {
    fn of(head: &Head<'_>) -> BodyRest {
        match head.framing {
            Framing::None | Framing::Length(0) => BodyRest::Nothing,
            // Who waits to be told to go on does not send it.
            Framing::Length(length) if length <= SKIPPED_BYTES_MAX && !head.expects_continue => {
                BodyRest::Bytes(usize::try_from(length).unwrap_or(usize::MAX))
            }
            _ => BodyRest::Unknown,
        }
    }
}

/// Why there is no body.
enum NoBody {
    Wrong(RequestError),
    Gone,
    TooSlow,
}

/// What came of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    Some,
    End,
    TooLate,
}

/// Whether an answer's body is written.
#[derive(Clone, Copy)]
enum BodyOf {
    Get,
    Head,
}

impl ApiConnection {
    fn new(entrance: Entrance, descriptor: OwnedFd, parcel: Parcel) -> std::io::Result<ApiConnection> {
        let mut parcel = parcel;
        let papers = parcel.take_papers();
        let (requests, tls) = (parcel.requests(), parcel.take_tls());
        let input = parcel.into_bytes();
        let stream = std::net::TcpStream::from(descriptor);
        stream.set_nonblocking(true)?;
        let stream = TcpStream::from_std(stream)?;
        let peer = stream.peer_addr().ok();
        Ok(ApiConnection {
            entrance,
            stream: ApiStream::new(stream, tls),
            peer,
            requests,
            is_known: false,
            papers,
            input,
        })
    }

    /// The connection as a shard's ring wants it: an operation on it waits. `None`: it is broken.
    fn give_back(self) -> Option<(OwnedFd, Parcel)> {
        let (descriptor, tls) = self.stream.give_back()?;
        let parcel = Parcel::between_requests(self.input, self.requests).with(self.papers).through(tls);
        Some((descriptor, parcel))
    }

    /// Waits until a whole head is there, with `scanned` bytes looked at so far.
    async fn next_head(&mut self, api: &Api, crowd: &Crowd, scanned: &mut usize) -> Heard {
        // Who has not been answered yet is as good as within a head.
        let patience_ms = if self.requests == 0 { api.engine.head_timeout_ms } else { api.engine.idle_timeout_ms };
        let mut deadline = Instant::now() + Duration::from_millis(patience_ms);
        let mut has_begun = false;
        // Who dribbles stays where it is among those who wait.
        let mut thins_out = pin!(crowd.thins_out());
        loop {
            if !self.input.is_empty() {
                match Head::decode(&self.input, scanned, &api.engine.head) {
                    Ok(Some(_)) => return Heard::Head,
                    Ok(None) if !has_begun => {
                        has_begun = true;
                        deadline = Instant::now() + Duration::from_millis(api.engine.head_timeout_ms);
                    }
                    Ok(None) => {}
                    Err(error) => return Heard::Wrong(error),
                }
            }
            // At the port of the clients a shard takes all that wait while there are many.
            if self.entrance != Entrance::Api && crowd.is_crowded() {
                return Heard::Crowded;
            }
            let read = tokio::select! {
                biased;
                read = self.read(deadline) => read,
                () = &mut thins_out => return Heard::Crowded,
            };
            match read {
                Read::Some => {}
                Read::TooLate if has_begun => return Heard::TooSlow,
                Read::TooLate if self.requests == 0 => return Heard::Mute,
                Read::TooLate => return Heard::Silence,
                Read::End => return Heard::Nothing,
            }
        }
    }

    /// Answers the request that `input` begins with.
    async fn answer_one(&mut self, api: &Arc<Api>) -> Served {
        let input = std::mem::take(&mut self.input);
        let mut scanned = 0;
        let Ok(Some((mut head, length))) = Head::decode(&input, &mut scanned, &api.engine.head) else {
            return Served::Over;
        };
        if self.entrance != Entrance::Api && routes::is_engine_request(api, &head) {
            self.input = input;
            return Served::ForShard;
        }
        self.requests += 1;
        if self.requests >= api.engine.requests_per_connection_max {
            api.hits.count(Limit::RequestsPerConnectionMax);
            head.keep_alive = KeepAlive::Close;
        }
        if self.papers.seat.as_mut().is_some_and(|seat| !seat.may_stay()) {
            head.keep_alive = KeepAlive::Close;
        }
        self.input = input.get(length..).unwrap_or_default().to_vec();
        let body_of = if head.method == Method::Head { BodyOf::Head } else { BodyOf::Get };
        let begun = Instant::now();
        let route = routes::find(api, &head, self.entrance, self.peer);
        // Of a request that was refused before it was known what it is about.
        let label = route.as_ref().map_or("none", |route| route.label());
        let span = route.as_ref().ok().and_then(|route| api.begin_request(*route, &head, begun.elapsed()));
        let (answer, left, _slot) = match self.reply(api, &head, route, span.as_ref().map(Span::context)).await {
            RequestReply::Behind(answer, slot) => (answer, BodyRest::Nothing, slot),
            RequestReply::Before(answer, slot) => (answer, BodyRest::of(&head), slot),
            RequestReply::Last(answer) => (answer, BodyRest::Unknown, None),
            RequestReply::None => {
                api.end_request(span, None);
                return Served::Over;
            }
        };
        self.note(api, label, &answer, begun.elapsed());
        api.end_request(span, Some(&answer));
        let keep_alive = if left == BodyRest::Unknown { KeepAlive::Close } else { head.keep_alive };
        let is_written = self.write(&answer, body_of, keep_alive).await;
        match (keep_alive, left) {
            (KeepAlive::Close, _) if is_written => self.linger(api.crowd(self.entrance)).await,
            (KeepAlive::Keep, BodyRest::Nothing) if is_written => return Served::Next,
            (KeepAlive::Keep, BodyRest::Bytes(count))
                if is_written && self.skip(api.crowd(self.entrance), count).await =>
            {
                return Served::Next;
            }
            _ => {}
        }
        Served::Over
    }

    /// Counts an answer, and has a line in the log for one that is no success: why, and whose request it was.
    fn note(&self, api: &Api, route: &'static str, answer: &ApiAnswer, time: Duration) {
        api.served.count(route, answer.status, time);
        if answer.status >= 400 {
            let peer = self.peer.map(|peer| peer.ip().to_canonical());
            tracing::debug!(
                route,
                status = answer.status,
                reason = answer.reason.as_deref(),
                address = peer.map(tracing::field::display),
                milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
                "a request to the API was not served"
            );
        }
    }

    /// What this request gets. Its head decides whether its body is read at all.
    async fn reply<'a>(
        &mut self,
        api: &'a Arc<Api>,
        head: &Head<'_>,
        route: Result<routes::Route<'_>, ApiError>,
        trace: Option<&TraceContext>,
    ) -> RequestReply<'a> {
        let route = match route {
            Ok(route) => route,
            Err(error) => return RequestReply::Before(error.into(), None),
        };
        let slot = match api.crowd(self.entrance).slot(route.class(), api.settings.connections_max) {
            Ok(slot) => slot,
            Err(Full) => {
                api.hits.connections.fetch_add(1, Ordering::Relaxed);
                return RequestReply::Before(ApiError::new(503, "too many requests to the API at once").into(), None);
            }
        };
        if route.class() != Class::Keyed {
            return RequestReply::Before(routes::answer(api, route, head, b"", trace).await, slot);
        }
        self.is_known = true;
        self.papers.stranger = None;
        match self.read_body(api, head).await {
            Ok(body) => RequestReply::Behind(routes::answer(api, route, head, &body, trace).await, slot),
            Err(NoBody::Wrong(error)) => {
                if error == RequestError::BodyTooLarge {
                    api.hits.bodies.fetch_add(1, Ordering::Relaxed);
                    return RequestReply::Last(ApiError::body_too_large(api.settings.body_bytes_max).into());
                }
                RequestReply::Last(ApiError::new(error.status(), error.reason()).into())
            }
            Err(NoBody::TooSlow) => {
                api.hits.count(Limit::BodyTimeout);
                RequestReply::Last(ApiError::new(408, "the request body took too long").into())
            }
            Err(NoBody::Gone) => RequestReply::None,
        }
    }

    /// Reads so many bytes and keeps nothing of them; says whether they came.
    async fn skip(&mut self, crowd: &Crowd, count: usize) -> bool {
        let deadline = Instant::now() + LINGER;
        let mut thins_out = pin!(crowd.thins_out());
        let mut left = count;
        loop {
            let skipped = left.min(self.input.len());
            self.input.drain(..skipped);
            left -= skipped;
            if left == 0 {
                return true;
            }
            let is_more = tokio::select! {
                biased;
                read = self.read(deadline) => read == Read::Some,
                () = &mut thins_out => false,
            };
            if !is_more {
                return false;
            }
        }
    }

    async fn read_body(&mut self, api: &Api, head: &Head<'_>) -> Result<Vec<u8>, NoBody> {
        let mut body = Vec::new();
        if head.framing == Framing::None {
            return Ok(body);
        }
        let mut decoder = BodyDecoder::new(head.framing, api.settings.body_bytes_max).map_err(NoBody::Wrong)?;
        let deadline = Instant::now() + Duration::from_millis(api.engine.body_timeout_ms);
        if head.expects_continue && !self.write_bytes(CONTINUE).await {
            return Err(NoBody::Gone);
        }
        loop {
            let (used, state) = decoder.decode(&self.input, &mut body).map_err(NoBody::Wrong)?;
            self.input.drain(..used);
            if state == BodyState::Complete {
                return Ok(body);
            }
            match self.read(deadline).await {
                Read::Some => {}
                Read::End => return Err(NoBody::Gone),
                Read::TooLate => return Err(NoBody::TooSlow),
            }
        }
    }

    async fn read(&mut self, deadline: Instant) -> Read {
        match timeout_at(deadline, self.stream.read(&mut self.input)).await {
            Ok(0) => Read::End,
            Ok(_) => Read::Some,
            Err(_) => Read::TooLate,
        }
    }

    async fn write(&mut self, answer: &ApiAnswer, body_of: BodyOf, keep_alive: KeepAlive) -> bool {
        let headers: Vec<_> = answer.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let response = Response {
            status: answer.status,
            content_type: answer.content_type,
            headers: &headers,
            cors: b"",
            body: &answer.body,
            keep_alive,
        };
        let mut bytes = Vec::with_capacity(answer.body.len() + 512);
        match body_of {
            BodyOf::Get => response.encode(&mut bytes),
            BodyOf::Head => response.encode_head_only(&mut bytes),
        }
        self.write_bytes(&bytes).await
    }

    async fn write_bytes(&mut self, bytes: &[u8]) -> bool {
        let timeout = if self.is_known { WRITE_TIMEOUT } else { OPEN_WRITE_TIMEOUT };
        timeout_at(Instant::now() + timeout, self.stream.write(bytes)).await.unwrap_or(false)
    }

    /// Closes without an answer.
    async fn say_goodbye(&mut self) {
        let _ = timeout_at(Instant::now() + LINGER, self.stream.say_goodbye()).await;
    }

    /// Answers for the last time.
    async fn finish(&mut self, crowd: &Crowd, answer: &ApiAnswer) -> Option<(OwnedFd, Parcel)> {
        if self.write(answer, BodyOf::Get, KeepAlive::Close).await {
            self.linger(crowd).await;
        }
        None
    }

    /// Closing with unread bytes would destroy the answer on its way: end our side, and read until the peer ends its.
    async fn linger(&mut self, crowd: &Crowd) {
        let deadline = Instant::now() + LINGER;
        if timeout_at(deadline, self.stream.end()).await.is_err() {
            return;
        }
        let mut thins_out = pin!(crowd.thins_out());
        let mut discarded = 0;
        while discarded < LINGER_BYTES_MAX && Instant::now() < deadline {
            let count = tokio::select! {
                biased;
                read = timeout_at(deadline, self.stream.discard()) => read.unwrap_or(0),
                () = &mut thins_out => 0,
            };
            if count == 0 {
                break;
            }
            discarded += count;
        }
    }
}
