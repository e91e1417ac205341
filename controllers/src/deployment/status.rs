//! The status of a Deployment, from the status of its sets. Pure.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};

use super::{
    arithmetic::{Fence, actual, available, ready, replicas, wanted},
    conditions::{self, AVAILABLE},
    sets::Sets,
};
use crate::error::Error;

pub(super) fn calculate(
    deployment: &Deployment,
    sets: &Sets,
    now: Timestamp,
) -> Result<DeploymentStatus, Error> {
    let sum = |count: fn(&ReplicaSet) -> i32| sets.all().map(|set| count(set)).sum::<i32>();
    let available = sum(available);
    let before = deployment.status.as_ref();
    let mut status = DeploymentStatus {
        observed_generation: some(deployment.metadata.generation.unwrap_or(0)),
        replicas: some(sum(actual)),
        updated_replicas: some(sets.new.as_ref().map_or(0, |new| actual(new))),
        ready_replicas: some(sum(ready)),
        available_replicas: some(available),
        unavailable_replicas: some((sum(wanted) - available).max(0)),
        terminating_replicas: terminating(sets),
        collision_count: before.and_then(|status| status.collision_count),
        conditions: before.and_then(|status| status.conditions.clone()),
    };
    let enough = available >= Fence::of(deployment)?.least_available();
    let (value, reason, text) = if enough {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    conditions::set(&mut status, conditions::new(AVAILABLE, value, reason, text.to_owned(), now));
    Ok(status)
}

/// Zero is left out of the written form, as Go leaves it out.
fn some<T: Default + PartialEq>(count: T) -> Option<T> {
    (count != T::default()).then_some(count)
}

/// `None` while a set has not said how many of its pods are on their way out.
fn terminating(sets: &Sets) -> Option<i32> {
    let mut total = 0;
    for status in sets.all().filter_map(|set| set.status.as_ref()) {
        match status.terminating_replicas {
            Some(count) => total += count,
            None if status.observed_generation.unwrap_or(0) == 0 => {}
            None => return None,
        }
    }
    Some(total)
}

/// Whether the rollout is done: all pods are new, available, and nothing else is left.
pub(super) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = replicas(deployment);
    let is_wanted = |count: Option<i32>| count.unwrap_or(0) == wanted;
    is_wanted(status.updated_replicas)
        && is_wanted(status.replicas)
        && is_wanted(status.available_replicas)
        && status.observed_generation.unwrap_or(0) >= deployment.metadata.generation.unwrap_or(0)
}

/// Whether the rollout got further since the last status.
pub(super) fn has_progressed(before: &DeploymentStatus, after: &DeploymentStatus) -> bool {
    let count = |count: Option<i32>| count.unwrap_or(0);
    let old = |status: &DeploymentStatus| count(status.replicas) - count(status.updated_replicas);
    count(after.updated_replicas) > count(before.updated_replicas)
        || old(after) < old(before)
        || count(after.ready_replicas) > count(before.ready_replicas)
        || count(after.available_replicas) > count(before.available_replicas)
}
