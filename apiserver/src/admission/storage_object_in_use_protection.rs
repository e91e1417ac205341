//! Volumes, claims and volume attributes classes that are in use are not removed: a finalizer holds them.

use async_trait::async_trait;
use knarr_api::status::Status;

use super::pod::list_at;
use super::{Admission, Attributes, Operation};

pub struct StorageObjectInUseProtection;

#[async_trait]
impl Admission for StorageObjectInUseProtection {
    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn admit(&self, attributes: &mut Attributes) -> Result<(), Status> {
        let finalizer = match () {
            () if attributes.is("", "persistentvolumes") => "kubernetes.io/pv-protection",
            () if attributes.is("", "persistentvolumeclaims") => "kubernetes.io/pvc-protection",
            () if attributes.is("storage.k8s.io", "volumeattributesclasses") => {
                "kubernetes.io/vac-protection"
            }
            () => return Ok(()),
        };
        let metadata = attributes.object.as_mut().and_then(|object| object.get_mut("metadata"));
        let Some(finalizers) = metadata.and_then(|metadata| list_at(metadata, "finalizers")) else {
            return Ok(());
        };
        if !finalizers.iter().any(|present| present == finalizer) {
            finalizers.push(finalizer.into());
        }
        Ok(())
    }
}
