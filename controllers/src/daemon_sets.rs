//! DaemonSets: one pod on every node that fits.
//!
//! [`fit`] is which nodes those are and what the pod on one looks like, [`place`] what to create and delete so that
//! each has one, [`rolling`] replacing pods of old templates, [`status`] what is reported, [`sync`] doing it.

mod fit;
mod place;
mod rolling;
mod status;
mod sync;

use std::sync::Arc;

use futures::future::BoxFuture;
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet},
    core::v1::{Node, Pod},
};
use knarr_client::{
    Cached, Change, ObjectKey, SharedInformer, WorkQueue, expectations::Expectations, object::controller_of,
};
use parking_lot::Mutex;

use self::{fit::Fit, sync::Sync};
use crate::{
    Context,
    pods::{self, control::PodControl, follow::Follower},
    revisions::Revisions,
};

const COMPONENT: &str = "daemonset-controller";
const WORKERS: usize = 2;

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let mut wiring = context.wire("daemonset");
    let expectations = Arc::new(Expectations::new());
    let sets = wiring.expectant_root::<DaemonSet>(&expectations);
    let (pods, nodes) = (wiring.cache::<Pod>(), wiring.cache::<Node>());
    let revisions = wiring.cache::<ControllerRevision>();
    pods::index::by_controller(&pods);
    follow_nodes(&nodes, &sets, &wiring.queue());
    Follower { owners: sets.clone(), queue: wiring.queue(), expectations: Some(Arc::clone(&expectations)) }
        .follow(&pods);
    let known = sets.clone();
    wiring.on(&revisions, move |change| {
        // One that is missed is made again, or another of the same template takes its place.
        let Change::Deleted { last, .. } = change else { return None };
        let owner = controller_of(&last.metadata).filter(|owner| owner.kind == "DaemonSet")?;
        let set = known.get(last.namespace(), &owner.name)?;
        (set.uid() == owner.uid).then(|| ObjectKey::of(&*set))
    });
    let control = PodControl { client: context.client.clone(), recorder: context.recorder(COMPONENT) };
    let sync = Sync {
        sets,
        pods,
        nodes,
        revisions: Revisions { client: context.client.clone(), known: revisions },
        expectations,
        failures: Mutex::default(),
        control,
        client: context.client,
        clock: context.clock,
    };
    wiring.run(WORKERS, sync)
}

/// A node concerns a set when it changes whether the set's pod belongs there.
fn follow_nodes(
    nodes: &SharedInformer<Node>,
    sets: &SharedInformer<DaemonSet>,
    queue: &Arc<WorkQueue<ObjectKey>>,
) {
    let (sets, queue) = (sets.clone(), Arc::clone(queue));
    nodes
        .subscribe(move |change| {
            for set in sets.list() {
                let concerned = match &change {
                    Change::Added(node) => Fit::of(&set, node).should_run,
                    Change::Deleted { .. } => true,
                    Change::Updated { old, new } => Fit::of(&set, old) != Fit::of(&set, new),
                };
                if concerned {
                    queue.add(ObjectKey::of(&*set));
                }
            }
        })
        .forever();
}
