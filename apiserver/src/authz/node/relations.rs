//! Which nodes have to do with which objects.

use std::collections::{HashMap, HashSet};

use k8s_openapi::api::core::v1::{
    Container, EnvFromSource, EnvVar, EphemeralContainer, Pod, PodSpec, Volume,
};
use parking_lot::RwLock;
use serde::Deserialize;
use serde_json::Value;

use crate::authz::follow::Index;
use crate::objects::Stored;

type Name = Box<str>;
type Key = (Name, Name);
/// A kind, namespace and name that pods refer to.
type Reference = (Used, Name, Name);

const MIRROR: &str = "kubernetes.io/config.mirror";

/// What a pod uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Used {
    Secret,
    ConfigMap,
    VolumeClaim,
    ResourceClaim,
    ServiceAccount,
}

/// The ways an object can have to do with a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    By(Used),
    Pod,
    Volume,
    Attachment,
    Slice,
    CertificateRequest,
}

/// The relations, both from pods to what they use and back.
#[derive(Debug, Default)]
pub struct Relations {
    pods: HashMap<Key, Scheduled>,
    /// How many pods of each node use something.
    users: HashMap<Reference, HashMap<Name, usize>>,
    volumes: HashMap<Name, Bound>,
    /// The volumes whose driver needs a secret on the node.
    secrets_of_volumes: HashMap<Key, HashSet<Name>>,
    attachments: HashMap<Name, Name>,
    slices: HashMap<Name, Name>,
    requests: HashMap<Key, Name>,
}

#[derive(Debug)]
struct Scheduled {
    node: Name,
    uses: HashSet<Reference>,
}

#[derive(Debug)]
struct Bound {
    claim: Key,
    secrets: Vec<Key>,
}

impl Relations {
    pub fn related(&self, node: &str, what: Claimed, namespace: &str, name: &str) -> bool {
        let key = || (Name::from(namespace), Name::from(name));
        match what {
            Claimed::By(Used::Secret) => {
                self.uses(node, Used::Secret, namespace, name)
                    || self
                        .secrets_of_volumes
                        .get(&key())
                        .is_some_and(|volumes| volumes.iter().any(|volume| self.volume(node, volume)))
            }
            Claimed::By(used) => self.uses(node, used, namespace, name),
            Claimed::Pod => self.pods.get(&key()).is_some_and(|pod| *pod.node == *node),
            Claimed::Volume => self.volume(node, name),
            Claimed::Attachment => self.attachments.get(name).is_some_and(|on| **on == *node),
            Claimed::Slice => self.slices.get(name).is_some_and(|on| **on == *node),
            Claimed::CertificateRequest => self.requests.get(&key()).is_some_and(|on| **on == *node),
        }
    }

    fn uses(&self, node: &str, used: Used, namespace: &str, name: &str) -> bool {
        self.users.get(&(used, namespace.into(), name.into())).is_some_and(|nodes| nodes.contains_key(node))
    }

    fn volume(&self, node: &str, name: &str) -> bool {
        self.volumes
            .get(name)
            .is_some_and(|volume| self.uses(node, Used::VolumeClaim, &volume.claim.0, &volume.claim.1))
    }

    fn set_pod(&mut self, key: Key, pod: Scheduled) {
        if self.pods.get(&key).is_some_and(|known| known.node == pod.node && known.uses == pod.uses) {
            return;
        }
        self.remove_pod(&key);
        for reference in &pod.uses {
            *self.users.entry(reference.clone()).or_default().entry(pod.node.clone()).or_default() += 1;
        }
        self.pods.insert(key, pod);
    }

    fn remove_pod(&mut self, key: &Key) {
        let Some(pod) = self.pods.remove(key) else { return };
        for reference in &pod.uses {
            let Some(nodes) = self.users.get_mut(reference) else { continue };
            if let Some(count) = nodes.get_mut(&pod.node) {
                *count -= 1;
                if *count == 0 {
                    nodes.remove(&pod.node);
                }
            }
            if nodes.is_empty() {
                self.users.remove(reference);
            }
        }
    }

    fn set_volume(&mut self, name: Name, volume: Bound) {
        self.remove_volume(&name);
        for secret in &volume.secrets {
            self.secrets_of_volumes.entry(secret.clone()).or_default().insert(name.clone());
        }
        self.volumes.insert(name, volume);
    }

