//! Frames that are larger than what the kernel can give at once: in pieces, and with next to no receive buffers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sockring::app::{Action, Actions, Admission, Application, ConnectRequest, Layer, Refusal};
use sockring::capacity::{Capacity, CapacityLimits};
use sockring::mailbox::{Letter, Mailbox, Postbox};
use sockring::ring::RingOptions;
use sockring::shard::{EngineSettings, Heir, ShardNumber};
use sockring::worker::{self, Clock, Listener, Surroundings, WorkerParts};
use sockring_protocol::adapter::Broadcast;
use sockring_protocol::engineio::{Data, SessionTimes};
use sockring_protocol::websocket::Opcode;

use crate::client::{Frame, WebSocket, frame};
use crate::http::Connection;
use crate::server::Server;

const FRAME_BYTES: usize = 64 << 10;

/// Gives back what comes.
struct Echo;

impl Application for Echo {
    const LAYER: Layer = Layer::WebSocket;

    fn admit(&mut self, _: &ConnectRequest<'_>) -> Result<Admission, Refusal> {
        Ok(Admission::default())
    }

    fn message(&mut self, message: Data<'_>, actions: &mut Actions) {
        actions.push(match message {
            Data::Text(text) => Action::SendText(text.into()),
            Data::Binary(data) => Action::SendBinary(data.into_owned()),
        });
    }
}

/// A worker of its own with an echo for WebSockets; ended when dropped.
struct EchoWorker {
    address: SocketAddr,
    postbox: Postbox,
    thread: Option<JoinHandle<()>>,
}

impl EchoWorker {
    fn start(buffers: u16) -> EchoWorker {
        let listener = Listener::bind(IpAddr::V4(Ipv4Addr::LOCALHOST), 0).expect("a free port");
        let address = listener.address();
        let mailbox = Arc::new(Mailbox::new(1 << 20));
        let postbox = Postbox::new(Arc::clone(&mailbox), 0);
        let settings = EngineSettings {
            path: "/".to_owned(),
            // A raw WebSocket has no heartbeat of its own.
            times: SessionTimes { ping_interval_ms: 24 * 3600 * 1000, ..SessionTimes::default() },
            ..EngineSettings::default()
        };
        let ring =
            RingOptions { submissions: 64, completions: 256, files: 256, tables_max: 1, buffers, buffer_bytes: 4096 };
        let limits = CapacityLimits { connections_max: 256, clients_max: 256, ..CapacityLimits::UNLIMITED };
        let parts = WorkerParts {
            left: (Arc::default(), Heir::Another),
            settings: Arc::new(settings),
            capacity: Arc::new(Capacity::new(limits)),
            place: ShardNumber { number: 0, of: 1 },
            app: Echo,
            listener,
            mailbox,
            siblings: Vec::new(),
            clock: Clock::default(),
            ring,
            processor: None,
        };
        let thread = thread::spawn(move || {
            worker::run(parts, Surroundings::default).expect("the worker runs");
        });
        EchoWorker { address, postbox, thread: Some(thread) }
    }

    fn connect(&self) -> WebSocket {
        WebSocket::upgrade(Connection::open(self.address), "/").expect("101")
    }
}

impl Drop for EchoWorker {
    fn drop(&mut self) {
        let farewell = Broadcast::new("/", Vec::new(), Arc::from(*b"[\"bye\"]"));
        self.postbox.post(Letter::Drain(Arc::new(farewell), Duration::ZERO));
        let ended = self.thread.take().expect("it is joined once").join();
        assert!(ended.is_ok() || thread::panicking(), "the worker panicked");
    }
}

/// Bytes that tell where they belong, so that mixed-up buffers are noticed.
fn payload(number: usize) -> Vec<u8> {
    (0..FRAME_BYTES).map(|at| u8::try_from((at / 7 + at / 4096 * 31 + number * 13) % 251).expect("below 251")).collect()
}

#[test]
fn a_frame_in_pieces_then_silence_is_echoed() {
    for buffers in [2, 1024] {
        let worker = EchoWorker::start(buffers);
        let mut bystander = worker.connect();
        let mut socket = worker.connect();
        for size in [1, 4095, 4096, 4097, 10_000, 65_529] {
            let payload = payload(size);
            let bytes = frame(Opcode::Binary, &payload);
            for piece in bytes.chunks(size) {
                socket.connection.send(piece);
                if size > 1000 {
                    // The worker has turned since: pieces do not run together.
                    bystander.round_trip();
                }
            }
            // Nothing more is sent that could wake the worker up.
            assert_eq!(socket.frame(), Frame::Binary(payload), "pieces of {size} bytes, {buffers} buffers");
            socket.round_trip();
        }
    }
}

#[test]
fn two_hundred_connections_share_two_buffers() {
    let worker = EchoWorker::start(2);
    let mut sockets: Vec<_> = (0..200).map(|_| worker.connect()).collect();
    for round in 0..2 {
        for (number, socket) in sockets.iter_mut().enumerate() {
            socket.connection.send(frame(Opcode::Binary, &payload(number + round)));
        }
        for (number, socket) in sockets.iter_mut().enumerate() {
            assert_eq!(socket.frame(), Frame::Binary(payload(number + round)), "connection {number}, round {round}");
        }
    }
    sockets.iter_mut().for_each(WebSocket::round_trip);
}

#[test]
fn a_large_event_to_the_product_in_pieces_leaves_its_connection_usable() {
    let server = Server::start(&[]);
    let mut client = server.client("alice");
    let event = format!(r#"42["joinRoom",{{"roomId":"{}"}}]"#, "r".repeat(FRAME_BYTES));
    for piece in frame(Opcode::Text, event.as_bytes()).chunks(9000) {
        client.socket.connection.send(piece);
        assert_eq!(server.emit_to("nobody", "between"), 0);
    }
    assert_eq!(server.emit_to("alice", "after"), 1);
    assert_eq!(client.event().0, "after");
    client.socket.round_trip();
    assert_eq!(server.held().sockets, 1);
}
