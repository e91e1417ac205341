//! The two kinds that keep a number of pods.

use std::{fmt::Debug, sync::Arc};

use k8s_openapi::api::{
    apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus},
    core::v1::{
        PodTemplateSpec, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
    },
};
use knarr_client::{SharedInformer, object::controller_of};
use serde::{Serialize, de::DeserializeOwned};

use super::status::{Condition, Status};
use crate::pods::follow::SelectsPods;

/// A kind that keeps a number of pods made from a template.
pub(super) trait Replicated: SelectsPods + Clone + Debug + DeserializeOwned + Serialize {
    /// What its queue is called.
    const QUEUE: &'static str;
    /// Who signs its Events.
    const COMPONENT: &'static str;
    /// Whether the status says how many pods are on their way out.
    const REPORTS_TERMINATING: bool;

    fn desired(&self) -> usize;
    fn min_ready_seconds(&self) -> i32;
    fn template(&self) -> Option<&PodTemplateSpec>;
    fn status(&self) -> Status;
    fn set_status(&mut self, status: Status);

    fn add_indices(_owners: &SharedInformer<Self>) {}

    /// The owners whose pods are alike enough that they should not share nodes: those of one Deployment.
    fn siblings(self: &Arc<Self>, _owners: &SharedInformer<Self>) -> Vec<Arc<Self>> {
        vec![Arc::clone(self)]
    }
}

fn count(replicas: Option<i32>) -> usize {
    usize::try_from(replicas.unwrap_or(1)).unwrap_or(0)
}

const BY_CONTROLLER: &str = "controller";

impl Replicated for ReplicaSet {
    const QUEUE: &'static str = "replicaset";
    const COMPONENT: &'static str = "replicaset-controller";
    const REPORTS_TERMINATING: bool = true;

    fn desired(&self) -> usize {
        count(self.spec.replicas)
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.min_ready_seconds.unwrap_or(0)
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.template.as_ref()
    }

    fn status(&self) -> Status {
        let Some(status) = self.status.clone() else { return Status::default() };
        Status {
            replicas: status.replicas,
            fully_labeled: status.fully_labeled_replicas.unwrap_or(0),
            ready: status.ready_replicas.unwrap_or(0),
            available: status.available_replicas.unwrap_or(0),
            terminating: status.terminating_replicas,
            observed_generation: status.observed_generation.unwrap_or(0),
            conditions: status.conditions.into_iter().flatten().map(Condition::from).collect(),
        }
    }

    fn set_status(&mut self, status: Status) {
        self.status = Some(ReplicaSetStatus {
            replicas: status.replicas,
            fully_labeled_replicas: Some(status.fully_labeled).filter(|&count| count != 0),
            ready_replicas: Some(status.ready).filter(|&count| count != 0),
            available_replicas: Some(status.available).filter(|&count| count != 0),
            terminating_replicas: status.terminating,
            observed_generation: Some(status.observed_generation).filter(|&generation| generation != 0),
            conditions: (!status.conditions.is_empty())
                .then(|| status.conditions.into_iter().map(Condition::into).collect()),
        });
    }

    fn add_indices(owners: &SharedInformer<Self>) {
        owners.add_index(BY_CONTROLLER, |set| {
            controller_of(&set.metadata).map(|owner| owner.uid.clone()).into_iter().collect()
        });
    }

    fn siblings(self: &Arc<Self>, owners: &SharedInformer<Self>) -> Vec<Arc<Self>> {
        match controller_of(&self.metadata) {
            Some(owner) => owners.by_index(BY_CONTROLLER, &owner.uid),
            None => vec![Arc::clone(self)],
        }
    }
}

impl Replicated for ReplicationController {
    const QUEUE: &'static str = "replicationmanager";
    const COMPONENT: &'static str = "replication-controller";
    const REPORTS_TERMINATING: bool = false;

    fn desired(&self) -> usize {
        count(self.spec.as_ref().and_then(|spec| spec.replicas))
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }

    fn status(&self) -> Status {
        let Some(status) = self.status.clone() else { return Status::default() };
        Status {
            replicas: status.replicas,
            fully_labeled: status.fully_labeled_replicas.unwrap_or(0),
            ready: status.ready_replicas.unwrap_or(0),
            available: status.available_replicas.unwrap_or(0),
            terminating: None,
            observed_generation: status.observed_generation.unwrap_or(0),
            conditions: status.conditions.into_iter().flatten().map(Condition::from).collect(),
        }
    }

    fn set_status(&mut self, status: Status) {
        self.status = Some(ReplicationControllerStatus {
            replicas: status.replicas,
            fully_labeled_replicas: Some(status.fully_labeled).filter(|&count| count != 0),
            ready_replicas: Some(status.ready).filter(|&count| count != 0),
            available_replicas: Some(status.available).filter(|&count| count != 0),
            observed_generation: Some(status.observed_generation).filter(|&generation| generation != 0),
            conditions: (!status.conditions.is_empty())
                .then(|| status.conditions.into_iter().map(Condition::into).collect()),
        });
    }
}

impl From<ReplicaSetCondition> for Condition {
    fn from(from: ReplicaSetCondition) -> Self {
        Self {
            kind: from.type_.unwrap_or_default(),
            status: from.status.unwrap_or_default(),
            reason: from.reason,
            message: from.message,
            since: from.last_transition_time,
        }
    }
}

impl From<Condition> for ReplicaSetCondition {
    fn from(from: Condition) -> Self {
        Self {
            type_: Some(from.kind),
            status: Some(from.status),
            reason: from.reason,
            message: from.message,
            last_transition_time: from.since,
        }
    }
}

impl From<ReplicationControllerCondition> for Condition {
    fn from(from: ReplicationControllerCondition) -> Self {
        Self {
            kind: from.type_,
            status: from.status,
            reason: from.reason,
            message: from.message,
            since: from.last_transition_time,
        }
    }
}

impl From<Condition> for ReplicationControllerCondition {
    fn from(from: Condition) -> Self {
        Self {
            type_: from.kind,
            status: from.status,
            reason: from.reason,
            message: from.message,
            last_transition_time: from.since,
        }
    }
}
