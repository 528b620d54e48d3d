//! One connection of the API: request after request, until it ends or one comes that is for a shard.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::net::{Shutdown, shutdown};
use sockring_protocol::http::{
    BodyDecoder, BodyState, CONTINUE, Framing, Head, KeepAlive, Method, RequestError, Response,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::shard::{Limit, Parcel};

use super::answer::{Answer, ApiError};
use super::routes::{self, Request};
use super::{Api, Counted, Entrance};

const READ_BYTES: usize = 16 << 10;
/// How long a peer may take to read an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
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
    let mut connection = Connection::new(entrance, descriptor, parcel).ok()?;
    let Some(_counted) = Counted::below(&api.connections, api.settings.connections_max) else {
        api.hits.connections.fetch_add(1, Ordering::Relaxed);
        let answer = Answer::from(ApiError::new(503, "too many connections to the API"));
        return connection.finish(&answer).await;
    };
    let mut scanned = 0;
    loop {
        // An idle connection costs a shard less than it costs us: it goes back when there are many.
        let is_from_clients = entrance != Entrance::Api;
        if is_from_clients
            && connection.is_idle()
            && api.connections.load(Ordering::Relaxed) > api.settings.connections_max / 2
        {
            return connection.give_back();
        }
        let deadline = Instant::now() + Duration::from_millis(api.engine.idle_timeout_ms);
        match connection.next_head(api, &mut scanned, deadline).await {
            Heard::Head => {}
            Heard::Nothing => return None,
            Heard::Silence => {
                api.hits.count(Limit::IdleTimeout);
                return None;
            }
            Heard::TooSlow => {
                api.hits.count(Limit::HeadTimeout);
                let answer = Answer::from(ApiError::new(408, "the request head took too long"));
                return connection.finish(&answer).await;
            }
            Heard::Wrong(error) => {
                if matches!(error, RequestError::HeadTooLarge | RequestError::TooManyHeaders) {
                    api.hits.count(Limit::HeadBytesMax);
                }
                let answer = Answer::from(ApiError::new(error.status(), error.reason()));
                return connection.finish(&answer).await;
            }
        }
        match connection.answer_one(api).await {
            Served::Next => {}
            Served::ForShard => return connection.give_back(),
            Served::Over => return None,
        }
    }
}

struct Connection {
    entrance: Entrance,
    stream: TcpStream,
    peer: Option<SocketAddr>,
    /// Requests that were answered on it, here and by shards.
    requests: u32,
    /// Read and not used yet.
    input: Vec<u8>,
    buffer: Vec<u8>,
}

enum Heard {
    /// `input` begins with a whole head.
    Head,
    /// The peer is gone.
    Nothing,
    /// It was idle for too long.
    Silence,
    /// A head was begun and not completed in time.
    TooSlow,
    Wrong(RequestError),
}

enum Served {
    Next,
    ForShard,
    Over,
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

impl Connection {
    fn new(entrance: Entrance, descriptor: OwnedFd, parcel: Parcel) -> std::io::Result<Connection> {
        let (requests, input) = (parcel.requests(), parcel.into_bytes());
        let stream = std::net::TcpStream::from(descriptor);
        stream.set_nonblocking(true)?;
        let stream = TcpStream::from_std(stream)?;
        let peer = stream.peer_addr().ok();
        Ok(Connection { entrance, stream, peer, requests, input, buffer: Vec::with_capacity(READ_BYTES) })
    }

    /// The connection as a shard's ring wants it: an operation on it waits. `None`: it is broken.
    fn give_back(self) -> Option<(OwnedFd, Parcel)> {
        let stream = self.stream.into_std().ok()?;
        stream.set_nonblocking(false).ok()?;
        Some((stream.into(), Parcel::between_requests(self.input, self.requests)))
    }

    /// Whether requests were answered, and no other has begun.
    fn is_idle(&self) -> bool {
        self.input.is_empty()
    }

    async fn next_head(&mut self, api: &Api, scanned: &mut usize, idle_until: Instant) -> Heard {
        let mut deadline = idle_until;
        let mut has_begun = false;
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
            match self.read(deadline).await {
                Read::Some => {}
                Read::TooLate if has_begun => return Heard::TooSlow,
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
        self.input = input.get(length..).unwrap_or_default().to_vec();
        let body_of = if head.method == Method::Head { BodyOf::Head } else { BodyOf::Get };
        let body = match self.read_body(api, &head).await {
            Ok(body) => body,
            Err(NoBody::Wrong(error)) => {
                if error == RequestError::BodyTooLarge {
                    api.hits.bodies.fetch_add(1, Ordering::Relaxed);
                }
                let answer = Answer::from(ApiError::new(error.status(), error.reason()));
                self.finish(&answer).await;
                return Served::Over;
            }
            Err(NoBody::TooSlow) => {
                api.hits.count(Limit::BodyTimeout);
                let answer = Answer::from(ApiError::new(408, "the request body took too long"));
                self.finish(&answer).await;
                return Served::Over;
            }
            Err(NoBody::Gone) => return Served::Over,
        };
        let answer =
            routes::answer(api, &Request { entrance: self.entrance, head: &head, body: &body, peer: self.peer }).await;
        match head.keep_alive {
            KeepAlive::Keep => match self.write(&answer, body_of, KeepAlive::Keep).await {
                true => Served::Next,
                false => Served::Over,
            },
            KeepAlive::Close => {
                self.write(&answer, body_of, KeepAlive::Close).await;
                self.linger().await;
                Served::Over
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
        self.buffer.clear();
        let count = match timeout_at(deadline, self.stream.read_buf(&mut self.buffer)).await {
            Ok(result) => result.unwrap_or(0),
            Err(_) => return Read::TooLate,
        };
        self.input.extend_from_slice(&self.buffer);
        if count == 0 { Read::End } else { Read::Some }
    }

    async fn write(&mut self, answer: &Answer, body_of: BodyOf, keep_alive: KeepAlive) -> bool {
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
        let written = timeout_at(Instant::now() + WRITE_TIMEOUT, self.stream.write_all(bytes)).await;
        written.is_ok_and(|result| result.is_ok())
    }

    /// Answers for the last time.
    async fn finish(&mut self, answer: &Answer) -> Option<(OwnedFd, Parcel)> {
        if self.write(answer, BodyOf::Get, KeepAlive::Close).await {
            self.linger().await;
        }
        None
    }

    /// Closing with unread bytes would destroy the answer on its way: end our side, and read until the peer ends its.
    async fn linger(&mut self) {
        let _ = shutdown(&self.stream, Shutdown::Write);
        let deadline = Instant::now() + LINGER;
        let mut discarded = 0;
        while discarded < LINGER_BYTES_MAX && Instant::now() < deadline {
            self.input.clear();
            if self.read(deadline).await != Read::Some {
                break;
            }
            discarded += self.input.len();
        }
    }
}