    fn remove_volume(&mut self, name: &str) {
        let Some(volume) = self.volumes.remove(name) else { return };
        for secret in &volume.secrets {
            if let Some(volumes) = self.secrets_of_volumes.get_mut(secret) {
                volumes.remove(name);
                if volumes.is_empty() {
                    self.secrets_of_volumes.remove(secret);
                }
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_forgotten(&self) -> bool {
        self.pods.is_empty() && self.users.is_empty()
    }
}

/// What a pod on a node uses. A mirror pod uses nothing: its node made it, and a node must not be able to give
/// itself permissions.
fn scheduled(namespace: &str, pod: &Pod) -> Option<Scheduled> {
    let spec = pod.spec.as_ref()?;
    let node = spec.node_name.as_deref().filter(|node| !node.is_empty())?;
    let mirror =
        pod.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(MIRROR));
    let mut uses = Uses { namespace, found: HashSet::new() };
    if !mirror {
        uses.spec(spec, pod.metadata.name.as_deref().unwrap_or_default());
        uses.claims(pod);
    }
    Some(Scheduled { node: node.into(), uses: uses.found })
}

struct Uses<'a> {
    namespace: &'a str,
    found: HashSet<Reference>,
}

impl Uses<'_> {
    fn add(&mut self, used: Used, name: Option<&str>) {
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            self.found.insert((used, self.namespace.into(), name.into()));
        }
    }

    fn secret<R>(&mut self, reference: Option<&R>, name: impl Fn(&R) -> Option<&str>) {
        self.add(Used::Secret, reference.and_then(name));
    }

    fn spec(&mut self, spec: &PodSpec, pod: &str) {
        self.add(Used::ServiceAccount, spec.service_account_name.as_deref());
        for secret in spec.image_pull_secrets.iter().flatten() {
            self.add(Used::Secret, Some(&secret.name));
        }
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        for Container { env, env_from, .. } in containers {
            self.environment(env.as_deref(), env_from.as_deref());
        }
        for EphemeralContainer { env, env_from, .. } in spec.ephemeral_containers.iter().flatten() {
            self.environment(env.as_deref(), env_from.as_deref());
        }
        for volume in spec.volumes.iter().flatten() {
            self.volume(volume, pod);
        }
    }

    fn environment(&mut self, env: Option<&[EnvVar]>, from: Option<&[EnvFromSource]>) {
        for source in env.into_iter().flatten().filter_map(|var| var.value_from.as_ref()) {
            self.add(Used::Secret, source.secret_key_ref.as_ref().map(|key| key.name.as_str()));
            self.add(Used::ConfigMap, source.config_map_key_ref.as_ref().map(|key| key.name.as_str()));
        }
        for source in from.into_iter().flatten() {
            self.add(Used::Secret, source.secret_ref.as_ref().map(|whole| whole.name.as_str()));
            self.add(Used::ConfigMap, source.config_map_ref.as_ref().map(|whole| whole.name.as_str()));
        }
    }

    fn volume(&mut self, volume: &Volume, pod: &str) {
        self.secret(volume.secret.as_ref(), |v| v.secret_name.as_deref());
        self.secret(volume.azure_file.as_ref(), |v| Some(&v.secret_name));
        self.secret(volume.cephfs.as_ref().and_then(|v| v.secret_ref.as_ref()), |r| Some(&r.name));
        self.secret(volume.cinder.as_ref().and_then(|v| v.secret_ref.as_ref()), |r| Some(&r.name));
        self.secret(volume.flex_volume.as_ref().and_then(|v| v.secret_ref.as_ref()), |r| Some(&r.name));
        self.secret(volume.rbd.as_ref().and_then(|v| v.secret_ref.as_ref()), |r| Some(&r.name));
        self.secret(volume.scale_io.as_ref().map(|v| &v.secret_ref), |r| Some(&r.name));
        self.secret(volume.iscsi.as_ref().and_then(|v| v.secret_ref.as_ref()), |r| Some(&r.name));
        self.secret(volume.storageos.as_ref().and_then(|v| v.secret_ref.as_ref()), |r| Some(&r.name));
        self.secret(volume.csi.as_ref().and_then(|v| v.node_publish_secret_ref.as_ref()), |r| Some(&r.name));
        self.add(Used::ConfigMap, volume.config_map.as_ref().map(|v| v.name.as_str()));
        for source in volume.projected.iter().flat_map(|v| v.sources.iter().flatten()) {
            self.secret(source.secret.as_ref(), |r| Some(&r.name));
            self.add(Used::ConfigMap, source.config_map.as_ref().map(|r| r.name.as_str()));
        }
        self.add(Used::VolumeClaim, volume.persistent_volume_claim.as_ref().map(|v| v.claim_name.as_str()));
        if volume.ephemeral.is_some() {
            self.add(Used::VolumeClaim, Some(&format!("{pod}-{}", volume.name)));
        }
    }

    fn claims(&mut self, pod: &Pod) {
        let status = pod.status.as_ref();
        for claim in pod.spec.iter().flat_map(|spec| spec.resource_claims.iter().flatten()) {
            let generated = status
                .iter()
                .flat_map(|status| status.resource_claim_statuses.iter().flatten())
                .find(|made| made.name == claim.name)
                .and_then(|made| made.resource_claim_name.as_deref());
            self.add(Used::ResourceClaim, claim.resource_claim_name.as_deref().or(generated));
        }
        let extended = status.and_then(|status| status.extended_resource_claim_status.as_ref());
        self.add(Used::ResourceClaim, extended.map(|made| made.resource_claim_name.as_str()));
    }
}

