//! Control files of cgroup version 2.

use std::path::Path;

use super::mounts::Hierarchy;
use super::{Error, Result, read_number, write, write_optional};
use crate::cri::Resources;

/// Creates the cgroup; controllers are enabled in all its parents, never in itself, since processes will live there.
pub fn create(hierarchy: &Hierarchy, path: &str) -> Result<()> {
    let mut directory = hierarchy.mount.clone();
    for element in path.split('/').filter(|element| !element.is_empty()) {
        enable_controllers(hierarchy, &directory)?;
        directory.push(element);
        match std::fs::create_dir(&directory) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(Error::Io { path: directory, source }),
        }
    }
    Ok(())
}

fn enable_controllers(hierarchy: &Hierarchy, directory: &Path) -> Result<()> {
    let file = "cgroup.subtree_control";
    let enabled = std::fs::read_to_string(directory.join(file))
        .map_err(|source| Error::Io { path: directory.join(file), source })?;
    let available = std::fs::read_to_string(directory.join("cgroup.controllers"))
        .map_err(|source| Error::Io { path: directory.to_owned(), source })?;
    let wanted: Vec<String> = available
        .split_whitespace()
        .filter(|controller| hierarchy.has(controller))
        .filter(|controller| !enabled.split_whitespace().any(|e| e == *controller))
        .map(|controller| format!("+{controller}"))
        .collect();
    if wanted.is_empty() { Ok(()) } else { write(directory, file, &wanted.join(" ")) }
}

pub fn apply(hierarchy: &Hierarchy, directory: &Path, resources: &Resources, reset: bool) -> Result<()> {
    if hierarchy.has("cpu") {
        if resources.cpu_shares > 0 || reset {
            let shares = if resources.cpu_shares > 0 { resources.cpu_shares } else { 1024 };
            write(directory, "cpu.weight", &weight(shares).to_string())?;
        }
        if resources.cpu_quota > 0 || reset {
            let period = if resources.cpu_period > 0 { resources.cpu_period } else { 100_000 };
            write(directory, "cpu.max", &format!("{} {period}", maximum(resources.cpu_quota)))?;
        }
    }
    if hierarchy.has("memory") && (resources.memory_limit > 0 || reset) {
        apply_memory(directory, resources)?;
    }
    if hierarchy.has("pids") && (resources.pids_limit > 0 || reset) {
        write(directory, "pids.max", &maximum(resources.pids_limit))?;
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
            write_optional(directory, &format!("hugetlb.{size}.max"), &bytes.to_string())?;
            write_optional(directory, &format!("hugetlb.{size}.rsvd.max"), &bytes.to_string())?;
        }
    }
    for (file, value) in &resources.unified {
        // The keys come from configuration: a file of this directory and nothing else.
        if file.contains('/') || !file.contains('.') {
            return Err(Error::InvalidPath(file.clone()));
        }
        write(directory, file, value)?;
    }
    Ok(())
}

fn maximum(value: i64) -> String {
    if value > 0 { value.to_string() } else { "max".to_owned() }
}

/// Version 2 limits swap by itself, CRI the sum.
fn apply_memory(directory: &Path, resources: &Resources) -> Result<()> {
    let swap = match (resources.memory_limit, resources.memory_swap_limit) {
        (limit, _) if limit <= 0 => "max".to_owned(),
        (_, 0) => "0".to_owned(),
        (_, both) if both < 0 => "max".to_owned(),
        (limit, both) => (both - limit).max(0).to_string(),
    };
    // Absent where the kernel has no swap accounting.
    write_optional(directory, "memory.swap.max", &swap)?;
    write(directory, "memory.max", &maximum(resources.memory_limit))
}

/// cpu.shares (2 to 262144, default 1024) to cpu.weight (1 to 10000, default 100): the quadratic function in the
/// logarithms that meets both ends and the default, as runc has it since 1.3.2.
fn weight(shares: i64) -> u64 {
    match shares {
        ..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let l = (shares as f64).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            10f64.powf(exponent).ceil() as u64
        }
    }
}

/// The inverse of [`weight`], to the nearest share.
fn shares(weight: u64) -> i64 {
    match weight {
        ..=1 => 2,
        10_000.. => 262_144,
        _ => {
            let exponent = (weight as f64).log10();
            let c = (exponent + 7.0 / 34.0) * 612.0;
            let l = (-125.0 + (125.0f64 * 125.0 + 4.0 * c).sqrt()) / 2.0;
            2f64.powf(l).round() as i64
        }
    }
}

pub fn read_limits(directory: &Path, resources: &mut Resources) {
    resources.cpu_shares = read_number(directory, "cpu.weight").map_or(0, shares);
    if let Ok(text) = std::fs::read_to_string(directory.join("cpu.max")) {
        let mut parts = text.split_whitespace();
        resources.cpu_quota = parts.next().and_then(|quota| quota.parse().ok()).unwrap_or(-1);
        resources.cpu_period = parts.next().and_then(|period| period.parse().ok()).unwrap_or(0);
    }
    resources.memory_limit = read_number(directory, "memory.max").unwrap_or(0) as i64;
    resources.pids_limit = read_number(directory, "pids.max").unwrap_or(0) as i64;
    let text =
        |file: &str| std::fs::read_to_string(directory.join(file)).unwrap_or_default().trim().to_owned();
    resources.cpuset_cpus = text("cpuset.cpus");
    resources.cpuset_mems = text("cpuset.mems");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights_as_runc_converts_them() {
        for (given, expected) in [(2, 1), (1024, 100), (262_144, 10_000), (10, 4), (100, 17), (512, 59)] {
            assert_eq!(weight(given), expected, "{given} shares");
        }
    }

    #[test]
    fn a_weight_reads_back_as_shares_of_that_weight() {
        for given in [2, 100, 512, 1024, 4096, 262_144] {
            let back = shares(weight(given));
            assert!(weight(back).abs_diff(weight(given)) <= 1, "{given} came back as {back}");
        }
    }
}
