//! Moving home: a client whose user lives on another shard goes there, between admission and membership, and once at most.
//!
//! First the client goes, as one mail; then its connections, each as soon as nothing is under way on it. Mail between two
//! shards keeps its order, so the client is always there before them, and before requests that its old shard sends on.

use sockring_protocol::Millis;
use sockring_protocol::engineio::{Input, Transport};

use crate::app::{Admission, Application, ConnectRequest, Layer};
use crate::shard::clients::client::{Begun, Client, ClientKey, CloseReason, ConnectionKey, Farewell, Phase, Role};
use crate::shard::hub::Hub;
use crate::shard::hub::outbound::Order;
use crate::shard::mail::SiblingMail;
use crate::shard::rooms::sockets::{NamespaceId, Sockets};
use crate::shard::rooms::table::USER_PREFIX;

use super::emigrant::{Departed, Emigrant};
use super::placement::home_of;
use super::sid::Sid;

impl<A: Application> Hub<A> {
    /// Whether a client may still go to another shard.
    pub(crate) fn may_move(&self, key: ClientKey) -> bool {
        self.shard.of > 1
            && A::LAYER == Layer::SocketIo
            && self
                .directory
                .get(key)
                .is_some_and(|client| client.phase == Phase::Unclaimed && client.sid.shard() == self.shard.number)
    }

    /// Where an admitted client has to go first.
    pub(crate) fn home_elsewhere(&self, key: ClientKey, admission: &Admission) -> Option<u16> {
        let user = admission.user.as_ref().filter(|_| self.may_move(key))?;
        let home = home_of(&[USER_PREFIX, user].concat(), self.shard.of);
        (home != self.shard.number).then_some(home)
    }

    /// Sends a client to its home; its connections are seen to by whoever finds `departed`.
    pub(crate) fn emigrate(
        &mut self,
        key: ClientKey,
        home: u16,
        namespace: NamespaceId,
        admission: Admission,
        payload: Option<&str>,
    ) {
        let moment = self.moment();
        let waiting = self.take_waiting(key);
        let Some(mut client) = self.directory.remove_to(key, home) else { return };
        let transport = client.session.transport();
        let held = client.connection.filter(|_| transport == Transport::Polling);
        if held.is_some() {
            // At home it is a GET that arrives.
            client.session.receive(Input::PollAnswered, moment, &self.settings.times);
        }
        let websocket = client.connection.filter(|_| transport == Transport::WebSocket);
        self.outbound.departed = Some(Departed { sid: client.sid, home, held, websocket, probe: client.begun.probe });
        let emigrant = Emigrant {
            sid: client.sid,
            session: client.session,
            began: client.began,
            rate: client.rate,
            outbox: client.outbox,
            handshake: client.begun.take_handshake(),
            account: self.diary.account(key.0.index),
            half_open_by: client.begun.half_open_by,
            left_at: moment,
            namespace,
            admission,
            payload: payload.map(Box::from),
            waiting,
            rest: None,
        };
        self.outbound.mails.push((home, SiblingMail::MoveIn(Box::new(emigrant))));
    }

    /// Packets behind the CONNECT of a client that has just moved go with it.
    pub(crate) fn send_rest_along(&mut self, rest: &str) {
        if let Some((_, SiblingMail::MoveIn(emigrant))) = self.outbound.mails.last_mut() {
            emigrant.rest = Some(rest.into());
        }
    }

    /// A client comes home: it becomes a member, and what waits for it goes on.
    pub(crate) fn immigrate(&mut self, emigrant: Emigrant) {
        let Emigrant { sid, mut session, namespace, admission, payload, waiting, rest, .. } = emigrant;
        session.change_owner(emigrant.left_at, self.moment());
        let half_open_by = emigrant.left_at.carry_over(emigrant.half_open_by, self.moment());
        let client = Client {
            sid,
            session,
            connection: None,
            sockets: Sockets::None,
            outbox: emigrant.outbox,
            begun: Begun::by(half_open_by, emigrant.handshake),
            timer_at: Millis::NEVER,
            rate: emigrant.rate,
            phase: Phase::Unclaimed,
            began: emigrant.began,
            is_dirty: false,
            is_suspect: false,
        };
        // There are as many places as clients in the whole process, so there is one.
        let Some(key) = self.directory.insert_moved(client) else { return self.capacity.give_back_client() };
        self.counters.moved_in += 1;
        self.diary.begin(key.0.index, emigrant.account);
        self.arm(key);
        if self.is_draining() {
            return self.drop_client(key, CloseReason::Shutdown, None, Farewell::NextPoll);
        }
        let handshake = self.directory.get_mut(key).and_then(|client| client.begun.take_handshake());
        let settings = std::sync::Arc::clone(&self.settings);
        let request = ConnectRequest {
            namespace: settings.namespace_name(namespace),
            payload: payload.as_deref(),
            authorization: handshake.as_deref().and_then(|handshake| handshake.authorization.as_deref()),
            now_unix_ms: self.now.unix_ms,
        };
        self.join_namespace(key, namespace, &admission, &request);
        self.keep_handshake(key, handshake);
        self.admit_all_in_turn(key, waiting);
        if let Some(rest) = rest {
            self.on_packets(key, &rest);
        }
    }

    /// The WebSocket of a client that has moved here has come, or a probe for it.
    pub(crate) fn on_websocket_arrival(&mut self, sid: &Sid, connection: ConnectionKey) -> Option<(ClientKey, Role)> {
        let key = self.directory.find_here(sid)?;
        let client = self.directory.get_mut(key)?;
        if client.session.transport() == Transport::Polling {
            if client.begun.probe.is_some() || !client.session.is_probing() {
                return None;
            }
            client.begun.change(|begun| begun.probe = Some(connection));
            if client.session.is_probe_suspect() {
                self.outbound.looks.push(connection);
            }
            return Some((key, Role::Probe));
        }
        if client.connection.is_some() {
            return None;
        }
        if client.phase == Phase::Farewell {
            self.outbound.orders.push(Order::CloseWebSocket(connection, std::mem::take(&mut client.outbox), None));
            self.forget(key);
            return Some((key, Role::Transport));
        }
        client.connection = Some(connection);
        if client.began == Transport::WebSocket {
            self.directory.forget_sid(sid);
        }
        self.directory.mark_dirty(key);
        Some((key, Role::Transport))
    }
}