/// The secrets that a volume's driver needs on the node, by where the reference is in the spec. A reference without
/// a namespace is in the claim's.
const NODE_SECRETS: &[(&str, &str, &str)] = &[
    ("/azureFile", "secretName", "secretNamespace"),
    ("/cephfs/secretRef", "name", "namespace"),
    ("/cinder/secretRef", "name", "namespace"),
    ("/flexVolume/secretRef", "name", "namespace"),
    ("/rbd/secretRef", "name", "namespace"),
    ("/scaleIO/secretRef", "name", "namespace"),
    ("/iscsi/secretRef", "name", "namespace"),
    ("/storageos/secretRef", "name", "namespace"),
    ("/csi/nodePublishSecretRef", "name", "namespace"),
    ("/csi/nodeStageSecretRef", "name", "namespace"),
    ("/csi/nodeExpandSecretRef", "name", "namespace"),
];

fn bound(volume: &Value) -> Option<Bound> {
    let spec = volume.get("spec")?;
    let claim = spec.get("claimRef")?;
    let namespace = claim.get("namespace")?.as_str()?;
    let secrets = NODE_SECRETS.iter().filter_map(|(at, name, in_namespace)| {
        let reference = spec.pointer(at)?;
        let name = reference.get(name)?.as_str().filter(|name| !name.is_empty())?;
        let own = reference.get(in_namespace).and_then(Value::as_str).filter(|own| !own.is_empty());
        Some((own.unwrap_or(namespace).into(), name.into()))
    });
    Some(Bound { claim: (namespace.into(), claim.get("name")?.as_str()?.into()), secrets: secrets.collect() })
}

fn parse<'a, T: Deserialize<'a>>(stored: &'a Stored) -> Option<T> {
    serde_json::from_slice(&stored.json)
        .inspect_err(|error| {
            // What cannot be read relates to no node, so nothing is allowed because of it.
            tracing::error!(%error, namespace = %stored.namespace, name = %stored.name, "object does not parse");
        })
        .ok()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OnNode {
    spec: OnNodeSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OnNodeSpec {
    #[serde(default)]
    node_name: Option<Name>,
}

fn node_name(stored: &Stored) -> Option<Name> {
    parse::<OnNode>(stored)?.spec.node_name.filter(|node| !node.is_empty())
}

pub struct Pods<'a>(pub &'a RwLock<Relations>);
pub struct Volumes<'a>(pub &'a RwLock<Relations>);
pub struct Attachments<'a>(pub &'a RwLock<Relations>);
pub struct Slices<'a>(pub &'a RwLock<Relations>);
pub struct Requests<'a>(pub &'a RwLock<Relations>);

impl Index for Pods<'_> {
    fn set(&self, stored: &Stored) {
        let key = (stored.namespace.clone(), stored.name.clone());
        match parse::<Pod>(stored).and_then(|pod| scheduled(&stored.namespace, &pod)) {
            Some(pod) => self.0.write().set_pod(key, pod),
            None => self.0.write().remove_pod(&key),
        }
    }

    fn remove(&self, namespace: &str, name: &str) {
        self.0.write().remove_pod(&(namespace.into(), name.into()));
    }
}

impl Index for Volumes<'_> {
    fn set(&self, stored: &Stored) {
        match parse::<Value>(stored).as_ref().and_then(bound) {
            Some(volume) => self.0.write().set_volume(stored.name.clone(), volume),
            None => self.0.write().remove_volume(&stored.name),
        }
    }

    fn remove(&self, _: &str, name: &str) {
        self.0.write().remove_volume(name);
    }
}

macro_rules! named_on_node {
    ($index:ident, $map:ident, $key:expr) => {
        impl Index for $index<'_> {
            fn set(&self, stored: &Stored) {
                let key = $key(&stored.namespace, &stored.name);
                match node_name(stored) {
                    Some(node) => self.0.write().$map.insert(key, node),
                    None => self.0.write().$map.remove(&key),
                };
            }

            fn remove(&self, namespace: &str, name: &str) {
                self.0.write().$map.remove(&$key(namespace, name));
            }
        }
    };
}

named_on_node!(Attachments, attachments, |_: &str, name: &str| Name::from(name));
named_on_node!(Slices, slices, |_: &str, name: &str| Name::from(name));
named_on_node!(Requests, requests, |namespace: &str, name: &str| (Name::from(namespace), Name::from(name)));
