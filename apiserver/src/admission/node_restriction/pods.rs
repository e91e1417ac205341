//! A node creates only mirror pods of its own, and touches only pods bound to it.

use knarr_api::status::Status;
use serde_json::{Value, json};

use super::{NodeRestriction, Why};
use crate::admission::pod::{
    CONTAINER_LISTS, MIRROR_ANNOTATION, environment_secrets, is_mirror, items, text,
};
use crate::admission::{Attributes, Operation};

impl NodeRestriction {
    pub(super) async fn pod(&self, node: &str, attributes: &Attributes) -> Result<(), Status> {
        let refuse = |why: Why| Err(attributes.forbidden(why));
        match (attributes.subresource.as_str(), attributes.operation) {
            ("", Operation::Create) => self.create_pod(node, attributes).await,
            ("", Operation::Delete) => {
                let why = format!("node {node:?} can only delete pods with spec.nodeName set to itself");
                self.bound(node, attributes, &attributes.name, why).await
            }
            ("", operation) => refuse(format!(
                "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
                operation.as_str()
            )),
            ("status", Operation::Update) => {
                pod_status(node, attributes).map_err(|why| attributes.forbidden(why))
            }
            ("eviction", Operation::Create) => {
                let in_object = attributes.object.as_ref().map_or("", |o| text(&o["metadata"]["name"]));
                let name = if attributes.name.is_empty() { in_object } else { &attributes.name };
                if name.is_empty() {
                    return refuse("could not determine pod from request data".into());
                }
                let why = format!("node {node} can only evict pods with spec.nodeName set to itself");
                self.bound(node, attributes, name, why).await
            }
            ("status", operation) => refuse(format!("unexpected operation {:?}", operation.as_str())),
            ("eviction", operation) => refuse(format!("unexpected operation {}", operation.as_str())),
            (other, _) => refuse(format!(
                "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
            )),
        }
    }

    async fn bound(&self, node: &str, attributes: &Attributes, name: &str, why: Why) -> Result<(), Status> {
        let pod = self.object("pods", &attributes.namespace, name).await?;
        if pod["spec"]["nodeName"] == node { Ok(()) } else { Err(attributes.forbidden(why)) }
    }

    async fn create_pod(&self, node: &str, attributes: &Attributes) -> Result<(), Status> {
        let Some(pod) = &attributes.object else { return Ok(()) };
        let owner = mirror_owner(node, pod).map_err(|why| attributes.forbidden(why))?;
        let uid = text(&self.object("nodes", "", node).await?["metadata"]["uid"]).to_owned();
        let claimed = text(&owner["uid"]);
        if claimed != uid {
            return Err(
                attributes.forbidden(format!("node {node} UID mismatch: expected {claimed} got {uid}"))
            );
        }
        match api_reference(pod) {
            None => Ok(()),
            Some(resource) => {
                Err(attributes
                    .forbidden(format!("node {node:?} can not create pods that reference {resource}")))
            }
        }
    }
}

