//! Which volumes the pods of a node want attached.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::CSIDriver,
};
use knarr_client::{Cached, ObjectKey, SharedInformer};
use sha2::{Digest, Sha256};

use super::node_key;
use crate::{
    pods,
    volumes::{
        claim_phase,
        protection::{claims_of, users_of},
        volume_name,
    },
};

const PLUGIN: &str = "kubernetes.io/csi";

/// A volume of a storage driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Volume {
    /// Its name in the status of nodes.
    pub(super) name: String,
    pub(super) driver: String,
    handle: String,
}

impl Volume {
    fn new(driver: &str, handle: &str) -> Self {
        let name = format!("{PLUGIN}/{driver}^{handle}");
        Self { name, driver: driver.to_owned(), handle: handle.to_owned() }
    }

    /// `None`: another kind of volume.
    pub(super) fn of(volume: &PersistentVolume) -> Option<Self> {
        let source = volume.spec.as_ref()?.csi.as_ref()?;
        Some(Self::new(&source.driver, &source.volume_handle))
    }

    /// From its name in the status of a node.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (driver, handle) = name.strip_prefix(PLUGIN)?.strip_prefix('/')?.split_once('^')?;
        Some(Self::new(driver, handle))
    }

    /// The name of the object that attaches it to a node.
    pub(super) fn attachment(&self, node: &str) -> String {
        let parts = [&self.handle, &self.driver, node];
        let digest = parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize();
        let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("csi-{digits}")
    }
}

/// A volume with the pods of one node that want it.
pub(super) struct Wanted {
    pub(super) volume: Volume,
    pub(super) persistent_volume: String,
    /// Several nodes may have it at once.
    pub(super) shared: bool,
    pub(super) pods: Vec<Arc<Pod>>,
}

pub(super) struct World {
    pub(super) pods: SharedInformer<Pod>,
    pub(super) claims: SharedInformer<PersistentVolumeClaim>,
    pub(super) volumes: SharedInformer<PersistentVolume>,
    pub(super) drivers: SharedInformer<CSIDriver>,
}

/// A pod whose containers have all ended has no more use for volumes.
fn has_ended(pod: &Pod) -> bool {
    let statuses =
        pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let running = |status: &k8s_openapi::api::core::v1::ContainerStatus| {
        status.state.as_ref().is_none_or(|state| state.terminated.is_none() && state.waiting.is_none())
    };
    pods::is_finished(pod) || (pod.metadata.deletion_timestamp.is_some() && !statuses.iter().any(running))
}

impl World {
    /// By the volumes' names.
    pub(super) fn wanted(&self, node: &str) -> BTreeMap<String, Wanted> {
        let mut all = BTreeMap::<String, Wanted>::new();
        for pod in pods::index::on_node(&self.pods, node) {
            if has_ended(&pod) {
                continue;
            }
            for persistent in self.volumes_of(&pod) {
                let Some(volume) = Volume::of(&persistent).filter(|volume| self.needs_attaching(volume))
                else {
                    continue;
                };
                let entry = all.entry(volume.name.clone()).or_insert_with(|| Wanted {
                    volume,
                    persistent_volume: persistent.name().to_owned(),
                    shared: is_shared(&persistent),
                    pods: Vec::new(),
                });
                entry.pods.push(Arc::clone(&pod));
            }
        }
        all
    }

    /// The volumes that the pod's claims are bound to.
    fn volumes_of(&self, pod: &Pod) -> Vec<Arc<PersistentVolume>> {
        let bound = |name: String| {
            let claim = self.claims.get(pod.namespace(), &name)?;
            let volume = self.volumes.get("", volume_name(&claim))?;
            let of = volume.spec.as_ref()?.claim_ref.as_ref()?;
            (claim_phase(&claim) == "Bound" && of.uid == claim.metadata.uid).then_some(volume)
        };
        claims_of(pod).into_iter().filter_map(bound).collect()
    }

    /// Drivers that say nothing want their volumes attached.
    fn needs_attaching(&self, volume: &Volume) -> bool {
        self.drivers.get("", &volume.driver).is_none_or(|driver| driver.spec.attach_required.unwrap_or(true))
    }

    /// Pods of a node that have the volume.
    pub(super) fn pods_with(&self, node: &str, volume: &str) -> Vec<Arc<Pod>> {
        self.wanted(node).remove(volume).map(|wanted| wanted.pods).unwrap_or_default()
    }

    pub(super) fn nodes_of_claim(&self, claim: &PersistentVolumeClaim) -> Vec<ObjectKey> {
        self.nodes_with(claim.namespace(), claim.name())
    }

    pub(super) fn nodes_of_volume(&self, volume: &PersistentVolume) -> Vec<ObjectKey> {
        let claim = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        let Some(claim) = claim.filter(|_| Volume::of(volume).is_some()) else { return Vec::new() };
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        self.nodes_with(&text(&claim.namespace), &text(&claim.name))
    }

    fn nodes_with(&self, namespace: &str, claim: &str) -> Vec<ObjectKey> {
        let users = users_of(&self.pods, &ObjectKey::new(namespace, claim));
        users.iter().map(|pod| pods::node_name(pod)).filter(|node| !node.is_empty()).map(node_key).collect()
    }

    pub(super) fn all_nodes(&self) -> Vec<ObjectKey> {
        let pods = self.pods.list();
        let names = pods.iter().map(|pod| pods::node_name(pod)).filter(|node| !node.is_empty());
        names.map(node_key).collect()
    }
}

/// Without access modes nobody knows: the driver will say.
fn is_shared(volume: &PersistentVolume) -> bool {
    let modes = volume.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default();
    modes.is_empty() || modes.iter().any(|mode| matches!(mode.as_str(), "ReadWriteMany" | "ReadOnlyMany"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_found_again_by_its_name() {
        let volume = Volume::new("csi.example.com", "vol^1");
        assert_eq!(volume.name, "kubernetes.io/csi/csi.example.com^vol^1");
        assert_eq!(Volume::parse(&volume.name), Some(volume));
        assert_eq!(Volume::parse("kubernetes.io/aws-ebs/vol"), None);
    }

    #[test]
    fn an_attachment_has_upstreams_name() {
        // sha256sum of "handledrivernode"
        let name = Volume::new("driver", "handle").attachment("node");
        assert_eq!(name, "csi-fdef298eb16db6fa42906ef1ff09a93a7f3028f8290cc9d71628ff91c237bfa7");
    }
}
