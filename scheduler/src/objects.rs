//! Everything besides pods and nodes that a decision may depend on, as last seen.

mod selecting;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::resource::v1::ResourceClaim;
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment};
use knarr_api::selector::Selector;
use knarr_client::Cached;

pub use selecting::{Labelled, Selecting};

use crate::devices::Devices;
use crate::object::{Labels, Pod};

/// The objects of one resource, by namespace (empty for cluster-scoped ones) and name.
#[derive(Debug)]
pub struct Store<K>(HashMap<Box<str>, BTreeMap<Box<str>, Arc<K>>>);

impl<K> Default for Store<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Cached> Store<K> {
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Arc<K>> {
        self.0.get(namespace)?.get(name)
    }

    pub fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = &Arc<K>> {
        self.0.get(namespace).into_iter().flat_map(BTreeMap::values)
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<K>> {
        self.0.values().flat_map(BTreeMap::values)
    }

    /// What is kept under the same name.
    pub fn get_like(&self, object: &K) -> Option<&Arc<K>> {
        self.get(object.namespace(), object.name())
    }

    /// Gives the state before.
    pub fn set(&mut self, object: Arc<K>) -> Option<Arc<K>> {
        let namespace = self.0.entry(object.namespace().into()).or_default();
        namespace.insert(object.name().into(), object)
    }

    pub fn remove(&mut self, object: &K) {
        if let Some(namespace) = self.0.get_mut(object.namespace()) {
            namespace.remove(object.name());
            if namespace.is_empty() {
                self.0.remove(object.namespace());
            }
        }
    }
}

#[derive(Debug, Default)]
pub struct Objects {
    pub namespaces: Store<Labelled>,
    pub services: Store<Selecting>,
    pub replication_controllers: Store<Selecting>,
    pub replica_sets: Store<Selecting>,
    pub stateful_sets: Store<Selecting>,
    pub budgets: Store<PodDisruptionBudget>,
    pub claims: Store<PersistentVolumeClaim>,
    pub volumes: Store<PersistentVolume>,
    pub classes: Store<StorageClass>,
    pub csi_nodes: Store<CSINode>,
    pub csi_drivers: Store<CSIDriver>,
    pub capacities: Store<CSIStorageCapacity>,
    pub attachments: Store<VolumeAttachment>,
    pub resource_claims: Store<ResourceClaim>,
    pub devices: Devices,
    revision: u64,
}

/// The labels of a namespace that is not known.
static NO_LABELS: Labels = Labels::new();

impl Objects {
    /// Changes with what decisions about equal pods may depend on, and that they do not ask for anew each time:
    /// the labels of namespaces.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub fn changing_namespaces(&mut self) -> &mut Store<Labelled> {
        self.revision += 1;
        &mut self.namespaces
    }

    pub fn namespace_labels(&self, namespace: &str) -> &Labels {
        self.namespaces.get("", namespace).map_or(&NO_LABELS, |namespace| &namespace.metadata.labels)
    }

    /// The pods that the owner of this pod and the services before it mean; `None` if nobody means it.
    pub fn default_selector(&self, pod: &Pod) -> Option<Selector> {
        let meta = &pod.metadata;
        let services = self.services.in_namespace(&meta.namespace);
        let selecting = services.filter(|service| service.selects(&meta.labels));
        let mut requirements: Vec<_> =
            selecting.flat_map(|service| service.selector.requirements().to_vec()).collect();
        if let Some(owner) = self.owner_of(pod) {
            requirements.extend(owner.selector.requirements().to_vec());
        }
        requirements.dedup();
        (!requirements.is_empty()).then(|| Selector::new(requirements))
    }

    fn owner_of(&self, pod: &Pod) -> Option<&Arc<Selecting>> {
        let owner = pod.metadata.controller.as_ref()?;
        let store = match (owner.api_version.as_str(), owner.kind.as_str()) {
            ("v1", "ReplicationController") => &self.replication_controllers,
            ("apps/v1", "ReplicaSet") => &self.replica_sets,
            ("apps/v1", "StatefulSet") => &self.stateful_sets,
            _ => return None,
        };
        store.get(&pod.metadata.namespace, &owner.name)
    }
}
