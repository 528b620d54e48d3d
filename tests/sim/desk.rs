//! `Desk`: the application of the simulation. It admits users by name and does what events ask for, on the record.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use sockring::app::{
    Action, Actions, Admission, Application, ConnectRequest, ReceivedEvent, Refusal, RefusalReason, SocketInfo,
};
use sockring_protocol::socketio::EventName;

use super::record::{Record, shard_of};

/// An application that the oracle looks over the shoulder of.
#[derive(Clone)]
pub struct Desk {
    record: Rc<RefCell<Record>>,
    /// By user: until when it is not known whether that one may come in.
    doubts: Rc<RefCell<BTreeMap<String, u64>>>,
}

/// For how long a user is doubted, and how long its CONNECT waits for the doubt to end. Backends end it earlier.
const DOUBT_MS: u64 = 120;
const DOUBT_PATIENCE_MS: u64 = 200;

impl Desk {
    pub fn new(record: Rc<RefCell<Record>>) -> Desk {
        Desk { record, doubts: Rc::default() }
    }
}

/// The payload of a CONNECT that is admitted.
pub fn payload_of(user: &str) -> String {
    payload_after("", user)
}

/// The same behind what else is in it: keys and values that end with a comma.
pub fn payload_after(known: &str, user: &str) -> String {
    format!("{{{known}\"user\":\"{user}\"}}")
}

fn user_in(payload: &str) -> Option<&str> {
    let (_, user) = payload.split_once("\"user\":\"")?;
    user.strip_suffix("\"}")
}

impl Desk {
    /// Whether it cannot be said now if this user may come in: of half of them where the record has doubts, for a while from
    /// when they are first asked about.
    fn is_doubted(&mut self, user: &str, now: u64) -> bool {
        if !self.record.borrow().has_doubts || user.bytes().last().is_none_or(|last| last % 2 == 0) {
            return false;
        }
        now < *self.doubts.borrow_mut().entry(user.to_owned()).or_insert(now + DOUBT_MS)
    }
}

impl Application for Desk {
    fn admit(&mut self, request: &ConnectRequest<'_>) -> Result<Admission, Refusal> {
        match request.payload.and_then(user_in) {
            Some(user) if self.is_doubted(user, request.now_unix_ms) => {
                let reason = RefusalReason::KeyUnknown;
                Err(Refusal { message: "not known yet".into(), reason, wait_ms: DOUBT_PATIENCE_MS, user: None })
            }
            Some(user) if !user.is_empty() => {
                self.record.borrow_mut().on_admitted(user);
                Ok(Admission { user: Some(user.to_owned()), ends_at_unix_ms: None })
            }
            _ => Err(Refusal { message: "no user".into(), reason: RefusalReason::UserMissing, wait_ms: 0, user: None }),
        }
    }

    fn connected(&mut self, socket: &SocketInfo<'_>, _: &ConnectRequest<'_>, actions: &mut Actions) {
        let user = socket.user.expect("every admitted socket has a user");
        let mut record = self.record.borrow_mut();
        record.on_connected(socket.sid, socket.namespace, user);
        let args = b"[\"welcome\"]".to_vec();
        record.on_event_sent(socket.sid, None, &args, &[]);
        if let Some(standing) = record.standing(shard_of(socket.sid)).map(<[u8]>::to_vec) {
            record.on_event_sent(socket.sid, None, &standing, &[]);
        }
        record.expect_kept(socket.sid, socket.now_unix_ms);
        actions.push(Action::Emit { ack: None, args, attachments: Vec::new() });
    }

    fn event(&mut self, socket: &SocketInfo<'_>, event: &ReceivedEvent<'_>, actions: &mut Actions) {
        let mut record = self.record.borrow_mut();
        let Some(EventName::Text(name)) = event.args.event() else { return };
        let rest = event.args.after_event();
        let word = rest.trim_matches('"');
        let mut answer = Vec::new();
        match &*name {
            "echo" => answer.extend_from_slice(rest.as_bytes()),
            "join" => {
                record.on_join(socket.sid, word);
                actions.push(Action::Join(word.to_owned()));
            }
            "leave" => {
                record.on_leave(socket.sid, word);
                actions.push(Action::Leave(word.to_owned()));
            }
            "bye" => {
                record.on_disconnect_sent(socket.sid);
                return actions.push(Action::Disconnect);
            }
            "end" => return actions.push(Action::CloseSession),
            _ => return,
        }
        let attachments = event.attachments.to_vec();
        match event.ack {
            Some(ack) => {
                let args = [b"[", answer.as_slice(), b"]"].concat();
                record.on_ack_sent(socket.sid, ack, &args, &attachments);
                actions.push(Action::Acknowledge { ack, args, attachments });
            }
            None if &*name == "echo" => {
                let args = [b"[\"echo\",", answer.as_slice(), b"]"].concat();
                record.on_event_sent(socket.sid, None, &args, &attachments);
                actions.push(Action::Emit { ack: None, args, attachments });
            }
            None => {}
        }
    }

    fn disconnected(&mut self, socket: &SocketInfo<'_>) {
        self.record.borrow_mut().on_disconnected(socket.sid);
    }
}
