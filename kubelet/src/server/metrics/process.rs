//! The agent's own process and version.

use std::fs;

use super::page::Page;

pub fn write(page: &mut Page, version: &str) {
    let labels =
        [("git_version", version), ("major", "1"), ("minor", "37"), ("platform", std::env::consts::OS)];
    page.family(
        "kubernetes_build_info",
        "gauge",
        "[ALPHA] A metric with a constant '1' value labeled by major, minor, git version and platform of this build.",
    );
    page.sample("kubernetes_build_info", &labels, 1.0);
    let Ok(stat) = fs::read_to_string("/proc/self/stat") else { return };
    // The name in the second field may have blanks, so that counting begins behind it.
    let fields: Vec<u64> = stat
        .rsplit(") ")
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    let field = |index: usize| fields.get(index).copied().unwrap_or(0) as f64;
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100) as f64;
    let page_size =
        nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096) as f64;
    let help = "Total user and system CPU time spent in seconds.";
    page.family("process_cpu_seconds_total", "counter", help);
    page.sample("process_cpu_seconds_total", &[], (field(11) + field(12)) / ticks);
    page.family("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.");
    page.sample("process_resident_memory_bytes", &[], field(21) * page_size);
    page.family("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.");
    page.sample("process_virtual_memory_bytes", &[], field(20));
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        page.family("process_open_fds", "gauge", "Number of open file descriptors.");
        page.sample("process_open_fds", &[], open.count() as f64);
    }
}
