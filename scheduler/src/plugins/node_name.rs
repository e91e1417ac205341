//! NodeName: a pod that names its node runs there or nowhere.

use super::{Filter, Reason};
use crate::event::Events;
use crate::object::Pod;
use crate::state::NodeInfo;

pub struct NodeName;

impl Filter for NodeName {
    fn retry_on(&self) -> Events {
        Events::NODE_ADD
    }

    fn reasons_against(&self, pod: &Pod, node: &NodeInfo) -> Vec<Reason> {
        if pod.node_name.is_empty() || *pod.node_name == *node.name {
            return Vec::new();
        }
        vec!["node(s) didn't match the requested node name".into()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::testing::{pod, with_node};
    use serde_json::json;

    #[test]
    fn only_the_named_node_passes() {
        let against = |name: &str| {
            with_node(json!({}), vec![], |node| {
                NodeName.reasons_against(&pod(json!({"nodeName": name})), node).len()
            })
        };
        assert_eq!((against(""), against("a"), against("b")), (0, 0, 1));
    }
}
