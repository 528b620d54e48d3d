//! Moving home: a client whose user lives on another shard goes there, between admission and membership, and once at most.
//!
//! First the client goes, as one mail; then its connections, each as soon as nothing is under way on it. Mail between two
//! shards keeps its order, so the client is always there before them, and before requests that its old shard sends on.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use sockring_protocol::Millis;
use sockring_protocol::engineio::{Input, Transport};

use crate::app::{Admission, Application, ConnectRequest};
use crate::shard::clients::client::{Client, ClientKey, CloseReason, ConnectionKey, Expiries, Farewell, Phase, Role};
use crate::shard::faults::UnknownSid;
use crate::shard::hub::{Hub, Order};
use crate::shard::mail::SiblingMail;
use crate::shard::rooms::sockets::{NamespaceId, Sockets};
use crate::shard::rooms::table::USER_PREFIX;
use crate::shard::settings::Layer;

use super::emigrant::Emigrant;
use super::placement::home_of;
use super::sid::Sid;

/// Who has moved, by the session id, which still names the old shard.
#[derive(Default)]
pub(crate) struct Moves {
    /// Polling clients that have moved away, and where they are now. Their requests are sent on.
    away: HashMap<Sid, u16, RandomState>,
    /// Clients that have moved here. One that began as a WebSocket is forgotten when its connection has come.
    here: HashMap<Sid, ClientKey, RandomState>,
}

/// Where a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Here(ClientKey),
    /// It has moved from here to this shard.
    Moved(u16),
    /// Its id names this shard.
    Elsewhere(u16),
    Nowhere(UnknownSid),
}

/// A client that has just moved away: what it has left behind.
#[derive(Debug)]
pub(crate) struct Departed {
    pub(crate) sid: Sid,
    pub(crate) home: u16,
    /// The connection whose GET is held.
    pub(crate) held: Option<ConnectionKey>,
    pub(crate) probe: Option<ConnectionKey>,
}

impl<A: Application> Hub<A> {
    /// Finds the session with this id.
    pub(crate) fn find(&self, text: &str) -> Found {
        let Some(sid) = Sid::parse(text) else { return Found::Nowhere(UnknownSid::Malformed) };
        if sid.instance() != self.settings.instance {
            return Found::Nowhere(UnknownSid::OtherInstance);
        }
        if let Some(client) = self.find_here(&sid) {
            return Found::Here(client);
        }
        match self.moves.away.get(&sid) {
            Some(home) => Found::Moved(*home),
            None if sid.shard() != self.shard.number && sid.shard() < self.shard.of => Found::Elsewhere(sid.shard()),
            None => Found::Nowhere(UnknownSid::Gone),
        }
    }

    pub(crate) fn find_here(&self, sid: &Sid) -> Option<ClientKey> {
        if sid.shard() != self.shard.number {
            return self.moves.here.get(sid).copied();
        }
        let (key, client) = self.clients.at(sid.slot())?;
        (client.sid == *sid).then_some(ClientKey(key))
    }

    /// Whether a client may still go to another shard.
    pub(crate) fn may_move(&self, key: ClientKey) -> bool {
        self.shard.of > 1
            && self.settings.layer == Layer::SocketIo
            && self
                .clients
                .get(key.0)
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
        let Some(mut client) = self.clients.remove(key.0) else { return };
        let transport = client.session.transport();
        let held = client.connection.filter(|_| transport == Transport::Polling);
        if held.is_some() {
            // At home it is a GET that arrives.
            client.session.receive(Input::PollAnswered, moment, &self.settings.times);
        }
        if client.began == Transport::Polling {
            self.moves.away.insert(client.sid, home);
        }
        self.departed = Some(Departed { sid: client.sid, home, held, probe: client.probe });
        let emigrant = Emigrant {
            sid: client.sid,
            session: client.session,
            began: client.began,
            rate: client.rate,
            outbox: client.outbox,
            handshake: client.handshake,
            half_open_by: client.half_open_by,
            left_at: moment,
            namespace,
            admission,
            payload: payload.map(Box::from),
            rest: None,
        };
        self.mails.push((home, SiblingMail::MoveIn(Box::new(emigrant))));
    }

