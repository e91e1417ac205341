//! configMap volumes.

use k8s_openapi::api::core::v1::{ConfigMapVolumeSource, Pod};

use super::VolumeError;
use super::payload::{self, Payload};
use crate::objects::Objects;
use crate::pod::{environment::unless_optional, spec};

pub const PLUGIN: &str = "kubernetes.io/configmap";

pub async fn payload(
    objects: &Objects,
    pod: &Pod,
    source: &ConfigMapVolumeSource,
) -> Result<Payload, VolumeError> {
    let optional = source.optional.unwrap_or(false);
    let found = objects.config_map(spec::namespace(pod), &source.name).await;
    let found = unless_optional(found, optional)?;
    let mode = payload::mode(source.default_mode, 0o644);
    payload::of_config_map(found.as_deref(), source.items.as_deref(), mode, optional)
}
