//! What an honest client makes of what it gets.

use sockring_protocol::adapter::Broadcast;
use sockring_protocol::engineio::{Data, EnginePacket, Payload};
use sockring_protocol::websocket::Opcode;

use super::super::network::{End, TcpId};
use super::super::record::without_ask;
use super::super::wire;
use super::super::world::{Call, Context};
use super::{Awaited, Exchange, Honest, Out, SocketStage, Style, Upgrade, Word};

impl Honest {
    pub(super) fn read(&mut self, context: &mut Context<'_>) {
        for is_get in [true, false] {
            let exchange = if is_get { &mut self.get } else { &mut self.post };
            let Some(tcp) = exchange.tcp else { continue };
            exchange.input.extend(context.network.read(tcp));
            if let Some(answer) = wire::take_answer(&mut exchange.input) {
                assert!(exchange.is_busy || self.has_left(), "an answer that nobody asked for: {answer:?}");
                let exchange = if is_get { &mut self.get } else { &mut self.post };
                exchange.is_busy = false;
                if answer.closes {
                    // The last request that this connection may carry.
                    context.network.end(tcp, End::Fin);
                    *exchange = Exchange::default();
                }
                self.on_answer(context, is_get, &answer);
            }
            let exchange = if is_get { &mut self.get } else { &mut self.post };
            if exchange.tcp == Some(tcp) && context.network.is_ended(tcp) {
                context.network.end(tcp, End::Fin);
                exchange.tcp = None;
                if exchange.is_busy {
                    // Who connects to a server that drains may find nobody.
                    self.dismiss(context, Word::Unsaid);
                }
            }
        }
        let Some(websocket) = &mut self.websocket else { return };
        let tcp = websocket.tcp;
        websocket.input.extend(context.network.read(tcp));
        if !websocket.is_open {
            let Some(answer) = wire::take_answer(&mut websocket.input) else {
                return self.on_websocket_end(context, tcp);
            };
            if answer.status != 101 {
                return self.on_refused(context, &answer);
            }
            websocket.is_open = true;
            if self.plan.style == Style::Upgrade {
                self.write_frame(context, "2probe");
            }
        }
        let Some(websocket) = &mut self.websocket else { return };
        for (opcode, data) in wire::take_frames(&mut websocket.input) {
            self.on_frame(context, opcode, &data);
        }
        self.on_websocket_end(context, tcp);
    }

    fn on_websocket_end(&mut self, context: &mut Context<'_>, tcp: TcpId) {
        if !context.network.is_ended(tcp) {
            return;
        }
        context.network.end(tcp, End::Fin);
        self.websocket = None;
        match self.plan.style == Style::Upgrade && !self.is_upgraded {
            true => self.drop_probe(context),
            false => self.dismiss(context, Word::Unsaid),
        }
    }

    /// A server that drains closes a probe, and says by polling how the session ends. One that reads late of a probe that was
    /// given up may read of the next one before.
    fn drop_probe(&mut self, context: &mut Context<'_>) {
        let overlaps = self.has_given_up_probe && context.record.late_ms > 0;
        assert!(
            self.has_left() || overlaps || context.record.draining_since.is_some(),
            "the server ended an honest probe"
        );
        self.upgrade = Upgrade::Idle;
        self.upgrade_at = u64::MAX;
    }

    /// An answer that a server gives only when it drains.
    fn on_refused(&mut self, context: &mut Context<'_>, answer: &wire::Answer) {
        assert!(context.record.draining_since.is_some(), "an honest request was refused: {answer:?}");
        match self.sid.is_empty() {
            true => {
                assert_eq!(answer.status, 503, "{answer:?}");
                self.dismiss(context, Word::Unsaid);
            }
            // It hears by its GET what became of the session.
            false => {
                assert_eq!(answer.status, 400, "{answer:?}");
                self.outbox.clear();
            }
        }
    }

    fn on_answer(&mut self, context: &mut Context<'_>, is_get: bool, answer: &wire::Answer) {
        if self.has_left() {
            return;
        }
        if answer.status != 200 {
            assert!(self.sid.is_empty() || !is_get || self.is_upgraded, "a GET was refused: {answer:?}");
            return self.on_refused(context, answer);
        }
        if !is_get {
            return assert_eq!(answer.body, "ok");
        }
        if self.sid.is_empty() {
            return self.on_open(context, wire::sid_in(&answer.body).expect("an open packet"));
        }
        for packet in Payload::decode(&answer.body, usize::MAX) {
            self.on_packet(context, packet.expect("the server encodes packets"));
        }
    }

    fn on_frame(&mut self, context: &mut Context<'_>, opcode: Opcode, data: &[u8]) {
        match opcode {
            Opcode::Text => {
                let text = std::str::from_utf8(data).expect("text frames are UTF-8");
                if self.sid.is_empty() {
                    return self.on_open(context, wire::sid_in(text).expect("an open packet"));
                }
                let packet = EnginePacket::decode(text).expect("the server encodes packets");
                if self.plan.style == Style::Upgrade && !self.is_upgraded {
                    assert_eq!(packet, EnginePacket::Pong("probe"), "a probe gets its answer only");
                    self.upgrade = Upgrade::Pausing;
                    return;
                }
                self.on_packet(context, packet);
            }
            Opcode::Binary => self.on_packet(context, EnginePacket::Message(Data::Binary(data.into()))),
            Opcode::Close if self.plan.style == Style::Upgrade && !self.is_upgraded => self.drop_probe(context),
            Opcode::Close => self.dismiss(context, Word::Said),
            other => panic!("a frame that nobody asked for: {other:?}"),
        }
    }

