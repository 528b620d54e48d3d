//! What stands for a descriptor in the simulation: sockets that close when they are dropped, slots that must not be, and the
//! listener of one worker.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use super::super::network::TcpId;

/// Connections whose sockets were dropped, and that have still to be closed.
pub type Dropped = Rc<RefCell<Vec<TcpId>>>;

/// An accepted connection.
#[derive(Debug)]
pub struct Socket {
    id: TcpId,
    /// `None`: it has become something else.
    dropped: Option<Dropped>,
}

impl Socket {
    pub fn new(id: TcpId, dropped: Dropped) -> Socket {
        Socket { id, dropped: Some(dropped) }
    }

    pub fn id(&self) -> TcpId {
        self.id
    }

    /// Without closing it.
    pub fn into_id(mut self) -> TcpId {
        self.dropped = None;
        self.id
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(dropped) = &self.dropped {
            dropped.borrow_mut().push(self.id);
        }
    }
}

/// A connection in the file table.
#[derive(Debug)]
pub struct Slot {
    id: TcpId,
    number: u32,
    is_closed: bool,
}

impl Slot {
    pub fn new(id: TcpId, number: u32) -> Slot {
        Slot { id, number, is_closed: false }
    }

    pub fn id(&self) -> TcpId {
        self.id
    }

    pub fn into_number(mut self) -> u32 {
        self.is_closed = true;
        self.number
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        assert!(self.is_closed || std::thread::panicking(), "a slot of the file table is lost");
    }
}

/// Those that have connected and were not accepted; `None` when nobody listens any more.
#[derive(Clone, Debug)]
pub struct Listener {
    waiting: Rc<RefCell<Option<VecDeque<TcpId>>>>,
    dropped: Dropped,
}

impl Listener {
    pub fn new(dropped: Dropped) -> Listener {
        Listener { waiting: Rc::new(RefCell::new(Some(VecDeque::new()))), dropped }
    }

    pub fn is_open(&self) -> bool {
        self.waiting.borrow().is_some()
    }

    pub fn put(&self, id: TcpId) {
        self.waiting.borrow_mut().as_mut().expect("somebody listens").push_back(id);
    }

    pub fn put_back(&self, socket: Socket) {
        self.waiting.borrow_mut().as_mut().expect("somebody listens").push_front(socket.into_id());
    }

    pub fn take(&self) -> Option<Socket> {
        let id = self.waiting.borrow_mut().as_mut()?.pop_front()?;
        Some(Socket::new(id, Rc::clone(&self.dropped)))
    }

    /// Takes all that have connected, and listens no more.
    pub fn close(self) -> Vec<Socket> {
        let sockets = std::iter::from_fn(|| self.take()).collect();
        *self.waiting.borrow_mut() = None;
        sockets
    }
}
