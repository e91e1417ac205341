//! What the node has left, by upstream's signals.

use std::collections::HashMap;
use std::fs;

use super::Shortage;
use crate::agent::Agent;
use crate::stats::disk::{FileSystem, file_system};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    MemoryAvailable,
    NodeFsAvailable,
    NodeFsInodesFree,
    ImageFsAvailable,
    ImageFsInodesFree,
    PidAvailable,
}

impl Signal {
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "memory.available" => Self::MemoryAvailable,
            "nodefs.available" => Self::NodeFsAvailable,
            "nodefs.inodesFree" => Self::NodeFsInodesFree,
            "imagefs.available" => Self::ImageFsAvailable,
            "imagefs.inodesFree" => Self::ImageFsInodesFree,
            "pid.available" => Self::PidAvailable,
            _ => return None,
        })
    }

    pub fn shortage(self) -> Shortage {
        match self {
            Self::MemoryAvailable => Shortage::Memory,
            Self::PidAvailable => Shortage::Pid,
            _ => Shortage::Disk,
        }
    }

    /// The name messages give to what is short.
    pub fn resource(self) -> &'static str {
        match self {
            Self::MemoryAvailable => "memory",
            Self::NodeFsAvailable | Self::ImageFsAvailable => "ephemeral-storage",
            Self::NodeFsInodesFree | Self::ImageFsInodesFree => "inodes",
            Self::PidAvailable => "pids",
        }
    }

    /// Memory first.
    pub fn urgency(self) -> u8 {
        u8::from(self != Self::MemoryAvailable)
    }
}

/// Bytes, inodes or processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    pub available: i64,
    pub capacity: i64,
}

impl Observation {
    fn new(available: u64, capacity: u64) -> Self {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        Self { available: signed(available), capacity: signed(capacity) }
    }
}

/// What can be told is in it.
pub async fn node(agent: &Agent) -> HashMap<Signal, Observation> {
    let mut found = HashMap::new();
    if let Ok(whole) = agent.runtime.cgroup_stats("/").await {
        let capacity = u64::try_from(agent.machine.memory_bytes).unwrap_or(0);
        // Pages of files read more than once count as working set, though the kernel gives them up before anything
        // is short: what it says itself is available counts where it is more.
        let left = capacity.saturating_sub(whole.memory_working_set).max(reclaimable());
        found.insert(Signal::MemoryAvailable, Observation::new(left, capacity));
    }
    let mut disk = |seen: Option<FileSystem>, bytes: Signal, inodes: Signal| {
        let Some(disk) = seen else { return };
        found.insert(bytes, Observation::new(disk.available, disk.capacity));
        // Some file systems make inodes as they go.
        if disk.inodes > 0 {
            found.insert(inodes, Observation::new(disk.inodes_free, disk.inodes));
        }
    };
    disk(file_system(&agent.config.root_dir), Signal::NodeFsAvailable, Signal::NodeFsInodesFree);
    if let Some(path) = agent.runtime.image_directory() {
        disk(file_system(&path), Signal::ImageFsAvailable, Signal::ImageFsInodesFree);
    }
    if let Some((processes, most)) = processes() {
        found.insert(Signal::PidAvailable, Observation::new(most.saturating_sub(processes), most));
    }
    found
}

/// Bytes the kernel could hand out without swapping.
fn reclaimable() -> u64 {
    memory_available(&fs::read_to_string("/proc/meminfo").unwrap_or_default())
}

fn memory_available(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0).saturating_mul(1024)
}

/// Processes and threads there are, and how many there may be.
pub fn processes() -> Option<(u64, u64)> {
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let most = number("/proc/sys/kernel/pid_max")?.min(number("/proc/sys/kernel/threads-max")?);
    let load = fs::read_to_string("/proc/loadavg").ok()?;
    // "0.20 0.18 0.12 1/80 11206": the fourth is runnable and all.
    let all = load.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()?;
    Some((all, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_can_give_is_read_in_bytes() {
        assert_eq!(memory_available("MemTotal: 10 kB\nMemAvailable:    8 kB\n"), 8192);
        assert_eq!(memory_available("MemTotal: 10 kB\n"), 0);
    }
}
