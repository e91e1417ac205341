//! NodeName: a pod that names its node runs there or nowhere.

use crate::cluster::Cluster;
use crate::event::Kinds;
use crate::framework::{Filter, Plugin, PreFilter, Rejection, Verdict};
use crate::object::Pod;
use crate::state::NodeInfo;

pub struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn events(&self) -> Kinds {
        Kinds::NODE_ADD
    }

    fn pre_filter<'a>(&'a self, pod: &'a Pod, _: &'a Cluster) -> PreFilter<'a> {
        if pod.node_name.is_empty() { PreFilter::Skip } else { PreFilter::filter(Named(&pod.node_name)) }
    }
}

struct Named<'a>(&'a str);

impl Filter for Named<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        if *node.name == *self.0 {
            return Ok(());
        }
        Err(Rejection::unresolvable("node(s) didn't match the requested node name"))
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
    fn only_the_named_node_passes() {
        let against = |name: &str| {
            with_node(json!({}), vec![], |node| judge(&NodeName, &pod(json!({"nodeName": name})), node).len())
        };
        assert_eq!((against(""), against("a"), against("b")), (0, 0, 1));
    }
}
