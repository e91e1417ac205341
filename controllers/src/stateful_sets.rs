//! StatefulSets: pods with names, an order and storage of their own.
//!
//! [`identity`] is what a pod of an ordinal looks like, [`plan`] what is to be done now, [`claims`] its storage,
//! [`status`] what is reported, [`sync`] doing it.

mod claims;
mod identity;
mod plan;
mod status;
mod sync;

use futures::future::BoxFuture;
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, StatefulSet},
    core::v1::{PersistentVolumeClaim, Pod},
};

use self::sync::Sync;
use crate::{
    Context,
    pods::{self, follow::Follower},
    revisions::Revisions,
};

const COMPONENT: &str = "statefulset-controller";
const WORKERS: usize = 5;

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let mut wiring = context.wire("statefulset");
    let (sets, pods) = (wiring.root::<StatefulSet>(), wiring.cache::<Pod>());
    let (revisions, claims) = (wiring.cache::<ControllerRevision>(), wiring.cache::<PersistentVolumeClaim>());
    pods::index::by_controller(&pods);
    Follower { owners: sets.clone(), queue: wiring.queue(), expectations: None }.follow(&pods);
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
