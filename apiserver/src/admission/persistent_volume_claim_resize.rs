//! Claims grow only where their class lets them.

use async_trait::async_trait;
use knarr_api::quantity::Quantity;
use knarr_api::status::Status;
use serde_json::Value;

use super::lookup::Lookup;
use super::{Admission, Attributes, Operation};
use crate::objects::Resource;

const CLASSES: Resource<'static> = Resource::new("storage.k8s.io", "storageclasses");
const LEGACY: &str = "volume.beta.kubernetes.io/storage-class";

pub struct PersistentVolumeClaimResize {
    pub lookup: Lookup,
}

fn size(claim: &Value) -> Quantity {
    Quantity::from_json(&claim["spec"]["resources"]["requests"]["storage"]).unwrap_or_default()
}

fn class(claim: &Value) -> Option<&str> {
    let legacy = claim["metadata"]["annotations"][LEGACY].as_str();
    legacy.or(claim["spec"]["storageClassName"].as_str()).filter(|class| !class.is_empty())
}

#[async_trait]
impl Admission for PersistentVolumeClaimResize {
    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Update
    }

    async fn validate(&self, attributes: &Attributes) -> Result<(), Status> {
        let (Some(new), Some(old)) = (&attributes.object, attributes.old_object.as_deref()) else {
            return Ok(());
        };
        if !attributes.is("", "persistentvolumeclaims") || size(new) <= size(old) {
            return Ok(());
        }
        if old["status"]["phase"] != "Bound" {
            return Err(attributes.forbidden("Only bound persistent volume claims can be expanded"));
        }
        let expandable = match (class(new), class(old)) {
            (Some(new), Some(old)) if new == old => {
                let class: Option<Value> = self.lookup.get(CLASSES, "", new).await?;
                class.is_some_and(|class| class["allowVolumeExpansion"] == true)
            }
            _ => false,
        };
        if expandable {
            return Ok(());
        }
        Err(attributes.forbidden(
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
        ))
    }
}
