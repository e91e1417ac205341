//! Volumes that must be attached before they are mounted, and stay so until they are not.
//!
//! The attach-detach controller attaches a volume for a pod, says so in `status.volumesAttached` of the node, and
//! detaches it only when the node no longer lists it in `status.volumesInUse`, having first said that it is no longer
//! attached. So the agent says that it uses a volume, and mounts it when the node says both, read at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use knarr_client::Api;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::driver::Facts;
use super::publish::at;
use super::wanted::Wanted;
use super::{Csi, VolumeError};
use crate::pod::spec;

type Pairs = BTreeMap<String, String>;

/// Volumes in use by their unique names, with the uids of the pods that want them. Volumes without pods have been used
/// and not yet been found to be gone from the node.
pub struct InUse {
    volumes: Mutex<Volumes>,
    node_changed: Arc<Notify>,
}

#[derive(Default)]
struct Volumes {
    pods: BTreeMap<String, BTreeSet<String>>,
    /// How often a pod has come for a volume.
    claims: u64,
}

impl InUse {
    pub fn new(node_changed: Arc<Notify>) -> Self {
        Self { volumes: Mutex::default(), node_changed }
    }

    /// What an earlier run of the agent said.
    pub fn remember(&self, names: impl IntoIterator<Item = String>) {
        let mut volumes = self.volumes.lock();
        for name in names {
            volumes.pods.entry(name).or_default();
        }
    }

    pub fn names(&self) -> Vec<String> {
        self.volumes.lock().pods.keys().cloned().collect()
    }

    fn claim(&self, name: String, uid: &str) {
        let mut volumes = self.volumes.lock();
        let before = volumes.pods.len();
        volumes.claims += 1;
        volumes.pods.entry(name).or_default().insert(uid.to_owned());
        if volumes.pods.len() != before {
            self.node_changed.notify_one();
        }
    }

    /// The pod is done with all its volumes.
    pub fn release(&self, uid: &str) {
        for uids in self.volumes.lock().pods.values_mut() {
            uids.remove(uid);
        }
    }

    /// What [`Self::keep`] is to be told: taken before one looks what is on the node.
    pub fn claims(&self) -> u64 {
        self.volumes.lock().claims
    }

    /// Forgets volumes that no pod wants and that are not on the node. `false`, and nothing forgotten, when pods have
    /// come for volumes since: what was seen of the node is old then.
    pub fn keep(&self, claims: u64, on_node: impl Fn(&str) -> bool) -> bool {
        let mut volumes = self.volumes.lock();
        if volumes.claims != claims {
            return false;
        }
        let before = volumes.pods.len();
        volumes.pods.retain(|name, uids| !uids.is_empty() || on_node(name));
        if volumes.pods.len() != before {
            self.node_changed.notify_one();
        }
        true
    }
}

impl Csi {
    /// Returns when the volume is attached, with what the attacher has to say to the driver.
    pub(super) async fn attached(
        &self,
        pod: &Pod,
        wanted: &Wanted,
        facts: &Facts,
    ) -> Result<Pairs, VolumeError> {
        if !wanted.is_persistent() || !facts.attach_required() {
            return Ok(Pairs::new());
        }
        let name = wanted.unique_name();
        self.in_use.claim(name.clone(), spec::uid(pod));
        let api = Api::<Node>::all(self.client.clone());
        let node = api.get(&self.config.node_name).await.map_err(|error| {
            let why = format!("VerifyControllerAttachedVolume failed fetching node from API server: {error}");
            VolumeError::NotAttached(why)
        })?;
        let status = node.status.unwrap_or_default();
        if !status.volumes_in_use.iter().flatten().any(|known| *known == name) {
            let why = "Volume has not been added to the list of VolumesInUse in the node's volume status";
            return Err(VolumeError::NotAttached(why.to_owned()));
        }
        if !status.volumes_attached.iter().flatten().any(|known| known.name == name) {
            let why = "Volume not attached according to node status".to_owned();
            return Err(VolumeError::NotAttached(why));
        }
        let step = if wanted.block { "MapVolume.WaitForAttach" } else { "MountVolume.WaitForAttach" };
        self.attachment(wanted).await.map_err(VolumeError::Invalid).map_err(at(step, wanted))
    }

    async fn attachment(&self, wanted: &Wanted) -> Result<Pairs, String> {
        let (name, handle) = (wanted.attachment(&self.config.node_name), &wanted.handle);
        let api = Api::<VolumeAttachment>::all(self.client.clone());
        let found = api.get(&name).await;
        let found = found.map_err(|error| {
            format!("volume {handle} has GET error for volume attachment {name}: {error}")
        })?;
        if found.metadata.deletion_timestamp.is_some() {
            return Err("volume attachment is being deleted".to_owned());
        }
        let status = found.status.unwrap_or_default();
        if status.attached {
            return Ok(status.attachment_metadata.unwrap_or_default());
        }
        match status.attach_error {
            Some(error) => Err(error.message.unwrap_or_default()),
            None => Err(format!("volume {handle} is not attached for volume attachment {name}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_in_use_until_it_is_gone_from_pods_and_node() {
        let in_use = InUse::new(Arc::default());
        in_use.remember(["old".to_owned()]);
        let before = in_use.claims();
        in_use.claim("new".to_owned(), "u");
        assert!(!in_use.keep(before, |_| false), "a pod has come since");
        let keep = |on_node: &str| assert!(in_use.keep(in_use.claims(), |name| name == on_node));
        keep("old");
        assert_eq!(in_use.names(), ["new", "old"]);
        in_use.release("u");
        keep("new");
        assert_eq!(in_use.names(), ["new"]);
        keep("");
        assert!(in_use.names().is_empty());
    }
}
