//! How good a node is that has room: LeastAllocated, MostAllocated, RequestedToCapacityRatio.

use crate::framework::{MAX_NODE_SCORE, Score};
use crate::object::Pod;
use crate::state::NodeInfo;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightedResource {
    pub name: String,
    pub weight: i64,
}

impl WeightedResource {
    /// CPU and memory, which count the same.
    pub fn defaults() -> Vec<Self> {
        ["cpu", "memory"].map(|name| Self { name: name.to_owned(), weight: 1 }).into()
    }
}

/// A corner of the line from utilization to score; both from 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShapePoint {
    pub utilization: i64,
    pub score: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StrategyType {
    LeastAllocated,
    MostAllocated,
    /// With the corners in order of utilization.
    RequestedToCapacityRatio(Vec<ShapePoint>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScoringStrategy {
    pub type_: StrategyType,
    pub resources: Vec<WeightedResource>,
}

impl Default for ScoringStrategy {
    fn default() -> Self {
        Self { type_: StrategyType::LeastAllocated, resources: WeightedResource::defaults() }
    }
}

impl ScoringStrategy {
    /// From 0 to 100.
    fn rate(&self, used: i64, capacity: i64) -> i64 {
        match &self.type_ {
            StrategyType::LeastAllocated if used > capacity => 0,
            StrategyType::LeastAllocated => percent(capacity - used, capacity),
            StrategyType::MostAllocated => percent(used.min(capacity), capacity),
            StrategyType::RequestedToCapacityRatio(shape) if used > capacity => on_line(shape, 100),
            StrategyType::RequestedToCapacityRatio(shape) => on_line(shape, percent(used, capacity)),
        }
    }

    fn combine(&self, rated: impl Iterator<Item = (i64, i64)>) -> i64 {
        let is_ratio = matches!(self.type_, StrategyType::RequestedToCapacityRatio(_));
        // Upstream leaves resources out of the ratio that score nothing.
        let counted = rated.filter(|(score, _)| !is_ratio || *score > 0);
        let (sum, weights) =
            counted.fold((0, 0), |(sum, weights), (score, weight)| (sum + score * weight, weights + weight));
        match weights {
            0 => 0,
            weights if is_ratio => (sum as f64 / weights as f64).round() as i64,
            weights => sum / weights,
        }
    }
}

fn percent(part: i64, whole: i64) -> i64 {
    (i128::from(part) * i128::from(MAX_NODE_SCORE) / i128::from(whole)) as i64
}

fn on_line(shape: &[ShapePoint], utilization: i64) -> i64 {
    let Some(at) = shape.iter().position(|point| utilization <= point.utilization) else {
        return shape.last().map_or(0, |last| last.score);
    };
    let Some(before) = at.checked_sub(1).map(|before| shape[before]) else { return shape[0].score };
    let point = shape[at];
    before.score
        + (point.score - before.score) * (utilization - before.utilization)
            / (point.utilization - before.utilization)
}

pub(super) struct Scorer<'a> {
    pub strategy: &'a ScoringStrategy,
    pub pod: &'a Pod,
}

impl Scorer<'_> {
    /// What would be used, and what there is; `None` for what the node lacks, or the pod does not want of
    /// extended resources.
    fn usage(&self, node: &NodeInfo, resource: &str) -> Option<(i64, i64)> {
        let capacity = node.node()?.allocatable.of(resource);
        let (used, want) = match resource {
            "cpu" => (node.nonzero_milli_cpu, self.pod.request.nonzero_milli_cpu),
            "memory" => (node.nonzero_memory, self.pod.request.nonzero_memory),
            "ephemeral-storage" => {
                (node.requested.ephemeral_storage, self.pod.request.exact.ephemeral_storage)
            }
            scalar => match self.pod.request.exact.scalar(scalar) {
                0 => return None,
                want => (node.requested.scalar(scalar), want),
            },
        };
        (capacity > 0).then_some((used + want, capacity))
    }
}

impl Score for Scorer<'_> {
    fn follows_load(&self) -> bool {
        true
    }

    fn score(&self, node: &NodeInfo) -> i64 {
        self.strategy.combine(self.strategy.resources.iter().filter_map(|resource| {
            let (used, capacity) = self.usage(node, &resource.name)?;
            Some((self.strategy.rate(used, capacity), resource.weight))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strategy(type_: StrategyType) -> ScoringStrategy {
        ScoringStrategy { type_, resources: WeightedResource::defaults() }
    }

    #[test]
    fn each_strategy_rates_by_its_own_rule() {
        let shape =
            vec![ShapePoint { utilization: 0, score: 100 }, ShapePoint { utilization: 70, score: 30 }];
        let ratio = strategy(StrategyType::RequestedToCapacityRatio(shape));
        for (strategy, expected) in [
            (strategy(StrategyType::LeastAllocated), [100, 75, 0, 0]),
            (strategy(StrategyType::MostAllocated), [0, 25, 100, 100]),
            (ratio, [100, 75, 30, 30]),
        ] {
            let rated = [0, 25, 100, 120].map(|used| strategy.rate(used, 100));
            assert_eq!(rated, expected, "{:?}", strategy.type_);
        }
    }

    #[test]
    fn weights_decide_how_much_a_resource_counts() {
        let least = strategy(StrategyType::LeastAllocated);
        assert_eq!(least.combine([(100, 1), (0, 3)].into_iter()), 25);
        assert_eq!(least.combine(std::iter::empty()), 0);
        let ratio = strategy(StrategyType::RequestedToCapacityRatio(vec![]));
        assert_eq!(ratio.combine([(50, 1), (0, 3), (75, 1)].into_iter()), 63);
    }
}
