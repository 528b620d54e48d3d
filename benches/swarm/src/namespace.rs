//! A network namespace of its own, in which all of a run happens. It ends with the last process in it.

use std::env;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::tun::Tun;

/// Where the server is, for the clients. All of 10.0.0.0/8 is on the device.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 255, 255, 254);
const DEVICE: &str = "swarm";
/// Set for the process that is inside.
pub const INSIDE: &str = "SWARM_INSIDE";
/// One program reads for all clients. What is on its way to a million of them takes seconds, and is not to be sent again.
const RETRANSMIT_AFTER: &str = "10s";
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const DEVICE_NODE: &str = "/dev/net/tun";

/// Begins this program anew in a namespace of its own, unless it is in one.
pub fn enter() -> Result<(), String> {
    if env::var_os(INSIDE).is_some() {
        return Ok(());
    }
    let capabilities = capabilities();
    if [CAP_NET_ADMIN, CAP_SYS_ADMIN].iter().any(|bit| capabilities >> bit & 1 == 0) {
        return Err("needs CAP_NET_ADMIN and CAP_SYS_ADMIN, as root has them: its clients are on a TUN device in a \
                    network namespace of their own"
            .into());
    }
    if !fs::exists(DEVICE_NODE).unwrap_or(false) {
        return Err(format!("needs {DEVICE_NODE}, which is not here: its clients are on a TUN device"));
    }
    let program = env::current_exe().map_err(|error| format!("its own path: {error}"))?;
    let error = Command::new("unshare")
        .arg("--net")
        .arg("--")
        .arg(program)
        .args(env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    Err(format!("unshare, of util-linux: {error}"))
}

fn capabilities() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let hexadecimal = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    hexadecimal.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0)
}

/// The clients' device, which holds so many packets that they have still to read.
pub fn device(queue_packets: u32) -> Result<Tun, String> {
    let tun = Tun::create(DEVICE).map_err(|error| format!("the TUN device: {error}"))?;
    let address = format!("{SERVER}/8");
    ip(&["link", "set", "lo", "up"])?;
    ip(&["address", "add", &address, "dev", DEVICE])?;
    ip(&["link", "set", DEVICE, "txqueuelen", &queue_packets.to_string(), "up"])?;
    ip(&["route", "replace", "10.0.0.0/8", "dev", DEVICE, "src", &SERVER.to_string(), "rto_min", RETRANSMIT_AFTER])?;
    Ok(tun)
}

fn ip(words: &[&str]) -> Result<(), String> {
    let status = Command::new("ip").args(words).status().map_err(|error| format!("ip, of iproute2: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("`ip {}` failed", words.join(" "))) }
}

/// Packets that found no room in the device's queue.
pub fn dropped_packets() -> u64 {
    let devices = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    let line = devices.lines().find_map(|line| line.trim_start().strip_prefix(DEVICE)?.strip_prefix(':'));
    // Eight columns of what came, then bytes, packets, errors and drops of what went.
    line.and_then(|line| line.split_whitespace().nth(11)?.parse().ok()).unwrap_or(0)
}
