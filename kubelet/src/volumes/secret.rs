//! secret volumes; they live in memory, never on disk.

use k8s_openapi::api::core::v1::{Pod, SecretVolumeSource};

use super::VolumeError;
use super::payload::{self, Payload};
use crate::objects::Objects;
use crate::pod::{environment::unless_optional, spec};

pub const PLUGIN: &str = "kubernetes.io/secret";

pub async fn payload(
    objects: &Objects,
    pod: &Pod,
    source: &SecretVolumeSource,
) -> Result<Payload, VolumeError> {
    let optional = source.optional.unwrap_or(false);
    let name = source.secret_name.as_deref().unwrap_or_default();
    let found = unless_optional(objects.secret(spec::namespace(pod), name).await, optional)?;
    let mode = payload::mode(source.default_mode, 0o644);
    payload::of_secret(found.as_deref(), source.items.as_deref(), mode, optional)
}
