//! What clients cost that have nothing to say: no processor time.

use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::server::Server;

const CLIENTS: usize = 1000;

#[test]
fn a_thousand_idle_clients_cost_no_processor_time() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).expect("up to the maximum");
    // First pings come a tenth of the interval early at most: none within 22 s.
    let server = Server::start(&[]);
    let clients: Vec<_> = (0..CLIENTS).map(|number| server.client(&format!("user-{number}"))).collect();
    let held = server.held();
    assert_eq!((held.connections, held.clients, held.sockets), (1000, 1000, 1000), "{held:?}");
    let before = server.cpu_ticks();
    // The passing of time is what is tested.
    thread::sleep(Duration::from_secs(3));
    let spent = server.cpu_ticks() - before;
    assert!(spent <= 2, "{spent} ticks of processor time in 3 s without anything to do");
    // They are all still there.
    for (number, mut client) in clients.into_iter().enumerate().step_by(97) {
        assert_eq!(server.emit_to(&format!("user-{number}"), "news"), 1);
        assert_eq!(client.event().0, "news");
    }
}
