//! Socket.IO: what each packet from a client does, and how an application's actions are performed.

use std::sync::Arc;

use sockring_protocol::Millis;
use sockring_protocol::adapter::Delivery;
use sockring_protocol::engineio::Data;
use sockring_protocol::socketio::{self, AckId, Args, Assembler, AssemblyStep, SocketPacket};

use crate::app::{
    Action, Actions, Admission, Application, ConnectRequest, Layer, ReceivedEvent, Refusal, RefusalReason, SocketInfo,
};
use crate::shard::faults::{Forbidden, PacketFault};
use crate::shard::hub::Hub;
use crate::shard::limit::Limit;
use crate::shard::recovery::ended::Parting;
use crate::shard::recovery::returning::Answered;
use crate::shard::rooms::sockets::{Links, NamespaceId, NonMaxRoom, Socket, SocketStage};
use crate::shard::rooms::table::{Member, USER_PREFIX};

use super::client::{Cause, ClientKey, CloseReason, Farewell, FirstRequest, Phase};
use super::deciding::Decided;
use super::encode::{self, Carrier};
use super::telling::Passage;

/// A handshake's token up to this length is kept for CONNECTs to other namespaces.
const AUTHORIZATION_BYTES_KEPT: usize = 4 << 10;

impl<A: Application> Hub<A> {
    /// One message of the application's layer.
    pub(crate) fn on_message(&mut self, key: ClientKey, data: Data<'_>) {
        self.counters.messages_in += 1;
        self.catch_up(key.0.index);
        if A::LAYER != Layer::SocketIo {
            let mut actions = std::mem::take(&mut self.actions);
            self.app.message(data, &mut actions);
            return self.perform(key, None, actions);
        }
        let done = match &data {
            Data::Text(text) => self.on_socketio_text(key, text),
            Data::Binary(bytes) => self.on_attachment(key, bytes),
        };
        if let Err(cause) = done {
            self.drop_client(key, cause, None, Farewell::NextPoll);
        }
    }

    fn on_socketio_text(&mut self, key: ClientKey, text: &str) -> Result<(), Cause> {
        let Some(client) = self.directory.get(key) else { return Ok(()) };
        if client.begun.assembler.is_some() {
            return Err(self.fault(PacketFault::Session(Forbidden::TextForAttachment)));
        }
        let packet = SocketPacket::decode(text, &self.settings.packet).map_err(|error| {
            if error == socketio::SocketPacketError::TooManyAttachments {
                self.counters.hit(Limit::AttachmentsMax);
            }
            self.fault(PacketFault::SocketIo(error))
        })?;
        match packet {
            SocketPacket::Connect { namespace, payload } => self.on_connect(key, namespace, payload),
            SocketPacket::Disconnect { namespace } => {
                self.take_back_connect(key, namespace);
                // Disconnecting from where one is not is harmless: both sides may do so at once.
                if let Some(place) = self.connected_place(key, namespace) {
                    self.drop_socket(key, place, Parting::Disconnected);
                }
                Ok(())
            }
            SocketPacket::Event { namespace, ack, args } => {
                let place = self.place_in(key, namespace)?;
                self.on_event(key, place, &ReceivedEvent { args, ack, attachments: &[] });
                Ok(())
            }
            SocketPacket::Ack { namespace, ack, args } => {
                let place = self.place_in(key, namespace)?;
                self.on_ack(key, place, ack, &args, &[]);
                Ok(())
            }
            SocketPacket::BinaryEvent { namespace, attachments, .. }
            | SocketPacket::BinaryAck { namespace, attachments, .. } => {
                self.place_in(key, namespace)?;
                self.begin_assembly(key, text, attachments)
            }
        }
    }

    fn begin_assembly(&mut self, key: ClientKey, header: &str, attachments: u8) -> Result<(), Cause> {
        let assembler = Assembler::begin(header, attachments, self.settings.payload_bytes_max).map_err(|_| {
            self.counters.hit(Limit::PayloadBytesMax);
            CloseReason::PayloadTooBig
        })?;
        if !self.take_input(assembler.held_bytes()) {
            return Err(self.input_is_full());
        }
        let attended = self.attended();
        if let Some(client) = self.directory.get_mut(key) {
            let by = attended + self.settings.message_timeout_ms;
            client.begun.change(|begun| (begun.assembler, begun.half_open_by) = (Some(Box::new(assembler)), by));
        }
        self.arm(key);
        Ok(())
    }

