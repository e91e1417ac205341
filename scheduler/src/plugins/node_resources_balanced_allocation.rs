//! NodeResourcesBalancedAllocation: prefers nodes whose resources would be used to the same degree.

use super::node_resources_fit::WeightedResource;
use crate::cluster::Cluster;
use crate::framework::{MAX_NODE_SCORE, Plugin, Score};
use crate::object::Pod;
use crate::state::NodeInfo;

pub struct BalancedAllocation {
    /// All weigh the same.
    resources: Vec<String>,
}

impl Default for BalancedAllocation {
    fn default() -> Self {
        Self::new(WeightedResource::defaults())
    }
}

impl BalancedAllocation {
    pub fn new(resources: Vec<WeightedResource>) -> Self {
        Self { resources: resources.into_iter().map(|resource| resource.name).collect() }
    }
}

impl Plugin for BalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    /// A pod that requests nothing changes no balance.
    fn pre_score<'a>(&'a self, pod: &'a Pod, _: &'a Cluster, _: &[&NodeInfo]) -> Option<Box<dyn Score + 'a>> {
        let wanted = self.resources.iter().any(|resource| pod.request.exact.of(resource) > 0);
        wanted.then(|| Box::new(Balance { resources: &self.resources, pod }) as Box<dyn Score>)
    }
}

struct Balance<'a> {
    resources: &'a [String],
    pod: &'a Pod,
}

impl Score for Balance<'_> {
    fn follows_load(&self) -> bool {
        true
    }

    /// By how much the pod improves the balance: 75 where it changes nothing.
    fn score(&self, node: &NodeInfo) -> i64 {
        let Some(allocatable) = node.node().map(|node| &node.allocatable) else { return 0 };
        let (mut before, mut after) = (Spread::default(), Spread::default());
        for resource in self.resources {
            let want = self.pod.request.exact.of(resource);
            let is_extended = !matches!(resource.as_str(), "cpu" | "memory" | "ephemeral-storage");
            let capacity = allocatable.of(resource);
            if capacity == 0 || (want == 0 && is_extended) {
                continue;
            }
            let used = node.requested.of(resource);
            before.add(used, capacity);
            after.add(used + want, capacity);
        }
        MAX_NODE_SCORE / 2 + (MAX_NODE_SCORE / 2 + after.score() - before.score()) / 2
    }
}

/// The standard deviation of how full resources are, one by one.
#[derive(Default)]
struct Spread {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Spread {
    fn add(&mut self, used: i64, capacity: i64) {
        let degree = (used as f64 / capacity as f64).min(1.0);
        self.count += 1.0;
        let from_old = degree - self.mean;
        self.mean += from_old / self.count;
        self.squares += from_old * (degree - self.mean);
    }

    /// 100 when all are used to the same degree, 50 when of two one is full and the other empty.
    fn score(&self) -> i64 {
        let deviation = if self.count < 2.0 { 0.0 } else { (self.squares / self.count).sqrt() };
        ((1.0 - deviation) * MAX_NODE_SCORE as f64) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::testing::{pod, score, with_node};
    use serde_json::json;

    #[test]
    fn a_pod_that_evens_out_a_node_scores_above_one_that_does_not() {
        let plugin = BalancedAllocation::default();
        let asking = |cpu, memory| {
            pod(json!({"containers": [{"resources": {"requests": {"cpu": cpu, "memory": memory}}}]}))
        };
        let node = json!({"status": {"allocatable": {"cpu": "4", "memory": "4Gi"}}});
        with_node(node, vec![asking("2", "0")], |node| {
            assert_eq!(score(&plugin, &asking("0", "2Gi"), node), Some(87));
            assert_eq!(score(&plugin, &asking("1", "1Gi"), node), Some(75));
            assert_eq!(score(&plugin, &asking("2", "0"), node), Some(62));
            assert_eq!(score(&plugin, &pod(json!({})), node), None);
        });
    }
}
