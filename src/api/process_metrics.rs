//! What the operating system says of this process, by the names that Prometheus' client libraries have for it.

use std::fs;
use std::sync::LazyLock;
use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

/// When the process was first asked, less what it had run then.
static STARTED: LazyLock<f64> = LazyLock::new(started);

/// Registers what can be found out.
pub(super) fn register(registry: &mut Registry) {
    let build = Info::new([("version", env!("CARGO_PKG_VERSION")), ("arch", std::env::consts::ARCH)]);
    registry.register("sockring_build", "What this program is", build);
    let gauges = [
        ("process_open_fds", "Open file descriptors", open_descriptors()),
        ("process_max_fds", "How many file descriptors may be open", getrlimit(Resource::Nofile).current),
        ("process_threads", "Threads", stat_field(20)),
        ("process_virtual_memory_bytes", "Address space that is in use", stat_field(23)),
        (
            "process_resident_memory_bytes",
            "Memory that is in use",
            stat_field(24).map(|pages| pages.saturating_mul(page_size() as u64)),
        ),
    ];
    for (name, help, value) in gauges {
        if let Some(value) = value {
            let gauge: Gauge = Gauge::default();
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            registry.register(name, help, gauge);
        }
    }
    let start = Gauge::<f64, AtomicU64>::default();
    start.set(*STARTED);
    registry.register("process_start_time_seconds", "When the process was started, in seconds since 1970", start);
    if let (Some(user), Some(system)) = (stat_field(14), stat_field(15)) {
        let seconds = Counter::<f64, AtomicU64>::default();
        seconds.inc_by((user + system) as f64 / clock_ticks_per_second() as f64);
        registry.register("process_cpu_seconds", "Processor time that was used", seconds);
    }
}

/// A field of `/proc/self/stat` by its number in proc_pid_stat(5), from 3 on: what is before may have spaces in it.
fn stat_field(number: usize) -> Option<u64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

/// Linux 6.2 and newer say how many they are; before that they are counted.
fn open_descriptors() -> Option<u64> {
    let folder = "/proc/self/fd";
    match fs::metadata(folder).ok()?.len() {
        0 => Some(fs::read_dir(folder).ok()?.count() as u64),
        count => Some(count),
    }
}

fn started() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let since_boot = fs::read_to_string("/proc/uptime").ok();
    let since_boot = since_boot.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    match (since_boot, stat_field(22)) {
        (Some(since_boot), Some(ticks)) => now - since_boot + ticks as f64 / clock_ticks_per_second() as f64,
        _ => now,
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn the_process_is_found_out_about() {
        let mut registry = Registry::default();
        register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).expect("a string can be written to");
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
            line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("{name} in {text}"))
        };
        assert!(value("process_open_fds") >= 3.0 && value("process_open_fds") < value("process_max_fds"));
        assert!(value("process_threads") >= 1.0);
        assert!(value("process_resident_memory_bytes") > 1e5);
        assert!(value("process_virtual_memory_bytes") > value("process_resident_memory_bytes"));
        assert!(value("process_cpu_seconds_total") >= 0.0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs_f64();
        assert!((0.0..3600.0).contains(&(now + 0.1 - value("process_start_time_seconds"))), "{text}");
        assert!(text.contains("sockring_build_info{version=\""), "{text}");
    }
}