    fn on_packet(&mut self, context: &mut Context<'_>, packet: EnginePacket<'_>) {
        if self.carries_websocket() && !self.sid.is_empty() {
            self.has_heard_upgraded = self.is_upgraded;
            self.know(context.record);
        }
        match packet {
            EnginePacket::Ping(_) => self.outbox.push_back(Out::Text("3".to_owned())),
            EnginePacket::Noop => {}
            EnginePacket::Close => self.dismiss(context, Word::Said),
            EnginePacket::Message(Data::Text(text)) => self.on_message(context, text),
            EnginePacket::Message(Data::Binary(data)) => {
                let (_, missing, attachments) = self.incoming.as_mut().expect("attachments follow a header");
                attachments.push(data.into_owned());
                *missing -= 1;
                if *missing == 0 {
                    let (text, _, attachments) = self.incoming.take().expect("just looked at");
                    self.on_socket_packet(context, &text, &attachments);
                }
            }
            other => panic!("a packet that a server does not send here: {other:?}"),
        }
    }

    fn on_message(&mut self, context: &mut Context<'_>, text: &str) {
        assert!(self.incoming.is_none(), "attachments are missing before {text}");
        if let ("5" | "6", rest) = text.split_at(1) {
            let (count, _) = rest.split_once('-').expect("a count of attachments");
            self.incoming = Some((text.to_owned(), count.parse().expect("a number"), Vec::new()));
            return;
        }
        self.on_socket_packet(context, text, &[]);
    }

    fn on_socket_packet(&mut self, context: &mut Context<'_>, text: &str, attachments: &[Vec<u8>]) {
        let Some(text) = wire::without_recovery(text) else { return };
        let text = text.as_str();
        let namespace = match text.find('/') {
            Some(at) if at <= 3 => text[at..].split(',').next().unwrap_or_default(),
            _ => "/",
        };
        if text.starts_with('4') {
            assert!(text.contains("no user"), "an honest CONNECT was refused: {text}");
            assert!(self.is_answered(&Awaited::Refusal(namespace.to_owned())), "refused twice: {text}");
            return;
        }
        if self.has_left() {
            return;
        }
        if let Some(ack) = ack_in(text) {
            assert!(self.is_answered(&Awaited::Ack(ack)), "answered twice, or not asked for: {text}");
        }
        if text.starts_with('0') {
            assert!(self.is_answered(&Awaited::Connect(namespace.to_owned())), "connected without CONNECT: {text}");
            assert!(!self.is_answered(&Awaited::Refusal(namespace.to_owned())), "connected before it was refused");
            let sid = wire::sid_in(text).expect("a CONNECT reply has a sid");
            if self.plan.is_expected {
                self.expect_emit(context, namespace);
            }
            if let Some((old, state)) = self.sockets.insert(namespace.to_owned(), (sid, SocketStage::Connected)) {
                assert_eq!(state, SocketStage::Reconnecting, "connected twice");
                let waiting = context.record.waiting_since(&old);
                assert!(waiting.is_none(), "lost on disconnecting: {waiting:?}");
            }
        }
        let Some((sid, state)) = self.sockets.get_mut(namespace) else { panic!("{text} before CONNECT") };
        if text.starts_with('1') {
            *state = SocketStage::Over;
        }
        let (text, ask) = without_ask(text);
        context.record.on_received(sid, &text, attachments);
        if let (Some(ack), SocketStage::Connected) = (ask, *state) {
            let answer =
                format!("3{}{ack}[\"{sid}\"]", if namespace == "/" { String::new() } else { format!("{namespace},") });
            self.acknowledge(context, answer);
        }
        self.know(context.record);
    }

    /// Once, twice or not at all. Not while what comes behind the end of a socket would end the session.
    fn acknowledge(&mut self, context: &mut Context<'_>, answer: String) {
        if self.is_ending(context.now) {
            return;
        }
        for _ in 0..context.random.pick(&[0, 1, 1, 1, 2]) {
            self.say(answer.clone());
        }
    }

    /// A backend that was told by this client emits to its user.
    fn expect_emit(&self, context: &mut Context<'_>, namespace: &str) {
        let number = context.record.next_emit();
        let user = self.plan.sockets.iter().find(|(name, _)| *name == namespace).map(|(_, user)| user.as_str());
        let rooms = vec![format!("user:{}", user.unwrap_or_default()).into()];
        let args = format!("[\"news\",{number}]");
        let broadcast = Broadcast::new(namespace, rooms, args.as_bytes().into());
        // Each such backend waits for nobody.
        context.calls.push((u64::MAX - number, Call::Emit(vec![broadcast])));
    }
}

/// The number of an ACK without attachments.
fn ack_in(text: &str) -> Option<u64> {
    let rest = text.strip_prefix('3')?;
    let rest = rest.split_once(',').filter(|(namespace, _)| namespace.starts_with('/')).map_or(rest, |(_, rest)| rest);
    rest.split('[').next()?.parse().ok()
}
