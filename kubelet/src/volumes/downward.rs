//! downwardAPI volumes: a pod's own labels, annotations and resources as files.

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, Pod};

use super::VolumeError;
use super::payload::{self, File, Payload};
use crate::pod::environment::fields;
use crate::resources::amount::List;

pub const PLUGIN: &str = "kubernetes.io/downward-api";

pub fn payload(
    pod: &Pod,
    items: &[DownwardAPIVolumeFile],
    default_mode: u32,
    allocatable: &List,
) -> Result<Payload, VolumeError> {
    let mut files = Payload::new();
    for item in items {
        let text = if let Some(field) = &item.field_ref {
            fields::metadata(pod, &field.field_path)?
        } else if let Some(resource) = &item.resource_field_ref {
            fields::resource(pod, None, resource, allocatable)?
        } else {
            continue;
        };
        let mode = payload::mode(item.mode, default_mode);
        files.insert(item.path.clone(), File { data: text.into_bytes(), mode, uid: None });
    }
    Ok(files)
}
