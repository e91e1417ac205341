//! Which volume is best for a claim. Pure.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec},
    apimachinery::pkg::api::resource::Quantity,
};
use knarr_api::quantity;
use knarr_client::{Cached, ownership::selector};
use kube::core::SelectorExt;

fn storage(amounts: Option<&BTreeMap<String, Quantity>>) -> Option<quantity::Quantity> {
    amounts?.get("storage")?.0.parse().ok()
}

fn mode(mode: Option<&String>) -> &str {
    mode.map_or("Filesystem", String::as_str)
}

/// Why a volume cannot be given to a claim even if it is asked for by name; `None` if it can.
pub(super) fn mismatch(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<&'static str> {
    let (have, want) = (volume.spec.clone().unwrap_or_default(), claim.spec.clone().unwrap_or_default());
    let requested = storage(want.resources.as_ref().and_then(|resources| resources.requests.as_ref()));
    if requested
        .is_some_and(|requested| storage(have.capacity.as_ref()).is_none_or(|capacity| capacity < requested))
    {
        return Some("requested PV is too small");
    }
    if class(&have) != want.storage_class_name.as_deref().unwrap_or_default() {
        return Some("storageClassName does not match");
    }
    if mode(have.volume_mode.as_ref()) != mode(want.volume_mode.as_ref()) {
        return Some("incompatible volumeMode");
    }
    let offered = have.access_modes.unwrap_or_default();
    if !want.access_modes.iter().flatten().all(|mode| offered.contains(mode)) {
        return Some("incompatible accessMode");
    }
    None
}

fn class(spec: &PersistentVolumeSpec) -> &str {
    spec.storage_class_name.as_deref().unwrap_or_default()
}

/// The volume kept for the claim, or the smallest free one that is large enough.
pub(super) fn best(
    volumes: impl Iterator<Item = Arc<PersistentVolume>>,
    claim: &PersistentVolumeClaim,
    is_kept: impl Fn(&PersistentVolume) -> bool,
) -> Option<Arc<PersistentVolume>> {
    let labels = claim.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    // A selector that cannot be read selects nothing.
    let selector = labels.map(selector).transpose().ok()?;
    let selected = |volume: &PersistentVolume| {
        let labels = volume.metadata.labels.clone().unwrap_or_default();
        selector.as_ref().is_none_or(|selector| selector.matches(&labels))
    };
    let fitting = volumes.filter(|volume| {
        let free = volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_none());
        volume.metadata.deletion_timestamp.is_none()
            && mismatch(volume, claim).is_none()
            && (is_kept(volume) || (free && selected(volume)))
    });
    fitting.min_by_key(|volume| {
        let capacity = storage(volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()));
        (!is_kept(volume), capacity, volume.name().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{
        ObjectReference, PersistentVolumeClaimSpec, VolumeResourceRequirements,
    };

    fn amount(text: &str) -> BTreeMap<String, Quantity> {
        [("storage".to_owned(), Quantity(text.to_owned()))].into()
    }

    fn volume(name: &str, size: &str, taken: bool) -> Arc<PersistentVolume> {
        let mut volume = PersistentVolume {
            spec: Some(PersistentVolumeSpec {
                capacity: Some(amount(size)),
                access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
                claim_ref: taken.then(ObjectReference::default),
                ..PersistentVolumeSpec::default()
            }),
            ..PersistentVolume::default()
        };
        volume.metadata.name = Some(name.to_owned());
        Arc::new(volume)
    }

    #[test]
    fn the_smallest_that_is_large_enough_is_taken_unless_one_is_kept() {
        let claim = PersistentVolumeClaim {
            spec: Some(PersistentVolumeClaimSpec {
                access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
                resources: Some(VolumeResourceRequirements { requests: Some(amount("5Gi")), limits: None }),
                ..PersistentVolumeClaimSpec::default()
            }),
            ..PersistentVolumeClaim::default()
        };
        let volumes = [
            volume("huge", "1Ti", false),
            volume("fits", "6Gi", false),
            volume("small", "1Gi", false),
            volume("taken", "5Gi", true),
        ];
        let best = |kept: &str| best(volumes.clone().into_iter(), &claim, |volume| volume.name() == kept);
        assert_eq!(best("").unwrap().name(), "fits");
        assert_eq!(best("huge").unwrap().name(), "huge");
        assert_eq!(mismatch(&volumes[2], &claim), Some("requested PV is too small"));
    }
}