    /// Packets behind the CONNECT of a client that has just moved go with it.
    pub(crate) fn send_rest_along(&mut self, rest: &str) {
        if let Some((_, SiblingMail::MoveIn(emigrant))) = self.mails.last_mut() {
            emigrant.rest = Some(rest.into());
        }
    }

    /// A client comes home: it becomes a member, and what waits for it goes on.
    pub(crate) fn immigrate(&mut self, emigrant: Emigrant) {
        let Emigrant { sid, mut session, namespace, admission, payload, rest, .. } = emigrant;
        session.change_owner(emigrant.left_at, self.moment());
        let client = Client {
            sid,
            session,
            connection: None,
            probe: None,
            sockets: Sockets::None,
            outbox: emigrant.outbox,
            assembler: None,
            handshake: emigrant.handshake,
            half_open_by: emigrant.left_at.carry_over(emigrant.half_open_by, self.moment()),
            expiries: Expiries::default(),
            timer_at: Millis::NEVER,
            rate: emigrant.rate,
            refusals: 0,
            phase: Phase::Unclaimed,
            began: emigrant.began,
            is_dirty: false,
            is_suspect: false,
        };
        // There are as many places as clients in the whole process, so there is one.
        let Some(key) = self.clients.insert(client).map(ClientKey) else { return self.capacity.give_back_client() };
        self.counters.moved_in += 1;
        self.moves.here.insert(sid, key);
        self.arm(key);
        if self.is_draining() {
            return self.drop_client(key, CloseReason::Shutdown, None, Farewell::NextPoll);
        }
        let handshake = self.clients.get_mut(key.0).and_then(|client| client.handshake.take());
        let settings = std::sync::Arc::clone(&self.settings);
        let request = ConnectRequest {
            namespace: settings.namespace_name(namespace),
            payload: payload.as_deref(),
            authorization: handshake.as_deref().and_then(|handshake| handshake.authorization.as_deref()),
            now_unix_ms: self.now.unix_ms,
        };
        self.join_namespace(key, namespace, &admission, &request);
        self.keep_handshake(key, handshake);
        if let Some(rest) = rest {
            self.on_packets(key, &rest);
        }
    }

    /// The WebSocket of a client that has moved here has come, or a probe for it.
    pub(crate) fn on_websocket_arrival(&mut self, sid: &Sid, connection: ConnectionKey) -> Option<(ClientKey, Role)> {
        let key = self.find_here(sid)?;
        let client = self.clients.get_mut(key.0)?;
        if client.session.transport() == Transport::Polling {
            if client.probe.is_some() || !client.session.is_probing() {
                return None;
            }
            client.probe = Some(connection);
            if client.session.is_probe_suspect() {
                self.looks.push(connection);
            }
            return Some((key, Role::Probe));
        }
        if client.connection.is_some() {
            return None;
        }
        if client.phase == Phase::Farewell {
            self.orders.push(Order::CloseWebSocket(connection, std::mem::take(&mut client.outbox), None));
            self.forget(key);
            return Some((key, Role::Transport));
        }
        client.connection = Some(connection);
        if client.began == Transport::WebSocket {
            self.moves.here.remove(sid);
        }
        self.mark_dirty(key);
        Some((key, Role::Transport))
    }

    /// A client that had moved here is gone: nothing has to be sent on to it any more.
    pub(crate) fn forget_move(&mut self, client: &Client) {
        if client.sid.shard() == self.shard.number {
            return;
        }
        if self.moves.here.remove(&client.sid).is_some() && client.began == Transport::Polling {
            self.mails.push((client.sid.shard(), SiblingMail::Gone(client.sid)));
        }
    }

    /// A client that had moved away is gone.
    pub(crate) fn on_gone(&mut self, sid: &Sid) {
        self.moves.away.remove(sid);
    }

    /// Clients that have moved away and are still there.
    pub(crate) fn moved_away(&self) -> usize {
        self.moves.away.len()
    }
}
