//! Everything the scheduler watches, as messages in the order in which it happened.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim, ResourceSlice};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment};
use knarr_client::informer::Subscription;
use knarr_client::{Cached, Change, InformerFactory, Selection, SharedInformer};
use tokio::sync::mpsc::UnboundedSender;

use crate::bind::BoundClaims;
use crate::event::{Event, Kinds, Subject};
use crate::object::{Node, Pod};
use crate::objects::{Labelled, Objects, Selecting, Store};
use crate::volumes::Plan;

/// Puts an object where it belongs, and says what that means.
pub type Apply = Box<dyn FnOnce(&mut Objects) -> Option<Event> + Send>;

/// What the worker is told.
pub enum Message {
    Pod(Arc<Pod>),
    PodGone(Arc<Pod>),
    Node(Arc<Node>),
    NodeGone(Arc<Node>),
    /// Another object came, changed or went.
    Object(Apply),
    /// A binding came back.
    Bound {
        pod: Arc<Pod>,
        plan: Plan,
        claims: BoundClaims,
        error: Option<String>,
    },
    /// The victims of a preemption were told to go.
    Preempted {
        pod: Arc<Pod>,
        worked: bool,
    },
}

pub struct Informers {
    pods: SharedInformer<Pod>,
    nodes: SharedInformer<Node>,
    namespaces: SharedInformer<Labelled>,
    services: SharedInformer<Selecting>,
    replication_controllers: SharedInformer<Selecting>,
    replica_sets: SharedInformer<Selecting>,
    stateful_sets: SharedInformer<Selecting>,
    budgets: SharedInformer<PodDisruptionBudget>,
    pub claims: SharedInformer<PersistentVolumeClaim>,
    volumes: SharedInformer<PersistentVolume>,
    classes: SharedInformer<StorageClass>,
    csi_nodes: SharedInformer<CSINode>,
    csi_drivers: SharedInformer<CSIDriver>,
    capacities: SharedInformer<CSIStorageCapacity>,
    attachments: SharedInformer<VolumeAttachment>,
    resource_claims: SharedInformer<ResourceClaim>,
    device_classes: SharedInformer<DeviceClass>,
    resource_slices: SharedInformer<ResourceSlice>,
}

/// The events that a change of an object is, from its states before and after.
type Meaning<K> = fn(Option<Arc<K>>, &Arc<K>) -> Option<Event>;

impl Informers {
    pub fn of(factory: &InformerFactory) -> Self {
        let unfinished = "status.phase!=Succeeded,status.phase!=Failed";
        Self {
            pods: factory.select(Selection::of("", "v1", "pods").fields(unfinished)),
            nodes: factory.select(Selection::of("", "v1", "nodes")),
            namespaces: factory.select(Selection::of("", "v1", "namespaces")),
            services: factory.select(Selection::of("", "v1", "services")),
            replication_controllers: factory.select(Selection::of("", "v1", "replicationcontrollers")),
            replica_sets: factory.select(Selection::of("apps", "v1", "replicasets")),
            stateful_sets: factory.select(Selection::of("apps", "v1", "statefulsets")),
            budgets: factory.informer(),
            claims: factory.informer(),
            volumes: factory.informer(),
            classes: factory.informer(),
            csi_nodes: factory.informer(),
            csi_drivers: factory.informer(),
            capacities: factory.informer(),
            attachments: factory.informer(),
            resource_claims: factory.informer(),
            device_classes: factory.informer(),
            resource_slices: factory.informer(),
        }
    }

    pub async fn synced(&self) {
        tokio::join!(
            self.pods.synced(),
            self.nodes.synced(),
            self.namespaces.synced(),
            self.services.synced(),
            self.replication_controllers.synced(),
            self.replica_sets.synced(),
            self.stateful_sets.synced(),
            self.budgets.synced(),
            self.claims.synced(),
            self.volumes.synced(),
            self.classes.synced(),
            self.csi_nodes.synced(),
            self.csi_drivers.synced(),
            self.capacities.synced(),
            self.attachments.synced(),
            self.resource_claims.synced(),
            self.device_classes.synced(),
            self.resource_slices.synced(),
        );
    }

    pub fn subscribe(&self, to: &UnboundedSender<Message>) -> Vec<Subscription> {
        let (to_pods, to_nodes) = (to.clone(), to.clone());
        // The mailbox only closes when the scheduler has stopped: nobody is left to tell.
        let pods = self.pods.subscribe(move |change| {
            let _stopped = to_pods.send(match change {
                Change::Added(pod) | Change::Updated { new: pod, .. } => Message::Pod(pod.clone()),
                Change::Deleted { last, .. } => Message::PodGone(last.clone()),
            });
        });
        let nodes = self.nodes.subscribe(move |change| {
            let _stopped = to_nodes.send(match change {
                Change::Added(node) | Change::Updated { new: node, .. } => Message::Node(node.clone()),
                Change::Deleted { last, .. } => Message::NodeGone(last.clone()),
            });
        });
        let mut all = vec![
            keep(&self.namespaces, to, Objects::changing_namespaces, |_, _| None),
            keep(&self.services, to, |objects| &mut objects.services, |_, _| None),
            keep(
                &self.replication_controllers,
                to,
                |objects| &mut objects.replication_controllers,
                |_, _| None,
            ),
            keep(&self.replica_sets, to, |objects| &mut objects.replica_sets, |_, _| None),
            keep(&self.stateful_sets, to, |objects| &mut objects.stateful_sets, |_, _| None),
            keep(&self.budgets, to, |objects| &mut objects.budgets, |_, _| None),
        ];
        all.extend(self.subscribe_storage(to));
        all.extend(self.subscribe_devices(to));
        // Pods last: what decisions about them need is told first.
        all.extend([nodes, pods]);
        all
    }
}

