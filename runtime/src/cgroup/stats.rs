//! What a cgroup uses.

use std::path::Path;

use super::mounts::Hierarchy;
use super::read_number;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    pub cpu_usage_nanos: u64,
    pub memory_usage: u64,
    /// Usage without file pages that nobody used lately: what eviction and `kubectl top` look at.
    pub memory_working_set: u64,
    pub memory_rss: u64,
    pub memory_page_faults: u64,
    pub memory_major_page_faults: u64,
    pub processes: u64,
}

impl Stats {
    pub(super) fn add(&mut self, hierarchy: &Hierarchy, directory: &Path, root: bool) {
        if hierarchy.has("memory") {
            self.add_memory(hierarchy, directory, root);
        }
        if hierarchy.has("cpuacct") {
            self.cpu_usage_nanos = read_number(directory, "cpuacct.usage").unwrap_or(0);
        } else if hierarchy.unified {
            self.cpu_usage_nanos = keyed(directory, "cpu.stat", "usage_usec") * 1000;
        }
        if hierarchy.has("pids") {
            // The root of either version has no such file: everything runs there.
            self.processes = read_number(directory, "pids.current").unwrap_or(0);
        }
    }

    fn add_memory(&mut self, hierarchy: &Hierarchy, directory: &Path, root: bool) {
        let (usage, prefix, rss) = if hierarchy.unified {
            ("memory.current", "", "anon")
        } else {
            ("memory.usage_in_bytes", "total_", "total_rss")
        };
        let stat = |key: &str| keyed(directory, "memory.stat", key);
        self.memory_usage = match read_number(directory, usage) {
            Some(bytes) => bytes,
            None if root => used_by_machine(),
            None => 0,
        };
        let inactive = stat(&format!("{prefix}inactive_file"));
        self.memory_working_set = self.memory_usage.saturating_sub(inactive);
        self.memory_rss = stat(rss);
        self.memory_page_faults = stat(&format!("{prefix}pgfault"));
        self.memory_major_page_faults = stat(&format!("{prefix}pgmajfault"));
    }
}

/// One value of a `key value` file.
fn keyed(directory: &Path, file: &str, key: &str) -> u64 {
    let text = std::fs::read_to_string(directory.join(file)).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok()).unwrap_or(0)
}

fn used_by_machine() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kibibytes = |key: &str| -> u64 {
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    };
    kibibytes("MemTotal:").saturating_sub(kibibytes("MemFree:")) * 1024
}
