//! What containers, pods and the machine use.

use std::sync::Arc;

use super::error::{blocking, blocking_cri, failed};
use super::snapshot::Snapshot;
use super::state::Inner;
use crate::cgroup::Stats;
use crate::cri::*;
use crate::usage::directory_usage;

fn fill(stats: Stats) -> ContainerStats {
    ContainerStats {
        timestamp: crate::sys::now_nanos(),
        cpu_usage_nanos: stats.cpu_usage_nanos,
        memory_usage: stats.memory_usage,
        memory_working_set: stats.memory_working_set,
        memory_rss: stats.memory_rss,
        memory_page_faults: stats.memory_page_faults,
        memory_major_page_faults: stats.memory_major_page_faults,
        processes: stats.processes,
        labels: super::no_labels(),
        ..ContainerStats::default()
    }
}

impl Inner {
    pub fn cgroup_stats(&self, cgroup: &str) -> Result<ContainerStats> {
        Ok(fill(self.cgroups.stats(cgroup).map_err(failed(format!("read usage of cgroup {cgroup}")))?))
    }

    pub async fn container_stats(&self, id: &str) -> Result<ContainerStats> {
        let container = self.container(id)?;
        let mut stats = self.cgroup_stats(&container.record.cgroup)?;
        stats.id = container.record.id.clone();
        stats.metadata = container.record.config.metadata.clone();
        stats.labels = container.record.config.labels.clone();
        Ok(stats)
    }

    pub async fn container_disk_usage(&self, id: &str) -> Result<DiskUsage> {
        let upper = Snapshot::new(&self.container_directory(&self.container(id)?.record.id)).upper();
        let (bytes, inodes) = blocking("measure the writable layer", move || directory_usage(&upper)).await?;
        Ok(DiskUsage { bytes, inodes })
    }

    pub async fn image_filesystem(&self) -> Result<FilesystemUsage> {
        let (mountpoint, store) = (self.config.root.clone(), Arc::clone(&self.store));
        let containers = self.config.root.join("containers");
        let (used_bytes, inodes_used) = blocking_cri("measure images", move || {
            let (bytes, inodes) = directory_usage(&containers).map_err(failed("measure writable layers"))?;
            Ok((bytes + store.used_bytes().map_err(failed("measure images"))?, inodes))
        })
        .await?;
        Ok(FilesystemUsage { mountpoint, used_bytes, inodes_used })
    }
}
