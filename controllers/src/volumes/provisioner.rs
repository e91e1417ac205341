//! Volumes on the nodes' own disks, for claims of a cluster that has no other storage.
//!
//! ```text
//!   claim waits ── its node is known ──▶ volume: a directory of that node ── the binder binds ──▶ bound
//!   volume Released, reclaim Delete ── a pod on its node removes the files ──▶ volume deleted
//! ```
//!
//! A node says in an annotation where its volumes go; its kubelet makes the directory when the volume is first used.

mod objects;

use std::{fmt, sync::Arc};

use futures::future::BoxFuture;
use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::StorageClass,
};
use knarr_client::{
    Action, Api, Cached, Change, Client, ObjectKey, Reconcile, SharedInformer, WorkQueue,
    error::{is_already_exists, is_conflict, is_not_found, message},
    events::{EventRecorder, EventType},
};
use kube::api::{DeleteParams, PostParams, Preconditions};

use super::{claim_phase, volume_name, volume_phase};
use crate::{
    Context,
    context::LocalStorage,
    error::{Error, Step},
};

/// What a StorageClass names to get volumes from here.
pub const PROVISIONER: &str = "knarr.io/local-storage";
/// On a node: the directory its volumes are in.
pub const STORAGE_PATH: &str = "knarr.io/storage-path";

const WORKERS: usize = 4;
const COMPONENT: &str = "knarr.io/local-storage";
const SYSTEM: &str = "kube-system";
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Claim(ObjectKey),
    Volume(Arc<str>),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(key) => write!(f, "claim {key}"),
            Self::Volume(name) => write!(f, "volume {name}"),
        }
    }
}

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let Some(storage) = context.config.local_storage.clone() else {
        return Box::pin(async {});
    };
    let sync = Arc::new(Sync {
        claims: context.informers.informer(),
        volumes: context.informers.informer(),
        classes: context.informers.informer(),
        nodes: context.informers.informer(),
        pods: context.informers.informer(),
        client: context.client.clone(),
        recorder: context.recorder(COMPONENT),
        storage,
    });
    let queue = Arc::new(WorkQueue::<Key>::default());
    sync.follow(&queue);
    let waiting = Arc::clone(&sync);
    context.work("local-storage-provisioner", WORKERS, queue, sync, async move {
        tokio::join!(
            waiting.claims.synced(),
            waiting.volumes.synced(),
            waiting.classes.synced(),
            waiting.nodes.synced(),
            waiting.pods.synced(),
        );
    })
}

struct Sync {
    claims: SharedInformer<PersistentVolumeClaim>,
    volumes: SharedInformer<PersistentVolume>,
    classes: SharedInformer<StorageClass>,
    nodes: SharedInformer<Node>,
    pods: SharedInformer<Pod>,
    client: Client,
    recorder: EventRecorder,
    storage: LocalStorage,
}

impl Sync {
    fn follow(&self, queue: &Arc<WorkQueue<Key>>) {
        let told = Arc::clone(queue);
        self.claims
            .subscribe(move |change| told.add(Key::Claim(ObjectKey::of(&**change.object()))))
            .forever();
        let told = Arc::clone(queue);
        self.volumes.subscribe(move |change| told.add(Key::Volume(change.object().name().into()))).forever();
        let told = Arc::clone(queue);
        self.pods
            .subscribe(move |change| {
                let pod = change.object();
                if let Some(volume) = objects::removes(pod) {
                    told.add(Key::Volume(volume.into()));
                }
                // A pod that has its node decides where its claims' volumes are.
                let placed = objects::node_of(pod).is_some() && !matches!(change, Change::Deleted { .. });
                for claim in placed.then(|| objects::claims_of(pod)).into_iter().flatten() {
                    told.add(Key::Claim(ObjectKey::new(pod.namespace(), claim.as_str())));
                }
            })
            .forever();
    }
}

impl Reconcile for Sync {
    type Key = Key;
    type Error = Error;

    async fn reconcile(&self, key: &Key) -> Result<Action, Error> {
        match key {
            Key::Claim(key) => match self.claims.get_key(key) {
                Some(claim) => self.provision(&claim).await,
                None => Ok(Action::Done),
            },
            Key::Volume(name) => self.reclaim(name).await,
        }
    }
}

impl Sync {
    /// Makes the volume of a claim that waits for one of ours.
    async fn provision(&self, claim: &PersistentVolumeClaim) -> Result<Action, Error> {
        let waits = claim_phase(claim) != "Bound" && volume_name(claim).is_empty();
        let class =
            claim.spec.as_ref().and_then(|spec| self.classes.get("", spec.storage_class_name.as_deref()?));
        let Some(class) = class.filter(|class| class.provisioner == PROVISIONER) else {
            return Ok(Action::Done);
        };
        if !waits || claim.metadata.deletion_timestamp.is_some() {
            return Ok(Action::Done);
        }
        let name = objects::volume_name(claim);
        if self.volumes.get("", &name).is_some() {
            return Ok(Action::Done);
        }
        if claim.spec.as_ref().is_some_and(|spec| spec.volume_mode.as_deref() == Some("Block")) {
            let text = format!(
                "failed to provision volume with StorageClass \"{}\": block volumes are not supported",
                class.name()
            );
            self.recorder.event(claim, EventType::Warning, "ProvisioningFailed", text);
            return Ok(Action::Done);
        }
        let delayed = class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer");
        let Some(node) = self.node_for(claim, delayed) else {
            return self.give_back(claim, delayed).await;
        };
        let Some(directory) = objects::storage_path(&node) else {
            // The node has not said yet; it comes back with the next change of the claim or its pods.
            return Ok(Action::Retry);
        };
        self.recorder.event(
            claim,
            EventType::Normal,
            "Provisioning",
            format!(
                "External provisioner is provisioning volume for claim \"{}/{}\"",
                claim.namespace(),
                claim.name()
            ),
        );
        let volume = objects::volume(claim, &class, &node, directory);
        let volumes = Api::<PersistentVolume>::all(self.client.clone());
        match volumes.create(&PostParams::default(), &volume).await {
            Ok(_) => {
                let text = format!("Successfully provisioned volume {name}");
                self.recorder.event(claim, EventType::Normal, "ProvisioningSucceeded", text);
                Ok(Action::Done)
            }
            Err(error) if is_already_exists(&error) => Ok(Action::Done),
            Err(error) => {
                let text = format!(
                    "failed to provision volume with StorageClass \"{}\": {}",
                    class.name(),
                    message(&error)
                );
                self.recorder.event(claim, EventType::Warning, "ProvisioningFailed", text);
                Err(error).step("create volume", &name)
            }
        }
    }

