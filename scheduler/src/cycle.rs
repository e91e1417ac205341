//! One decision: which of the nodes that can run a pod suits it best.

use std::collections::BTreeMap;

use knarr_api::time::SharedRandom;

use crate::event::Events;
use crate::object::Pod;
use crate::plugins::{self, Filter, Reason, Score};
use crate::state::{NodeInfo, State};

/// With fewer nodes than this all are looked at, and of more at least this many.
const MIN_FEASIBLE_NODES: usize = 100;
/// The part of a very large cluster that is looked at even then, in percent.
const MIN_PERCENTAGE: usize = 5;

/// Why no node fits, as `kubectl describe` shows it, and what may change that.
#[derive(Debug)]
pub struct Unschedulable {
    pub message: String,
    pub retry_on: Events,
}

pub struct Cycle {
    filters: Vec<Box<dyn Filter>>,
    scores: Vec<Box<dyn Score>>,
    percentage: u32,
    random: SharedRandom,
    /// Where the next search begins, so that all nodes get their turn.
    next_start: usize,
}

impl Cycle {
    pub fn new(percentage: u32, random: SharedRandom) -> Self {
        Self { filters: plugins::filters(), scores: plugins::scores(), percentage, random, next_start: 0 }
    }

    /// The best node's name.
    pub fn decide(&mut self, pod: &Pod, state: &State) -> Result<String, Unschedulable> {
        if state.existing_nodes() == 0 {
            let message = "no nodes available to schedule pods".to_owned();
            return Err(Unschedulable { message, retry_on: Events::NODE_ADD });
        }
        let feasible = self.find_feasible(pod, state)?;
        Ok(self.pick_best(pod, &feasible).name.to_string())
    }

    fn find_feasible<'a>(&mut self, pod: &Pod, state: &'a State) -> Result<Vec<&'a NodeInfo>, Unschedulable> {
        let nodes = state.nodes();
        let enough = self.enough(state.existing_nodes());
        let start = self.next_start % nodes.len();
        let mut feasible = Vec::new();
        let mut reasons: BTreeMap<Reason, usize> = BTreeMap::new();
        let mut retry_on = Events::NODE_ADD;
        let mut looked_at = 0;
        for node in nodes[start..].iter().chain(&nodes[..start]) {
            if feasible.len() == enough {
                break;
            }
            looked_at += 1;
            if !node.exists() {
                continue;
            }
            match self.first_against(pod, node) {
                None => feasible.push(node),
                Some((filter, against)) => {
                    retry_on = retry_on.or(filter.retry_on());
                    for reason in against {
                        *reasons.entry(reason).or_default() += 1;
                    }
                }
            }
        }
        self.next_start = (start + looked_at) % nodes.len();
        if feasible.is_empty() {
            let message = describe(state.existing_nodes(), &reasons);
            return Err(Unschedulable { message, retry_on });
        }
        Ok(feasible)
    }

    fn first_against(&self, pod: &Pod, node: &NodeInfo) -> Option<(&dyn Filter, Vec<Reason>)> {
        self.filters.iter().find_map(|filter| {
            let against = filter.reasons_against(pod, node);
            (!against.is_empty()).then_some((&**filter, against))
        })
    }

    /// How many feasible nodes are enough to choose from.
    fn enough(&self, nodes: usize) -> usize {
        if nodes < MIN_FEASIBLE_NODES {
            return nodes;
        }
        let percentage = match self.percentage as usize {
            0 => 50usize.saturating_sub(nodes / 125).max(MIN_PERCENTAGE),
            given => given.min(100),
        };
        (nodes * percentage / 100).max(MIN_FEASIBLE_NODES)
    }

    /// The node with the highest sum; among equals, chance decides.
    fn pick_best<'a>(&self, pod: &Pod, feasible: &[&'a NodeInfo]) -> &'a NodeInfo {
        if let [only] = feasible {
            return only;
        }
        let mut totals = vec![0i64; feasible.len()];
        let mut scores = Vec::with_capacity(feasible.len());
        for plugin in self.scores.iter().filter(|plugin| plugin.applies(pod)) {
            scores.clear();
            scores.extend(feasible.iter().map(|node| plugin.score(pod, node)));
            plugin.normalize(&mut scores);
            for (total, score) in totals.iter_mut().zip(&scores) {
                *total += plugin.weight() * score;
            }
        }
        let best = totals.iter().copied().max().unwrap_or(0);
        let equals: Vec<usize> = (0..totals.len()).filter(|at| totals[*at] == best).collect();
        feasible[equals[self.random.below(equals.len() as u64) as usize]]
    }
}

/// `0/3 nodes are available: 1 Too many pods, 2 Insufficient cpu.`
fn describe(nodes: usize, reasons: &BTreeMap<Reason, usize>) -> String {
    let mut counted: Vec<String> =
        reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    counted.sort();
    format!("0/{nodes} nodes are available: {}.", counted.join(", "))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use knarr_api::time::SeededRandom;
    use serde_json::{Value, json};

    use super::*;
    use crate::plugins::testing::pod;

    fn cycle() -> Cycle {
        Cycle::new(0, Arc::new(SeededRandom::new(1)))
    }

    fn state(nodes: impl IntoIterator<Item = (String, Value)>) -> State {
        let mut state = State::default();
        for (name, allocatable) in nodes {
            let node = json!({"metadata": {"name": name}, "status": {"allocatable": allocatable}});
            state.node_added_or_updated(Arc::new(serde_json::from_value(node).expect("a node")));
        }
        state
    }

    fn asking(cpu: &str) -> Pod {
        pod(json!({"containers": [{"resources": {"requests": {"cpu": cpu}}}]}))
    }

    #[test]
    fn the_reasons_of_all_nodes_are_counted_and_sorted() {
        let none = json!({"cpu": "8", "pods": "0"});
        let small = json!({"cpu": "1", "pods": "9"});
        let nodes = [("a", small.clone()), ("b", none), ("c", small)].map(|(n, a)| (n.to_owned(), a));
        let error = cycle().decide(&asking("4"), &state(nodes)).expect_err("nothing fits");
        assert_eq!(error.message, "0/3 nodes are available: 1 Too many pods, 2 Insufficient cpu.");
        assert!(error.retry_on.intersects(Events::POD_DELETE));
        let error = cycle().decide(&asking("1"), &State::default()).expect_err("no node");
        assert_eq!(error.message, "no nodes available to schedule pods");
    }

    #[test]
    fn equal_nodes_all_get_pods_and_the_emptier_one_gets_the_next() {
        let each = json!({"cpu": "4", "memory": "4Gi", "pods": "9"});
        let mut state = state(["a", "b", "c"].map(|name| (name.to_owned(), each.clone())));
        let mut cycle = cycle();
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..3 {
            let mut pod = asking("1");
            pod.metadata.uid = number.to_string().into();
            let node = cycle.decide(&pod, &state).expect("fits");
            state.assume(Arc::new(pod), &node);
            seen.insert(node);
        }
        assert_eq!(seen.len(), 3);
    }

    #[test]
    fn a_large_cluster_is_looked_at_in_turns() {
        let each = json!({"cpu": "4", "pods": "9"});
        let state = state((0..1_000).map(|number| (format!("n{number}"), each.clone())));
        let mut cycle = cycle();
        assert_eq!(cycle.enough(1_000), 420);
        cycle.decide(&asking("1"), &state).expect("fits");
        assert_eq!(cycle.next_start, 420);
        assert_eq!((cycle.enough(99), cycle.enough(5_000), cycle.enough(20_000)), (99, 500, 1_000));
    }
}
