//! How fast nodes are given up. When much of a zone is silent, it is likelier that we are cut off from it than
//! that all its nodes died, and driving all pods away would only make it worse.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::Node;
use tokio::time::Instant;

use super::super::ready_status;
use crate::context::NodesConfig;

/// Nodes with this label do not count when the health of a zone is judged.
const EXCLUDED: &str = "node.kubernetes.io/exclude-disruption";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    Taint,
    Wait,
    /// No node of any zone is healthy: it is us who are cut off, and nobody is given up.
    AllDown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Normal,
    Partial,
    Full,
}

/// When the last node of each zone was given up.
#[derive(Default)]
pub(super) struct Zones {
    last: BTreeMap<String, Instant>,
}

pub(super) fn zone(node: &Node) -> String {
    let label = |key: &str| {
        node.metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(key))
            .map(String::as_str)
            .unwrap_or_default()
    };
    format!("{}/{}", label("topology.kubernetes.io/region"), label("topology.kubernetes.io/zone"))
}

fn state(ready: usize, not_ready: usize, config: &NodesConfig) -> State {
    let share = not_ready as f64 / (ready + not_ready).max(1) as f64;
    match (ready, not_ready) {
        (0, 1..) => State::Full,
        (_, 3..) if share >= config.unhealthy_threshold => State::Partial,
        _ => State::Normal,
    }
}

impl Zones {
    /// Whether a node may be tainted now.
    pub(super) fn decide(&mut self, node: &Node, nodes: &[Arc<Node>], config: &NodesConfig) -> Decision {
        let mut counts = BTreeMap::<String, (usize, usize)>::new();
        let excluded =
            |node: &Node| node.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(EXCLUDED));
        for node in nodes.iter().filter(|node| !excluded(node)) {
            let (ready, not_ready) = counts.entry(zone(node)).or_default();
            *(if ready_status(node) == Some("True") { ready } else { not_ready }) += 1;
        }
        let states: BTreeMap<_, _> = counts
            .iter()
            .map(|(zone, (ready, not_ready))| (zone, state(*ready, *not_ready, config)))
            .collect();
        if !states.is_empty() && states.values().all(|state| *state == State::Full) {
            return Decision::AllDown;
        }
        let zone = zone(node);
        let (ready, not_ready) = counts.get(&zone).copied().unwrap_or_default();
        let rate = match states.get(&zone) {
            Some(State::Partial) if ready + not_ready > config.large_zone => config.secondary_eviction_rate,
            Some(State::Partial) => 0.0,
            _ => config.eviction_rate,
        };
        self.take(zone, rate)
    }

    fn take(&mut self, zone: String, rate: f64) -> Decision {
        let now = Instant::now();
        let due = match self.last.get(&zone) {
            None => rate > 0.0,
            Some(last) => now.saturating_duration_since(*last).as_secs_f64() * rate >= 1.0,
        };
        if !due {
            return Decision::Wait;
        }
        self.last.insert(zone, now);
        Decision::Taint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{NodeCondition, NodeStatus};
    use std::time::Duration;

    fn nodes(zone: &str, statuses: &[&str]) -> Vec<Arc<Node>> {
        let make = |status: &&str| {
            let ready =
                NodeCondition { type_: "Ready".into(), status: (*status).into(), ..NodeCondition::default() };
            let mut node = Node {
                status: Some(NodeStatus { conditions: Some(vec![ready]), ..NodeStatus::default() }),
                ..Node::default()
            };
            node.metadata.labels = Some([("topology.kubernetes.io/zone".to_owned(), zone.to_owned())].into());
            Arc::new(node)
        };
        statuses.iter().map(make).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn nodes_are_given_up_one_by_one_and_not_when_all_are_silent() {
        let (config, mut zones) = (NodesConfig::default(), Zones::default());
        let mut all = nodes("a", &["True", "True", "Unknown", "Unknown"]);
        let silent = all[2].clone();
        assert_eq!(zones.decide(&silent, &all, &config), Decision::Taint);
        assert_eq!(zones.decide(&silent, &all, &config), Decision::Wait);
        tokio::time::advance(Duration::from_secs(11)).await;
        assert_eq!(zones.decide(&silent, &all, &config), Decision::Taint);
        all = nodes("a", &["Unknown"; 4]);
        assert_eq!(zones.decide(&all[0].clone(), &all, &config), Decision::AllDown);
        all.extend(nodes("b", &["True"]));
        tokio::time::advance(Duration::from_secs(11)).await;
        assert_eq!(zones.decide(&all[0].clone(), &all, &config), Decision::Taint);
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_zone_that_is_mostly_silent_is_left_alone() {
        let (config, mut zones) = (NodesConfig::default(), Zones::default());
        let all = nodes("a", &["True", "Unknown", "Unknown", "Unknown"]);
        assert_eq!(zones.decide(&all[1].clone(), &all, &config), Decision::Wait);
        let mut large = vec!["True"; 20];
        large.extend(vec!["Unknown"; 40]);
        let all = nodes("l", &large);
        assert_eq!(zones.decide(&all[59].clone(), &all, &config), Decision::Taint);
        tokio::time::advance(Duration::from_secs(50)).await;
        assert_eq!(zones.decide(&all[59].clone(), &all, &config), Decision::Wait);
    }
}
