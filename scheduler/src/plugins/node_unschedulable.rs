//! NodeUnschedulable: cordoned nodes take only pods that tolerate that.

use k8s_openapi::api::core::v1::Taint;

use super::taint_toleration::tolerates;
use super::{Filter, Reason};
use crate::event::Events;
use crate::object::Pod;
use crate::state::NodeInfo;

pub struct NodeUnschedulable;

impl Filter for NodeUnschedulable {
    fn retry_on(&self) -> Events {
        Events::NODE_ADD.or(Events::NODE_TAINT).or(Events::POD_UPDATE)
    }

    fn reasons_against(&self, pod: &Pod, node: &NodeInfo) -> Vec<Reason> {
        if !node.node().is_some_and(|node| node.unschedulable) {
            return Vec::new();
        }
        let cordoned = Taint {
            key: "node.kubernetes.io/unschedulable".to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        };
        if pod.tolerations.iter().any(|toleration| tolerates(toleration, &cordoned)) {
            return Vec::new();
        }
        vec!["node(s) were unschedulable".into()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::testing::{pod, with_node};
    use serde_json::json;

    #[test]
    fn a_cordoned_node_takes_only_pods_that_tolerate_it() {
        let cordoned = || json!({"spec": {"unschedulable": true}});
        let tolerant = json!([{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]);
        let against =
            |spec| with_node(cordoned(), vec![], |n| NodeUnschedulable.reasons_against(&pod(spec), n));
        assert_eq!(against(json!({})), ["node(s) were unschedulable"]);
        assert!(against(json!({"tolerations": tolerant})).is_empty());
    }
}
