//! Between the version that is stored and the one that is served.

mod autoscaling;
mod events;

use knarr_api::status::Status;
use serde_json::Value;

use crate::catalogue::{Resource, Storage};

/// From the storage version to the resource's.
pub fn to_served(resource: &Resource, object: Value) -> Result<Value, Status> {
    let Some(storage) = resource.stored() else { return Ok(object) };
    let from = (&*storage.group, &*storage.version);
    let mut served = convert(object, &storage.kind, from, (&resource.group, &resource.version))?;
    if let Some(custom) = &resource.custom {
        custom.complete(&mut served);
    }
    Ok(served)
}

/// From the resource's version to the storage version.
pub fn to_stored(resource: &Resource, storage: &Storage, object: Value) -> Result<Value, Status> {
    let from = (&*resource.group, &*resource.version);
    convert(object, &storage.kind, from, (&storage.group, &storage.version))
}

/// Versions that differ in more than their name are listed here.
fn convert(mut object: Value, kind: &str, from: (&str, &str), to: (&str, &str)) -> Result<Value, Status> {
    if from == to || object.is_null() {
        return Ok(object);
    }
    match (from, to, kind) {
        (("autoscaling", "v1"), ("autoscaling", "v2"), "HorizontalPodAutoscaler") => {
            autoscaling::v1_to_v2(&mut object)?
        }
        (("autoscaling", "v2"), ("autoscaling", "v1"), "HorizontalPodAutoscaler") => {
            autoscaling::v2_to_v1(&mut object)?
        }
        (("", "v1"), ("events.k8s.io", "v1"), "Event") => events::core_to_events(&mut object),
        (("events.k8s.io", "v1"), ("", "v1"), "Event") => events::events_to_core(&mut object),
        _ => {}
    }
    object["apiVersion"] = crate::catalogue::api_version(to.0, to.1).into();
    Ok(object)
}
