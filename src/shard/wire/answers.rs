//! How requests are answered: in the reference's words where it has some.

use sockring_protocol::http::{Framing, Head, KeepAlive, Method, Response, Upgrade};
use sockring_protocol::websocket;

use crate::app::Application;
use crate::shard::Shard;
use crate::shard::clients::client::ConnectionKey;
use crate::shard::limit::Limit;

use super::requests::Outcome;
use super::stage::{BodyIn, Coding, ReplyHead};

/// The reference's refusals: code and words.
const REFUSALS: [&str; 6] = [
    "Transport unknown",
    "Session ID unknown",
    "Bad handshake method",
    "Bad request",
    "Forbidden",
    "Unsupported protocol version",
];
const NO_STORE: &[(&str, &str)] = &[("Cache-Control", "no-store")];
const NO_STORE_GZIP: &[(&str, &str)] = &[("Cache-Control", "no-store"), ("Content-Encoding", "gzip")];

impl<A: Application> Shard<A> {
    /// Appends an answer to what the connection sends.
    pub(in crate::shard) fn answer(&mut self, key: ConnectionKey, response: &Response<'_>) {
        if let Some(connection) = self.connections.get_mut(key.0) {
            response.encode(connection.pending());
        }
        self.mark_dirty(key);
    }

    pub(in crate::shard) fn reply_head(&self, head: &Head<'_>) -> ReplyHead {
        let mut cors = Vec::new();
        self.hub.settings.cors.encode_headers(head.origin(), head.host(), &mut cors);
        let body = match head.method {
            Method::Head => BodyIn::LengthOnly,
            _ => BodyIn::Answer,
        };
        let coding = if head.accepts_gzip() { Coding::Gzip } else { Coding::Identity };
        ReplyHead { keep_alive: head.keep_alive, cors, body, coding }
    }

    /// A request with a body that nobody reads cannot be followed by another.
    pub(in crate::shard) fn after_answer(&self, head: &Head<'_>, reply: &ReplyHead) -> Outcome {
        match head.framing {
            Framing::None | Framing::Length(0) => Outcome::Answered(reply.keep_alive),
            _ => Outcome::Answered(KeepAlive::Close),
        }
    }

    /// A refusal in the reference's form: JSON for a request, plain text for an upgrade.
    pub(in crate::shard) fn refuse(
        &mut self,
        key: ConnectionKey,
        head: &Head<'_>,
        status: u16,
        code: u8,
        reply: &ReplyHead,
    ) -> Outcome {
        if head.upgrade == Upgrade::WebSocket {
            let words = words_of(code);
            let response = Response {
                status,
                content_type: "text/html",
                headers: &[],
                cors: b"",
                body: words.as_bytes(),
                keep_alive: KeepAlive::Close,
            };
            self.answer(key, &response);
            return Outcome::Answered(KeepAlive::Close);
        }
        let outcome = self.after_answer(head, reply);
        let keep_alive = match outcome {
            Outcome::Answered(keep_alive) => keep_alive,
            _ => KeepAlive::Close,
        };
        let reply = ReplyHead { keep_alive, cors: reply.cors.clone(), body: reply.body, coding: reply.coding };
        self.answer_engine(key, status, code, &reply);
        outcome
    }

    pub(in crate::shard) fn refuse_upgrade(&mut self, key: ConnectionKey, error: websocket::UpgradeError) -> Outcome {
        self.hub.counters.malformed += 1;
        let response = Response {
            status: error.status(),
            content_type: "text/plain; charset=UTF-8",
            headers: error.headers(),
            cors: b"",
            body: error.reason().as_bytes(),
            keep_alive: KeepAlive::Close,
        };
        self.answer(key, &response);
        Outcome::Answered(KeepAlive::Close)
    }

    /// No room for another client, or no more of them.
    pub(in crate::shard) fn answer_full(&mut self, key: ConnectionKey, reply: &ReplyHead) -> Outcome {
        if self.hub.is_draining() {
            return self.answer_busy(key, 503, "1", "the server is shutting down", reply);
        }
        self.hub.counters.hit(Limit::ClientsMax);
        self.answer_busy(key, 503, "5", "no room for another client", reply)
    }

    /// A connection that may not stay is to become a session's.
    pub(in crate::shard) fn answer_no_room(&mut self, key: ConnectionKey, reply: &ReplyHead) -> Outcome {
        self.on_full();
        self.answer_busy(key, 503, "5", "no room for another connection", reply)
    }

