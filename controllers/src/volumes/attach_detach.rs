//! Attaching volumes of storage drivers to the nodes whose pods want them, and detaching them when nobody does.
//!
//! The work itself is done by a driver's attacher, which acts on VolumeAttachments. With a node's agent we agree by the
//! node's status, in an order that keeps a volume from being detached under a mount:
//!
//! ```text
//!   pod wants volume ─▶ VolumeAttachment made ─▶ attached ─▶ in volumesAttached ─▶ agent mounts (in volumesInUse)
//!   nobody wants it ─▶ out of volumesInUse ─▶ out of volumesAttached ─▶ volumesInUse read anew ─▶ VolumeAttachment deleted
//! ```
//!
//! A node is looked at as a whole, for its status is written as a whole.

mod events;
mod wanted;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use k8s_openapi::api::{
    core::v1::{AttachedVolume, Node, PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::{CSIDriver, VolumeAttachment, VolumeAttachmentSource, VolumeAttachmentSpec},
};
use knarr_client::{
    Action, Api, Cached, Client, ObjectKey, Reconcile, SharedInformer,
    error::{is_already_exists, is_conflict, is_not_found},
};
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

use self::{
    events::Events,
    wanted::{Volume, Wanted, World},
};
use super::protection::{by_claim, claims_of};
use crate::{
    Context,
    error::{Error, Step},
    pods,
};

const WORKERS: usize = 4;
const BY_NODE: &str = "node";
const BY_VOLUME: &str = "volume";
/// How long a node that is not well may keep a volume that nobody wants.
const PATIENCE: Duration = Duration::from_secs(360);
/// On nodes whose agents leave attaching to us.
const MANAGED: &str = "volumes.kubernetes.io/controller-managed-attach-detach";
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let mut wiring = context.wire::<ObjectKey>("attachdetach");
    let nodes = wiring.cache::<Node>();
    let world = Arc::new(World {
        pods: wiring.cache::<Pod>(),
        claims: wiring.cache::<PersistentVolumeClaim>(),
        volumes: wiring.cache::<PersistentVolume>(),
        drivers: wiring.cache::<CSIDriver>(),
    });
    let attachments = wiring.cache::<VolumeAttachment>();
    pods::index::by_node(&world.pods);
    by_claim(&world.pods);
    attachments.add_index(BY_NODE, |attachment| vec![attachment.spec.node_name.clone()]);
    attachments.add_index(BY_VOLUME, |attachment| {
        attachment.spec.source.persistent_volume_name.clone().into_iter().collect()
    });
    wiring.on(&world.pods, |change| {
        let pod = change.object();
        let node = Some(pods::node_name(pod)).filter(|node| !node.is_empty() && !claims_of(pod).is_empty());
        node.map(node_key)
    });
    wiring.on(&nodes, |change| {
        let news = match change {
            knarr_client::Change::Updated { old, new } => facts(old) != facts(new),
            _ => true,
        };
        news.then(|| node_key(change.object().name()))
    });
    // Whoever wants what changed here.
    let here = Arc::clone(&world);
    wiring.on(&world.claims, move |change| here.nodes_of_claim(change.object()));
    let here = Arc::clone(&world);
    wiring.on(&world.volumes, move |change| here.nodes_of_volume(change.object()));
    let here = Arc::clone(&world);
    wiring.on(&world.drivers, move |_| here.all_nodes());
    let here = Arc::clone(&world);
    wiring.on(&attachments, move |change| {
        let spec = &change.object().spec;
        let volume = spec.source.persistent_volume_name.as_deref();
        // Others may have waited for it to go.
        let waiting =
            volume.and_then(|name| here.volumes.get("", name)).map(|volume| here.nodes_of_volume(&volume));
        [node_key(&spec.node_name)].into_iter().chain(waiting.into_iter().flatten()).collect::<Vec<_>>()
    });
    let events = Events::new(context.recorder("attachdetach-controller"));
    let client = context.client;
    wiring.run(WORKERS, Attacher { nodes, world, attachments, events, client, unwanted: Mutex::default() })
}

fn node_key(name: &str) -> ObjectKey {
    ObjectKey::new("", name)
}