/// One of two kinds: for objects that are new, and for those that changed.
fn kind<K>(old: &Option<Arc<K>>, added: Kinds, updated: Kinds) -> Kinds {
    if old.is_none() { added } else { updated }
}

fn event(kinds: Kinds, subject: Subject) -> Option<Event> {
    Some(Event { kinds, subject })
}

impl Informers {
    fn subscribe_devices(&self, to: &UnboundedSender<Message>) -> [Subscription; 3] {
        let classes = keep(
            &self.device_classes,
            to,
            |objects| &mut objects.devices.classes,
            |_, _| event(Kinds::DEVICE_CLASS, Subject::DeviceClass),
        );
        let slices = keep_with(&self.resource_slices, to, |objects, slice, gone| {
            if gone {
                objects.devices.slices.remove(slice.name());
                return None;
            }
            objects.devices.slices.set(slice);
            event(Kinds::RESOURCE_SLICE, Subject::ResourceSlice)
        });
        let claims = keep_with(&self.resource_claims, to, |objects, new, gone| {
            if gone {
                objects.claim_gone(&new);
                return None;
            }
            let old = objects.claim_seen(&new)?;
            event(Kinds::RESOURCE_CLAIM, Subject::ResourceClaim { old, new })
        });
        [classes, slices, claims]
    }

    fn subscribe_storage(&self, to: &UnboundedSender<Message>) -> Vec<Subscription> {
        vec![
            keep(
                &self.claims,
                to,
                |objects| &mut objects.claims,
                |old, new| {
                    event(kind(&old, Kinds::CLAIM_ADD, Kinds::CLAIM_UPDATE), Subject::Claim(new.clone()))
                },
            ),
            keep(
                &self.volumes,
                to,
                |objects| &mut objects.volumes,
                |old, new| {
                    let kinds = kind(&old, Kinds::VOLUME_ADD, Kinds::VOLUME_UPDATE);
                    event(kinds, Subject::Volume { old, new: new.clone() })
                },
            ),
            keep(
                &self.classes,
                to,
                |objects| &mut objects.classes,
                |old, new| {
                    let kinds = kind(&old, Kinds::CLASS_ADD, Kinds::CLASS_UPDATE);
                    event(kinds, Subject::Class { old, new: new.clone() })
                },
            ),
            keep(
                &self.csi_nodes,
                to,
                |objects| &mut objects.csi_nodes,
                |old, new| {
                    let kinds = kind(&old, Kinds::CSI_NODE_ADD, Kinds::CSI_NODE_UPDATE);
                    event(kinds, Subject::CsiNode { old, new: new.clone() })
                },
            ),
            keep(
                &self.csi_drivers,
                to,
                |objects| &mut objects.csi_drivers,
                |old, new| {
                    let publishes = |driver: &CSIDriver| driver.spec.storage_capacity == Some(true);
                    let stopped = publishes(&*old?) && !publishes(new);
                    stopped.then_some(Event { kinds: Kinds::CSI_DRIVER_UPDATE, subject: Subject::CsiDriver })
                },
            ),
            keep(
                &self.capacities,
                to,
                |objects| &mut objects.capacities,
                |old, new| {
                    let kinds = kind(&old, Kinds::CAPACITY_ADD, Kinds::CAPACITY_UPDATE);
                    event(kinds, Subject::Capacity { old, new: new.clone() })
                },
            ),
            keep_all(
                &self.attachments,
                to,
                |objects| &mut objects.attachments,
                |_, _| None,
                || Some(Event { kinds: Kinds::ATTACHMENT_DELETE, subject: Subject::Attachment }),
            ),
        ]
    }
}

/// Has the worker keep the objects of an informer in one of its stores.
fn keep<K: Cached>(
    informer: &SharedInformer<K>,
    to: &UnboundedSender<Message>,
    store: fn(&mut Objects) -> &mut Store<K>,
    means: Meaning<K>,
) -> Subscription {
    keep_all(informer, to, store, means, || None)
}

/// The same, with a meaning of deletions.
fn keep_all<K: Cached>(
    informer: &SharedInformer<K>,
    to: &UnboundedSender<Message>,
    store: fn(&mut Objects) -> &mut Store<K>,
    means: Meaning<K>,
    deletion: fn() -> Option<Event>,
) -> Subscription {
    keep_with(informer, to, move |objects, object, gone| {
        if gone {
            store(objects).remove(&object);
            return deletion();
        }
        let before = store(objects).set(object.clone());
        means(before, &object)
    })
}

/// Has the worker keep the objects of an informer in a way of their own; the last argument says that one is gone.
fn keep_with<K: Cached>(
    informer: &SharedInformer<K>,
    to: &UnboundedSender<Message>,
    apply: impl Fn(&mut Objects, Arc<K>, bool) -> Option<Event> + Copy + Send + Sync + 'static,
) -> Subscription {
    let to = to.clone();
    informer.subscribe(move |change| {
        let (gone, object) = (matches!(change, Change::Deleted { .. }), change.object().clone());
        let _stopped = to.send(Message::Object(Box::new(move |objects| apply(objects, object, gone))));
    })
}
