//! Image garbage collection: when the image file system is fuller than the high threshold, the images longest unused
//! go until it is under the low one; with a maximum age, unused images older than that go in any case.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use knarr_api::time::SharedClock;
use knarr_runtime::cri::{self, ContainerRuntime, ImageInfo};
use parking_lot::Mutex;

use crate::config::Config;
use crate::events::Recorder;

/// How often the disk is looked at.
pub const PERIOD: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Copy)]
struct Record {
    detected: Timestamp,
    used: Option<Timestamp>,
}

/// A file system's size and what is free, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    pub capacity: u64,
    pub available: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    #[error("{0}")]
    Runtime(#[from] cri::Error),
    #[error("cannot read the size of {path}: {source}")]
    Disk { path: String, source: nix::Error },
    #[error(
        "Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, but only found {freed} bytes eligible to free."
    )]
    NotEnough { wanted: u64, freed: u64 },
}

/// Reads the file system of a path.
pub fn disk(path: &Path) -> Result<Disk, CollectError> {
    let found = nix::sys::statvfs::statvfs(path)
        .map_err(|source| CollectError::Disk { path: path.display().to_string(), source })?;
    let unit = found.fragment_size();
    Ok(Disk { capacity: found.blocks() * unit, available: found.blocks_available() * unit })
}

pub struct Collector {
    config: Arc<Config>,
    runtime: Arc<dyn ContainerRuntime>,
    recorder: Recorder,
    node: ObjectReference,
    clock: SharedClock,
    records: Mutex<HashMap<String, Record>>,
}

impl Collector {
    pub fn new(
        config: Arc<Config>,
        runtime: Arc<dyn ContainerRuntime>,
        recorder: Recorder,
        node: ObjectReference,
        clock: SharedClock,
    ) -> Self {
        Self { config, runtime, recorder, node, clock, records: Mutex::default() }
    }

    /// One round; events tell what could not be freed.
    pub async fn run_once(&self) {
        if let Err(error) = self.collect().await {
            tracing::warn!(%error, "image garbage collection failed");
            self.recorder.warning(self.node.clone(), "ImageGCFailed", error.to_string());
        }
    }

    /// Removes every image nobody uses; the node needs the room.
    pub async fn remove_unused(&self) -> Result<(), CollectError> {
        let (images, in_use) = self.detect().await?;
        self.runtime.forget_build_cache().await?;
        for (image, _) in self.candidates(&images, &in_use) {
            self.remove(image).await?;
        }
        Ok(())
    }

    async fn collect(&self) -> Result<(), CollectError> {
        let (images, in_use) = self.detect().await?;
        self.collect_old(&images, &in_use).await?;
        let mountpoint = self.runtime.image_filesystem().await?.mountpoint;
        let disk = disk(&mountpoint)?;
        let Some(wanted) = to_free(disk, &self.config) else { return Ok(()) };
        self.runtime.forget_build_cache().await?;
        let freed = self.free(wanted, &images, &in_use).await?;
        if freed < wanted { Err(CollectError::NotEnough { wanted, freed }) } else { Ok(()) }
    }

    /// Notes when images were first seen and last used.
    async fn detect(&self) -> Result<(Vec<ImageInfo>, HashSet<String>), CollectError> {
        let now = self.clock.now();
        let images = self.runtime.list_images().await?;
        let containers = self.runtime.list_containers(None).await?;
        let in_use: HashSet<String> = containers.into_iter().map(|c| c.image_id).collect();
        let mut records = self.records.lock();
        records.retain(|id, _| images.iter().any(|image| image.id == *id));
        for image in &images {
            let record = records.entry(image.id.clone()).or_insert(Record { detected: now, used: None });
            if in_use.contains(&image.id) {
                record.used = Some(now);
            }
        }
        Ok((images, in_use))
    }

    /// Unused images, longest unused first.
    fn candidates<'a>(
        &self,
        images: &'a [ImageInfo],
        in_use: &HashSet<String>,
    ) -> Vec<(&'a ImageInfo, Record)> {
        let records = self.records.lock();
        let mut found: Vec<_> = images
            .iter()
            .filter(|image| !image.pinned && !in_use.contains(&image.id))
            .filter_map(|image| Some((image, *records.get(&image.id)?)))
            .collect();
        found.sort_by_key(|(_, record)| (record.used, record.detected));
        found
    }

    async fn collect_old(&self, images: &[ImageInfo], in_use: &HashSet<String>) -> Result<(), CollectError> {
        if self.config.image_maximum_gc_age.is_zero() {
            return Ok(());
        }
        let limit = signed(self.config.image_maximum_gc_age);
        let now = self.clock.now();
        for (image, record) in self.candidates(images, in_use) {
            if now.duration_since(record.used.unwrap_or(record.detected)) > limit {
                self.remove(image).await?;
            }
        }
        Ok(())
    }

    async fn free(
        &self,
        wanted: u64,
        images: &[ImageInfo],
        in_use: &HashSet<String>,
    ) -> Result<u64, CollectError> {
        let (now, minimum) = (self.clock.now(), signed(self.config.image_minimum_gc_age));
        let mut freed = 0;
        for (image, record) in self.candidates(images, in_use) {
            if freed >= wanted {
                break;
            }
            // Too young: its pod may only be on the way.
            if now.duration_since(record.detected) < minimum {
                continue;
            }
            self.remove(image).await?;
            freed += image.size;
        }
        Ok(freed)
    }

    async fn remove(&self, image: &ImageInfo) -> Result<(), CollectError> {
        tracing::info!(image = %image.id, bytes = image.size, "removing image to free bytes");
        Ok(self.runtime.remove_image(&image.id).await?)
    }
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

/// Bytes to free to get under the low threshold; `None` under the high one.
fn to_free(disk: Disk, config: &Config) -> Option<u64> {
    if disk.capacity == 0 {
        return None;
    }
    let used_percent = 100 - (u128::from(disk.available) * 100 / u128::from(disk.capacity)) as i64;
    if used_percent < config.image_gc_high_threshold_percent {
        return None;
    }
    let keep = u64::try_from(100 - config.image_gc_low_threshold_percent).unwrap_or(0);
    let wanted = u128::from(disk.capacity) * u128::from(keep) / 100;
    Some(u64::try_from(wanted).unwrap_or(u64::MAX).saturating_sub(disk.available)).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_freed_under_the_high_threshold() {
        let config = Config::new("n", "/tmp/x");
        let disk = |available| Disk { capacity: 1000, available };
        assert_eq!(to_free(disk(500), &config), None);
        assert_eq!(to_free(disk(160), &config), None);
        assert_eq!(to_free(disk(150), &config), Some(50));
        assert_eq!(to_free(disk(0), &config), Some(200));
    }
}
