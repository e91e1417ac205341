//! The volume a claim gets, and the pod that removes its files.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod},
        storage::v1::StorageClass,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use knarr_client::Cached;
use serde_json::json;

use super::{PROVISIONER, STORAGE_PATH};
use crate::{context::LocalStorage, pods};

const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// On a volume: the node whose disk it is on.
const ON_NODE: &str = "knarr.io/node";
/// On a pod: the volume whose files it removes.
const REMOVES: &str = "knarr.io/removes-volume";
const HOSTNAME: &str = "kubernetes.io/hostname";
/// Removing many files takes long; one that hangs is tried again.
const REMOVAL_SECONDS: i64 = 3600;

pub fn annotation<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(key).map(String::as_str).filter(|value| !value.is_empty())
}

/// An absolute path, or nothing.
pub fn storage_path(node: &Node) -> Option<&str> {
    annotation(&node.metadata, STORAGE_PATH).filter(|path| path.starts_with('/'))
}

pub fn volume_name(claim: &PersistentVolumeClaim) -> String {
    format!("pvc-{}", claim.metadata.uid.as_deref().unwrap_or_default())
}

pub fn remover_name(volume: &str) -> String {
    format!("remove-{volume}")
}

/// The volume this pod removes.
pub fn removes(pod: &Pod) -> Option<&str> {
    annotation(&pod.metadata, REMOVES)
}

/// The node of a pod that has not ended.
pub fn node_of(pod: &Pod) -> Option<&str> {
    let node = pod.spec.as_ref()?.node_name.as_deref().filter(|node| !node.is_empty());
    node.filter(|_| pods::is_active(pod))
}

/// Names of the claims a pod mounts.
pub fn claims_of(pod: &Pod) -> impl Iterator<Item = String> + '_ {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    volumes.iter().filter_map(|volume| {
        let own = || volume.ephemeral.as_ref().map(|_| format!("{}-{}", pod.name(), volume.name));
        volume.persistent_volume_claim.as_ref().map(|claim| claim.claim_name.clone()).or_else(own)
    })
}

pub fn is_ours(volume: &PersistentVolume) -> bool {
    annotation(&volume.metadata, PROVISIONED_BY) == Some(PROVISIONER)
}

pub fn is_to_be_deleted(volume: &PersistentVolume) -> bool {
    let spec = volume.spec.as_ref();
    spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref()) == Some("Delete")
}

/// The node and the directory a volume is.
pub fn place_of(volume: &PersistentVolume) -> Option<(&str, &str)> {
    let path = volume.spec.as_ref()?.local.as_ref()?.path.as_str();
    annotation(&volume.metadata, ON_NODE).map(|node| (node, path))
}

pub fn volume(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    node: &Node,
    directory: &str,
) -> PersistentVolume {
    let name = volume_name(claim);
    let wanted = claim.spec.clone().unwrap_or_default();
    let labels = node.metadata.labels.as_ref();
    let hostname = labels.and_then(|labels| labels.get(HOSTNAME)).map_or(node.name(), String::as_str);
    let size =
        wanted.resources.and_then(|resources| resources.requests).and_then(|r| r.get("storage").cloned());
    let spec = json!({
        "capacity": size.map(|size| BTreeMap::from([("storage", size)])).unwrap_or_default(),
        "accessModes": wanted.access_modes.unwrap_or_default(),
        "persistentVolumeReclaimPolicy": class.reclaim_policy.as_deref().unwrap_or("Delete"),
        "storageClassName": class.name(),
        "volumeMode": "Filesystem",
        "local": {"path": format!("{}/{name}", directory.trim_end_matches('/'))},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{
            "matchExpressions": [{"key": HOSTNAME, "operator": "In", "values": [hostname]}],
        }]}},
        "claimRef": {
            "kind": "PersistentVolumeClaim",
            "apiVersion": "v1",
            "namespace": claim.namespace(),
            "name": claim.name(),
            "uid": claim.metadata.uid,
            "resourceVersion": claim.metadata.resource_version,
        },
    });
    let notes = [(PROVISIONED_BY, PROVISIONER), (ON_NODE, node.name())];
    PersistentVolume {
        metadata: ObjectMeta {
            name: Some(name),
            annotations: Some(notes.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            ..ObjectMeta::default()
        },
        spec: serde_json::from_value(spec).ok(),
        status: None,
    }
}

/// A pod on the volume's node that removes `path`; it sees the directory around it and nothing else of the node.
pub fn remover(volume: &PersistentVolume, node: &str, path: &str, storage: &LocalStorage) -> Pod {
    let (directory, files) = path.rsplit_once('/').unwrap_or(("/", path));
    let mut command = storage.remove_command.clone();
    command.push(format!("/storage/{files}"));
    let spec = json!({
        "nodeName": node,
        "restartPolicy": "Never",
        "activeDeadlineSeconds": REMOVAL_SECONDS,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "priorityClassName": "system-node-critical",
        "tolerations": [{"operator": "Exists"}],
        "containers": [{
            "name": "remove",
            "image": storage.image,
            "imagePullPolicy": "IfNotPresent",
            "command": command,
            "securityContext": {
                "runAsUser": 0,
                "runAsGroup": 0,
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"], "add": ["DAC_OVERRIDE", "FOWNER"]},
            },
            "volumeMounts": [{"name": "storage", "mountPath": "/storage"}],
        }],
        "volumes": [{"name": "storage", "hostPath": {"path": directory, "type": "DirectoryOrCreate"}}],
    });
    Pod {
        metadata: ObjectMeta {
            name: Some(remover_name(volume.name())),
            namespace: Some(super::SYSTEM.to_owned()),
            annotations: Some([(REMOVES.to_owned(), volume.name().to_owned())].into()),
            ..ObjectMeta::default()
        },
        spec: serde_json::from_value(spec).ok(),
        status: None,
    }
}
