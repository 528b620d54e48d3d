//! How an honest client's packets get onto the wire, and how it leaves.

use std::collections::VecDeque;

use sockring_protocol::engineio;
use sockring_protocol::websocket::Opcode;

use super::super::network::End;
use super::super::wire;
use super::super::world::Context;
use super::{Exchange, Honest, Leaving, Out, Phase, Style, Upgrade};

impl Honest {
    pub(super) fn write_frame(&mut self, context: &mut Context<'_>, text: &str) {
        let Some(websocket) = &self.websocket else { return };
        let bytes = frame_of(context, text);
        context.network.write(websocket.tcp, &bytes);
    }

    /// Everything that waits as frames, in one segment or each in its own.
    fn write_frames(&mut self, context: &mut Context<'_>) {
        let Some(websocket) = self.websocket.as_ref().filter(|websocket| websocket.is_open) else { return };
        let is_one_write = context.random.one_in(2);
        let mut bytes = Vec::new();
        for packet in self.outbox.drain(..) {
            bytes.extend(match packet {
                Out::Text(text) => frame_of(context, &text),
                Out::Binary(data) => wire::frame(Opcode::Binary, &data, context.random.mask()),
            });
            if !is_one_write {
                context.network.write(websocket.tcp, &std::mem::take(&mut bytes));
            }
        }
        context.network.write(websocket.tcp, &bytes);
    }

    pub(super) fn write(&mut self, context: &mut Context<'_>) {
        if self.has_left() {
            return;
        }
        if self.plan.style == Style::WebSocket || self.is_upgraded {
            return self.write_frames(context);
        }
        if self.upgrade == Upgrade::Pausing {
            if !self.get.is_busy && !self.post.is_busy {
                self.write_frame(context, "5");
                self.is_upgraded = true;
                self.know(context.record);
                self.write(context);
            }
            return;
        }
        if !self.get.is_busy && (self.phase == Phase::Open || self.sid.is_empty()) {
            let request = if self.sid.is_empty() { wire::handshake() } else { wire::poll(&self.sid) };
            send_request(&mut self.get, context, &request);
        }
        if !self.post.is_busy && !self.outbox.is_empty() {
            let body = payload(&mut self.outbox);
            let request = match context.random.below(4) {
                0 => wire::post_chunked(&self.sid, &body),
                _ => wire::post(&self.sid, &body),
            };
            send_request(&mut self.post, context, &request);
        }
    }

    pub(super) fn leave(&mut self, context: &mut Context<'_>) {
        self.forget(context.record);
        let times = &context.settings.times;
        let tcps: Vec<_> = [self.get.tcp, self.post.tcp, self.websocket.as_ref().map(|websocket| websocket.tcp)]
            .into_iter()
            .flatten()
            .collect();
        let mut seen = tcps.iter().map(|tcp| context.network.arrival(*tcp)).max().unwrap_or(context.now);
        // Who polls is looked for at all shards first, and deadlines that are far away are rounded up by 2 % at the most.
        let beats_ms = times.ping_interval_ms + times.ping_timeout_ms;
        let mut grace = beats_ms + beats_ms / 50 + 40;
        match (self.plan.leaving, self.carries_websocket()) {
            (Leaving::Silence, _) => {}
            (Leaving::ClosePacket, true) => self.write_frame(context, "1"),
            (Leaving::CloseFrame, true) => {
                let tcp = self.websocket.as_ref().expect("a WebSocket").tcp;
                let frame = wire::frame(Opcode::Close, &1000u16.to_be_bytes(), context.random.mask());
                context.network.write(tcp, &frame);
            }
            (Leaving::ClosePacket | Leaving::CloseFrame, false) if !self.post.is_busy => {
                send_request(&mut self.post, context, &wire::post(&self.sid, b"1"));
                grace = if self.post.tcp.is_some() { 200 } else { grace };
            }
            (Leaving::ClosePacket | Leaving::CloseFrame, false) => {}
            (Leaving::End(end), _) => tcps.iter().for_each(|tcp| context.network.end(*tcp, end)),
        }
        if self.carries_websocket() && self.plan.leaving != Leaving::Silence {
            seen = self.websocket.as_ref().map_or(seen, |websocket| context.network.arrival(websocket.tcp));
            grace = 50;
        }
        self.phase = Phase::Left { grace_ms: grace, seen_at: seen };
    }
}

fn frame_of(context: &mut Context<'_>, text: &str) -> Vec<u8> {
    let mask = context.random.mask();
    match context.random.below(8) {
        0 => wire::fragmented(text, mask),
        _ => wire::text_frame(text, mask),
    }
}

/// On the connection of the last request, or on a new one, which any shard may get.
fn send_request(exchange: &mut Exchange, context: &mut Context<'_>, request: &[u8]) {
    if context.random.one_in(4)
        && let Some(tcp) = exchange.tcp.take()
    {
        context.network.end(tcp, End::Fin);
        exchange.input.clear();
    }
    let tcp = *exchange.tcp.get_or_insert_with(|| context.network.connect(context.id));
    context.network.write(tcp, request);
    exchange.is_busy = true;
}

/// Everything that waits as the body of one POST.
fn payload(outbox: &mut VecDeque<Out>) -> Vec<u8> {
    let mut body = Vec::new();
    let mut encoder = engineio::PayloadEncoder::new(&mut body);
    for packet in outbox.drain(..) {
        match packet {
            Out::Text(text) => encoder.push_text(text.as_bytes()),
            Out::Binary(data) => encoder.push_binary(&data),
        }
    }
    body
}
