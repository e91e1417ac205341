//! The status of a set of replicas. Pure.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Time};

use super::kinds::Replicated;
use crate::pods;

const REPLICA_FAILURE: &str = "ReplicaFailure";

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Status {
    pub(super) replicas: i32,
    pub(super) fully_labeled: i32,
    pub(super) ready: i32,
    pub(super) available: i32,
    /// `None` for kinds that do not report it.
    pub(super) terminating: Option<i32>,
    pub(super) observed_generation: i64,
    pub(super) conditions: Vec<Condition>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Condition {
    pub(super) kind: String,
    pub(super) status: String,
    pub(super) reason: Option<String>,
    pub(super) message: Option<String>,
    pub(super) since: Option<Time>,
}

/// What was seen while looking at one owner.
pub(super) struct Seen<'a> {
    pub(super) active: &'a [Arc<Pod>],
    /// Pods on their way out, for kinds that report them.
    pub(super) terminating: Option<usize>,
    /// Why pods could not be created or deleted.
    pub(super) failure: Option<String>,
    pub(super) now: Timestamp,
}

/// The status that says what was seen.
pub(super) fn calculate<O: Replicated>(owner: &O, seen: &Seen<'_>) -> Status {
    let wanted =
        owner.template().and_then(|template| template.metadata.as_ref()?.labels.clone()).unwrap_or_default();
    let min_ready = owner.min_ready_seconds();
    let count = |accept: &dyn Fn(&Pod) -> bool| to_i32(seen.active.iter().filter(|pod| accept(pod)).count());
    Status {
        replicas: to_i32(seen.active.len()),
        fully_labeled: count(&|pod| has_all(pod.metadata.labels.as_ref(), &wanted)),
        ready: count(&pods::is_ready),
        available: count(&|pod| pods::is_available(pod, min_ready, seen.now)),
        terminating: seen.terminating.map(to_i32),
        observed_generation: owner.meta().generation.unwrap_or(0),
        conditions: conditions(owner, seen),
    }
}

fn to_i32(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn has_all(labels: Option<&BTreeMap<String, String>>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

/// A failure is noted when it begins and removed when it ends; while it lasts its first cause stays.
fn conditions<O: Replicated>(owner: &O, seen: &Seen<'_>) -> Vec<Condition> {
    let mut conditions = owner.status().conditions;
    let failing = conditions.iter().any(|condition| condition.kind == REPLICA_FAILURE);
    match &seen.failure {
        None => conditions.retain(|condition| condition.kind != REPLICA_FAILURE),
        Some(_) if failing => {}
        Some(message) => conditions.push(Condition {
            kind: REPLICA_FAILURE.to_owned(),
            status: "True".to_owned(),
            reason: match seen.active.len().cmp(&owner.desired()) {
                std::cmp::Ordering::Less => Some("FailedCreate".to_owned()),
                std::cmp::Ordering::Greater => Some("FailedDelete".to_owned()),
                std::cmp::Ordering::Equal => None,
            },
            message: Some(message.clone()),
            since: Some(Time(seen.now)),
        }),
    }
    conditions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::tests::pod;
    use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec};

    fn owner(replicas: i32, min_ready: i32) -> ReplicaSet {
        ReplicaSet {
            spec: ReplicaSetSpec {
                replicas: Some(replicas),
                min_ready_seconds: Some(min_ready),
                ..ReplicaSetSpec::default()
            },
            ..ReplicaSet::default()
        }
    }

    #[test]
    fn counts_follow_the_pods_and_failures_come_and_go() {
        let active = [
            pod("a", "n", "Running", Some(10)),
            pod("b", "n", "Running", Some(95)),
            pod("c", "n", "Pending", None),
        ]
        .map(Arc::new);
        let now = Timestamp::from_second(100).unwrap();
        let mut owner = owner(5, 30);
        let mut seen = Seen { active: &active, terminating: Some(1), failure: Some("quota".into()), now };
        let status = calculate(&owner, &seen);
        assert_eq!((status.replicas, status.ready, status.available, status.terminating), (3, 2, 1, Some(1)));
        assert_eq!(status.fully_labeled, 3);
        assert_eq!(status.conditions[0].reason.as_deref(), Some("FailedCreate"));
        owner.set_status(status.clone());
        assert_eq!(Replicated::status(&owner), status, "nothing is lost in the kind's own form");
        seen.failure = Some("another".into());
        assert_eq!(calculate(&owner, &seen).conditions[0].message.as_deref(), Some("quota"));
        seen.failure = None;
        assert!(calculate(&owner, &seen).conditions.is_empty());
    }
}
