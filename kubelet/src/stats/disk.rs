//! File systems, and what directories take on them.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Pod, Volume};
use knarr_runtime::cri::DiskUsage;
use knarr_runtime::usage::directory_usage;

use super::VolumeUse;
use crate::agent::Agent;
use crate::pod::spec;
use crate::volumes::{Mounted, claim};

/// A mounted file system, in bytes and inodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystem {
    pub capacity: u64,
    pub available: u64,
    pub inodes: u64,
    pub inodes_free: u64,
    /// Which one it is.
    pub device: u64,
}

impl FileSystem {
    pub fn used(&self) -> u64 {
        self.capacity.saturating_sub(self.available)
    }

    pub fn inodes_used(&self) -> u64 {
        self.inodes.saturating_sub(self.inodes_free)
    }
}

/// The file system a path is on; `None` where it cannot be told.
pub fn file_system(path: &Path) -> Option<FileSystem> {
    use std::os::unix::fs::MetadataExt;
    let device = std::fs::metadata(path).ok()?.dev();
    let found = nix::sys::statvfs::statvfs(path).ok()?;
    let unit = found.fragment_size();
    Some(FileSystem {
        capacity: found.blocks() * unit,
        available: found.blocks_available() * unit,
        inodes: found.files(),
        inodes_free: found.files_free(),
        device,
    })
}

/// What a directory takes; nothing where it is not there (any more).
pub async fn directory(path: PathBuf) -> DiskUsage {
    let measured = tokio::task::spawn_blocking(move || directory_usage(&path)).await;
    match measured {
        Ok(Ok((bytes, inodes))) => DiskUsage { bytes, inodes },
        Ok(Err(_)) | Err(_) => DiskUsage::default(),
    }
}

/// The pod's volumes that take room: its own, and claims.
pub async fn volumes(agent: &Agent, pod: &Pod) -> Vec<VolumeUse> {
    let mounted = agent.volumes.of(spec::uid(pod));
    let mut found = Vec::new();
    for volume in spec::spec(pod).volumes.iter().flatten() {
        let Some(Mounted::Path { path, .. }) = mounted.get(&volume.name) else { continue };
        // The node's own files are nobody's use of it.
        if volume.host_path.is_some() {
            continue;
        }
        let claim = claim::claim_of(pod, volume).map(|(name, _)| name);
        found.push(VolumeUse {
            name: volume.name.clone(),
            ephemeral: claim.is_none() && on_disk(volume),
            claim,
            used: directory(path.clone()).await,
            disk: file_system(path),
        });
    }
    found
}

/// Whether the volume is in a directory of the node's disk rather than in memory.
fn on_disk(volume: &Volume) -> bool {
    match &volume.empty_dir {
        Some(source) => source.medium.as_deref().unwrap_or_default().is_empty(),
        None => volume.config_map.is_some() || volume.downward_api.is_some(),
    }
}
