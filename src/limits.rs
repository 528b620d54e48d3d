//! What the kernel allows in all, beside what so many connections need of it.

use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};
use sockring::config::Settings;
use sockring::ring;
use sockring::ring::RingOptions;
use sockring::worker;

/// Open files of the machine that are not connections.
const OTHER_FILES: u64 = 4096;
/// Mappings of each table: two queues, a pool and its ring; and those that a process has anyway.
const MAPPINGS_PER_TABLE: u64 = 4;
const OTHER_MAPPINGS: u64 = 1000;
/// How many may wait at a listener.
const BACKLOG: u64 = 4096;

/// What is needed of the kernel.
#[derive(Clone, Copy, Debug)]
struct Need {
    connections: u64,
    /// Of all shards.
    tables: u64,
    /// Bytes of all rings.
    locked: u64,
}

/// What is too low for `connections_max`, in words; `None`: nothing is.
pub(crate) fn shortages(settings: &Settings, options: &RingOptions) -> Option<String> {
    let shards = u64::from(settings.shards);
    let need = Need {
        connections: settings.capacity.connections_max as u64,
        tables: u64::from(options.tables_max) * shards,
        locked: worker::locked_bytes(options).saturating_mul(shards),
    };
    let sentences = need.beyond(have);
    (!sentences.is_empty()).then(|| sentences.join("; "))
}

impl Need {
    /// Where there is less: what there is, what is needed, and of what. `have` finds a number by its name, and by its place
    /// where there are several; a limit that does not hold here is `None`.
    fn beyond(self, have: impl Fn(&str, usize) -> Option<u64>) -> Vec<String> {
        let Need { connections, tables, locked } = self;
        let mappings = tables * MAPPINGS_PER_TABLE + OTHER_MAPPINGS;
        let table = [
            (
                "fs.file-max",
                0,
                connections + OTHER_FILES,
                "files may be open: a WebSocket is one, if without a descriptor",
            ),
            ("vm.max_map_count", 0, mappings, "mappings are needed for all tables"),
            ("RLIMIT_MEMLOCK", 0, locked, "locked bytes are needed for all tables"),
            ("net.ipv4.tcp_mem", 2, connections, "pages are needed while an event is on its way to all"),
            (
                "net.ipv4.tcp_max_orphans",
                0,
                connections,
                "may end at once with bytes under way: what is beyond is reset",
            ),
            ("net.core.somaxconn", 0, BACKLOG, "may wait to be accepted"),
            ("net.netfilter.nf_conntrack_max", 0, connections, "connections are tracked by the firewall"),
        ];
        let is_short = |(name, place, need, of)| {
            let have = have(name, place).filter(|have| *have < need)?;
            Some(format!("{name} is {have}, and {need} {of}"))
        };
        table.into_iter().filter_map(is_short).collect()
    }
}

fn have(name: &str, place: usize) -> Option<u64> {
    let is_exempt = |from| capabilities(None).is_ok_and(|sets| sets.effective.contains(from));
    match name {
        "RLIMIT_MEMLOCK" => getrlimit(Resource::Memlock).current.filter(|_| ring::is_memory_limited()),
        "fs.file-max" if is_exempt(CapabilitySet::SYS_ADMIN) => None,
        _ => {
            let path = format!("/proc/sys/{}", name.replace('.', "/"));
            std::fs::read_to_string(path).ok()?.split_whitespace().nth(place)?.parse().ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_low_is_named_with_what_is_needed() {
        let need = Need { connections: 1_000_000, tables: 100, locked: 5_000_000 };
        let enough = |name: &str| match name {
            "vm.max_map_count" => 1_400,
            "RLIMIT_MEMLOCK" => 5_000_000,
            "net.core.somaxconn" => 4_096,
            "fs.file-max" => 1_004_096,
            _ => 1_000_000,
        };
        let names = [
            ("fs.file-max", "1004096 files"),
            ("vm.max_map_count", "1400 mappings"),
            ("RLIMIT_MEMLOCK", "5000000 locked bytes"),
            ("net.ipv4.tcp_mem", "1000000 pages"),
            ("net.ipv4.tcp_max_orphans", "1000000 may end"),
            ("net.core.somaxconn", "4096 may wait"),
            ("net.netfilter.nf_conntrack_max", "1000000 connections"),
        ];
        assert_eq!(need.beyond(|name, _| Some(enough(name))), [""; 0]);
        assert_eq!(need.beyond(|_, _| None), [""; 0], "what does not hold here is no limit");
        for (low, words) in names {
            let said = need.beyond(|name, place| {
                assert_eq!(place, if name == "net.ipv4.tcp_mem" { 2 } else { 0 });
                Some(enough(name) - u64::from(name == low))
            });
            let [said] = said.as_slice() else { panic!("{low}: {said:?}") };
            assert!(said.starts_with(&format!("{low} is {}, and {words}", enough(low) - 1)), "{said}");
        }
    }

    #[test]
    fn the_kernel_s_own_numbers_are_found() {
        assert!(have("net.core.somaxconn", 0).is_some_and(|number| number > 0));
        assert!(have("net.ipv4.tcp_rmem", 2) > have("net.ipv4.tcp_rmem", 0));
        assert_eq!(have("net.core.nothing", 0), None);
    }
}
