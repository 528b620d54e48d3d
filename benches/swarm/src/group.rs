//! A control group of the server's own, of either version: a part of the processor, and a limit of memory.

use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";
const PERIOD_US: u32 = 100_000;

/// How much of the processor it may have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Quota {
    Unlimited,
    OfCore(f64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// It is removed when it is dropped; its process has to be gone by then.
#[derive(Debug)]
pub struct Group {
    version: Version,
    cpu: PathBuf,
    memory: PathBuf,
}

impl Group {
    /// Makes one of this name and puts a process into it.
    pub fn create(name: &str, pid: u32) -> Result<Group, String> {
        let root = Path::new(ROOT);
        let version = if root.join("cgroup.controllers").exists() { Version::Two } else { Version::One };
        let group = match version {
            Version::Two => {
                // The root's children may have been given them already.
                let _ = fs::write(root.join("cgroup.subtree_control"), "+cpu +memory");
                Group { version, cpu: root.join(name), memory: root.join(name) }
            }
            Version::One => Group { version, cpu: root.join("cpu").join(name), memory: root.join("memory").join(name) },
        };
        for folder in [&group.cpu, &group.memory] {
            fs::create_dir_all(folder).map_err(|error| format!("a control group, {}: {error}", folder.display()))?;
            write(&folder.join("cgroup.procs"), &pid.to_string())?;
        }
        Ok(group)
    }

    pub fn set_quota(&self, quota: Quota) -> Result<(), String> {
        let part_us = match quota {
            Quota::Unlimited => None,
            Quota::OfCore(part) => Some((f64::from(PERIOD_US) * part) as u32),
        };
        match (self.version, part_us) {
            (Version::Two, None) => write(&self.cpu.join("cpu.max"), "max"),
            (Version::Two, Some(us)) => write(&self.cpu.join("cpu.max"), &format!("{us} {PERIOD_US}")),
            (Version::One, None) => write(&self.cpu.join("cpu.cfs_quota_us"), "-1"),
            (Version::One, Some(us)) => {
                write(&self.cpu.join("cpu.cfs_period_us"), &PERIOD_US.to_string())?;
                write(&self.cpu.join("cpu.cfs_quota_us"), &us.to_string())
            }
        }
    }

    pub fn set_memory_max(&self, bytes: u64) -> Result<(), String> {
        write(&self.memory.join(self.name("memory.limit_in_bytes", "memory.max")), &bytes.to_string())
    }

    pub fn memory_bytes(&self) -> Result<u64, String> {
        let path = self.memory.join(self.name("memory.usage_in_bytes", "memory.current"));
        number(&read(&path)?).ok_or_else(|| format!("{}: no number", path.display()))
    }

    /// How often it has met its limit of memory.
    pub fn times_at_memory_max(&self) -> Result<u64, String> {
        let said = read(&self.memory.join(self.name("memory.failcnt", "memory.events")))?;
        let line = said.lines().find_map(|line| line.strip_prefix("max ")).unwrap_or(&said);
        Ok(number(line).unwrap_or(0))
    }

    fn name(&self, one: &'static str, two: &'static str) -> &'static str {
        match self.version {
            Version::One => one,
            Version::Two => two,
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for folder in [&self.cpu, &self.memory] {
            // With the second version they are the same.
            let _ = fs::remove_dir(folder);
        }
    }
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
