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
use knarr_client::expectations::Expectations;

use self::{kinds::Replicated, sync::Sync};
use crate::{
    Context,
    pods::{self, control::PodControl, follow::Follower},
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
    Follower { owners: owners.clone(), queue: wiring.queue(), expectations: Some(Arc::clone(&expectations)) }
        .follow(&pods);
    let control = PodControl { client: context.client.clone(), recorder: context.recorder(O::COMPONENT) };
    let sync = Sync { owners, pods, expectations, control, client: context.client, clock: context.clock };
    wiring.run(WORKERS, sync)
}
