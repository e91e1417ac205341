//! The rules, one file each, under upstream's names.

mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources_balanced_allocation;
mod node_resources_fit;
mod node_unschedulable;
mod taint_toleration;

use std::borrow::Cow;

use crate::event::Events;
use crate::object::Pod;
use crate::state::NodeInfo;

/// The best score a plugin can give a node.
pub const MAX_NODE_SCORE: i64 = 100;

pub type Reason = Cow<'static, str>;

/// Says whether a node can run a pod.
pub trait Filter: Send + Sync {
    /// What could turn this plugin's "no" into a "yes".
    fn retry_on(&self) -> Events;

    /// Why not, in upstream's words, which are counted over all nodes; an empty list is a yes.
    fn reasons_against(&self, pod: &Pod, node: &NodeInfo) -> Vec<Reason>;
}

/// Says how well a node suits a pod that it can run.
pub trait Score: Send + Sync {
    /// How much this plugin counts beside the others.
    fn weight(&self) -> i64;

    /// Any scale, if `normalize` brings it to 0..=100 afterwards.
    fn score(&self, pod: &Pod, node: &NodeInfo) -> i64;

    /// Whether this plugin has anything to say of this pod; if not, all nodes get 0.
    fn applies(&self, _pod: &Pod) -> bool {
        true
    }

    /// Brings the scores of all nodes to 0..=100.
    fn normalize(&self, _scores: &mut [i64]) {}
}

/// Default plugins, in upstream's order.
pub fn filters() -> Vec<Box<dyn Filter>> {
    vec![
        Box::new(node_unschedulable::NodeUnschedulable),
        Box::new(node_name::NodeName),
        Box::new(taint_toleration::TaintToleration),
        Box::new(node_affinity::NodeAffinity),
        Box::new(node_ports::NodePorts),
        Box::new(node_resources_fit::Fit),
    ]
}

pub fn scores() -> Vec<Box<dyn Score>> {
    vec![
        Box::new(taint_toleration::TaintToleration),
        Box::new(node_affinity::NodeAffinity),
        Box::new(node_resources_fit::Fit),
        Box::new(node_resources_balanced_allocation::BalancedAllocation),
    ]
}

/// Scales scores so that the largest becomes 100; `reverse` turns "how bad" into "how good".
fn scale_to_largest(scores: &mut [i64], reverse: bool) {
    let largest = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let scaled = if largest == 0 { 0 } else { MAX_NODE_SCORE * *score / largest };
        *score = if reverse { MAX_NODE_SCORE - scaled } else { scaled };
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Pods and nodes for the plugins' tests.

    use std::sync::Arc;

    use serde_json::{Value, json};

    use crate::object::Pod;
    use crate::state::{NodeInfo, State};

    /// A pod of this spec, with one empty container unless it has some.
    pub fn pod(mut spec: Value) -> Pod {
        if spec.get("containers").is_none() {
            spec["containers"] = json!([{"name": "c"}]);
        }
        let pod = json!({"metadata": {"name": "p", "namespace": "default", "uid": "u"}, "spec": spec});
        serde_json::from_value(pod).expect("a pod")
    }

    /// The node `a`, made of these parts and these pods on it.
    pub fn with_node<T>(node: Value, pods: Vec<Pod>, look: impl FnOnce(&NodeInfo) -> T) -> T {
        let mut state = State::default();
        let mut whole = json!({"metadata": {"name": "a"}});
        for (part, value) in node.as_object().expect("parts of a node") {
            match (whole.get_mut(part), value) {
                (Some(Value::Object(into)), Value::Object(from)) => into.extend(from.clone()),
                _ => whole[part] = value.clone(),
            }
        }
        state.node_added_or_updated(Arc::new(serde_json::from_value(whole).expect("a node")));
        for (number, mut pod) in pods.into_iter().enumerate() {
            pod.metadata.uid = number.to_string().into();
            state.assume(Arc::new(pod), "a");
        }
        look(&state.nodes()[0])
    }
}
