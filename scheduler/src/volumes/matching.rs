//! Which of the volumes that exist a claim can have on a node.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use knarr_api::quantity::Quantity;
use knarr_api::selector::Selector;

use super::claims::class_of;
use super::{Assumed, key_of};
use crate::object::Node;
use crate::objects::Objects;
use crate::plugins::selector_matches;

/// Whether a volume can be reached from a node.
pub fn fits_node(volume: &PersistentVolume, node: &Node) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required.as_ref());
    required.is_none_or(|required| selector_matches(required, node))
}

/// How much a claim asks for, in bytes.
pub fn requested(claim: &PersistentVolumeClaim) -> Quantity {
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let requests = resources.and_then(|resources| resources.requests.as_ref());
    let storage = requests.and_then(|requests| requests.get("storage"));
    storage.and_then(|storage| storage.0.parse().ok()).unwrap_or_default()
}

fn capacity(volume: &PersistentVolume) -> Quantity {
    let capacity = volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref());
    let storage = capacity.and_then(|capacity| capacity.get("storage"));
    storage.and_then(|storage| storage.0.parse().ok()).unwrap_or_default()
}

fn is_bound_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(reference) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else { return false };
    let uid = reference.uid.as_deref().unwrap_or_default();
    reference.name == claim.metadata.name
        && reference.namespace == claim.metadata.namespace
        && (uid.is_empty() || Some(uid) == claim.metadata.uid.as_deref())
}

/// The volume that was made for the claim, or else the smallest that will do. `taken` are others of this pod.
pub fn find(
    claim: &PersistentVolumeClaim,
    node: &Node,
    objects: &Objects,
    assumed: &Assumed,
    taken: &[Arc<PersistentVolume>],
) -> Option<Arc<PersistentVolume>> {
    let (key, want) = (key_of(claim), requested(claim));
    let mut smallest: Option<(Quantity, &Arc<PersistentVolume>)> = None;
    for volume in objects.volumes.all() {
        let Some(name) = volume.metadata.name.as_deref() else { continue };
        let is_taken = taken.iter().any(|other| other.metadata.name.as_deref() == Some(name))
            || assumed.claim_of(name).is_some_and(|other| *other != key);
        let size = capacity(volume);
        if is_taken || size < want || !is_usable(volume, claim) {
            continue;
        }
        if is_bound_to(volume, claim) {
            return fits_node(volume, node).then(|| volume.clone());
        }
        let is_smaller = smallest.as_ref().is_none_or(|(least, _)| size < *least);
        if is_smaller && is_available(volume, claim) && fits_node(volume, node) {
            smallest = Some((size, volume));
        }
    }
    smallest.map(|(_, volume)| volume.clone())
}

/// Whether the volume is of the right kind and not another's.
fn is_usable(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(has), Some(wants)) = (&volume.spec, &claim.spec) else { return false };
    let mode = |mode: &Option<String>| mode.as_deref().unwrap_or("Filesystem").to_owned();
    let attributes = |class: &Option<String>| class.clone().unwrap_or_default();
    (has.claim_ref.is_none() || is_bound_to(volume, claim))
        && mode(&has.volume_mode) == mode(&wants.volume_mode)
        && attributes(&has.volume_attributes_class_name) == attributes(&wants.volume_attributes_class_name)
        && volume.metadata.deletion_timestamp.is_none()
}

/// Whether the volume, which is nobody's, is what the claim describes.
fn is_available(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(has), Some(wants)) = (&volume.spec, &claim.spec) else { return false };
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    let selected = wants.selector.as_ref().is_none_or(|selector| {
        let labels = volume.metadata.labels.clone().unwrap_or_default();
        Selector::try_from(selector).is_ok_and(|selector| selector.matches(&labels))
    });
    let offered = has.access_modes.as_deref().unwrap_or_default();
    phase == Some("Available")
        && selected
        && has.storage_class_name.as_deref().unwrap_or_default() == class_of(claim)
        && wants.access_modes.iter().flatten().all(|mode| offered.contains(mode))
}
