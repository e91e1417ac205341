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
use crate::{Context, context::follow, pods, revisions::Revisions};

const COMPONENT: &str = "statefulset-controller";
const WORKERS: usize = 5;

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let (sets, pods) = (context.informers.informer::<StatefulSet>(), context.informers.informer::<Pod>());
    let revisions = context.informers.informer::<ControllerRevision>();
    let claims = context.informers.informer::<PersistentVolumeClaim>();
    pods::index::by_controller(&pods);
    let queue = Arc::new(WorkQueue::<ObjectKey>::default());
    follow(&sets, &queue);
    follow_pods(&pods, &sets, &queue);
    let sync = Arc::new(Sync {
        sets: sets.clone(),
        pods: pods.clone(),
        claims: claims.clone(),
        revisions: Revisions { client: context.client.clone(), known: revisions.clone() },
        recorder: context.recorder(COMPONENT),
        client: context.client.clone(),
        clock: Arc::clone(&context.clock),
    });
    context.work(COMPONENT, WORKERS, queue, sync, async move {
        tokio::join!(sets.synced(), pods.synced(), revisions.synced(), claims.synced());
    })
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
