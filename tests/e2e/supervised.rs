//! A service manager starts the server: it is told when the server serves, reads its settings again, lives, and ends.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::{fs, process};

use rustix::process::Signal;

use crate::WAIT_MAX;
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