    /// The scheduler's choice, or the node of a pod that has one already; without delay, any node that is there.
    fn node_for(&self, claim: &PersistentVolumeClaim, delayed: bool) -> Option<Arc<Node>> {
        if let Some(chosen) = objects::annotation(&claim.metadata, SELECTED_NODE) {
            return self.nodes.get("", chosen);
        }
        let placed = self.pods.in_namespace(claim.namespace()).into_iter().find_map(|pod| {
            let uses = objects::claims_of(&pod).any(|name| name == claim.name());
            objects::node_of(&pod).filter(|_| uses).map(ToOwned::to_owned)
        });
        match placed {
            Some(node) => self.nodes.get("", &node),
            None if delayed => None,
            None => self.nodes.list().into_iter().find(|node| objects::storage_path(node).is_some()),
        }
    }

    /// A choice of a node that is gone is undone, so that the scheduler chooses anew.
    async fn give_back(&self, claim: &PersistentVolumeClaim, delayed: bool) -> Result<Action, Error> {
        if !delayed || objects::annotation(&claim.metadata, SELECTED_NODE).is_none() {
            return Ok(Action::Done);
        }
        let mut undecided = claim.clone();
        if let Some(annotations) = &mut undecided.metadata.annotations {
            annotations.remove(SELECTED_NODE);
        }
        let claims = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), claim.namespace());
        match claims.replace(claim.name(), &PostParams::default(), &undecided).await {
            Ok(_) => Ok(Action::Done),
            Err(error) if is_conflict(&error) || is_not_found(&error) => Ok(Action::Done),
            Err(error) => Err(error).step("update claim", claim.name()),
        }
    }

    /// Removes a volume nobody claims any more, after its files.
    async fn reclaim(&self, name: &str) -> Result<Action, Error> {
        let remover = self.pods.get(SYSTEM, &objects::remover_name(name));
        let volume = self.volumes.get("", name).filter(|volume| objects::is_ours(volume));
        let Some(volume) = volume else {
            return match remover {
                Some(pod) => self.delete_pod(&pod).await,
                None => Ok(Action::Done),
            };
        };
        let released = matches!(volume_phase(&volume), "Released" | "Failed");
        if !released || !objects::is_to_be_deleted(&volume) {
            return Ok(Action::Done);
        }
        let node = objects::place_of(&volume).and_then(|(node, _)| self.nodes.get("", node));
        let (Some((_, path)), Some(node)) = (objects::place_of(&volume), node) else {
            // The disk went with the node.
            return self.delete_volume(&volume).await;
        };
        let Some(pod) = remover else {
            let pod = objects::remover(&volume, node.name(), path, &self.storage);
            let pods = Api::<Pod>::namespaced(self.client.clone(), SYSTEM);
            return match pods.create(&PostParams::default(), &pod).await {
                Err(error) if !is_already_exists(&error) => Err(error).step("create pod", pod.name()),
                _ => Ok(Action::Done),
            };
        };
        match pod.status.as_ref().and_then(|status| status.phase.as_deref()) {
            Some("Succeeded") => self.delete_volume(&volume).await,
            Some("Failed") => {
                let text = format!("pod {SYSTEM}/{} could not remove the files of the volume", pod.name());
                self.recorder.event(&*volume, EventType::Warning, "VolumeFailedDelete", text);
                self.delete_pod(&pod).await?;
                Ok(Action::Retry)
            }
            _ => Ok(Action::Done),
        }
    }

    async fn delete_volume(&self, volume: &PersistentVolume) -> Result<Action, Error> {
        let volumes = Api::<PersistentVolume>::all(self.client.clone());
        let same = Preconditions { uid: volume.metadata.uid.clone(), resource_version: None };
        let parameters = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
        match volumes.delete(volume.name(), &parameters).await {
            Err(error) if !is_not_found(&error) && !is_conflict(&error) => {
                Err(error).step("delete volume", volume.name())
            }
            _ => Ok(Action::Done),
        }
    }

    async fn delete_pod(&self, pod: &Pod) -> Result<Action, Error> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), SYSTEM);
        match pods.delete(pod.name(), &DeleteParams::default().grace_period(0)).await {
            Err(error) if !is_not_found(&error) => Err(error).step("delete pod", pod.name()),
            _ => Ok(Action::Done),
        }
    }
}
