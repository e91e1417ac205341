//! The taints that follow from a node's conditions. Pure.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Node, Taint},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::super::{condition, taints};

pub(super) const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub(super) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Condition, the status that matters, and the key of its taint.
const OF_CONDITIONS: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];

fn is_ours(key: &str) -> bool {
    key == UNSCHEDULABLE || OF_CONDITIONS.iter().any(|(_, _, other)| *other == key)
}

/// All taints of the node with those right that keep pods from being scheduled; `None` if they are right.
pub(super) fn no_schedule(node: &Node, now: Timestamp) -> Option<Vec<Taint>> {
    let mut keys: Vec<&str> = OF_CONDITIONS
        .iter()
        .filter(|(kind, status, _)| {
            condition(node, kind).is_some_and(|condition| condition.status == *status)
        })
        .map(|(_, _, key)| *key)
        .collect();
    if node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false) {
        keys.push(UNSCHEDULABLE);
    }
    replace(node, "NoSchedule", &keys, is_ours, now)
}

/// All taints of the node with the one right that drives pods away; `None` if it is right.
pub(super) fn no_execute(node: &Node, wanted: Option<&str>, now: Timestamp) -> Option<Vec<Taint>> {
    let keys: Vec<&str> = wanted.into_iter().collect();
    replace(node, "NoExecute", &keys, |key| key == NOT_READY || key == UNREACHABLE, now)
}

/// Whether pods are being driven away because of the node's health.
pub(super) fn has_no_execute(node: &Node) -> bool {
    taints(node)
        .iter()
        .any(|taint| taint.effect == "NoExecute" && [NOT_READY, UNREACHABLE].contains(&taint.key.as_str()))
}

fn replace(
    node: &Node,
    effect: &str,
    wanted: &[&str],
    ours: impl Fn(&str) -> bool,
    now: Timestamp,
) -> Option<Vec<Taint>> {
    let mut all: Vec<Taint> = taints(node).to_vec();
    let before = all.len();
    all.retain(|taint| taint.effect != effect || !ours(&taint.key) || wanted.contains(&taint.key.as_str()));
    let mut changed = all.len() != before;
    for key in wanted {
        if !all.iter().any(|taint| taint.effect == effect && taint.key == *key) {
            all.push(Taint {
                key: (*key).to_owned(),
                effect: effect.to_owned(),
                time_added: Some(Time(now)),
                ..Taint::default()
            });
            changed = true;
        }
    }
    changed.then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{NodeCondition, NodeSpec, NodeStatus};

    #[test]
    fn taints_follow_conditions_and_leave_those_of_others() {
        let now = Timestamp::from_second(1).unwrap();
        let own = Taint { key: "team".into(), effect: "NoSchedule".into(), ..Taint::default() };
        let ready = |status: &str| NodeCondition {
            type_: "Ready".into(),
            status: status.into(),
            ..NodeCondition::default()
        };
        let mut node = Node {
            spec: Some(NodeSpec {
                taints: Some(vec![own.clone()]),
                unschedulable: Some(true),
                ..NodeSpec::default()
            }),
            status: Some(NodeStatus { conditions: Some(vec![ready("Unknown")]), ..NodeStatus::default() }),
            ..Node::default()
        };
        let taints = no_schedule(&node, now).unwrap();
        let keys: Vec<_> = taints.iter().map(|taint| taint.key.as_str()).collect();
        assert_eq!(keys, ["team", UNREACHABLE, UNSCHEDULABLE]);
        node.spec = Some(NodeSpec { taints: Some(taints), ..NodeSpec::default() });
        node.status.as_mut().unwrap().conditions = Some(vec![ready("True")]);
        assert_eq!(no_schedule(&node, now), Some(vec![own]));
        assert_eq!(no_execute(&node, Some(NOT_READY), now).unwrap().len(), 4);
        assert_eq!(no_execute(&node, None, now), None);
    }
}
