//! What keeps an ended pod until its Job has counted it.

use k8s_openapi::api::core::v1::Pod;
use knarr_client::{Api, Cached, Client, error::is_not_found};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::error::{Error, Step};

pub(super) const FINALIZER: &str = "batch.kubernetes.io/job-tracking";

pub(super) fn has_finalizer(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

/// Takes the finalizer off a pod; one that has gone is let go already.
pub(super) async fn remove(client: &Client, pod: &Pod) -> Result<(), Error> {
    patch(client, pod, None).await
}

/// The same unless the pod has changed, as by being adopted: then there is a conflict.
pub(super) async fn remove_unchanged(client: &Client, pod: &Pod) -> Result<(), Error> {
    patch(client, pod, Some(pod.resource_version())).await
}

async fn patch(client: &Client, pod: &Pod, version: Option<&str>) -> Result<(), Error> {
    let mut metadata = json!({ "uid": pod.uid(), "$deleteFromPrimitiveList/finalizers": [FINALIZER] });
    if let Some(version) = version {
        metadata["resourceVersion"] = version.into();
    }
    let patch = json!({ "metadata": metadata });
    let api = Api::<Pod>::namespaced(client.clone(), pod.namespace());
    match api.patch(pod.name(), &PatchParams::default(), &Patch::Strategic(patch)).await {
        Err(error) if is_not_found(&error) => Ok(()),
        other => other.map(drop).step("remove the finalizer of pod", pod.name()),
    }
}
