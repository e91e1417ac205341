//! Deployments: one ReplicaSet per pod template, rolled from the old to the new.
//!
//! Split by decision: [`arithmetic`] how many each set gets, [`revision`] numbers and annotations, [`sets`] which
//! set is the new one, [`rolling`] and [`recreate`] the strategies, [`scale`] resizing between rollouts,
//! [`status`] and [`progress`] what is reported, [`sync`] the order of it all.

mod arithmetic;
mod conditions;
mod progress;
mod recreate;
mod revision;
mod rolling;
mod scale;
mod sets;
mod status;
mod sync;

use std::sync::Arc;

use futures::future::BoxFuture;
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::Pod,
};
use knarr_client::{
    Change, ObjectKey, SharedInformer, WorkQueue, object::controller_of, ownership::selector,
};
use kube::core::SelectorExt;

use self::sync::Sync;
use crate::{Context, pods};

pub(crate) use self::arithmetic::scaled;

const COMPONENT: &str = "deployment-controller";
const WORKERS: usize = 5;

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let mut wiring = context.wire("deployment");
    let deployments = wiring.root::<Deployment>();
    let (sets, pods) = (wiring.cache::<ReplicaSet>(), wiring.cache::<Pod>());
    pods::index::by_controller(&pods);
    let mapper =
        Arc::new(Mapper { deployments: deployments.clone(), sets: sets.clone(), queue: wiring.queue() });
    {
        let mapper = Arc::clone(&mapper);
        sets.subscribe(move |change| mapper.set_changed(&change)).forever();
    }
    let known = pods.clone();
    pods.subscribe(move |change| {
        if let Change::Deleted { last, .. } = change {
            mapper.pod_gone(last, &known);
        }
    })
    .forever();
    let sync = Sync {
        deployments,
        sets,
        pods,
        recorder: context.recorder(COMPONENT),
        client: context.client,
        clock: context.clock,
    };
    wiring.run(WORKERS, sync)
}

/// Maps changes of children to the Deployments they concern.
struct Mapper {
    deployments: SharedInformer<Deployment>,
    sets: SharedInformer<ReplicaSet>,
    queue: Arc<WorkQueue<ObjectKey>>,
}

impl Mapper {
    fn set_changed(&self, change: &Change<'_, ReplicaSet>) {
        if let Change::Updated { old, new } = change
            && controller_of(&old.metadata) != controller_of(&new.metadata)
        {
            self.queue.extend_owner(self.owner_of(old));
        }
        let set = change.object();
        match self.owner_of(set) {
            Some(owner) => self.queue.add(owner),
            None if controller_of(&set.metadata).is_none() && !matches!(change, Change::Deleted { .. }) => {
                self.may_be_adopted(set);
            }
            None => {}
        }
    }

    fn owner_of(&self, set: &ReplicaSet) -> Option<ObjectKey> {
        let reference = controller_of(&set.metadata).filter(|reference| reference.kind == "Deployment")?;
        let owner =
            self.deployments.get(set.metadata.namespace.as_deref().unwrap_or_default(), &reference.name)?;
        (owner.metadata.uid.as_deref() == Some(&reference.uid)).then(|| ObjectKey::of(&*owner))
    }

    fn may_be_adopted(&self, set: &ReplicaSet) {
        let Some(labels) = &set.metadata.labels else { return };
        for deployment in self.deployments.in_namespace(set.metadata.namespace.as_deref().unwrap_or_default())
        {
            let matches = selector(&deployment.spec.selector)
                .is_ok_and(|selector| !selector.selects_all() && selector.matches(labels));
            if matches {
                self.queue.add(ObjectKey::of(&*deployment));
            }
        }
    }

    /// A Deployment that recreates waits for its last old pod to go.
    fn pod_gone(&self, pod: &Pod, pods: &SharedInformer<Pod>) {
        let Some(reference) = controller_of(&pod.metadata).filter(|reference| reference.kind == "ReplicaSet")
        else {
            return;
        };
        let Some(set) = self.sets.get(pod.metadata.namespace.as_deref().unwrap_or_default(), &reference.name)
        else {
            return;
        };
        if pods::index::owned_by(pods, &reference.uid).is_empty() {
            self.queue.extend_owner(self.owner_of(&set));
        }
    }
}

trait ExtendOwner {
    fn extend_owner(&self, owner: Option<ObjectKey>);
}

impl ExtendOwner for WorkQueue<ObjectKey> {
    fn extend_owner(&self, owner: Option<ObjectKey>) {
        if let Some(owner) = owner {
            self.add(owner);
        }
    }
}
