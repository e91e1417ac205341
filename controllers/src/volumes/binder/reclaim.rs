//! What becomes of a volume whose claim is gone.

use k8s_openapi::{api::core::v1::PersistentVolume, apimachinery::pkg::apis::meta::v1::Time};
use knarr_client::{Cached, error::is_not_found, events::EventType};
use kube::api::PostParams;

use super::Sync;
use crate::{
    error::{Error, Step},
    volumes::volume_phase,
};

const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
const MIGRATED_TO: &str = "pv.kubernetes.io/migrated-to";

/// What is left to do for a released volume.
#[derive(Debug, PartialEq, Eq)]
enum Reclaim {
    /// It is kept, or somebody outside deletes it.
    Leave,
    /// Nobody can do what its policy asks: reason and text.
    Fail(&'static str, String),
}

fn judge(volume: &PersistentVolume) -> Reclaim {
    let annotated = |key| super::has_annotation(&volume.metadata, key);
    let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    if annotated(MIGRATED_TO) {
        return Reclaim::Leave;
    }
    match policy.unwrap_or("Retain") {
        "Retain" => Reclaim::Leave,
        "Delete" if annotated(PROVISIONED_BY) => Reclaim::Leave,
        "Delete" => {
            let why = "no deletable volume plugin matched";
            let text = format!("error getting deleter volume plugin for volume {:?}: {why}", volume.name());
            Reclaim::Fail("VolumeFailedDelete", text)
        }
        "Recycle" => {
            Reclaim::Fail("VolumeFailedRecycle", "No recycler plugin found for the volume!".to_owned())
        }
        _ => Reclaim::Fail(
            "VolumeUnknownReclaimPolicy",
            "Volume has unrecognized PersistentVolumeReclaimPolicy".to_owned(),
        ),
    }
}

impl Sync {
    pub(super) async fn release(&self, volume: &PersistentVolume) -> Result<(), Error> {
        if volume_phase(volume) != "Failed" {
            self.set_volume(volume, "Released").await?;
        }
        match judge(volume) {
            Reclaim::Leave => Ok(()),
            Reclaim::Fail(reason, text) => self.fail_volume(volume, reason, text).await,
        }
    }

    async fn fail_volume(&self, volume: &PersistentVolume, reason: &str, text: String) -> Result<(), Error> {
        let api = self.volumes_api();
        let Some(mut failed) = api.get_opt(volume.name()).await.step("get volume", volume.name())? else {
            return Ok(());
        };
        if volume_phase(&failed) == "Failed" {
            return Ok(());
        }
        let status = failed.status.get_or_insert_default();
        status.phase = Some("Failed".to_owned());
        status.message = Some(text.clone());
        status.last_phase_transition_time = Some(Time(self.clock.now()));
        match api.replace_status(volume.name(), &PostParams::default(), &failed).await {
            Err(error) if is_not_found(&error) => return Ok(()),
            other => drop(other.step("update status of volume", volume.name())?),
        }
        self.recorder.event(volume, EventType::Warning, reason, text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PersistentVolumeSpec;

    #[test]
    fn only_what_nobody_can_reclaim_fails() {
        let volume = |policy: &str, annotation: Option<&str>| {
            let mut volume = PersistentVolume::default();
            volume.metadata.name = Some("v".to_owned());
            volume.metadata.annotations = annotation.map(|key| [(key.to_owned(), "x".to_owned())].into());
            let spec = PersistentVolumeSpec {
                persistent_volume_reclaim_policy: Some(policy.to_owned()),
                ..PersistentVolumeSpec::default()
            };
            volume.spec = Some(spec);
            volume
        };
        assert_eq!(judge(&volume("Retain", None)), Reclaim::Leave);
        assert_eq!(judge(&volume("Delete", Some(PROVISIONED_BY))), Reclaim::Leave);
        assert!(matches!(judge(&volume("Delete", None)), Reclaim::Fail("VolumeFailedDelete", _)));
        assert!(matches!(judge(&volume("Recycle", None)), Reclaim::Fail("VolumeFailedRecycle", _)));
    }
}
