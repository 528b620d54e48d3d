//! The HTTP stage of a connection: request after request, one at a time, each with its body or its wait.

use sockring_protocol::Millis;
use sockring_protocol::http::{BodyState, Head, KeepAlive, RequestError};

use crate::app::Application;
use crate::shard::Shard;
use crate::shard::clients::client::ConnectionKey;
use crate::shard::clients::polling::PostOutcome;
use crate::shard::effects::{Destination, Effect};
use crate::shard::faults::UnknownSid;
use crate::shard::limit::Limit;
use crate::shard::moving::sid::Sid;

use super::answers::refusal;
use super::flush::Cut;
use super::parcel::{Luggage, Papers, Parcel};
use super::requests::Outcome;
use super::stage::{Connection, HttpStage, PostBody, ReplyHead, Request, SEND_TIMEOUT_MS, Stage};

impl<A: Application> Shard<A> {
    /// Continues with the bytes that came while a request was being answered.
    pub(in crate::shard) fn resume(&mut self, key: ConnectionKey) {
        self.on_http_bytes(key, &[]);
        self.weigh(key);
    }

    pub(in crate::shard) fn on_http_bytes(&mut self, key: ConnectionKey, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        let Stage::Http(stage) = &mut connection.stage else { return };
        let mut stage = std::mem::take(stage);
        let mut input = std::mem::take(&mut stage.input);
        input.extend_from_slice(bytes);
        let mut at = 0;
        loop {
            let rest = input.get(at..).unwrap_or_default();
            // A peer that does not read its answers gets no more of them: its bytes wait, and it is not read.
            let is_behind = self.connections.get(key.0).is_none_or(Connection::is_behind);
            if is_behind && matches!(stage.request, Request::Head) {
                break;
            }
            let next = match std::mem::take(&mut stage.request) {
                Request::Head => self.on_head_bytes(key, &mut stage, rest),
                Request::Body(body) => self.on_body_bytes(key, &mut stage, body, rest),
                Request::Held(client, reply) => {
                    // What comes behind a held GET waits, within bounds.
                    let too_much = rest.len() > self.hub.settings.head.head_bytes_max;
                    stage.request = Request::Held(client, reply);
                    if too_much {
                        self.hub.counters.hit(Limit::HeadBytesMax);
                        self.hub.on_poll_lost(client, key);
                        return self.finish(key);
                    }
                    HttpStep::Wait
                }
            };
            match next {
                HttpStep::Consumed(count) => at += count,
                HttpStep::Wait => break,
                HttpStep::Frames(count) => {
                    at += count;
                    return self.on_frames(key, input.get_mut(at..).unwrap_or_default());
                }
                HttpStep::Over => return,
            }
        }
        input.drain(..at);
        let now = self.hub.attended();
        let settings = &self.hub.settings;
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        let is_behind = connection.is_behind();
        let was_waiting = at == 0 && !stage.input_was_empty;
        connection.deadline = match &stage.request {
            Request::Head if is_behind => now + SEND_TIMEOUT_MS,
            Request::Head if input.is_empty() => now + settings.idle_timeout_ms,
            // A head that dribbles in does not move its deadline; what came behind a held GET had none.
            Request::Head if was_waiting && connection.deadline != Millis::NEVER => connection.deadline,
            Request::Head => now + settings.head_timeout_ms,
            Request::Body(post) => post.deadline,
            Request::Held(..) => Millis::NEVER,
        };
        let reads_on = !(is_behind && matches!(stage.request, Request::Head));
        stage.input_was_empty = input.is_empty();
        // One that is empty holds nothing.
        stage.input = if input.is_empty() { Vec::new() } else { input };
        connection.stage = Stage::Http(stage);
        self.arm_connection(key);
        if reads_on {
            self.effects.push(Effect::Read(key));
        }
    }

    fn on_head_bytes(&mut self, key: ConnectionKey, stage: &mut HttpStage, input: &[u8]) -> HttpStep {
        if input.is_empty() {
            return HttpStep::Wait;
        }
        let (mut head, length) = match Head::decode(input, &mut stage.scanned, &self.hub.settings.head) {
            Ok(Some(decoded)) => decoded,
            Ok(None) => return HttpStep::Wait,
            Err(error) => {
                if matches!(error, RequestError::HeadTooLarge | RequestError::TooManyHeaders) {
                    self.hub.counters.hit(Limit::HeadBytesMax);
                }
                self.hub.counters.malformed += 1;
                self.answer(key, &refusal(error.status(), error.reason()));
                self.begin_close(key);
                return HttpStep::Over;
            }
        };
        stage.scanned = 0;
        stage.requests += 1;
        let is_last = stage.requests >= self.hub.settings.requests_per_connection_max;
        if is_last {
            head.keep_alive = KeepAlive::Close;
        }
        stage.since = self.hub.now.at;
        let stays = self.may_stay(key);
        if !stays {
            head.keep_alive = KeepAlive::Close;
        }
        let outcome = self.on_request(key, &head, stage);
        if is_last && !matches!(outcome, Outcome::HandOver(_)) {
            self.hub.counters.hit(Limit::RequestsPerConnectionMax);
        }
        match outcome {
            Outcome::Answered(KeepAlive::Keep) => HttpStep::Consumed(length),
            Outcome::Answered(KeepAlive::Close) => {
                self.begin_close(key);
                HttpStep::Over
            }
            Outcome::ReadBody(client, decoder, reply) => {
                let deadline = self.hub.attended() + self.hub.settings.body_timeout_ms;
                stage.request =
                    Request::Body(Box::new(PostBody { client, decoder, body: Vec::new(), reply, deadline }));
                HttpStep::Consumed(length)
            }
            Outcome::Hold(client, reply) => {
                stage.request = Request::Held(client, reply);
                HttpStep::Consumed(length)
            }
            Outcome::Upgrade(stage) => {
                if let Some(connection) = self.connections.get_mut(key.0) {
                    connection.stage = Stage::WebSocket(stage);
                    connection.deadline = Millis::NEVER;
                }
                self.diary.note(key.0.index, |account| account.is_websocket = true);
                HttpStep::Frames(length)
            }
            Outcome::HandOver(destination) => {
                let luggage = match destination {
                    Destination::Api | Destination::Instance(_) => Luggage::None,
                    Destination::Shard(_) => Luggage::Request,
                };
                let papers = Papers { stranger: stage.stranger.take(), origin: stage.origin(), ..Papers::default() };
                // This one is counted where it is answered.
                let parcel = Parcel { bytes: input.to_vec(), requests: stage.requests - 1, luggage, papers, tls: None };
                // No send is under way here, so this one takes all answers before the connection leaves.
                self.flush_connection(key, Cut::Whole);
                self.hand_over(key, destination, parcel);
                HttpStep::Over
            }
        }
    }

