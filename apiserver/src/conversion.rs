//! Between the version that is stored and the one that is served.

mod autoscaling;
mod events;

use knarr_api::status::Status;
use serde_json::Value;

use crate::catalogue::{Resource, Storage};
use crate::custom::Conversion;

/// From the storage version to the resource's.
pub async fn to_served(resource: &Resource, object: Value) -> Result<Value, Status> {
    let mut served = all_to_served(resource, vec![object]).await?;
    served.pop().ok_or_else(|| Status::internal("conversion lost an object"))
}

/// As [`to_served`], for many objects at once: a webhook is asked once.
pub async fn all_to_served(resource: &Resource, objects: Vec<Value>) -> Result<Vec<Value>, Status> {
    let Some(storage) = resource.stored() else { return Ok(objects) };
    let to = (&*resource.group, &*resource.version);
    let mut served = match &storage.conversion {
        Some(conversion) => conversion.convert(objects, &resource.api_version()).await?,
        None => {
            let from = (&*storage.group, &*storage.version);
            objects
                .into_iter()
                .map(|object| convert(object, &storage.kind, from, to))
                .collect::<Result<_, _>>()?
        }
    };
    if let Some(custom) = &resource.custom {
        served.iter_mut().for_each(|object| custom.complete(object));
    }
    Ok(served)
}

/// Whether some objects of the resource are what a webhook makes of them.
pub fn asks_webhook(resource: &Resource) -> bool {
    resource.stored().is_some_and(|storage| {
        let by_webhook = matches!(storage.conversion, Some(Conversion::Webhook { .. }));
        by_webhook && (storage.mixed || storage.version != resource.version)
    })
}

/// From the resource's version to the storage version.
pub async fn to_stored(resource: &Resource, storage: &Storage, object: Value) -> Result<Value, Status> {
    if storage.conversion.is_some() {
        return up_to_date(storage, object).await;
    }
    let from = (&*resource.group, &*resource.version);
    convert(object, &storage.kind, from, (&storage.group, &storage.version))
}

/// An object in the version that is stored now; it may have been stored in another.
pub async fn up_to_date(storage: &Storage, object: Value) -> Result<Value, Status> {
    let Some(conversion) = storage.conversion.as_ref().filter(|_| object.is_object()) else {
        return Ok(object);
    };
    let mut converted = conversion.convert(vec![object], &storage.api_version()).await?;
    converted.pop().ok_or_else(|| Status::internal("conversion lost an object"))
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
