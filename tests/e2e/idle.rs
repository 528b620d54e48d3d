//! What clients cost that have nothing to say: no processor time.

use std::fs;
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::server::Server;

const CLIENTS: usize = 1000;

/// Processor time is measured over this, in hundredths of a second, and so often until it is as little as it has to be: where others
/// want the processors, too, the same work costs more now and then. What costs some by itself does so every time.
const WINDOW: Duration = Duration::from_secs(3);
const TICKS_MAX: u64 = 2;
const WINDOWS_MAX: usize = 6;

#[test]
fn a_thousand_idle_clients_cost_no_processor_time() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).expect("up to the maximum");
    // First pings come a tenth of the interval early at most: none within all windows.
    let server = Server::start(&[("SOCKRING_PING_INTERVAL_MS", "300000")]);
    let clients: Vec<_> = (0..CLIENTS).map(|number| server.client(&format!("user-{number}"))).collect();
    let held = server.held();
    assert_eq!((held.connections, held.clients, held.sockets), (1000, 1000, 1000), "{held:?}");
    let measure = || {
        let before = server.cpu_ticks();
        // The passing of time is what is tested.
        thread::sleep(WINDOW);
        server.cpu_ticks() - before
    };
    let mut spent = Vec::new();
    while !spent.iter().any(|ticks| *ticks <= TICKS_MAX) {
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        assert!(
            spent.len() < WINDOWS_MAX,
            "{spent:?} ticks of processor time in {WINDOW:?} each without anything to do; this needs a machine that is quiet \
             for once, and its load is {load}"
        );
        spent.push(measure());
    }
    // They are all still there.
    for (number, mut client) in clients.into_iter().enumerate().step_by(97) {
        assert_eq!(server.emit_to(&format!("user-{number}"), "news"), 1);
        assert_eq!(client.event().0, "news");
    }
}