    fn input_is_full(&mut self) -> Cause {
        self.counters.hit(Limit::InputBytesMax);
        CloseReason::InputFull.into()
    }

    fn on_attachment(&mut self, key: ClientKey, bytes: &[u8]) -> Result<(), Cause> {
        let Some(client) = self.directory.get_mut(key) else { return Ok(()) };
        let Some(mut assembler) = client.begun.take_assembler() else {
            return Err(self.fault(PacketFault::Session(Forbidden::Unannounced)));
        };
        let held = assembler.held_bytes();
        let progress = assembler.push(bytes);
        if progress == Ok(AssemblyStep::More) && self.take_input(bytes.len()) {
            if let Some(client) = self.directory.get_mut(key) {
                client.begun.change(|begun| begun.assembler = Some(assembler));
            }
            return Ok(());
        }
        self.give_back_input(held);
        match progress {
            Ok(AssemblyStep::Complete) => {
                if let Some(client) = self.directory.get_mut(key) {
                    client.begun.change(|begun| begun.half_open_by = Millis::NEVER);
                }
                self.on_assembled(key, &assembler)
            }
            Ok(AssemblyStep::More) => Err(self.input_is_full()),
            Err(_) => {
                self.counters.hit(Limit::PayloadBytesMax);
                Err(CloseReason::PayloadTooBig.into())
            }
        }
    }

    fn on_assembled(&mut self, key: ClientKey, assembler: &Assembler) -> Result<(), Cause> {
        let packet = SocketPacket::decode(assembler.header(), &self.settings.packet)
            .map_err(|error| self.fault(PacketFault::SocketIo(error)))?;
        match packet {
            SocketPacket::BinaryEvent { namespace, ack, args, .. } => {
                let place = self.place_in(key, namespace)?;
                let attachments = if args.has_placeholders() { assembler.attachments() } else { &[] };
                self.on_event(key, place, &ReceivedEvent { args, ack, attachments });
            }
            SocketPacket::BinaryAck { namespace, ack, args, .. } => {
                let place = self.place_in(key, namespace)?;
                let attachments = if args.has_placeholders() { assembler.attachments() } else { &[] };
                self.on_ack(key, place, ack, &args, attachments);
            }
            _ => {}
        }
        Ok(())
    }

    /// Where a client's socket of a namespace is, once it knows that it has one.
    fn place_in(&mut self, key: ClientKey, namespace: &str) -> Result<u16, Cause> {
        let place = self.connected_place(key, namespace);
        place.ok_or_else(|| self.fault(PacketFault::Session(Forbidden::NotConnected)))
    }

    fn connected_place(&self, key: ClientKey, namespace: &str) -> Option<u16> {
        let id = self.settings.namespace(namespace)?;
        let client = self.directory.get(key)?;
        let place = client.sockets.place_in(id)?;
        let is_told = client.sockets.get(place).is_some_and(|socket| socket.stage == SocketStage::Connected);
        is_told.then_some(place)
    }

    /// Admission: what a CONNECT asks for is granted or refused. Membership comes after it, in `join_namespace`; between the
    /// two the client may move to its home.
    pub(crate) fn on_connect(&mut self, key: ClientKey, namespace: &str, payload: Option<&str>) -> Result<(), Cause> {
        let Some(id) = self.settings.namespace(namespace) else {
            self.refuse(key, namespace, &refusal("Invalid namespace", RefusalReason::UnknownNamespace));
            return Ok(());
        };
        if payload.is_some_and(|payload| payload.len() > self.settings.connect_bytes_max) {
            self.counters.hit(Limit::ConnectBytesMax);
            return Err(CloseReason::PayloadTooBig.into());
        }
        let Some(client) = self.directory.get_mut(key) else { return Ok(()) };
        if client.sockets.place_in(id).is_some() {
            return Err(self.fault(PacketFault::Session(Forbidden::AlreadyConnected)));
        }
        if client.sockets.len() + self.waiting.of(key) >= self.settings.namespaces_per_client_max {
            self.counters.hit(Limit::NamespacesPerClientMax);
            self.refuse(key, namespace, &refusal("Too many namespaces", RefusalReason::TooMany));
            return Ok(());
        }
        if self.draining.is_some() {
            // It is to connect elsewhere, and does so when its session ends.
            return Err(CloseReason::Shutdown.into());
        }
        let address = client.begun.handshake.as_deref().and_then(|handshake| handshake.address);
        if self.is_refused_by_rate(address) {
            self.refuse(key, namespace, &refusal("Authentication failed", RefusalReason::TooMany));
            return Ok(());
        }
        self.admit_in_turn(key, id, payload)
    }

