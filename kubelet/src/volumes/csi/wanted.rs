//! A volume of a driver as a pod wants it, whether a claim or the pod itself names it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    CSIPersistentVolumeSource, CSIVolumeSource, PersistentVolume, Pod, SecretReference, Volume,
};
use sha2::{Digest, Sha256};

use crate::pod::spec;

/// Lifecycles of volumes, as drivers list those they support.
pub const PERSISTENT: &str = "Persistent";
pub const EPHEMERAL: &str = "Ephemeral";

const BLOCK: &str = "Block";

/// One volume of one driver.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The PersistentVolume's, or that of the volume in the pod.
    pub name: String,
    pub driver: String,
    pub handle: String,
    pub read_only: bool,
    pub block: bool,
    pub lifecycle: &'static str,
    pub fs_type: String,
    /// `None`: a volume of the pod itself.
    pub access_modes: Option<Vec<String>>,
    pub attributes: BTreeMap<String, String>,
    pub options: Vec<String>,
    pub stage_secret: Option<SecretReference>,
    pub publish_secret: Option<SecretReference>,
}

impl Wanted {
    /// A volume that the pod names itself; its handle is made of both their names.
    pub fn ephemeral(pod: &Pod, volume: &Volume, source: &CSIVolumeSource) -> Self {
        let handle = format!("csi-{}", hash(&[spec::uid(pod), &volume.name]));
        let secret = source.node_publish_secret_ref.as_ref().map(|secret| SecretReference {
            name: Some(secret.name.clone()),
            namespace: Some(spec::namespace(pod).to_owned()),
        });
        Self {
            name: volume.name.clone(),
            driver: source.driver.clone(),
            handle,
            read_only: source.read_only.unwrap_or(false),
            block: false,
            lifecycle: EPHEMERAL,
            fs_type: source.fs_type.clone().unwrap_or_default(),
            access_modes: None,
            attributes: source.volume_attributes.clone().unwrap_or_default(),
            options: Vec::new(),
            stage_secret: None,
            publish_secret: secret,
        }
    }

    /// A volume that a claim of the pod is bound to.
    pub fn persistent(
        volume: &PersistentVolume,
        source: &CSIPersistentVolumeSource,
        read_only: bool,
    ) -> Self {
        let spec = volume.spec.as_ref();
        Self {
            name: volume.metadata.name.clone().unwrap_or_default(),
            driver: source.driver.clone(),
            handle: source.volume_handle.clone(),
            read_only,
            block: spec.and_then(|spec| spec.volume_mode.as_deref()) == Some(BLOCK),
            lifecycle: PERSISTENT,
            fs_type: source.fs_type.clone().unwrap_or_default(),
            access_modes: spec.map(|spec| spec.access_modes.clone().unwrap_or_default()),
            attributes: source.volume_attributes.clone().unwrap_or_default(),
            options: spec.and_then(|spec| spec.mount_options.clone()).unwrap_or_default(),
            stage_secret: source.node_stage_secret_ref.clone(),
            publish_secret: source.node_publish_secret_ref.clone(),
        }
    }

    pub fn is_persistent(&self) -> bool {
        self.lifecycle == PERSISTENT
    }

    /// The first of the volume's, which upstream takes for all.
    pub fn access_mode(&self) -> String {
        let first = self.access_modes.as_ref().and_then(|modes| modes.first());
        first.cloned().unwrap_or_else(|| "ReadWriteOnce".to_owned())
    }

    /// Among all volumes of this node.
    pub fn key(&self) -> String {
        key(&self.driver, &self.handle)
    }

    /// Its name in the status of nodes.
    pub fn unique_name(&self) -> String {
        format!("{}/{}", super::PLUGIN, self.key())
    }

    /// Of the object that attaches it to a node.
    pub fn attachment(&self, node: &str) -> String {
        attachment_name(&self.handle, &self.driver, node)
    }
}

/// The name of the object that attaches a volume to a node.
pub fn attachment_name(handle: &str, driver: &str, node: &str) -> String {
    format!("csi-{}", hash(&[handle, driver, node]))
}

pub fn key(driver: &str, handle: &str) -> String {
    format!("{driver}^{handle}")
}

/// The parts after each other, hashed, in hexadecimal digits.
pub fn hash(parts: &[&str]) -> String {
    let digest = parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