/// What of a node concerns us.
fn facts(node: &Node) -> impl PartialEq {
    let volumes = node.status.as_ref().map(|status| (&status.volumes_attached, &status.volumes_in_use));
    (volumes, is_well(node), is_out_of_service(node), is_managed(node))
}

fn is_managed(node: &Node) -> bool {
    node.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(MANAGED))
}

fn is_well(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn is_out_of_service(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    taints.iter().any(|taint| taint.key == OUT_OF_SERVICE)
}

fn uses(node: &Node, volume: &str) -> bool {
    let status = node.status.as_ref();
    status
        .and_then(|status| status.volumes_in_use.as_deref())
        .unwrap_or_default()
        .iter()
        .any(|used| used == volume)
}

fn is_attached(attachment: &VolumeAttachment) -> bool {
    attachment.metadata.deletion_timestamp.is_none()
        && attachment.status.as_ref().is_some_and(|status| status.attached)
}

struct Attacher {
    nodes: SharedInformer<Node>,
    world: Arc<World>,
    attachments: SharedInformer<VolumeAttachment>,
    events: Events,
    client: Client,
    /// Since when nobody has wanted a volume on a node, by the attachment's name.
    unwanted: Mutex<HashMap<String, Instant>>,
}

impl Reconcile for Attacher {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let name = &*key.name;
        let node = self.nodes.get("", name);
        // An agent that attaches itself is left alone.
        if node.as_ref().is_some_and(|node| !is_managed(node)) {
            return Ok(Action::Done);
        }
        let wanted = if node.is_some() { self.world.wanted(name) } else { BTreeMap::new() };
        let known = self.known(name, node.as_deref());
        let mut again = None;
        let mut gone = Vec::new();
        for volume in known.values().filter(|volume| !wanted.contains_key(&volume.name)) {
            match self.wait(volume, name, node.as_deref()) {
                Some(Duration::MAX) => {}
                Some(left) => again = again.into_iter().chain([left]).min(),
                None => gone.push(volume),
            }
        }
        if let Some(node) = &node {
            self.report(node, &wanted, &known, &gone).await?;
        }
        for volume in gone {
            self.detach(volume, name).await?;
        }
        for wanted in wanted.values() {
            self.attach(wanted, name).await?;
        }
        Ok(again.map_or(Action::Done, Action::After))
    }
}

impl Attacher {
    /// The volumes that are, or may be, attached to a node: those of our attachments, and what its status says.
    fn known(&self, node: &str, object: Option<&Node>) -> BTreeMap<String, Volume> {
        let attachments = self.attachments.by_index(BY_NODE, node);
        let of_attachments = attachments.iter().filter_map(|attachment| {
            let name = attachment.spec.source.persistent_volume_name.as_deref()?;
            let volume = Volume::of(&*self.world.volumes.get("", name)?)?;
            // Others make attachments too, which are none of our business.
            (volume.attachment(node) == attachment.name()).then_some(volume)
        });
        let status = object.and_then(|node| node.status.as_ref());
        let listed = status.and_then(|status| status.volumes_attached.as_deref()).unwrap_or_default();
        let of_status = listed.iter().filter_map(|attached| Volume::parse(&attached.name));
        of_status.chain(of_attachments).map(|volume| (volume.name.clone(), volume)).collect()
    }

    /// How long a volume that nobody wants must stay yet; [`Duration::MAX`]: until the node says otherwise.
    fn wait(&self, volume: &Volume, name: &str, node: Option<&Node>) -> Option<Duration> {
        let since = *self.unwanted.lock().entry(volume.attachment(name)).or_insert_with(Instant::now);
        match node {
            Some(node) if !uses(node, &volume.name) || is_out_of_service(node) => None,
            Some(node) if is_well(node) => Some(Duration::MAX),
            // It may be mounted yet, by a node that does not answer.
            _ => Some(PATIENCE.saturating_sub(since.elapsed())).filter(|left| !left.is_zero()),
        }
    }