    /// Asks the application about a CONNECT, which has to be answered by `until` if it was asked about before.
    pub(crate) fn decide(
        &mut self,
        key: ClientKey,
        id: NamespaceId,
        payload: Option<&str>,
        until: Option<Millis>,
    ) -> Decided {
        let settings = Arc::clone(&self.settings);
        let namespace = settings.namespace_name(id);
        let handshake = self.directory.get_mut(key).and_then(|client| client.begun.take_handshake());
        let request = ConnectRequest {
            namespace,
            payload,
            authorization: handshake.as_deref().and_then(|handshake| handshake.authorization.as_deref()),
            now_unix_ms: self.now.unix_ms,
        };
        let refused = match self.app.admit(&request) {
            Ok(admission) => match self.home_elsewhere(key, &admission) {
                Some(home) => {
                    if let Some(client) = self.directory.get_mut(key) {
                        client.begun.set_handshake(handshake);
                    }
                    self.emigrate(key, home, id, admission, payload);
                    return Decided::Now;
                }
                None => {
                    self.join_namespace(key, id, &admission, &request);
                    None
                }
            },
            Err(refusal) => Some(refusal),
        };
        self.keep_handshake(key, handshake);
        if let Some(refusal) = refused {
            let until = until.unwrap_or(self.now.at + refusal.wait_ms);
            if refusal.wait_ms > 0 && until > self.now.at {
                return Decided::Later(until);
            }
            self.refuse(key, namespace, &refusal);
        }
        Decided::Now
    }

    /// What a handshake said is kept until a CONNECT was accepted, and its token beyond that only where there are other
    /// namespaces, and up to a length.
    pub(crate) fn keep_handshake(&mut self, key: ClientKey, handshake: Option<Box<FirstRequest>>) {
        let has_others = self.settings.namespaces.len() > 1;
        let is_kept = |handshake: &FirstRequest| {
            let length = handshake.authorization.as_deref().map_or(0, str::len);
            has_others && (1..=AUTHORIZATION_BYTES_KEPT).contains(&length)
        };
        if let Some(client) = self.directory.get_mut(key) {
            let is_claimed = client.phase != Phase::Unclaimed;
            let handshake = handshake.filter(|handshake| !is_claimed || is_kept(handshake));
            client.begun.set_handshake(handshake);
        }
    }

    /// Membership: the socket exists, is in its rooms, and is told so; in this order, so that no emit can fall between.
    pub(crate) fn join_namespace(
        &mut self,
        key: ClientKey,
        id: NamespaceId,
        admission: &Admission,
        request: &ConnectRequest<'_>,
    ) {
        self.end_older(id, request, admission.user.as_deref(), None);
        let user_room = admission.user.as_ref().map(|user| [USER_PREFIX, user].concat());
        let members =
            |name: &String| self.membership.find(id, name).map_or(0, |room| self.membership.members(room).len());
        if user_room.as_ref().map_or(0, members) >= self.settings.user_connections_max {
            self.counters.hit(Limit::UserConnectionsMax);
            let user = admission.user.clone();
            let refusal = Refusal { user, ..refusal("Too many connections", RefusalReason::TooMany) };
            return self.refuse(key, request.namespace, &refusal);
        }
        let (random, attended) = (self.random.take(), self.attended());
        let Some(client) = self.directory.get_mut(key) else { return };
        if client.phase == Phase::Unclaimed {
            let left_ms = client.begun.half_open_by - attended;
            self.counters.handshakes.observe(self.settings.connect_timeout_ms.saturating_sub(left_ms));
        }
        client.phase = Phase::Claimed;
        client.begun.change(|begun| (begun.refusals, begun.half_open_by) = (0, Millis::NEVER));
        let stage = SocketStage::Joining;
        self.counters.connects_accepted += 1;
        let place = client.sockets.insert(Socket { random, namespace: id, stage, user: None, links: Links::None });
        if let Some(at) = admission.ends_at_unix_ms {
            let at = self.now.at + at.saturating_sub(self.now.unix_ms);
            client.begun.change(|begun| begun.expiries.set(place, at));
        }
        if self.diary.is_kept() {
            self.tell_connect(key, request.namespace, admission.user.as_deref());
        }
        if let Some(name) = user_room {
            let room = self.enter(key, place, &name);
            let socket = self.directory.socket_mut(key, place);
            if let (Some(socket), Some(room)) = (socket, room) {
                socket.user = NonMaxRoom::new(room);
            }
        }
        self.resume_name(key, place, request, admission.user.as_deref());
        self.subscribe_sid(key, place);
        self.arm(key);
        if !self.session_waits(key, place, request) && !self.connect_waits(key, place, request) {
            self.welcome(key, place, request);
        }
    }

