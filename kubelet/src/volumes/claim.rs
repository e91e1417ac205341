//! persistentVolumeClaim (and generic ephemeral) volumes: finding what a claim is bound to, and hostPath and local
//! persistent volumes.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use knarr_client::Api;

use super::ownership::Ownership;
use super::{Mounted, VolumeError, blocking, empty_dir, host_path};
use crate::config::Config;
use crate::pod::spec;

/// The claim a volume stands for and whether the pod mounts it read-only.
pub fn claim_of(pod: &Pod, volume: &Volume) -> Option<(String, bool)> {
    if let Some(claim) = &volume.persistent_volume_claim {
        return Some((claim.claim_name.clone(), claim.read_only.unwrap_or(false)));
    }
    volume.ephemeral.as_ref().map(|_| (format!("{}-{}", spec::name(pod), volume.name), false))
}

/// The volume that the pod's claim is bound to.
pub async fn bound(
    client: &kube::Client,
    pod: &Pod,
    volume: &Volume,
    claim: &str,
) -> Result<PersistentVolume, VolumeError> {
    let namespace = spec::namespace(pod);
    let failed =
        |why: String| VolumeError::Invalid(format!("error processing PVC {namespace}/{claim}: {why}"));
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let found = claims
        .get(claim)
        .await
        .map_err(|error| failed(format!("failed to fetch PVC from API server: {error}")))?;
    if volume.ephemeral.is_some() && !owned_by(&found, pod) {
        return Err(failed(format!(
            "PVC {namespace}/{claim} was not created for pod {namespace}/{} (pod is not owner)",
            spec::name(pod)
        )));
    }
    if found.metadata.deletion_timestamp.is_some() {
        return Err(failed("PVC is being deleted".to_owned()));
    }
    let bound = found.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
    let name =
        found.spec.as_ref().and_then(|s| s.volume_name.clone()).filter(|name| bound && !name.is_empty());
    let name = name.ok_or_else(|| failed("PVC is not bound".to_owned()))?;
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let persistent = volumes
        .get(&name)
        .await
        .map_err(|error| failed(format!("failed to get PV {name} from PVC {claim}: {error}")))?;
    let claimed_by = persistent.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()?.uid.as_deref());
    if claimed_by != found.metadata.uid.as_deref() {
        return Err(failed(format!("PV {name} is not bound to PVC {claim}")));
    }
    Ok(persistent)
}

/// Makes a volume on this node's own disk usable.
pub async fn set_up(
    config: &Config,
    pod: &Pod,
    persistent: PersistentVolume,
    read_only: bool,
) -> Result<Mounted, VolumeError> {
    let name = persistent.metadata.name.unwrap_or_default();
    let persistent = persistent.spec.unwrap_or_default();
    if let Some(source) = persistent.host_path {
        let path = config.root().here(Path::new(&source.path));
        let (checked, kind) = (path.clone(), source.type_.unwrap_or_default());
        blocking("check host path", move || host_path::set_up(&checked, &kind)).await?;
        return Ok(Mounted::Path { path, read_only });
    }
    if let Some(source) = persistent.local {
        let path = PathBuf::from(source.path);
        if persistent.volume_mode.as_deref() == Some("Block") {
            return Ok(Mounted::Device { path, read_only });
        }
        let (root, owner) = (path.clone(), Ownership::of(pod).read_only(read_only));
        let ours = config.local_volumes_dir.as_deref().is_some_and(|own| root.parent() == Some(own));
        blocking("prepare local volume", move || {
            if ours {
                empty_dir::make_open_directory(&root)?;
            } else if !root.is_dir() {
                return Err(VolumeError::Invalid(format!("path \"{}\" does not exist", root.display())));
            }
            owner.apply(&root)
        })
        .await?;
        return Ok(Mounted::Path { path, read_only });
    }
    Err(VolumeError::Invalid(format!("no volume plugin matched for PersistentVolume {name}")))
}

fn owned_by(claim: &PersistentVolumeClaim, pod: &Pod) -> bool {
    let owners = claim.metadata.owner_references.as_deref().unwrap_or_default();
    owners.iter().any(|owner| owner.controller == Some(true) && owner.uid == spec::uid(pod))
}
