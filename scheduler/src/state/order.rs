//! The order in which nodes are looked at: zone by zone in turns, so that a search that ends early has seen all zones.

use std::collections::BTreeMap;

use super::NodeInfo;

const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";

/// Slots of the nodes that exist.
pub fn by_zone_in_turns(nodes: &[NodeInfo]) -> Vec<usize> {
    let mut zones: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
    for node in nodes.iter().filter(|node| node.exists()) {
        let zone = (node.label(REGION).unwrap_or_default(), node.label(ZONE).unwrap_or_default());
        zones.entry(zone).or_default().push(node.slot);
    }
    let longest = zones.values().map(Vec::len).max().unwrap_or(0);
    (0..longest).flat_map(|turn| zones.values().filter_map(move |zone| zone.get(turn).copied())).collect()
}
