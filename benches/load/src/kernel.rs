//! What the kernel says of the server: CPU time and memory of its processes, and the slabs of all.

use std::collections::BTreeMap;
use std::fs;
use std::io;

/// CPU time of the server's processes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    /// By the scheduler's clock, of all tasks that live.
    pub ns: u64,
    /// Sampled, in ticks: good for the ratio of the two.
    pub user_ticks: u64,
    pub system_ticks: u64,
}

impl Cpu {
    /// Of these processes together. Tasks that have ended are not in it.
    pub fn of(pids: &[u32]) -> io::Result<Cpu> {
        let mut cpu = Cpu::default();
        for pid in pids {
            for task in fs::read_dir(format!("/proc/{pid}/task"))? {
                // A task may end while it is looked at.
                let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
                cpu.ns += text.split_whitespace().next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
            }
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            // The name in parentheses may hold anything; the fields after it are counted from 3 (proc(5)).
            let after = stat.rsplit(')').next().unwrap_or_default();
            let mut fields = after.split_whitespace().skip(11).map(|field| field.parse::<u64>().unwrap_or(0));
            cpu.user_ticks += fields.next().unwrap_or(0);
            cpu.system_ticks += fields.next().unwrap_or(0);
        }
        Ok(cpu)
    }

    pub fn since(&self, before: &Cpu) -> Cpu {
        Cpu {
            ns: self.ns.saturating_sub(before.ns),
            user_ticks: self.user_ticks.saturating_sub(before.user_ticks),
            system_ticks: self.system_ticks.saturating_sub(before.system_ticks),
        }
    }

    pub fn seconds(&self) -> f64 {
        self.ns as f64 / 1e9
    }

    /// The share of it that was spent in user space, by ticks.
    pub fn user_share(&self) -> f64 {
        match self.user_ticks + self.system_ticks {
            0 => 0.0,
            all => self.user_ticks as f64 / all as f64,
        }
    }
}

/// Bytes that these processes have to themselves, with their part of what they share.
pub fn pss_bytes(pids: &[u32]) -> io::Result<u64> {
    let mut bytes = 0;
    for pid in pids {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        bytes += line.and_then(kilobytes).unwrap_or(0);
    }
    Ok(bytes)
}

fn kilobytes(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// What one cache of the kernel holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cache {
    /// Objects in use, times their size.
    pub object_bytes: i64,
    /// Pages that the cache has taken.
    pub page_bytes: i64,
}

/// All slab caches of the machine, by name.
#[derive(Clone, Debug, Default)]
pub struct Slabs(BTreeMap<String, Cache>);

const PAGE_BYTES: i64 = 4096;
const OF_CONNECTIONS: [&str; 3] = ["TCP", "TCPv6", "sock_inode_cache"];

/// Whether the cache belongs to file systems and processes, which change by whatever else the machine does.
pub fn is_of_files_or_processes(cache: &str) -> bool {
    const PREFIXES: [&str; 18] = [
        "anon_vma",
        "bio-",
        "buffer_head",
        "cred",
        "ext4_",
        "extent_status",
        "files_cache",
        "fs_cache",
        "inode_cache",
        "jbd2_",
        "maple_node",
        "mm_struct",
        "pid",
        "proc_inode",
        "radix_tree",
        "signal_cache",
        "task_",
        "vm_area",
    ];
    PREFIXES.iter().any(|prefix| cache.starts_with(prefix))
}

impl Slabs {
    /// Needs root.
    pub fn read() -> io::Result<Slabs> {
        Ok(Slabs::parse(&fs::read_to_string("/proc/slabinfo")?))
    }

    /// `name active_objs num_objs objsize objperslab pagesperslab : tunables ... : slabdata active_slabs num_slabs ...`
    fn parse(text: &str) -> Slabs {
        let mut caches = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("slabinfo")) {
            let mut fields = line.split_whitespace();
            let Some(name) = fields.next() else { continue };
            let numbers: Vec<i64> = fields.filter_map(|field| field.parse().ok()).collect();
            // The three tunables lie between.
            let [active, _, size, _, pages, _, _, _, _, slabs, ..] = numbers[..] else { continue };
            let cache = Cache { object_bytes: active * size, page_bytes: slabs * pages * PAGE_BYTES };
            caches.insert(name.to_owned(), cache);
        }
        Slabs(caches)
    }

    /// Bytes in the caches that every connection has a part of.
    pub fn connection_bytes(&self) -> i64 {
        OF_CONNECTIONS.iter().filter_map(|name| self.0.get(*name)).map(|cache| cache.object_bytes).sum()
    }

    /// What has come since, cache by cache, without those that have not changed; most first.
    pub fn growth(&self, before: &Slabs) -> Vec<(String, Cache)> {
        let mut growth: Vec<(String, Cache)> = Vec::new();
        for (name, now) in &self.0 {
            let then = before.0.get(name).copied().unwrap_or_default();
            let cache = Cache {
                object_bytes: now.object_bytes - then.object_bytes,
                page_bytes: now.page_bytes - then.page_bytes,
            };
            if cache != Cache::default() {
                growth.push((name.clone(), cache));
            }
        }
        growth.sort_by_key(|(_, cache)| -cache.object_bytes);
        growth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "slabinfo - version: 2.1\n\
        # name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables ...\n\
        TCP                  120    130   2368   13    8 : tunables    0    0    0 : slabdata     10     10      0\n\
        filp                  10     10    192   21    1 : tunables    0    0    0 : slabdata      1      1      0\n";

    #[test]
    fn growth_is_counted_in_objects_and_pages() {
        let before = Slabs::parse(BEFORE);
        let after =
            Slabs::parse(&BEFORE.replace("120    130", "220    230").replace("10     10      0", "18     18      0"));
        let expected = Cache { object_bytes: 100 * 2368, page_bytes: 8 * 8 * 4096 };
        assert_eq!(after.growth(&before), vec![("TCP".to_owned(), expected)]);
    }

    #[test]
    fn this_process_has_cpu_time_and_memory() {
        let pids = [std::process::id()];
        assert!(pss_bytes(&pids).unwrap() > 0);
        assert!(Cpu::of(&pids).unwrap().ns > 0);
    }
}
