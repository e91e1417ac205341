//! NodeResourcesBalancedAllocation: prefers nodes whose CPU and memory would be used to the same degree.

use super::{MAX_NODE_SCORE, Score};
use crate::object::Pod;
use crate::state::NodeInfo;

pub struct BalancedAllocation;

impl Score for BalancedAllocation {
    fn weight(&self) -> i64 {
        1
    }

    /// A pod that requests nothing changes no balance.
    fn applies(&self, pod: &Pod) -> bool {
        pod.request.exact.milli_cpu > 0 || pod.request.exact.memory > 0
    }

    /// By how much the pod improves the balance: 75 where it changes nothing.
    fn score(&self, pod: &Pod, node: &NodeInfo) -> i64 {
        let Some(allocatable) = node.node().map(|node| &node.allocatable) else { return 0 };
        let (want, used) = (&pod.request.exact, &node.requested);
        let capacity = (allocatable.milli_cpu, allocatable.memory);
        let before = balance((used.milli_cpu, used.memory), capacity);
        let after = balance((used.milli_cpu + want.milli_cpu, used.memory + want.memory), capacity);
        MAX_NODE_SCORE / 2 + (MAX_NODE_SCORE / 2 + after - before) / 2
    }
}

/// 100 when both are used to the same degree, 50 when one is full and the other empty.
fn balance(used: (i64, i64), capacity: (i64, i64)) -> i64 {
    let degree = |used: i64, capacity: i64| (capacity > 0).then(|| (used as f64 / capacity as f64).min(1.0));
    match (degree(used.0, capacity.0), degree(used.1, capacity.1)) {
        (Some(cpu), Some(memory)) => ((1.0 - (cpu - memory).abs() / 2.0) * MAX_NODE_SCORE as f64) as i64,
        _ => MAX_NODE_SCORE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::testing::{pod, with_node};
    use serde_json::json;

    #[test]
    fn a_pod_that_evens_out_a_node_scores_above_one_that_does_not() {
        let asking = |cpu, memory| {
            pod(json!({"containers": [{"resources": {"requests": {"cpu": cpu, "memory": memory}}}]}))
        };
        let node = json!({"status": {"allocatable": {"cpu": "4", "memory": "4Gi"}}});
        with_node(node, vec![asking("2", "0")], |node| {
            assert_eq!(BalancedAllocation.score(&asking("0", "2Gi"), node), 87);
            assert_eq!(BalancedAllocation.score(&asking("1", "1Gi"), node), 75);
            assert_eq!(BalancedAllocation.score(&asking("2", "0"), node), 62);
        });
        assert!(!BalancedAllocation.applies(&pod(json!({}))));
    }
}