    fn on_body_bytes(
        &mut self,
        key: ConnectionKey,
        stage: &mut HttpStage,
        mut post: Box<PostBody>,
        input: &[u8],
    ) -> HttpStep {
        match post.decoder.decode(input, &mut post.body) {
            Ok((_, BodyState::More)) if !self.hub.is_alive(post.client) => {
                self.hub.counters.count_unknown_sid(UnknownSid::Ended);
                self.answer_engine(key, 400, 1, &post.reply);
                self.begin_close(key);
                HttpStep::Over
            }
            Ok((count, BodyState::More)) => {
                stage.request = Request::Body(post);
                if count == 0 { HttpStep::Wait } else { HttpStep::Consumed(count) }
            }
            Ok((count, BodyState::Complete)) => {
                stage.since = self.hub.now.at;
                match self.hub.on_post_body(post.client, &post.body) {
                    PostOutcome::Accept => self.answer_ok(key, &post.reply),
                    PostOutcome::Refuse => self.answer_engine(key, 400, 3, &post.reply),
                }
                self.see_off();
                if post.reply.keep_alive == KeepAlive::Close {
                    self.begin_close(key);
                    return HttpStep::Over;
                }
                HttpStep::Consumed(count)
            }
            Err(error) => {
                if error == RequestError::BodyTooLarge {
                    let (_, limit) = self.hub.message_limit(post.client);
                    self.hub.counters.hit(limit);
                }
                self.hub.counters.malformed += 1;
                self.hub.on_post_lost(post.client);
                self.answer_empty(key, error.status(), &post.reply);
                self.begin_close(key);
                HttpStep::Over
            }
        }
    }

    /// Takes the reply that a held GET is waiting for; `None` if the connection holds none.
    pub(in crate::shard) fn release_held(&mut self, key: ConnectionKey) -> Option<ReplyHead> {
        let connection = self.connections.get_mut(key.0)?;
        let Stage::Http(stage) = &mut connection.stage else { return None };
        match std::mem::take(&mut stage.request) {
            Request::Held(_, reply) => {
                stage.since = self.hub.now.at;
                Some(reply)
            }
            other => {
                stage.request = other;
                None
            }
        }
    }

    /// The held GET of a client that moves goes after it.
    pub(in crate::shard) fn send_poll_after(&mut self, key: ConnectionKey, sid: Sid, home: u16) {
        let Some(reply) = self.release_held(key) else { return };
        let Some(Connection { stage: Stage::Http(stage), .. }) = self.connections.get_mut(key.0) else { return };
        let (bytes, requests) = (std::mem::take(&mut stage.input), stage.requests);
        let papers = Papers { origin: stage.origin(), ..Papers::default() };
        self.flush_connection(key, Cut::Whole);
        let luggage = Luggage::Poll { sid, reply: Box::new(reply) };
        let parcel = Parcel { bytes, requests, luggage, papers, tls: None };
        self.hand_over(key, Destination::Shard(home), parcel);
    }

    /// A GET arrived after the client that it polls for.
    pub(in crate::shard) fn on_poll_arrival(&mut self, key: ConnectionKey, sid: Sid, reply: ReplyHead) {
        let keep_alive = reply.keep_alive;
        let outcome = match self.hub.directory.find_here(&sid) {
            Some(client) => self.poll(key, client, reply),
            None => {
                self.hub.counters.count_unknown_sid(UnknownSid::Gone);
                self.answer_engine(key, 400, 1, &reply);
                Outcome::Answered(keep_alive)
            }
        };
        let Some(Connection { stage: Stage::Http(stage), .. }) = self.connections.get_mut(key.0) else { return };
        match outcome {
            Outcome::Hold(client, reply) => stage.request = Request::Held(client, reply),
            Outcome::Answered(KeepAlive::Close) => self.begin_close(key),
            _ => {}
        }
    }
}

/// What to do after some bytes of an HTTP connection.
enum HttpStep {
    Consumed(usize),
    /// More bytes are needed, or a request is open.
    Wait,
    /// The connection is a WebSocket behind this many bytes.
    Frames(usize),
    /// The connection is no longer in this stage.
    Over,
}
