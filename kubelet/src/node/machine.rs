//! What the kernel says about this machine.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use crate::config::Machine;

/// Go's names, which the API uses.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// A file's one line; empty where there is no such file.
fn line(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

fn memory(meminfo: &str) -> Option<i64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<i64>().ok()?.checked_mul(1024)
}

fn os_name(os_release: &str) -> String {
    let name = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("Linux").trim_matches('"').to_owned()
}

/// `hugepages-2048kB` directories to `2Mi` and bytes.
fn hugepages() -> BTreeMap<String, i64> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let size =
            name.strip_prefix("hugepages-").and_then(|n| n.strip_suffix("kB")).and_then(|n| n.parse().ok());
        let Some(kibibytes) = size else { continue };
        let kibibytes: i64 = kibibytes;
        let count: i64 = line(&entry.path().join("nr_hugepages").display().to_string()).parse().unwrap_or(0);
        let unit = if kibibytes % (1024 * 1024) == 0 {
            format!("{}Gi", kibibytes / (1024 * 1024))
        } else if kibibytes % 1024 == 0 {
            format!("{}Mi", kibibytes / 1024)
        } else {
            format!("{kibibytes}Ki")
        };
        found.insert(unit, count.saturating_mul(kibibytes).saturating_mul(1024));
    }
    found
}

impl Machine {
    /// Reads /proc, /sys and /etc of this machine.
    pub fn read() -> io::Result<Self> {
        let memory_bytes = memory(&fs::read_to_string("/proc/meminfo")?)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/meminfo has no MemTotal"))?;
        let cpus = std::thread::available_parallelism()?.get();
        Ok(Self {
            milli_cpu: i64::try_from(cpus).unwrap_or(1) * 1000,
            memory_bytes,
            machine_id: line("/etc/machine-id"),
            system_uuid: line("/sys/class/dmi/id/product_uuid"),
            boot_id: line("/proc/sys/kernel/random/boot_id"),
            kernel_version: line("/proc/sys/kernel/osrelease"),
            os_image: os_name(&fs::read_to_string("/etc/os-release").unwrap_or_default()),
            architecture: architecture().to_owned(),
            hugepages: hugepages(),
        })
    }

    /// A made-up machine for simulated nodes.
    pub fn simulated(name: &str) -> Self {
        Self {
            milli_cpu: 32_000,
            memory_bytes: 256 << 30,
            machine_id: name.to_owned(),
            system_uuid: name.to_owned(),
            boot_id: name.to_owned(),
            kernel_version: "3.16.0-0.bpo.4-amd64".to_owned(),
            os_image: "knarr simulated node".to_owned(),
            architecture: architecture().to_owned(),
            hugepages: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_memory_and_processors() {
        let machine = Machine::read().expect("Linux has /proc");
        assert!(machine.memory_bytes > 0 && machine.milli_cpu >= 1000);
        assert!(!machine.kernel_version.is_empty());
    }

    #[test]
    fn names_are_read_from_their_files() {
        assert_eq!(memory("MemTotal:       16 kB\nMemFree: 1 kB\n"), Some(16384));
        assert_eq!(memory("x"), None);
        assert_eq!(
            os_name("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
            "Debian GNU/Linux 12 (bookworm)"
        );
    }
}
