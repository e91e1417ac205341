//! StatefulSets: pods with names, an order and storage of their own.
//!
//! [`identity`] is what a pod of an ordinal looks like, [`plan`] what is to be done now, [`claims`] its storage,
//! [`status`] what is reported, [`sync`] doing it.

mod claims;
mod identity;
mod plan;
mod status;
mod sync;

use std::sync::Arc;

use futures::future::BoxFuture;
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, StatefulSet},
    core::v1::{PersistentVolumeClaim, Pod},
};
use knarr_client::{
    Cached, Change, ObjectKey, SharedInformer, WorkQueue, object::controller_of, ownership::selector,
};
use kube::core::SelectorExt;

use self::sync::Sync;
use crate::{Context, pods, revisions::Revisions};

const COMPONENT: &str = "statefulset-controller";
const WORKERS: usize = 5;

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let mut wiring = context.wire("statefulset");
    let (sets, pods) = (wiring.root::<StatefulSet>(), wiring.cache::<Pod>());
    let (revisions, claims) = (wiring.cache::<ControllerRevision>(), wiring.cache::<PersistentVolumeClaim>());
    pods::index::by_controller(&pods);
    follow_pods(&pods, &sets, &wiring.queue());
    let sync = Sync {
        sets,
        pods,
        claims,
        revisions: Revisions { client: context.client.clone(), known: revisions },
        recorder: context.recorder(COMPONENT),
        client: context.client,
        clock: context.clock,
    };
    wiring.run(WORKERS, sync)
}

fn follow_pods(
    pods: &SharedInformer<Pod>,
    sets: &SharedInformer<StatefulSet>,
    queue: &Arc<WorkQueue<ObjectKey>>,
) {
    let (sets, queue) = (sets.clone(), Arc::clone(queue));
    let owner = {
        let sets = sets.clone();
        move |pod: &Pod| {
            let reference =
                controller_of(&pod.metadata).filter(|reference| reference.kind == "StatefulSet")?;
            let set = sets.get(pod.namespace(), &reference.name)?;
            (set.uid() == reference.uid).then(|| ObjectKey::of(&*set))
        }
    };
    pods.subscribe(move |change| {
        let pod = change.object();
        if let Change::Updated { old, .. } = &change
            && controller_of(&old.metadata) != controller_of(&pod.metadata)
        {
            owner(old).into_iter().for_each(|key| queue.add(key));
        }
        match owner(pod) {
            Some(key) => queue.add(key),
            None if controller_of(&pod.metadata).is_none() => {
                let Some(labels) = &pod.metadata.labels else { return };
                for set in sets.in_namespace(pod.namespace()) {
                    if selector(&set.spec.selector).is_ok_and(|selector| selector.matches(labels)) {
                        queue.add(ObjectKey::of(&*set));
                    }
                }
            }
            None => {}
        }
    })
    .forever();
}
