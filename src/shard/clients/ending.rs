//! How clients and sockets end.

use sockring_protocol::engineio::Transport;

use crate::app::Application;
use crate::shard::clients::outbox::polling_payload;
use crate::shard::hub::Hub;
use crate::shard::hub::outbound::Order;
use crate::shard::limit::Limit;
use crate::shard::mail::SiblingMail;
use crate::shard::recovery::ended::Parting;
use crate::shard::rooms::sockets::SocketStage;

use super::client::{Cause, ClientKey, CloseReason, Farewell, Phase};
use super::outbox::Outbox;

/// How long a client that was ended by us may take to fetch its last packets.
const FAREWELL_MS: u64 = 10_000;

impl<A: Application> Hub<A> {
    /// The one place where a client ends: its sockets leave, its connections are told, its slot becomes free.
    pub(crate) fn drop_client(
        &mut self,
        key: ClientKey,
        cause: impl Into<Cause>,
        code: Option<u16>,
        farewell: Farewell,
    ) {
        let cause = cause.into();
        let reason = cause.reason;
        if self.diary.is_kept() {
            self.tell_end(key, cause);
        }
        self.leave_all(key);
        let Some(client) = self.directory.get_mut(key) else { return };
        // Its last packets wait for its next poll, or for their own deadline.
        if client.phase == Phase::Farewell {
            return;
        }
        self.counters.count_close(reason);
        if reason == CloseReason::QueueFull {
            self.counters.hit(Limit::QueueBytesMax);
        }
        client.session.close();
        if let Some(probe) = client.begun.take_probe() {
            self.outbound.orders.push(Order::CloseWebSocket(probe, Outbox::EMPTY, None));
        }
        let mut outbox = std::mem::take(&mut client.outbox);
        if reason == CloseReason::TakenOver {
            // Whoever has taken it over gets that.
            outbox = Outbox::EMPTY;
        }
        match (client.session.transport(), client.connection.take()) {
            (_, Some(connection)) if reason == CloseReason::QueueFull => {
                self.outbound.orders.push(Order::Abort(connection));
            }
            // What it does not read is not sent to it.
            (Transport::WebSocket, Some(connection))
                if matches!(reason, CloseReason::PingTimeout | CloseReason::TakenOver) =>
            {
                self.outbound.orders.push(Order::GiveUp(connection));
            }
            (Transport::WebSocket, Some(connection)) => {
                self.outbound.orders.push(Order::CloseWebSocket(connection, outbox, code));
            }
            // The stock client loses an event that comes in one payload with the close packet: that is for the next poll.
            (Transport::Polling, connection)
                if farewell == Farewell::NextPoll && (connection.is_none() || !outbox.is_empty()) =>
            {
                match connection {
                    Some(connection) => {
                        self.outbound.orders.push(Order::AnswerPoll(connection, polling_payload(outbox, None)));
                    }
                    None => client.outbox = outbox,
                }
                return self.await_farewell(key);
            }
            (Transport::Polling, Some(connection)) => {
                let last = last_packet(reason);
                self.outbound.orders.push(Order::AnswerPoll(connection, polling_payload(outbox, Some(last))));
            }
            // Its WebSocket is on its way from the shard that it has moved from.
            (Transport::WebSocket, None) => {
                client.outbox = outbox;
                return self.await_farewell(key);
            }
            (Transport::Polling, None) => {}
        }
        self.forget(key);
    }

    /// Keeps a client that is over until its last packets are fetched, for a while.
    fn await_farewell(&mut self, key: ClientKey) {
        let attended = self.attended();
        let Some(client) = self.directory.get_mut(key) else { return };
        client.phase = Phase::Farewell;
        let begun = client.begun.take_assembler().map_or(0, |assembler| assembler.held_bytes());
        client.begun.change(|begun| begun.half_open_by = attended + FAREWELL_MS);
        client.is_suspect = false;
        self.give_back_input(begun);
        self.arm(key);
    }

    /// Frees the slot of a client that nothing refers to any more.
    pub(crate) fn forget(&mut self, key: ClientKey) {
        let Some((client, sender)) = self.directory.remove(key) else { return };
        self.capacity.give_back_client();
        self.give_back_input(client.begun.assembler.as_ref().map_or(0, |assembler| assembler.held_bytes()));
        self.outbound.mails.extend(sender.map(|shard| (shard, SiblingMail::Gone(client.sid))));
    }

    /// Takes all sockets of a client out of their rooms and tells the application.
    fn leave_all(&mut self, key: ClientKey) {
        self.forget_waiting(key);
        let Some(client) = self.directory.get(key) else { return };
        let places: Vec<u16> = client.sockets.iter().map(|(place, _)| place).collect();
        for place in places {
            self.drop_socket(key, place, Parting::Lost);
        }
    }

    /// The one place where a socket ends.
    pub(crate) fn drop_socket(&mut self, key: ClientKey, place: u16, parting: Parting) {
        self.catch_up(key.0.index);
        // One that the application was never told of is not told gone.
        let is_joining = self.directory.socket(key, place).is_some_and(|socket| socket.stage == SocketStage::Joining);
        if !is_joining {
            self.call_app(key, place, |app, info| app.disconnected(info));
        }
        self.directory.forget_alarms(key, place);
        self.part_from_asked(key, place, parting);
        self.forget_receipts(key, place);
        match self.recovery {
            // Its own channel lingers as its rooms do.
            Some(_) => self.note_end(key, place, parting),
            None => self.unsubscribe_sid(key, place),
        }
        while self.leave_at(key, place, 0).is_some() {}
        if let Some(client) = self.directory.get_mut(key)
            && let Some(socket) = client.sockets.remove(place)
        {
            client.outbox.forget_keys(socket.namespace);
            if !client.begun.expiries.is_empty() {
                client.begun.change(|begun| begun.expiries.clear(place));
            }
        }
    }
}

/// The packet that ends a polling session: a noop for a client that asked for it, else a close packet.
fn last_packet(reason: CloseReason) -> &'static [u8] {
    match reason {
        CloseReason::ClientClose => b"6",
        _ => b"1",
    }
}
