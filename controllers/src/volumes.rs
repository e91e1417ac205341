//! The controllers of persistent volumes and the claims to them.

pub(crate) mod attach_detach;
pub(crate) mod attributes_protection;
pub(crate) mod binder;
pub(crate) mod ephemeral;
mod guard;
pub(crate) mod protection;
pub(crate) mod provisioner;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

/// The volume a claim is, or asks to be, bound to.
fn volume_name(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default()
}

fn claim_phase(claim: &PersistentVolumeClaim) -> &str {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn volume_phase(volume: &PersistentVolume) -> &str {
    volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}
