//! Whether storage can be made for a claim on a node.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, TopologySelectorTerm};
use k8s_openapi::api::storage::v1::{CSIStorageCapacity, StorageClass};
use knarr_api::quantity::Quantity;
use knarr_api::selector::Selector;

use super::matching::requested;
use crate::object::Node;
use crate::objects::Objects;

/// The provisioner of classes whose volumes are made by hand.
const NONE: &str = "kubernetes.io/no-provisioner";

/// Whether the class makes volumes that can be reached from the node.
pub fn provisions(class: &StorageClass, node: &Node) -> bool {
    !class.provisioner.is_empty()
        && class.provisioner != NONE
        && is_allowed(class.allowed_topologies.as_deref().unwrap_or_default(), node)
}

fn is_allowed(terms: &[TopologySelectorTerm], node: &Node) -> bool {
    let matches = |term: &TopologySelectorTerm| {
        let mut requirements = term.match_label_expressions.iter().flatten().peekable();
        requirements.peek().is_some()
            && requirements.all(|requirement| {
                let value = node.label(&requirement.key);
                value.is_some_and(|value| requirement.values.iter().any(|allowed| allowed == value))
            })
    };
    terms.is_empty() || terms.iter().any(matches)
}

/// Whether the driver, if it publishes capacity, has enough for the claim where the node can reach it.
pub fn is_enough(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    node: &Node,
    objects: &Objects,
) -> bool {
    let want = requested(claim);
    let driver = objects.csi_drivers.get("", &class.provisioner);
    let publishes = driver.is_some_and(|driver| driver.spec.storage_capacity == Some(true));
    if want.is_zero() || !publishes {
        return true;
    }
    objects.capacities.all().any(|capacity| {
        Some(capacity.storage_class_name.as_str()) == class.metadata.name.as_deref()
            && limit(capacity).is_some_and(|limit| limit >= want)
            && reaches(capacity, node)
    })
}

/// Whether larger volumes can be made than before.
pub fn offers_more(before: &CSIStorageCapacity, now: &CSIStorageCapacity) -> bool {
    limit(now).is_some_and(|now| limit(before).is_none_or(|before| now > before))
}

/// The largest volume that can be made.
fn limit(capacity: &CSIStorageCapacity) -> Option<Quantity> {
    let limit = capacity.maximum_volume_size.as_ref().or(capacity.capacity.as_ref());
    limit.and_then(|limit| limit.0.parse().ok())
}

fn reaches(capacity: &CSIStorageCapacity, node: &Node) -> bool {
    let Some(topology) = &capacity.node_topology else { return false };
    Selector::try_from(topology).is_ok_and(|selector| selector.matches(&node.metadata.labels))
}