    /// A socket is told that it is connected, as soon as it is known what is kept for its user.
    pub(crate) fn welcome(&mut self, key: ClientKey, place: u16, request: &ConnectRequest<'_>) {
        if !self.mailbox_waits(key, place, request) {
            self.welcome_now(key, place, request);
        }
    }

    /// The socket is told that it is connected.
    pub(crate) fn welcome_now(&mut self, key: ClientKey, place: u16, request: &ConnectRequest<'_>) {
        // What was emitted before is not for a socket that was not connected then.
        self.catch_up(key.0.index);
        let Some(socket) = self.directory.socket_mut(key, place) else { return };
        socket.stage = SocketStage::Connected;
        let answered = self.answer_connect(key, place, request);
        self.tell_connected(key, place, request, answered == Answered::Recovered);
        if answered == Answered::Anew {
            self.offer_kept(key, place);
        }
    }

    /// Calls the application about sockets that it wanted to be called about by now.
    pub(crate) fn wake(&mut self) {
        while let Some((key, place)) = self.directory.take_alarm(self.now.at) {
            self.with_socket(key, place, |app, info, actions| app.woken(info, actions));
        }
    }

    fn tell_connected(&mut self, key: ClientKey, place: u16, request: &ConnectRequest<'_>, is_recovered: bool) {
        self.with_socket(key, place, |app, info, actions| {
            app.connected(&SocketInfo { is_recovered, ..*info }, request, actions);
        });
        if let Some(event) = self.broadcasts.standing() {
            self.send_args(key, place, Carrier::Event(None), &event, &[]);
        }
    }

    fn on_event(&mut self, key: ClientKey, place: u16, event: &ReceivedEvent<'_>) {
        self.with_socket(key, place, |app, info, actions| app.event(info, event, actions));
    }

    fn on_ack(&mut self, key: ClientKey, place: u16, ack: AckId, args: &Args<'_>, attachments: &[Box<[u8]>]) {
        if self.on_broadcast_ack((key, place), ack, args.text().as_bytes(), attachments) {
            return;
        }
        self.with_socket(key, place, |app, info, actions| app.acknowledged(info, ack, args, actions));
    }

