//! emptyDir: a directory of the pod's own, on disk, in memory or in huge pages.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod};
use nix::mount::{MsFlags, mount};

use super::ownership::Ownership;
use super::{VolumeError, mounts};
use crate::resources::amount;
use crate::resources::pod::{Which, total, whole};

pub const PLUGIN: &str = "kubernetes.io/empty-dir";
const MODE: u32 = 0o777;

/// What is below the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Medium {
    Disk,
    /// tmpfs of at most this many bytes (0: the kernel's default).
    Memory(i64),
    /// hugetlbfs with this page size.
    HugePages(Option<String>),
}

/// Reads the source; a memory-backed volume is never larger than the pod's memory.
pub fn medium(pod: &Pod, source: &EmptyDirVolumeSource, node_memory: i64) -> Result<Medium, VolumeError> {
    match source.medium.as_deref().unwrap_or_default() {
        "" => Ok(Medium::Disk),
        "Memory" => {
            let limits = total(pod, Which::Limits);
            let of_pod = limits.get("memory").map_or(node_memory, |milli| whole(*milli).min(node_memory));
            let asked = source.size_limit.as_ref().map(amount::value).filter(|bytes| *bytes > 0);
            Ok(Medium::Memory(asked.map_or(of_pod, |bytes| bytes.min(of_pod))))
        }
        "HugePages" => Ok(Medium::HugePages(None)),
        other => match other.strip_prefix("HugePages-") {
            Some(size) => Ok(Medium::HugePages(Some(size.to_owned()))),
            None => Err(VolumeError::Invalid(format!("unknown storage medium {other:?}"))),
        },
    }
}

/// Makes (or finds) the directory. Idempotent: what a running pod has in it stays.
pub fn set_up(dir: &Path, medium: &Medium, owner: &Ownership) -> Result<(), VolumeError> {
    let fresh = make_open_directory(dir)?;
    if let Some((kind, options)) = mount_options(medium)
        && !mounts::has_own_filesystem(dir)?
    {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some(kind), dir, Some(kind), flags, Some(options.as_str()))
            .map_err(|errno| VolumeError::io("mount", dir)(errno.into()))?;
        set_mode(dir)?;
        return owner.apply(dir);
    }
    if fresh { owner.apply(dir) } else { Ok(()) }
}

fn mount_options(medium: &Medium) -> Option<(&'static str, String)> {
    match medium {
        Medium::Disk => None,
        Medium::Memory(0) => Some(("tmpfs", "mode=0777".to_owned())),
        Medium::Memory(bytes) => Some(("tmpfs", format!("mode=0777,size={bytes}"))),
        Medium::HugePages(None) => Some(("hugetlbfs", String::new())),
        Medium::HugePages(Some(size)) => {
            Some(("hugetlbfs", format!("pagesize={}", size.trim_end_matches('i'))))
        }
    }
}

/// `true` when it was not there before.
pub fn make_open_directory(dir: &Path) -> Result<bool, VolumeError> {
    if let Some(parent) = dir.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(parent)
            .map_err(VolumeError::io("create directory", parent))?;
    }
    match fs::create_dir(dir) {
        Ok(()) => set_mode(dir).map(|()| true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(VolumeError::io("create directory", dir)(error)),
    }
}

fn set_mode(dir: &Path) -> Result<(), VolumeError> {
    fs::set_permissions(dir, fs::Permissions::from_mode(MODE)).map_err(VolumeError::io("chmod", dir))
}
