//! The indices over the shared pod cache.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use knarr_client::{SharedInformer, object::controller_of};

const BY_CONTROLLER: &str = "controller";
const BY_NODE: &str = "node";

/// The shared pod cache with an index of whose pods are whose.
pub(crate) fn by_controller(pods: &SharedInformer<Pod>) {
    pods.add_index(BY_CONTROLLER, |pod| match controller_of(&pod.metadata) {
        Some(owner) => vec![owner.uid.clone()],
        // Orphans are looked for by namespace, which no uid can be mistaken for.
        None => vec![orphans_of(pod.metadata.namespace.as_deref().unwrap_or_default())],
    });
}

pub(crate) fn by_node(pods: &SharedInformer<Pod>) {
    pods.add_index(BY_NODE, |pod| {
        let node = super::node_name(pod);
        if node.is_empty() { Vec::new() } else { vec![node.to_owned()] }
    });
}

fn orphans_of(namespace: &str) -> String {
    format!("orphan/{namespace}")
}

/// The pods controlled by an owner.
pub(crate) fn owned_by(pods: &SharedInformer<Pod>, uid: &str) -> Vec<Arc<Pod>> {
    pods.by_index(BY_CONTROLLER, uid)
}

/// The pods of a namespace that nobody controls.
pub(crate) fn orphans_in(pods: &SharedInformer<Pod>, namespace: &str) -> Vec<Arc<Pod>> {
    pods.by_index(BY_CONTROLLER, &orphans_of(namespace))
}

pub(crate) fn on_node(pods: &SharedInformer<Pod>, node: &str) -> Vec<Arc<Pod>> {
    pods.by_index(BY_NODE, node)
}
