//! Volumes as devices.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

use k8s_openapi::api::core::v1::Pod;

use super::data::{self, DevicePaths, VolumeData};
use super::driver::Facts;
use super::publish::{at, said, usage};
use super::wanted::Wanted;
use super::{Csi, log};
use crate::csi::client::{Access, Usage};
use crate::csi::proto::Capability;
use crate::pod::spec;
use crate::volumes::{Mounted, VolumeError, blocking};

type Pairs = BTreeMap<String, String>;

impl Csi {
    pub(super) async fn set_up_block(
        &self,
        pod: &Pod,
        wanted: &Wanted,
        facts: &Facts,
        context: Pairs,
    ) -> Result<Mounted, VolumeError> {
        let paths = DevicePaths::new(self.root(), &wanted.name);
        let staged = self.stage_device(wanted, &paths, context.clone()).await;
        staged.map_err(at("MapVolume.SetUpDevice", wanted))?;
        let published = self.publish_device(pod, wanted, facts, &paths, context).await;
        published.map_err(at("MapVolume.MapPodDevice", wanted))
    }

    async fn stage_device(
        &self,
        wanted: &Wanted,
        paths: &DevicePaths,
        context: Pairs,
    ) -> Result<(), VolumeError> {
        let client = self.driver(&wanted.driver, "blockMapper.SetUpDevice failed to get CSI client")?;
        let abilities = client.abilities().await.map_err(|error| {
            log(format_args!(
                "blockMapper.stageVolumeForBlock failed to check STAGE_UNSTAGE_VOLUME capability: {error}"
            ))
        })?;
        // Kept for pods' devices also where nothing is staged.
        let (record, at) = (VolumeData::of(wanted, &self.config.node_name), paths.data.clone());
        blocking("save volume data", move || record.save(&at)).await?;
        if !abilities.has(Capability::StageUnstageVolume) || self.staged.lock().contains(&wanted.key()) {
            return Ok(());
        }
        let usage =
            Usage { secrets: self.stage_secrets(wanted).await?, ..usage(wanted, Access::Block, context) };
        let made = paths.staging.clone();
        blocking("prepare staging", move || data::make(&made)).await?;
        client.stage(usage, &abilities, &paths.staging).await.map_err(said)?;
        self.staged.lock().insert(wanted.key());
        Ok(())
    }

    async fn publish_device(
        &self,
        pod: &Pod,
        wanted: &Wanted,
        facts: &Facts,
        paths: &DevicePaths,
        context: Pairs,
    ) -> Result<Mounted, VolumeError> {
        let client = self.driver(&wanted.driver, "blockMapper.MapPodDevice failed to get CSI client")?;
        let abilities = client.abilities().await.map_err(said)?;
        let mut usage =
            Usage { secrets: self.publish_secrets(wanted).await?, ..usage(wanted, Access::Block, context) };
        usage.volume_context.extend(facts.pod_info(pod, wanted));
        let published = paths.published(spec::uid(pod));
        let link = data::device_of_pod(&self.pod_dir(pod), &wanted.name);
        let (to, from) = (published.clone(), link);
        // First the link: it tells that this pod has the device.
        blocking("prepare device", move || {
            for directory in [to.parent(), from.parent()].into_iter().flatten() {
                data::make(directory)?;
            }
            match symlink(&to, &from) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                    Err(VolumeError::io("link", &from)(error))
                }
                _ => Ok(()),
            }
        })
        .await?;
        let staging = Some(paths.staging.as_path());
        let publishing = client.publish(usage, &abilities, staging, &published, wanted.read_only);
        publishing.await.map_err(said)?;
        Ok(Mounted::Device { path: published, read_only: wanted.read_only })
    }
}
