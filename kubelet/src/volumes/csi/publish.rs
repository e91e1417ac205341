//! Files of a volume: staged on the node, published to a pod.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

use super::data::{self, VolumeData};
use super::driver::{Facts, credentials};
use super::wanted::Wanted;
use super::{Csi, log};
use crate::csi::client::{Abilities, Access, Client, Usage, is_final};
use crate::csi::proto::Capability;
use crate::grpc::Status;
use crate::volumes::ownership::Ownership;
use crate::volumes::token::Tokens;
use crate::volumes::{Mounted, VolumeError, blocking};

type Pairs = BTreeMap<String, String>;

/// The driver's word, as it is.
pub(super) fn said(status: Status) -> VolumeError {
    VolumeError::Invalid(status.to_string())
}

/// Puts an operation's name to its errors, as upstream does.
pub(super) fn at(step: &'static str, wanted: &Wanted) -> impl FnOnce(VolumeError) -> VolumeError {
    let volume = wanted.name.clone();
    move |source| VolumeError::Step { step, volume, source: Box::new(source) }
}

impl Csi {
    pub(super) async fn set_up_files(
        &self,
        pod: &Pod,
        wanted: &Wanted,
        facts: &Facts,
        context: Pairs,
        tokens: &Tokens,
    ) -> Result<Mounted, VolumeError> {
        let owner = Ownership::of(pod);
        let staging = if wanted.is_persistent() {
            let staged = self.mount_device(wanted, &owner, &context).await;
            staged.map_err(at("MountVolume.MountDevice", wanted))?
        } else {
            None
        };
        let publishing = self.publish(pod, wanted, facts, tokens, staging.as_deref(), context);
        let path = publishing.await.map_err(at("MountVolume.SetUp", wanted))?;
        Ok(Mounted::Path { path, read_only: wanted.read_only })
    }

    /// Stages the volume, if its driver does that; where it is then.
    async fn mount_device(
        &self,
        wanted: &Wanted,
        owner: &Ownership,
        context: &Pairs,
    ) -> Result<Option<PathBuf>, VolumeError> {
        let failed = "attacher.MountDevice failed to create newCsiDriverClient";
        let client = self.driver(&wanted.driver, failed)?;
        let abilities = client.abilities().await.map_err(said)?;
        if !abilities.has(Capability::StageUnstageVolume) {
            return Ok(None);
        }
        let directory = data::staged_files(self.root(), &wanted.driver, &wanted.handle);
        let target = directory.join("globalmount");
        if self.staged.lock().contains(&wanted.key()) {
            return Ok(Some(target));
        }
        let usage = Usage {
            secrets: self.stage_secrets(wanted).await?,
            ..usage(wanted, files(wanted, owner, &abilities), context.clone())
        };
        let record = VolumeData {
            volume_handle: wanted.handle.clone(),
            driver_name: wanted.driver.clone(),
            ..VolumeData::default()
        };
        let (at, made) = (directory.clone(), target.clone());
        blocking("prepare staging", move || record.save(&at).and_then(|()| data::make(&made))).await?;
        if let Err(status) = client.stage(usage, &abilities, &target).await {
            return Err(self.failed(status, &target, &directory).await);
        }
        self.staged.lock().insert(wanted.key());
        Ok(Some(target))
    }

    pub(super) async fn stage_secrets(&self, wanted: &Wanted) -> Result<Pairs, VolumeError> {
        let Some(secret) = &wanted.stage_secret else { return Ok(Pairs::new()) };
        credentials(&self.client, secret).await.map_err(|error| {
            VolumeError::Invalid(format!(
                "fetching NodeStageSecretRef {}/{} failed: {error}",
                secret.namespace.as_deref().unwrap_or_default(),
                secret.name.as_deref().unwrap_or_default(),
            ))
        })
    }

    pub(super) async fn publish_secrets(&self, wanted: &Wanted) -> Result<Pairs, VolumeError> {
        let Some(secret) = &wanted.publish_secret else { return Ok(Pairs::new()) };
        credentials(&self.client, secret).await.map_err(|error| {
            VolumeError::Invalid(format!(
                "fetching NodePublishSecretRef {}/{} failed: {error}",
                secret.namespace.as_deref().unwrap_or_default(),
                secret.name.as_deref().unwrap_or_default(),
            ))
        })
    }