    /// Lists what is attached in the node's status, without what is about to be detached.
    async fn report(
        &self,
        node: &Node,
        wanted: &BTreeMap<String, Wanted>,
        known: &BTreeMap<String, Volume>,
        gone: &[&Volume],
    ) -> Result<(), Error> {
        let attached = |volume: &Volume| {
            let found = self.attachments.get("", &volume.attachment(node.name()));
            found.is_some_and(|attachment| is_attached(&attachment))
        };
        let listed: Vec<AttachedVolume> = known
            .values()
            .filter(|volume| attached(volume) && !gone.iter().any(|gone| gone.name == volume.name))
            .map(|volume| AttachedVolume { name: volume.name.clone(), device_path: String::new() })
            .collect();
        let before =
            node.status.as_ref().and_then(|status| status.volumes_attached.as_deref()).unwrap_or_default();
        if before == listed {
            return Ok(());
        }
        let value = if listed.is_empty() { json!(null) } else { json!(listed) };
        let patch = Patch::Merge(json!({ "status": { "volumesAttached": value } }));
        let nodes = Api::<Node>::all(self.client.clone());
        match nodes.patch_status(node.name(), &PatchParams::default(), &patch).await {
            Err(error) if is_not_found(&error) => return Ok(()),
            patched => drop(patched.step("patch status of node", node.name())?),
        }
        for fresh in listed.iter().filter(|volume| !before.iter().any(|known| known.name == volume.name)) {
            if let Some(wanted) = wanted.get(&fresh.name) {
                self.events.attached(wanted);
            }
        }
        Ok(())
    }

    /// Deletes the attachment of a volume that is no longer listed as attached.
    async fn detach(&self, volume: &Volume, node: &str) -> Result<(), Error> {
        let name = volume.attachment(node);
        let Some(attachment) = self.attachments.get("", &name) else {
            self.unwanted.lock().remove(&name);
            return Ok(());
        };
        if attachment.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let nodes = Api::<Node>::all(self.client.clone());
        let now = nodes.get_opt(node).await.step("get node", node)?;
        // A pod may have come for it, unseen: its agent said so before it looked whether it may mount.
        if let Some(now) = now
            && self.wait(volume, node, Some(&now)).is_some()
        {
            let why =
                format!("volume {:?} is still in use by node {node}, according to Node status", volume.name);
            return Err(Error::Unusable(why));
        }
        let same = Preconditions { uid: attachment.metadata.uid.clone(), resource_version: None };
        let how = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
        match Api::<VolumeAttachment>::all(self.client.clone()).delete(&name, &how).await {
            Err(error) if !is_not_found(&error) && !is_conflict(&error) => {
                Err(error).step("delete volume attachment", &name)
            }
            _ => Ok(()),
        }
    }

    /// Makes the attachment of a volume that pods want.
    async fn attach(&self, wanted: &Wanted, node: &str) -> Result<(), Error> {
        let name = wanted.volume.attachment(node);
        self.unwanted.lock().remove(&name);
        if let Some(attachment) = self.attachments.get("", &name) {
            self.events.failed(wanted, &attachment);
            return Ok(());
        }
        if !wanted.shared {
            let others = self.attachments.by_index(BY_VOLUME, &wanted.persistent_volume);
            let elsewhere = others.iter().find(|attachment| attachment.spec.node_name != node);
            if let Some(other) = elsewhere {
                let users = self.world.pods_with(&other.spec.node_name, &wanted.volume.name);
                self.events.taken(wanted, node, &users);
                return Ok(());
            }
        }
        self.events.free(&wanted.volume.name, node);
        let attachment = VolumeAttachment {
            metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
            spec: VolumeAttachmentSpec {
                attacher: wanted.volume.driver.clone(),
                node_name: node.to_owned(),
                source: VolumeAttachmentSource {
                    persistent_volume_name: Some(wanted.persistent_volume.clone()),
                    ..VolumeAttachmentSource::default()
                },
            },
            status: None,
        };
        match Api::<VolumeAttachment>::all(self.client.clone())
            .create(&PostParams::default(), &attachment)
            .await
        {
            Err(error) if !is_already_exists(&error) => Err(error).step("create volume attachment", &name),
            _ => Ok(()),
        }
    }
}
