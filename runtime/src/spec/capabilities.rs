//! Capability names and sets.

use crate::cri::SecurityContext;
use crate::shim::launch::Capabilities;

/// In the order of their numbers.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What a container has unless the pod says otherwise.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// The bit of a name, with or without `CAP_`, in any case.
fn bit(name: &str) -> Option<u64> {
    let upper = name.to_ascii_uppercase();
    let plain = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES.iter().position(|known| *known == plain).map(|number| 1 << number)
}

fn is_all(name: &str) -> bool {
    name.eq_ignore_ascii_case("ALL") || name.eq_ignore_ascii_case("CAP_ALL")
}

/// Names of the set bits, `CAP_...`.
pub fn names(mask: u64) -> impl Iterator<Item = String> {
    NAMES
        .iter()
        .enumerate()
        .filter(move |(number, _)| mask & (1 << number) != 0)
        .map(|(_, name)| format!("CAP_{name}"))
}

/// The capabilities the container gets, within `bound`: our own bounding set. What is asked for and cannot be had
/// is left out with a warning.
pub fn capabilities(security: &SecurityContext, bound: u64, warnings: &mut Vec<String>) -> Capabilities {
    let mut mask =
        if security.privileged { u64::MAX } else { DEFAULT.iter().filter_map(|name| bit(name)).sum() };
    if !security.privileged {
        if security.add_capabilities.iter().any(|name| is_all(name)) {
            mask = u64::MAX;
        }
        if security.drop_capabilities.iter().any(|name| is_all(name)) {
            mask = 0;
        }
        let mut named = |names: &[String]| -> u64 {
            names.iter().filter(|name| !is_all(name)).fold(0, |mask, name| match bit(name) {
                Some(bit) => mask | bit,
                None => {
                    warnings.push(format!("unknown capability {name:?} is ignored"));
                    mask
                }
            })
        };
        let added = named(&security.add_capabilities);
        let dropped = named(&security.drop_capabilities);
        if added & !bound != 0 {
            let missing: Vec<String> = names(added & !bound).collect();
            warnings.push(format!("{} cannot be given: this node does not have it", missing.join(", ")));
        }
        mask = (mask | added) & !dropped;
    }
    mask &= bound;
    // Nothing is inheritable: it would come back on exec of files with inheritable bits.
    Capabilities { bounding: mask, effective: mask, permitted: mask, inheritable: 0, ambient: 0 }
}

/// This process's bounding set.
pub fn bounding_set() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("CapBnd:")?.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(add: &[&str], drop: &[&str], bound: u64) -> (u64, Vec<String>) {
        let strings = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let security = SecurityContext {
            add_capabilities: strings(add),
            drop_capabilities: strings(drop),
            ..Default::default()
        };
        let mut warnings = Vec::new();
        (capabilities(&security, bound, &mut warnings).bounding, warnings)
    }

    #[test]
    fn the_default_set_is_containerds() {
        assert_eq!(mask(&[], &[], u64::MAX).0, 0xa804_25fb);
    }

    #[test]
    fn all_dropped_and_one_added_leaves_one() {
        assert_eq!(mask(&["NET_BIND_SERVICE"], &["ALL"], u64::MAX).0, 1 << 10);
        assert_eq!(mask(&["ALL"], &["cap_chown"], u64::MAX).0, !1);
    }

    #[test]
    fn what_the_node_lacks_is_left_out_with_a_warning() {
        let (mask, warnings) = mask(&["SYS_RESOURCE", "NO_SUCH"], &["ALL"], !(1 << 24));
        assert_eq!(mask, 0);
        assert_eq!(warnings.len(), 2);
    }
}