    /// Shows the volume to the pod; where.
    async fn publish(
        &self,
        pod: &Pod,
        wanted: &Wanted,
        facts: &Facts,
        tokens: &Tokens,
        staging: Option<&Path>,
        context: Pairs,
    ) -> Result<PathBuf, VolumeError> {
        let client = self.driver(&wanted.driver, "mounter.SetUpAt failed to get CSI client")?;
        facts.check_lifecycle(wanted).map_err(|error| {
            log(format_args!("mounter.SetupAt failed to check volume lifecycle mode: {error}"))
        })?;
        let mut secrets = self.publish_secrets(wanted).await?;
        let mut attributes = wanted.attributes.clone();
        attributes.extend(facts.pod_info(pod, wanted));
        let (issued, secret) = facts.tokens(pod, tokens).await.map_err(|error| {
            log(format_args!("mounter.SetUpAt failed to get service accoount token attributes: {error}"))
        })?;
        if secret {
            secrets.extend(issued)
        } else {
            attributes.extend(issued)
        }
        let abilities = client.abilities().await.map_err(|error| {
            log(format_args!(
                "mounter.SetUpAt failed to determine if the node service has VOLUME_MOUNT_GROUP capability: {error}"
            ))
        })?;
        let owner = Ownership::of(pod);
        let usage = Usage {
            secrets,
            volume_context: attributes,
            ..usage(wanted, files(wanted, &owner, &abilities), context)
        };
        let directory = data::files_of_pod(&self.pod_dir(pod), &wanted.name);
        let target = directory.join("mount");
        let (record, at) = (VolumeData::of(wanted, &self.config.node_name), directory.clone());
        let again = blocking("save volume data", move || {
            let before = VolumeData::load(&at)?;
            record.save(&at).map(|()| before.is_some())
        })
        .await?;
        if let Err(status) = client.publish(usage, &abilities, staging, &target, wanted.read_only).await {
            // What a running pod has in sight stays there.
            return Err(if again { said(status) } else { self.failed(status, &target, &directory).await });
        }
        if !abilities.has(Capability::VolumeMountGroup) && facts.supports_group(wanted, &owner) {
            let (at, handle) = (target.clone(), wanted.handle.clone());
            blocking("apply fsGroup", move || owner.apply(&at)).await.map_err(|error| {
                VolumeError::Invalid(format!("applyFSGroup failed for vol {handle}: {error}"))
            })?;
        }
        Ok(target)
    }

    /// What a driver has refused for good leaves nothing behind.
    async fn failed(&self, status: Status, target: &Path, directory: &Path) -> VolumeError {
        if is_final(&status) {
            let (at, beside) = (target.to_owned(), directory.to_owned());
            let removed = blocking("remove mount directory", move || data::remove_mount(&at, &beside)).await;
            if let Err(error) = removed {
                tracing::warn!(path = %target.display(), %error, "cannot remove what a driver did not mount");
            }
        }
        said(status)
    }

    pub(super) fn unpublisher(&self, driver: &str) -> Result<Client, VolumeError> {
        self.driver(driver, "Unmounter.TearDownAt failed to get CSI client")
    }
}

pub(super) fn usage(wanted: &Wanted, access: Access, context: Pairs) -> Usage {
    Usage {
        volume_id: wanted.handle.clone(),
        access_mode: wanted.access_mode(),
        access,
        publish_context: context,
        volume_context: wanted.attributes.clone(),
        secrets: Pairs::new(),
    }
}

/// A driver that can give the files to a group is told which.
fn files(wanted: &Wanted, owner: &Ownership, abilities: &Abilities) -> Access {
    Access::Mount {
        fs_type: wanted.fs_type.clone(),
        options: wanted.options.clone(),
        group: owner.group.filter(|_| abilities.has(Capability::VolumeMountGroup)),
    }
}