    /// Calls the application about a socket and performs what it asks for.
    fn with_socket(&mut self, key: ClientKey, place: u16, call: impl FnOnce(&mut A, &SocketInfo<'_>, &mut Actions)) {
        let mut actions = std::mem::take(&mut self.actions);
        self.call_app(key, place, |app, info| call(app, info, &mut actions));
        self.perform(key, Some(place), actions);
    }

    /// Performs actions for a socket, or for a client of a layer that has no sockets, in order.
    fn perform(&mut self, key: ClientKey, place: Option<u16>, mut actions: Actions) {
        for action in actions.drain() {
            match (action, place) {
                (Action::Emit { ack, args, attachments }, Some(place)) => {
                    self.send_args(key, place, Carrier::Event(ack), &args, &attachments);
                }
                (Action::Acknowledge { ack, args, attachments }, Some(place)) => {
                    self.send_args(key, place, Carrier::Ack(ack), &args, &attachments);
                }
                (Action::Join(room), Some(place)) => {
                    self.join(key, place, &room);
                }
                (Action::Leave(room), Some(place)) => {
                    self.leave(key, place, &room);
                }
                (Action::WakeAfter(ms), Some(place)) => self.directory.set_alarm(self.now.at + ms, key, place),
                (Action::Disconnect, Some(place)) => self.disconnect(key, place),
                (Action::CloseSession, _) => {
                    self.drop_client(key, CloseReason::ServerClose, None, Farewell::NextPoll);
                }
                (Action::SendText(text), _) => {
                    let frames = match A::LAYER {
                        Layer::WebSocket => encode::text_packet(&mut self.scratch, &text),
                        _ => encode::message(&mut self.scratch, |out| out.extend_from_slice(&text)),
                    };
                    self.push(key, frames, Delivery::Queue);
                }
                (Action::SendBinary(data), _) => self.push(key, encode::binary_message(&data), Delivery::Queue),
                (_, None) => {}
            }
        }
        self.actions = actions;
    }

    fn send_args(&mut self, key: ClientKey, place: u16, carrier: Carrier, args: &[u8], attachments: &[Box<[u8]>]) {
        let Some(client) = self.directory.get(key) else { return };
        let Some(socket) = client.sockets.get(place) else { return };
        let namespace = self.settings.namespace_name(socket.namespace);
        let mark = match carrier {
            Carrier::Event(None) => self.mark_at((key.0.index, place)),
            _ => None,
        };
        let frames = encode::packet_with_args(&mut self.scratch, namespace, carrier, args, attachments, mark);
        self.push(key, frames, Delivery::Queue);
    }

    /// A Socket.IO DISCONNECT: the socket ends, the session goes on.
    pub(crate) fn disconnect(&mut self, key: ClientKey, place: u16) {
        let Some(socket) = self.directory.socket(key, place) else { return };
        let (namespace, sid) = (socket.namespace, self.directory.sid_of(key, place, socket.random));
        let name = self.settings.namespace_name(namespace);
        let frames = encode::message(&mut self.scratch, |out| socketio::encode_disconnect(name, out));
        self.push(key, frames, Delivery::Queue);
        self.drop_socket(key, place, Parting::Disconnected);
        // A client that had no room for the packet has ended by that, and may come back; to nothing but its user's events.
        if let Some(recovery) = self.recovery.as_deref_mut() {
            recovery.ended.lose_rooms(namespace, &sid);
        }
    }

    /// Puts a socket into a room besides its user's; `None` when it is in too many. Being in it already is no error.
    pub(crate) fn join(&mut self, key: ClientKey, place: u16, name: &str) -> Option<u32> {
        let rooms = |hub: &Self| hub.directory.socket(key, place).map_or(0, |socket| socket.links.as_slice().len());
        let before = rooms(self);
        let room = self.enter(key, place, name)?;
        if rooms(self) > before {
            self.note_join((key.0.index, place), room);
            self.tell_room(key, place, name, Passage::In);
        }
        Some(room)
    }

    /// The same of any room.
    pub(crate) fn enter(&mut self, key: ClientKey, place: u16, name: &str) -> Option<u32> {
        let client = self.directory.get_mut(key)?;
        let socket = client.sockets.get_mut(place)?;
        let links = socket.links.as_slice();
        if let Some(room) = self.membership.find(socket.namespace, name)
            && links.iter().any(|link| link.room == room)
        {
            return Some(room);
        }
        if links.len() >= self.settings.rooms_per_socket_max {
            self.counters.hit(Limit::RoomsPerSocketMax);
            return None;
        }
        let link = u16::try_from(links.len()).ok()?;
        let namespace = socket.namespace;
        let member = Member { client: key.0.index, socket: place, link };
        let (link, notice) = self.membership.join(namespace, name, member, self.now.at);
        socket.links.push(link);
        self.tell(notice);
        Some(link.room)
    }

    /// Takes a socket out of a room; says whether it was in it.
    pub(crate) fn leave(&mut self, key: ClientKey, place: u16, name: &str) -> bool {
        let Some(socket) = self.directory.socket(key, place) else { return false };
        let Some(room) = self.membership.find(socket.namespace, name) else { return false };
        // The user's own room holds its identity.
        if socket.user.is_some_and(|user| user.room() == room) {
            return false;
        }
        let link = socket.links.as_slice().iter().position(|link| link.room == room);
        let Some(link) = link else { return false };
        self.note_leave((key.0.index, place), room);
        self.tell_room(key, place, name, Passage::Out);
        self.leave_at(key, place, link).is_some()
    }
}

fn refusal(message: &'static str, reason: RefusalReason) -> Refusal {
    Refusal { message: message.into(), reason, wait_ms: 0, user: None }
}
