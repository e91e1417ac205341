//! A driver's node service, called as upstream calls it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::drivers::Driver;
use super::proto::{
    AccessMode, AccessType, BlockVolume, Capability, Mode, MountVolume, NodeGetCapabilitiesRequest,
    NodeGetCapabilitiesResponse, NodeGetInfoRequest, NodeGetInfoResponse, NodePublishVolumeRequest,
    NodeStageVolumeRequest, NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest, Nothing, SERVICE,
    VolumeCapability,
};
use crate::grpc::{self, Status};

/// No call takes longer.
pub const TIMEOUT: Duration = Duration::from_secs(120);

/// Whether the driver is done with what was asked; else it may be still at it.
pub fn is_final(status: &Status) -> bool {
    status.answered
        && !matches!(
            status.code,
            grpc::CANCELED
                | grpc::DEADLINE_EXCEEDED
                | grpc::UNAVAILABLE
                | grpc::RESOURCE_EXHAUSTED
                | grpc::ABORTED
        )
}

/// What a node service said it can do.
#[derive(Debug, Clone, Default)]
pub struct Abilities(BTreeSet<Capability>);

impl Abilities {
    pub fn has(&self, capability: Capability) -> bool {
        self.0.contains(&capability)
    }

    /// A PersistentVolume's access mode in the driver's words.
    fn mode(&self, mode: &str) -> Mode {
        let multi_writer = self.has(Capability::SingleNodeMultiWriter);
        match mode {
            "ReadWriteOnce" if multi_writer => Mode::SingleNodeMultiWriter,
            "ReadWriteOncePod" if multi_writer => Mode::SingleNodeSingleWriter,
            "ReadWriteOnce" | "ReadWriteOncePod" => Mode::SingleNodeWriter,
            "ReadOnlyMany" => Mode::MultiNodeReaderOnly,
            "ReadWriteMany" => Mode::MultiNodeMultiWriter,
            _ => Mode::Unknown,
        }
    }
}

/// As what a volume is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    Block,
    Mount { fs_type: String, options: Vec<String>, group: Option<u32> },
}

/// What staging and publishing a volume have in common.
#[derive(Clone)]
pub struct Usage {
    pub volume_id: String,
    /// As in a PersistentVolume.
    pub access_mode: String,
    pub access: Access,
    pub publish_context: BTreeMap<String, String>,
    pub volume_context: BTreeMap<String, String>,
    pub secrets: BTreeMap<String, String>,
}

/// Speaks to one driver.
#[derive(Clone)]
pub struct Client {
    pub driver: Arc<Driver>,
}

impl Client {
    pub fn new(driver: Arc<Driver>) -> Self {
        Self { driver }
    }

    pub async fn info(&self) -> Result<NodeGetInfoResponse, Status> {
        self.call("NodeGetInfo", &NodeGetInfoRequest {}).await
    }

    pub async fn abilities(&self) -> Result<Abilities, Status> {
        let answer: NodeGetCapabilitiesResponse =
            self.call("NodeGetCapabilities", &NodeGetCapabilitiesRequest {}).await?;
        let kinds = answer.capabilities.iter().filter_map(|capability| Some(capability.rpc.as_ref()?.kind()));
        Ok(Abilities(kinds.collect()))
    }

    pub async fn stage(&self, usage: Usage, abilities: &Abilities, staging: &Path) -> Result<(), Status> {
        let request = NodeStageVolumeRequest {
            volume_capability: Some(capability(&usage, abilities)),
            volume_id: usage.volume_id,
            publish_context: usage.publish_context,
            staging_target_path: self.driver.path(staging),
            secrets: usage.secrets,
            volume_context: usage.volume_context,
        };
        self.call("NodeStageVolume", &request).await.map(|Nothing {}| ())
    }

    pub async fn unstage(&self, volume_id: &str, staging: &Path) -> Result<(), Status> {
        let request = NodeUnstageVolumeRequest {
            volume_id: volume_id.to_owned(),
            staging_target_path: self.driver.path(staging),
        };
        self.call("NodeUnstageVolume", &request).await.map(|Nothing {}| ())
    }

    pub async fn publish(
        &self,
        usage: Usage,
        abilities: &Abilities,
        staging: Option<&Path>,
        target: &Path,
        read_only: bool,
    ) -> Result<(), Status> {
        let request = NodePublishVolumeRequest {
            volume_capability: Some(capability(&usage, abilities)),
            volume_id: usage.volume_id,
            publish_context: usage.publish_context,
            staging_target_path: staging.map(|path| self.driver.path(path)).unwrap_or_default(),
            target_path: self.driver.path(target),
            readonly: read_only,
            secrets: usage.secrets,
            volume_context: usage.volume_context,
        };
        self.call("NodePublishVolume", &request).await.map(|Nothing {}| ())
    }

    pub async fn unpublish(&self, volume_id: &str, target: &Path) -> Result<(), Status> {
        let request = NodeUnpublishVolumeRequest {
            volume_id: volume_id.to_owned(),
            target_path: self.driver.path(target),
        };
        self.call("NodeUnpublishVolume", &request).await.map(|Nothing {}| ())
    }

    async fn call<Q: prost::Message, A: prost::Message + Default>(
        &self,
        method: &str,
        request: &Q,
    ) -> Result<A, Status> {
        let path = format!("/{SERVICE}/{method}");
        grpc::call_socket(&self.driver.socket, &path, request, TIMEOUT).await
    }
}

fn capability(usage: &Usage, abilities: &Abilities) -> VolumeCapability {
    let access = match &usage.access {
        Access::Block => AccessType::Block(BlockVolume {}),
        Access::Mount { fs_type, options, group } => AccessType::Mount(MountVolume {
            fs_type: fs_type.clone(),
            mount_flags: options.clone(),
            volume_mount_group: group.map(|group| group.to_string()).unwrap_or_default(),
        }),
    };
    let mode = abilities.mode(&usage.access_mode);
    VolumeCapability { access_type: Some(access), access_mode: Some(AccessMode { mode: mode.into() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_may_be_at_it_yet_has_not_failed_for_good() {
        let said = |code| Status { code, message: String::new(), answered: true };
        assert!(is_final(&said(grpc::INTERNAL)));
        assert!(!is_final(&said(grpc::ABORTED)));
        assert!(!is_final(&Status::new(grpc::INTERNAL, "lost")));
    }

    #[test]
    fn access_modes_are_finer_for_drivers_that_know_them() {
        let (plain, fine) = (Abilities::default(), Abilities([Capability::SingleNodeMultiWriter].into()));
        assert_eq!(plain.mode("ReadWriteOncePod"), Mode::SingleNodeWriter);
        assert_eq!(fine.mode("ReadWriteOncePod"), Mode::SingleNodeSingleWriter);
        assert_eq!(fine.mode("ReadWriteOnce"), Mode::SingleNodeMultiWriter);
    }
}
