//! When each node was last heard from, and what a silent one's status says.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Node, NodeCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Signs of life by node, on our own clock.
pub(super) struct Health(Mutex<HashMap<String, Life>>);

struct Life {
    heard: Instant,
    /// Its going down has been reported.
    reported: bool,
}

impl Health {
    pub(super) fn new() -> Self {
        Self(Mutex::default())
    }

    pub(super) fn heard_from(&self, node: &str) {
        let life = Life { heard: Instant::now(), reported: false };
        self.0.lock().insert(node.to_owned(), life);
    }

    pub(super) fn forget(&self, node: &str) {
        self.0.lock().remove(node);
    }

    /// How long a node has been silent; one never heard of begins now.
    pub(super) fn silence(&self, node: &str) -> Duration {
        let mut lives = self.0.lock();
        lives
            .entry(node.to_owned())
            .or_insert_with(|| Life { heard: Instant::now(), reported: false })
            .heard
            .elapsed()
    }

    /// Whether it is the first time since it was last heard from.
    pub(super) fn note_down(&self, node: &str) -> bool {
        self.0.lock().get_mut(node).is_some_and(|life| !std::mem::replace(&mut life.reported, true))
    }
}

/// The node as it is to be shown when it has been silent too long; `None` if it is shown so already.
pub(super) fn mark_silent(node: &Node, now: Timestamp) -> Option<Node> {
    let mut marked = node.clone();
    let conditions = marked.status.get_or_insert_default().conditions.get_or_insert_default();
    let mut changed = false;
    for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        match conditions.iter_mut().find(|condition| condition.type_ == kind) {
            None => conditions.push(NodeCondition {
                type_: kind.to_owned(),
                status: "Unknown".to_owned(),
                reason: Some("NodeStatusNeverUpdated".to_owned()),
                message: Some("Kubelet never posted node status.".to_owned()),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                last_transition_time: Some(Time(now)),
            }),
            Some(condition) if condition.status != "Unknown" => {
                condition.status = "Unknown".to_owned();
                condition.reason = Some("NodeStatusUnknown".to_owned());
                condition.message = Some("Kubelet stopped posting node status.".to_owned());
                condition.last_transition_time = Some(Time(now));
            }
            Some(_) => continue,
        }
        changed = true;
    }
    changed.then_some(marked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_node_is_unknown_in_every_condition_once() {
        let now = Timestamp::from_second(9).unwrap();
        let marked = mark_silent(&Node::default(), now).unwrap();
        let conditions = marked.status.as_ref().unwrap().conditions.as_ref().unwrap();
        assert_eq!(conditions.len(), 4);
        assert!(conditions.iter().all(|condition| condition.status == "Unknown"));
        assert!(mark_silent(&marked, now).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_counts_from_the_last_sign_of_life() {
        let health = Health::new();
        health.heard_from("a");
        tokio::time::advance(Duration::from_secs(40)).await;
        assert_eq!(health.silence("a"), Duration::from_secs(40));
        assert!(health.note_down("a") && !health.note_down("a"));
        health.heard_from("a");
        assert_eq!(health.silence("a"), Duration::ZERO);
        assert!(health.note_down("a"));
    }
}