    pub(in crate::shard) fn answer_busy(
        &mut self,
        key: ConnectionKey,
        status: u16,
        after_s: &str,
        why: &str,
        reply: &ReplyHead,
    ) -> Outcome {
        let response = Response {
            status,
            content_type: "text/plain; charset=UTF-8",
            headers: &[("Retry-After", after_s)],
            cors: &reply.cors,
            body: why.as_bytes(),
            keep_alive: KeepAlive::Close,
        };
        self.answer(key, &response);
        Outcome::Answered(KeepAlive::Close)
    }

    pub(in crate::shard) fn answer_preflight(&mut self, key: ConnectionKey, head: &Head<'_>) -> Outcome {
        let mut answer = Vec::new();
        let wanted = head.header("access-control-request-headers");
        self.hub.settings.cors.encode_preflight(head.origin(), head.host(), wanted, &mut answer);
        if let Some(connection) = self.connections.get_mut(key.0) {
            connection.pending().extend_from_slice(&answer);
        }
        self.mark_dirty(key);
        let reply = self.reply_head(head);
        self.after_answer(head, &reply)
    }

    pub(in crate::shard) fn answer_not_found(&mut self, key: ConnectionKey, head: &Head<'_>) -> Outcome {
        let response = Response {
            status: 404,
            content_type: "text/plain; charset=UTF-8",
            headers: &[],
            cors: b"",
            body: b"not found",
            keep_alive: KeepAlive::Close,
        };
        match head.method {
            Method::Head => {
                if let Some(connection) = self.connections.get_mut(key.0) {
                    response.encode_head_only(connection.pending());
                }
                self.mark_dirty(key);
            }
            _ => self.answer(key, &response),
        }
        Outcome::Answered(KeepAlive::Close)
    }

    /// 400 and the like with the reference's JSON.
    pub(in crate::shard) fn answer_engine(&mut self, key: ConnectionKey, status: u16, code: u8, reply: &ReplyHead) {
        let words = words_of(code);
        let body = format!("{{\"code\":{code},\"message\":\"{words}\"}}");
        self.answer_with(key, status, "application/json", &[], body.as_bytes(), reply);
    }

    pub(in crate::shard) fn answer_ok(&mut self, key: ConnectionKey, reply: &ReplyHead) {
        self.answer_with(key, 200, "text/html", NO_STORE, b"ok", reply);
    }

    pub(in crate::shard) fn answer_payload(&mut self, key: ConnectionKey, payload: &[u8], reply: &ReplyHead) {
        let least = self.hub.settings.polling_gzip_bytes_min;
        let packed = match reply.coding {
            Coding::Gzip if least > 0 && payload.len() >= least => self.compressor.gzip(payload),
            _ => None,
        };
        match packed {
            Some(packed) => self.answer_with(key, 200, "text/plain; charset=UTF-8", NO_STORE_GZIP, &packed, reply),
            None => self.answer_with(key, 200, "text/plain; charset=UTF-8", NO_STORE, payload, reply),
        }
    }

    /// An answer without a body; the connection closes behind it.
    pub(in crate::shard) fn answer_empty(&mut self, key: ConnectionKey, status: u16, reply: &ReplyHead) {
        let ReplyHead { body, coding, .. } = *reply;
        let reply = ReplyHead { keep_alive: KeepAlive::Close, cors: reply.cors.clone(), body, coding };
        self.answer_with(key, status, "", &[], b"", &reply);
    }

    fn answer_with(
        &mut self,
        key: ConnectionKey,
        status: u16,
        content_type: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        reply: &ReplyHead,
    ) {
        let response =
            Response { status, content_type, headers, cors: &reply.cors, body, keep_alive: reply.keep_alive };
        if let Some(connection) = self.connections.get_mut(key.0) {
            match reply.body {
                BodyIn::Answer => response.encode(connection.pending()),
                BodyIn::LengthOnly => response.encode_head_only(connection.pending()),
            }
        }
        self.mark_dirty(key);
    }
}

/// An answer of words alone, behind which the connection closes.
pub(crate) fn refusal(status: u16, reason: &str) -> Response<'_> {
    Response {
        status,
        content_type: "text/plain; charset=UTF-8",
        headers: &[],
        cors: b"",
        body: reason.as_bytes(),
        keep_alive: KeepAlive::Close,
    }
}

/// A refusal's words.
fn words_of(code: u8) -> &'static str {
    REFUSALS.get(usize::from(code)).copied().unwrap_or_default()
}
