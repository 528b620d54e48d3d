//! A service manager starts the server: it is told when the server serves, reads its settings again, lives, and ends.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::{fs, process};

use rustix::process::Signal;
use serde_json::json;

use crate::WAIT_MAX;
use crate::command::{finish, with_socket};
use crate::http::Connection;
use crate::server::Server;

/// What systemd listens at.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(name: &str) -> Manager {
        // Short: the path of a socket has at most 107 bytes.
        let path = std::env::temp_dir().join(format!("sockring-{}-{name}", process::id()));
        let _ = fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).expect("a socket can be bound there");
        socket.set_read_timeout(Some(WAIT_MAX)).expect("a timeout can be set");
        Manager { socket, path }
    }

    fn start(&self, environment: &[(&str, &str)]) -> Server {
        Server::start(&[&[("NOTIFY_SOCKET", self.path.to_str().expect("UTF-8"))], environment].concat())
    }

    /// The next message but for the watchdog's.
    #[track_caller]
    fn told(&self) -> String {
        loop {
            let text = self.told_of_anything();
            if text != "WATCHDOG=1" {
                return text;
            }
        }
    }

    #[track_caller]
    fn told_of_anything(&self) -> String {
        let mut bytes = [0; 4096];
        let count = self.socket.recv(&mut bytes).expect("a message comes");
        String::from_utf8_lossy(&bytes[..count]).trim_end().to_owned()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[test]
fn a_service_manager_is_told_of_start_reload_and_end() {
    let manager = Manager::new("all");
    let server = manager.start(&[("SOCKRING_DRAIN", "1")]);
    let ready = manager.told();
    assert!(
        ready.starts_with("READY=1\nSTATUS=serving on ") && ready.ends_with(&format!(":{}", server.port())),
        "{ready}"
    );

    server.signal(Signal::HUP);
    let reloading = manager.told();
    let since = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|rest| rest.parse::<u64>().ok());
    assert!(since.is_some_and(|since| since > 0), "{reloading}");
    assert_eq!(manager.told(), "READY=1");

    server.signal(Signal::TERM);
    assert_eq!(manager.told(), "STOPPING=1\nSTATUS=closing all clients within 1 s");
    assert_eq!(server.finish().code, Some(0));
}

#[test]
fn a_watchdog_hears_that_all_shards_answer() {
    let manager = Manager::new("watchdog");
    let server = manager.start(&[("WATCHDOG_USEC", "400000"), ("SOCKRING_SHARDS", "3")]);
    assert!(manager.told_of_anything().starts_with("READY=1"));
    assert_eq!(manager.told_of_anything(), "WATCHDOG=1");
    assert_eq!(manager.told_of_anything(), "WATCHDOG=1");
    server.signal(Signal::TERM);
    assert!(manager.told().starts_with("STOPPING=1"));
}

#[test]
fn a_socket_of_the_service_manager_outlives_the_server() {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    // As some managers leave it.
    socket.set_nonblocking(true).expect("a socket of ours");
    let address = socket.local_addr().expect("it is bound");
    let copy = || OwnedFd::from(socket.try_clone().expect("it can be cloned"));
    // Nobody is refused before the first one serves, between two, or after.
    let early: Vec<_> = (0..8).map(|_| Connection::open(address)).collect();
    for shards in ["1", "3"] {
        let server = Server::start_with_socket(copy(), &[("SOCKRING_SHARDS", shards), ("SOCKRING_DRAIN", "0")]);
        assert_eq!(server.port(), address.port(), "the settings' port does not count");
        assert_eq!(Connection::open(address).get("/health").status, 200);
        let _clients = ["alice", "bob", "carol"].map(|user| server.client(user));
        assert_eq!(server.emit(&json!({"users": ["alice", "bob", "carol"], "event": "report:updated"})), 3);
        server.signal(Signal::TERM);
        assert_eq!(server.finish().code, Some(0));
    }
    drop(early);
    let _late = Connection::open(address);
}

#[test]
fn what_is_no_listener_is_refused_with_a_sentence() {
    let (datagrams, _) = UnixDatagram::pair().expect("a pair");
    let ended = finish(with_socket(datagrams.into(), &[("PORT", "0")]).spawn().expect("the shell starts"));
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
    assert!(ended.stderr.contains("socket 0 of LISTEN_FDS is no TCP socket"), "{ended:?}");
}
