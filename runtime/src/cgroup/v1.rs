//! Control files of cgroup version 1.

use std::path::Path;

use super::devices::Rule;
use super::mounts::Hierarchy;
use super::{Error, Result, read_number, write, write_optional};
use crate::cri::Resources;

pub fn create(hierarchy: &Hierarchy, path: &str) -> Result<()> {
    let mut directory = hierarchy.mount.clone();
    for element in path.split('/').filter(|element| !element.is_empty()) {
        let parent = directory.clone();
        directory.push(element);
        match std::fs::create_dir(&directory) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
            Err(source) => return Err(Error::Io { path: directory, source }),
        }
        if hierarchy.has("cpuset") {
            // Empty when new, and then no process can join.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let inherited = std::fs::read_to_string(parent.join(file))
                    .map_err(|source| Error::Io { path: parent.join(file), source })?;
                write(&directory, file, inherited.trim())?;
            }
        }
    }
    Ok(())
}

pub fn apply(hierarchy: &Hierarchy, directory: &Path, resources: &Resources, reset: bool) -> Result<()> {
    if hierarchy.has("cpu") {
        apply_cpu(directory, resources, reset)?;
    }
    if hierarchy.has("memory") {
        apply_memory(directory, resources, reset)?;
    }
    if hierarchy.has("pids") && (resources.pids_limit > 0 || reset) {
        write(directory, "pids.max", &limit(resources.pids_limit, "max"))?;
    }
    if hierarchy.has("cpuset") {
        for (file, value) in
            [("cpuset.cpus", &resources.cpuset_cpus), ("cpuset.mems", &resources.cpuset_mems)]
        {
            if !value.is_empty() {
                write(directory, file, value)?;
            }
        }
    }
    if hierarchy.has("hugetlb") {
        for (size, bytes) in &resources.hugepage_limits {
            write_optional(directory, &format!("hugetlb.{size}.limit_in_bytes"), &bytes.to_string())?;
        }
    }
    Ok(())
}

fn limit(value: i64, none: &str) -> String {
    if value > 0 { value.to_string() } else { none.to_owned() }
}

fn apply_cpu(directory: &Path, resources: &Resources, reset: bool) -> Result<()> {
    if resources.cpu_shares > 0 {
        write(directory, "cpu.shares", &resources.cpu_shares.to_string())?;
    } else if reset {
        write(directory, "cpu.shares", "1024")?;
    }
    if resources.cpu_quota > 0 {
        let period = if resources.cpu_period > 0 { resources.cpu_period } else { 100_000 };
        // The old quota may not fit the new period, nor the new quota the old period.
        write_optional(directory, "cpu.cfs_quota_us", "-1")?;
        write_optional(directory, "cpu.cfs_period_us", &period.to_string())?;
        write_optional(directory, "cpu.cfs_quota_us", &resources.cpu_quota.to_string())?;
    } else if reset {
        write_optional(directory, "cpu.cfs_quota_us", "-1")?;
    }
    Ok(())
}

/// The limit with swap is never below the limit without, so the order depends on the direction.
fn apply_memory(directory: &Path, resources: &Resources, reset: bool) -> Result<()> {
    if resources.memory_limit <= 0 && !reset {
        return Ok(());
    }
    let memory = limit(resources.memory_limit, "-1");
    let swap = limit(resources.memory_swap_limit, &memory);
    let (plain, with_swap) = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes");
    if write(directory, plain, &memory).is_ok() {
        return write_optional(directory, with_swap, &swap);
    }
    write_optional(directory, with_swap, &swap)?;
    write(directory, plain, &memory)
}

pub fn restrict_devices(directory: &Path, rules: &[Rule]) -> Result<()> {
    if rules.iter().any(Rule::is_everything) {
        return write(directory, "devices.allow", "a");
    }
    write(directory, "devices.deny", "a")?;
    rules.iter().try_for_each(|rule| write(directory, "devices.allow", &rule.to_string()))
}

/// cgroup v1's value for "no limit", less the rounding to pages of any size.
const UNLIMITED: u64 = i64::MAX as u64 - (1 << 20);

pub fn read_limits(hierarchy: &Hierarchy, directory: &Path, resources: &mut Resources) {
    let number = |file: &str| read_number(directory, file).unwrap_or(0) as i64;
    if hierarchy.has("cpu") {
        resources.cpu_shares = number("cpu.shares");
        resources.cpu_period = number("cpu.cfs_period_us");
        resources.cpu_quota = number("cpu.cfs_quota_us");
    }
    if hierarchy.has("memory") {
        resources.memory_limit = match read_number(directory, "memory.limit_in_bytes") {
            Some(bytes) if bytes < UNLIMITED => bytes as i64,
            _ => 0,
        };
    }
    if hierarchy.has("pids") {
        resources.pids_limit = number("pids.max");
    }
    if hierarchy.has("cpuset") {
        let text =
            |file: &str| std::fs::read_to_string(directory.join(file)).unwrap_or_default().trim().to_owned();
        resources.cpuset_cpus = text("cpuset.cpus");
        resources.cpuset_mems = text("cpuset.mems");
    }
}
