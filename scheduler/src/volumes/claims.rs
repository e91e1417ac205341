//! The claims of a pod, sorted by what is to be done with them.

use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use super::ClaimKey;
use crate::framework::Rejection;
use crate::object::Pod;
use crate::objects::Objects;

pub const ANN_SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const ANN_BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const ANN_BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

pub type Claim = Arc<PersistentVolumeClaim>;

/// A pod's claims.
#[derive(Debug, Default)]
pub struct Sorted {
    pub bound: Vec<Claim>,
    /// To be bound where the pod goes.
    pub delayed: Vec<Claim>,
}

pub fn key_of(claim: &PersistentVolumeClaim) -> ClaimKey {
    let meta = &claim.metadata;
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

pub fn annotation<'c>(claim: &'c PersistentVolumeClaim, name: &str) -> Option<&'c str> {
    claim.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// The name of a claim's class; empty if it has none.
pub fn class_of(claim: &PersistentVolumeClaim) -> &str {
    let own = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    annotation(claim, ANN_BETA_CLASS).or(own).unwrap_or_default()
}

pub fn volume_name(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default()
}

pub fn is_fully_bound(claim: &PersistentVolumeClaim) -> bool {
    !volume_name(claim).is_empty() && annotation(claim, ANN_BIND_COMPLETED).is_some()
}

/// # Errors
/// Why the pod cannot run anywhere yet.
pub fn sort_out(pod: &Pod, objects: &Objects) -> Result<Sorted, Rejection> {
    let mut sorted = Sorted::default();
    let mut unbound_immediate = false;
    for (name, ephemeral) in pod.claims() {
        let claim = usable(pod, name, ephemeral, objects).map_err(Rejection::unresolvable)?;
        if is_fully_bound(claim) {
            sorted.bound.push(claim.clone());
        } else if volume_name(claim).is_empty() && waits_for_consumer(claim, objects) {
            sorted.delayed.push(claim.clone());
        } else {
            unbound_immediate = true;
        }
    }
    if unbound_immediate {
        return Err(Rejection::unresolvable("pod has unbound immediate PersistentVolumeClaims"));
    }
    Ok(sorted)
}

fn usable<'o>(pod: &Pod, name: &str, ephemeral: bool, objects: &'o Objects) -> Result<&'o Claim, String> {
    let namespace = &pod.metadata.namespace;
    let Some(claim) = objects.claims.get(namespace, name) else {
        return Err(if ephemeral {
            format!("waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}")
        } else {
            format!("persistentvolumeclaim {name:?} not found")
        });
    };
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    if phase == Some("Lost") {
        let volume = volume_name(claim);
        return Err(format!(
            "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}"
        ));
    }
    if claim.metadata.deletion_timestamp.is_some() {
        return Err(format!("persistentvolumeclaim {name:?} is being deleted"));
    }
    let owners = claim.metadata.owner_references.iter().flatten();
    let is_own =
        owners.clone().any(|owner| owner.controller == Some(true) && *owner.uid == *pod.metadata.uid);
    if ephemeral && !is_own {
        let pod = &pod.metadata.name;
        return Err(format!(
            "PVC {namespace}/{name} was not created for pod {namespace}/{pod} (pod is not owner)"
        ));
    }
    Ok(claim)
}

fn waits_for_consumer(claim: &PersistentVolumeClaim, objects: &Objects) -> bool {
    let class = objects.classes.get("", class_of(claim));
    class.is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"))
}
