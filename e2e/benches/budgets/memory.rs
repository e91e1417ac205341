//! What the kernel says of a process's memory, in bytes.

use anyhow::Context;

pub fn resident(pid: u32) -> anyhow::Result<u64> {
    read(pid, "VmRSS:")
}

/// The most there was since the last [`forget_peak`].
pub fn peak(pid: u32) -> anyhow::Result<u64> {
    read(pid, "VmHWM:")
}

pub fn forget_peak(pid: u32) -> anyhow::Result<()> {
    // proc_pid_clear_refs(5): resets the peak to what is resident now.
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").context("forgetting the peak")
}

fn read(pid: u32, field: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let line = line.with_context(|| format!("a {field} line"))?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024)
}
