//! NodeUnschedulable: cordoned nodes take only pods that tolerate that.

use k8s_openapi::api::core::v1::Taint;

use super::taint_toleration::tolerates;
use crate::cluster::Cluster;
use crate::event::{Event, Kinds};
use crate::framework::{Filter, Plugin, PreFilter, Rejection, Verdict};
use crate::object::{Node, Pod};
use crate::state::NodeInfo;

pub struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn events(&self) -> Kinds {
        Kinds::NODE_ADD.or(Kinds::NODE_TAINT).or(Kinds::POD_TOLERATION)
    }

    fn helps(&self, pod: &Pod, event: &Event, _: &Cluster) -> bool {
        event.new_node().is_none_or(|node| accepts(pod, node))
    }

    fn pre_filter<'a>(&'a self, pod: &'a Pod, _: &'a Cluster) -> PreFilter<'a> {
        PreFilter::filter(Cordons(pod))
    }
}

fn accepts(pod: &Pod, node: &Node) -> bool {
    !node.unschedulable || tolerates_cordon(pod)
}

fn tolerates_cordon(pod: &Pod) -> bool {
    let cordoned = Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    pod.tolerations.iter().any(|toleration| tolerates(toleration, &cordoned))
}

struct Cordons<'a>(&'a Pod);

impl Filter for Cordons<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        if node.node().is_none_or(|node| accepts(self.0, node)) {
            return Ok(());
        }
        Err(Rejection::unresolvable("node(s) were unschedulable"))
    }

    fn fork(&self) -> Box<dyn Filter + '_> {
        Box::new(Self(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::testing::{judge, pod, with_node};
    use serde_json::json;

    #[test]
    fn a_cordoned_node_takes_only_pods_that_tolerate_it() {
        let cordoned = || json!({"spec": {"unschedulable": true}});
        let tolerant = json!([{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]);
        let against = |spec| with_node(cordoned(), vec![], |n| judge(&NodeUnschedulable, &pod(spec), n));
        assert_eq!(against(json!({})), ["node(s) were unschedulable"]);
        assert!(against(json!({"tolerations": tolerant})).is_empty());
    }
}
