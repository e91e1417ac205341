//! Which pod ranges are behind which node. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use knarr_client::Selection;
use serde::Deserialize;

use crate::kernel::nft::Ip;
use crate::objects::{Meta, nullable};

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Node {
    pub metadata: Meta,
    pub spec: NodeSpec,
    pub status: NodeStatus,
}

impl Node {
    pub fn selection() -> Selection {
        Selection::of("", "v1", "nodes")
    }

    /// Its `topology.kubernetes.io/zone`.
    pub fn zone(&self) -> Option<&str> {
        self.metadata.labels.get("topology.kubernetes.io/zone").map(|zone| &**zone)
    }

    fn internal_ip(&self, ip: Ip) -> Option<IpAddr> {
        let internal = self.status.addresses.iter().filter(|address| &*address.kind == "InternalIP");
        internal.filter_map(|address| address.address.parse().ok()).find(|address| Ip::of(*address) == ip)
    }
}

knarr_client::cached_by_metadata!(Node);

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    #[serde(rename = "podCIDRs", deserialize_with = "nullable")]
    pub pod_cidrs: Vec<Box<str>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    #[serde(deserialize_with = "nullable")]
    pub addresses: Vec<NodeAddress>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct NodeAddress {
    #[serde(rename = "type")]
    pub kind: Box<str>,
    pub address: Box<str>,
}

/// Pod ranges of other nodes, and the address of the node that has each.
pub type Peers = BTreeMap<IpNet, IpAddr>;

/// The ranges behind all nodes but `own`. A node without an address or range of
/// a family is not reachable with it yet.
pub fn peers(nodes: &[Arc<Node>], own: &str) -> Peers {
    let mut peers = Peers::new();
    for node in nodes.iter().filter(|node| &*node.metadata.name != own) {
        for range in node.spec.pod_cidrs.iter().filter_map(|text| text.parse::<IpNet>().ok()) {
            if let Some(address) = node.internal_ip(Ip::of(range.addr())) {
                peers.insert(range.trunc(), address);
            }
        }
    }
    peers
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, ranges: &[&str], addresses: &[&str]) -> Arc<Node> {
        let addresses: Vec<_> =
            addresses.iter().map(|a| json!({"type": "InternalIP", "address": a})).collect();
        let node = json!({
            "metadata": {"name": name},
            "spec": {"podCIDRs": ranges},
            "status": {"addresses": addresses},
        });
        Arc::new(serde_json::from_value(node).expect("a node"))
    }

    #[test]
    fn ranges_lead_to_their_node_by_the_address_of_the_same_family() {
        let nodes = [
            node("own", &["10.244.0.0/24"], &["192.0.2.1"]),
            node("a", &["10.244.1.0/24", "fd00:1::/64"], &["192.0.2.2", "fd00::2"]),
            node("b", &["10.244.2.0/24"], &["fd00::3"]),
            node("c", &[], &["192.0.2.4"]),
        ];
        let expected = [("10.244.1.0/24", "192.0.2.2"), ("fd00:1::/64", "fd00::2")]
            .map(|(range, address)| (range.parse().expect("a range"), address.parse().expect("an address")));
        assert_eq!(peers(&nodes, "own"), Peers::from(expected));
    }
}
