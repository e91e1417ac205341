//! Where cgroup hierarchies are mounted.

use std::io;
use std::path::{Path, PathBuf};

/// A mounted hierarchy and the controllers it has.
#[derive(Debug, Clone)]
pub struct Hierarchy {
    pub mount: PathBuf,
    pub controllers: Vec<String>,
    /// cgroup version 2.
    pub unified: bool,
}

/// Version 1 controllers that processes of containers join.
const V1_CONTROLLERS: [&str; 12] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
];

impl Hierarchy {
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|c| c == controller)
    }

    pub fn directory(&self, path: &str) -> PathBuf {
        self.mount.join(path.trim_start_matches('/'))
    }

    /// Whether a process with this /proc/PID/cgroup is in this hierarchy's root.
    pub fn holds_at_root(&self, membership: &str) -> bool {
        membership.lines().any(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { return false };
            let ours = if self.unified {
                controllers.is_empty()
            } else {
                controllers.split(',').any(|controller| self.has(controller))
            };
            ours && path == "/"
        })
    }
}

pub fn hierarchies() -> io::Result<Vec<Hierarchy>> {
    Ok(parse(&std::fs::read_to_string("/proc/self/mountinfo")?, |mount| {
        std::fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default()
    }))
}

/// A version 2 tree counts only if it has controllers; beside version 1 it usually has none.
fn parse(mountinfo: &str, unified_controllers: impl Fn(&Path) -> String) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let Some(mount) = left.split(' ').nth(4).map(PathBuf::from) else { continue };
        let mut right = right.split(' ');
        let (kind, options) = (right.next(), right.nth(1).unwrap_or_default());
        let (unified, controllers): (bool, Vec<String>) = match kind {
            Some("cgroup") => (
                false,
                options.split(',').filter(|o| V1_CONTROLLERS.contains(o)).map(str::to_owned).collect(),
            ),
            Some("cgroup2") => {
                (true, unified_controllers(&mount).split_whitespace().map(str::to_owned).collect())
            }
            _ => continue,
        };
        let known = found.iter().any(|h| h.unified == unified && h.controllers == controllers);
        if !controllers.is_empty() && !known {
            found.push(Hierarchy { mount, controllers, unified });
        }
    }
    // Both kinds can hold a controller each only while an administrator moves them; version 1 rules then, as in
    // runc's hybrid mode.
    if found.iter().any(|hierarchy| !hierarchy.unified && hierarchy.has("memory")) {
        found.retain(|hierarchy| !hierarchy.unified);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mixed_layout_is_version_one() {
        let text = "30 20 0:1 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
                    31 20 0:2 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                    32 20 0:3 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                    33 20 0:4 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n";
        let found = parse(text, |_| String::new());
        assert_eq!(found.len(), 2);
        assert!(found[0].has("cpuacct") && found[1].has("memory") && !found[1].unified);
        assert!(found[1].holds_at_root("3:memory:/\n"));
        assert!(!found[1].holds_at_root("3:memory:/system.slice\n"));
    }

    #[test]
    fn the_unified_layout_is_version_two() {
        let text = "30 20 0:1 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";
        let found = parse(text, |_| "cpu memory pids\n".to_owned());
        assert!(found.len() == 1 && found[0].unified && found[0].has("pids"));
    }
}
