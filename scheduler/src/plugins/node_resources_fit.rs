//! NodeResourcesFit: what a pod requests must be free, and nodes with more left are better (LeastAllocated).

use super::{Filter, MAX_NODE_SCORE, Reason, Score};
use crate::event::Events;
use crate::object::Pod;
use crate::state::NodeInfo;

pub struct Fit;

impl Filter for Fit {
    fn retry_on(&self) -> Events {
        Events::NODE_ADD.or(Events::NODE_ALLOCATABLE).or(Events::POD_DELETE).or(Events::POD_UPDATE)
    }

    fn reasons_against(&self, pod: &Pod, node: &NodeInfo) -> Vec<Reason> {
        let mut reasons = Vec::new();
        let Some(allocatable) = node.node().map(|node| &node.allocatable) else { return reasons };
        let (want, used) = (&pod.request.exact, &node.requested);
        if node.pod_count() as i64 + 1 > allocatable.pods {
            reasons.push("Too many pods".into());
        }
        let lacks = |want: i64, have: i64, used: i64| want > 0 && want > have - used;
        if lacks(want.milli_cpu, allocatable.milli_cpu, used.milli_cpu) {
            reasons.push("Insufficient cpu".into());
        }
        if lacks(want.memory, allocatable.memory, used.memory) {
            reasons.push("Insufficient memory".into());
        }
        if lacks(want.ephemeral_storage, allocatable.ephemeral_storage, used.ephemeral_storage) {
            reasons.push("Insufficient ephemeral-storage".into());
        }
        for (name, amount) in &want.scalars {
            if lacks(*amount, allocatable.scalar(name), used.scalar(name)) {
                reasons.push(format!("Insufficient {name}").into());
            }
        }
        reasons
    }
}

impl Score for Fit {
    fn weight(&self) -> i64 {
        1
    }

    /// CPU and memory count the same; a resource the node does not have is left out.
    fn score(&self, pod: &Pod, node: &NodeInfo) -> i64 {
        let Some(allocatable) = node.node().map(|node| &node.allocatable) else { return 0 };
        let parts = [
            (node.nonzero_milli_cpu + pod.request.nonzero_milli_cpu, allocatable.milli_cpu),
            (node.nonzero_memory + pod.request.nonzero_memory, allocatable.memory),
        ];
        let scores = parts.iter().filter(|(_, capacity)| *capacity > 0).map(|(used, capacity)| {
            if used > capacity {
                0
            } else {
                (i128::from(capacity - used) * i128::from(MAX_NODE_SCORE) / i128::from(*capacity)) as i64
            }
        });
        let (sum, count) = scores.fold((0, 0), |(sum, count), score| (sum + score, count + 1));
        if count == 0 { 0 } else { sum / count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::testing::{pod, with_node};
    use serde_json::{Value, json};

    fn asking(requests: Value) -> Pod {
        pod(json!({"containers": [{"resources": {"requests": requests}}]}))
    }

    fn node() -> Value {
        json!({"status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "2", "example.com/gpu": "1"}}})
    }

    #[test]
    fn everything_that_is_missing_is_named() {
        let running = asking(json!({"cpu": "1", "memory": "3Gi", "example.com/gpu": "1"}));
        with_node(node(), vec![running], |node| {
            let want =
                json!({"cpu": "1500m", "memory": "1Gi", "example.com/gpu": "1", "ephemeral-storage": "1"});
            assert_eq!(
                Fit.reasons_against(&asking(want), node),
                ["Insufficient cpu", "Insufficient ephemeral-storage", "Insufficient example.com/gpu"]
            );
            assert!(Fit.reasons_against(&asking(json!({"cpu": "1"})), node).is_empty());
        });
        with_node(node(), vec![asking(json!({})), asking(json!({}))], |node| {
            assert_eq!(Fit.reasons_against(&asking(json!({})), node), ["Too many pods"]);
        });
    }

    #[test]
    fn the_emptier_node_scores_higher() {
        let score = |pods| {
            with_node(node(), pods, |node| Fit.score(&asking(json!({"cpu": "1", "memory": "1Gi"})), node))
        };
        // Half of the CPU and three quarters of the memory would be left.
        assert_eq!(score(vec![]), (50 + 75) / 2);
        assert_eq!(score(vec![asking(json!({"cpu": "1", "memory": "1Gi"}))]), 50 / 2);
        assert_eq!(score(vec![asking(json!({"cpu": "2", "memory": "4Gi"}))]), 0);
    }
}
