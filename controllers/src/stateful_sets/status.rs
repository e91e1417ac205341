//! The status of a StatefulSet. Pure.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus},
    core::v1::Pod,
};
use knarr_client::Cached;

use super::{identity, plan::updates_itself};
use crate::pods;

pub(super) fn calculate(
    set: &StatefulSet,
    pods: &[Arc<Pod>],
    current: &ControllerRevision,
    update: &ControllerRevision,
    collisions: i32,
    now: Timestamp,
) -> StatefulSetStatus {
    let count = |accept: &dyn Fn(&Pod) -> bool| {
        i32::try_from(pods.iter().filter(|pod| accept(pod)).count()).unwrap_or(i32::MAX)
    };
    let min_ready = set.spec.min_ready_seconds.unwrap_or(0);
    let is_ready = |pod: &Pod| pods::phase(pod) == "Running" && pods::is_ready(pod);
    let of = |revision: &ControllerRevision| {
        count(&|pod| pod.metadata.deletion_timestamp.is_none() && identity::revision(pod) == revision.name())
    };
    let mut status = StatefulSetStatus {
        observed_generation: set.metadata.generation,
        replicas: count(&|_| true),
        ready_replicas: Some(count(&is_ready)).filter(|&count| count != 0),
        available_replicas: Some(count(&|pod| is_ready(pod) && pods::is_available(pod, min_ready, now))),
        current_replicas: Some(of(current)).filter(|&count| count != 0),
        updated_replicas: Some(of(update)).filter(|&count| count != 0),
        current_revision: Some(current.name().to_owned()),
        update_revision: Some(update.name().to_owned()),
        collision_count: Some(collisions),
        conditions: set.status.as_ref().and_then(|status| status.conditions.clone()),
    };
    let wanted = set.spec.replicas.unwrap_or(1);
    let all = |count: Option<i32>| count.unwrap_or(0) == wanted;
    if updates_itself(set)
        && all(status.updated_replicas)
        && all(status.ready_replicas)
        && status.replicas == wanted
    {
        status.current_replicas = status.updated_replicas;
        status.current_revision.clone_from(&status.update_revision);
    }
    status
}