fn mirror_owner<'a>(node: &str, pod: &'a Value) -> Result<&'a Value, Why> {
    if !is_mirror(pod) {
        return Err(format!(
            "pod does not have {MIRROR_ANNOTATION:?} annotation, node {node:?} can only create mirror pods"
        ));
    }
    if pod["spec"]["nodeName"] != node {
        return Err(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
    }
    let owners: Vec<&Value> = items(&pod["metadata"]["ownerReferences"]).collect();
    let owner = match owners.as_slice() {
        [one] => *one,
        [] => {
            return Err(format!("node {node:?} can only create pods with an owner reference set to itself"));
        }
        _ => {
            return Err(format!(
                "node {node:?} can only create pods with a single owner reference set to itself"
            ));
        }
    };
    let itself = owner["apiVersion"] == "v1" && owner["kind"] == "Node" && owner["name"] == node;
    if !itself {
        return Err(format!("node {node:?} can only create pods with an owner reference set to itself"));
    }
    if owner["controller"] != true {
        return Err(format!(
            "node {node:?} can only create pods with a controller owner reference set to itself"
        ));
    }
    if owner["blockOwnerDeletion"] == true {
        return Err(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"));
    }
    Ok(owner)
}

fn pod_status(node: &str, attributes: &Attributes) -> Result<(), Why> {
    let (Some(new), Some(old)) = (&attributes.object, attributes.old_object.as_deref()) else {
        return Ok(());
    };
    if old["spec"]["nodeName"] != node {
        return Err(format!(
            "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
        ));
    }
    let or_empty = |value: &Value| if value.is_null() { json!({}) } else { value.clone() };
    if or_empty(&new["metadata"]["labels"]) != or_empty(&old["metadata"]["labels"]) {
        return Err(format!("node {node:?} cannot update labels through pod status"));
    }
    if !super::same_list(&new["status"]["resourceClaimStatuses"], &old["status"]["resourceClaimStatuses"]) {
        return Err(format!("node {node:?} cannot update resource claim statues"));
    }
    if new["status"]["extendedResourceClaimStatus"] != old["status"]["extendedResourceClaimStatus"] {
        return Err(format!("node {node:?} cannot update extended resource claim status"));
    }
    Ok(())
}

/// Volumes that need nothing of the API.
const LOCAL_VOLUMES: [&str; 21] = [
    "awsElasticBlockStore",
    "azureDisk",
    "cephfs",
    "cinder",
    "downwardAPI",
    "emptyDir",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "gitRepo",
    "hostPath",
    "image",
    "iscsi",
    "nfs",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "rbd",
    "scaleIO",
    "storageos",
];
const API_VOLUMES: [(&str, &str); 7] = [
    ("configMap", "configmaps (via configmap volumes)"),
    ("secret", "secrets (via secret volumes)"),
    ("csi", "csidrivers (via CSI volumes)"),
    ("glusterfs", "endpoints (via glusterFS volumes)"),
    ("persistentVolumeClaim", "persistentvolumeclaims"),
    ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
    ("azureFile", "secrets (via azureFile volumes)"),
];
const API_PROJECTIONS: [(&str, &str); 5] = [
    ("configMap", "configmaps (via projected volumes)"),
    ("secret", "secrets (via projected volumes)"),
    ("serviceAccountToken", "serviceaccounts (via projected volumes)"),
    ("clusterTrustBundle", "clustertrustbundles"),
    ("podCertificate", "podcertificates"),
];

/// What of the API a pod refers to: a node must not be able to give itself access by making a pod.
fn api_reference(pod: &Value) -> Option<&'static str> {
    let spec = &pod["spec"];
    if !text(&spec["serviceAccountName"]).is_empty() {
        return Some("serviceaccounts");
    }
    let containers = || CONTAINER_LISTS.iter().flat_map(|(list, _)| items(&spec[*list]));
    let volume_secret = |volume: &Value| {
        volume
            .as_object()
            .into_iter()
            .flat_map(|volume| volume.values())
            .any(|source| source["secretRef"].is_object() || source["nodePublishSecretRef"].is_object())
    };
    let secrets = containers().any(|container| environment_secrets(container).next().is_some())
        || items(&spec["imagePullSecrets"]).next().is_some()
        || items(&spec["volumes"]).any(volume_secret);
    if secrets {
        return Some("secrets");
    }
    let configs = |container: &Value| {
        items(&container["env"]).any(|var| var["valueFrom"]["configMapKeyRef"].is_object())
            || items(&container["envFrom"]).any(|from| from["configMapRef"].is_object())
    };
    if containers().any(configs) {
        return Some("configmaps");
    }
    if items(&spec["resourceClaims"]).next().is_some() {
        return Some("resourceclaims");
    }
    items(&spec["volumes"]).find_map(volume_reference)
}

fn volume_reference(volume: &Value) -> Option<&'static str> {
    let present = |holder: &Value, field: &str| holder.get(field).is_some_and(|value| !value.is_null());
    if LOCAL_VOLUMES.iter().any(|field| present(volume, field)) {
        return None;
    }
    if let Some((_, resource)) = API_VOLUMES.iter().find(|(field, _)| present(volume, field)) {
        return Some(resource);
    }
    if !present(volume, "projected") {
        return Some("volumes of an unknown type");
    }
    items(&volume["projected"]["sources"]).find_map(|source| {
        let known = API_PROJECTIONS.iter().find(|(field, _)| present(source, field));
        match known {
            Some((_, resource)) => Some(*resource),
            None if present(source, "downwardAPI") => None,
            None => Some("volumes of an unknown type"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_pod_needs_nothing_of_the_api() {
        let table = [
            (
                json!({"containers": [{"name": "c"}], "volumes": [{"name": "h", "hostPath": {"path": "/"}}]}),
                None,
            ),
            (json!({"serviceAccountName": "x"}), Some("serviceaccounts")),
            (json!({"volumes": [{"name": "s", "secret": {}}]}), Some("secrets (via secret volumes)")),
            (json!({"volumes": [{"name": "p", "projected": {"sources": [{"downwardAPI": {}}]}}]}), None),
            (
                json!({"volumes": [{"name": "p", "projected": {"sources": [{"serviceAccountToken": {}}]}}]}),
                Some("serviceaccounts (via projected volumes)"),
            ),
            (json!({"containers": [{"envFrom": [{"configMapRef": {"name": "c"}}]}]}), Some("configmaps")),
        ];
        for (spec, expected) in table {
            assert_eq!(api_reference(&json!({"spec": spec})), expected);
        }
    }
}
