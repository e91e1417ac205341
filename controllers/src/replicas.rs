//! Keeping as many pods as asked for: ReplicaSet and ReplicationController, which differ only in their type.

mod kinds;
mod status;
mod sync;
mod victims;

use std::sync::Arc;

use futures::future::BoxFuture;
use k8s_openapi::api::{
    apps::v1::ReplicaSet,
    core::v1::{Pod, ReplicationController},
};
use knarr_client::{
    Change, ObjectKey, SharedInformer, WorkQueue, expectations::Expectations, object::controller_of,
};
use kube::core::SelectorExt;

use self::{kinds::Replicated, sync::Sync};
use crate::{
    Context,
    pods::{self, control::PodControl},
};

const WORKERS: usize = 5;

pub(crate) fn build_replica_sets(context: Context) -> BoxFuture<'static, ()> {
    build::<ReplicaSet>(context)
}

pub(crate) fn build_replication_controllers(context: Context) -> BoxFuture<'static, ()> {
    build::<ReplicationController>(context)
}

fn build<O: Replicated>(context: Context) -> BoxFuture<'static, ()> {
    let mut wiring = context.wire(O::QUEUE);
    let expectations = Arc::new(Expectations::new());
    let owners = wiring.expectant_root::<O>(&expectations);
    let pods = wiring.cache::<Pod>();
    pods::index::by_controller(&pods);
    O::add_indices(&owners);
    let mapper =
        PodMapper { owners: owners.clone(), queue: wiring.queue(), expectations: Arc::clone(&expectations) };
    pods.subscribe(move |change| mapper.map(&change)).forever();
    let control = PodControl { client: context.client.clone(), recorder: context.recorder(O::COMPONENT) };
    let sync = Sync { owners, pods, expectations, control, client: context.client, clock: context.clock };
    wiring.run(WORKERS, sync)
}

/// Maps a change of a pod to the owners it concerns.
struct PodMapper<O: Replicated> {
    owners: SharedInformer<O>,
    queue: Arc<WorkQueue<ObjectKey>>,
    expectations: Arc<Expectations>,
}

impl<O: Replicated> PodMapper<O> {
    fn map(&self, change: &Change<'_, Pod>) {
        match change {
            Change::Deleted { last, .. } => self.gone(last),
            // Seen for the first time while it is already going away, as after a restart.
            Change::Added(pod) if pod.metadata.deletion_timestamp.is_some() => self.gone(pod),
            Change::Added(pod) => match self.owner_of(pod) {
                Some(owner) => {
                    self.expectations.creation_observed(&owner);
                    self.queue.add(owner);
                }
                None => self.may_be_adopted(pod),
            },
            Change::Updated { old, new } => self.updated(old, new),
        }
    }

    fn gone(&self, pod: &Pod) {
        if let Some(owner) = self.owner_of(pod) {
            self.expectations.deletion_observed(&owner, pod.metadata.uid.as_deref().unwrap_or_default());
            self.queue.add(owner);
        }
    }

    fn updated(&self, old: &Pod, new: &Pod) {
        if new.metadata.deletion_timestamp.is_some() {
            self.gone(new);
            if old.metadata.labels != new.metadata.labels {
                self.gone(old);
            }
            return;
        }
        let (before, after) = (controller_of(&old.metadata), controller_of(&new.metadata));
        if before != after
            && let Some(owner) = self.owner_of(old)
        {
            self.queue.add(owner);
        }
        if let Some(owner) = self.owner_of(new) {
            self.queue.add(owner);
        } else if before != after || old.metadata.labels != new.metadata.labels {
            self.may_be_adopted(new);
        }
    }

    /// The key of the pod's owner, if that is one of ours and still the same object.
    fn owner_of(&self, pod: &Pod) -> Option<ObjectKey> {
        let reference = controller_of(&pod.metadata).filter(|reference| reference.kind == O::kind(&()))?;
        let owner =
            self.owners.get(pod.metadata.namespace.as_deref().unwrap_or_default(), &reference.name)?;
        (owner.meta().uid.as_deref() == Some(&reference.uid)).then(|| ObjectKey::of(&*owner))
    }

    fn may_be_adopted(&self, pod: &Pod) {
        let (Some(labels), None) = (&pod.metadata.labels, controller_of(&pod.metadata)) else { return };
        for owner in self.owners.in_namespace(pod.metadata.namespace.as_deref().unwrap_or_default()) {
            if owner.pod_selector().is_ok_and(|selector| !selector.selects_all() && selector.matches(labels))
            {
                self.queue.add(ObjectKey::of(&*owner));
            }
        }
    }
}
