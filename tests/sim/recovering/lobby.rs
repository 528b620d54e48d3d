//! `Lobby`: admits everybody under the name that they give, and tells the model who is welcomed.

use std::cell::RefCell;
use std::rc::Rc;

use sockring::app::{Action, Actions, Admission, Application, ConnectRequest, Refusal, SocketInfo};
use sockring_protocol::json::Entries;

/// A socket was told that it is connected.
#[derive(Debug)]
pub(crate) struct Welcome {
    pub(crate) client: usize,
    pub(crate) sid: String,
    pub(crate) is_recovered: bool,
}

pub(crate) struct Lobby(pub(crate) Rc<RefCell<Vec<Welcome>>>);

fn entry(request: &ConnectRequest<'_>, name: &str) -> String {
    let entries = Entries::of(request.payload.expect("a payload"));
    let value = entries.into_iter().find(|(key, _)| key == name).expect("the entry").1;
    value.trim_matches('"').to_owned()
}

impl Application for Lobby {
    fn admit(&mut self, request: &ConnectRequest<'_>) -> Result<Admission, Refusal> {
        Ok(Admission { user: Some(entry(request, "user")), ends_at_unix_ms: None })
    }

    fn connected(&mut self, socket: &SocketInfo<'_>, request: &ConnectRequest<'_>, actions: &mut Actions) {
        let client = entry(request, "client").parse().expect("a number");
        self.0.borrow_mut().push(Welcome { client, sid: socket.sid.to_owned(), is_recovered: socket.is_recovered });
        actions.push(Action::Emit { ack: None, args: b"[\"connected\"]".to_vec(), attachments: Vec::new() });
    }
}
