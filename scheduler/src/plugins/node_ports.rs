//! NodePorts: two pods cannot have one port of a node.

use super::{Filter, Reason};
use crate::event::Events;
use crate::object::Pod;
use crate::state::NodeInfo;

pub struct NodePorts;

impl Filter for NodePorts {
    fn retry_on(&self) -> Events {
        Events::NODE_ADD.or(Events::POD_DELETE)
    }

    fn reasons_against(&self, pod: &Pod, node: &NodeInfo) -> Vec<Reason> {
        let taken = pod.host_ports.iter().any(|want| node.host_ports.iter().any(|have| want.conflicts(have)));
        if taken {
            vec!["node(s) didn't have free ports for the requested pod ports".into()]
        } else {
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::testing::{pod, with_node};
    use serde_json::json;

    fn with_port(port: i32, protocol: &str, ip: &str) -> Pod {
        pod(json!({"containers": [{"ports": [{"hostPort": port, "protocol": protocol, "hostIP": ip}]}]}))
    }

    #[test]
    fn ports_conflict_per_protocol_and_address() {
        for (other, free) in [
            (with_port(80, "TCP", ""), false),
            (with_port(81, "TCP", ""), true),
            (with_port(80, "UDP", ""), true),
            (with_port(80, "TCP", "10.0.0.1"), false),
        ] {
            let against =
                with_node(json!({}), vec![with_port(80, "", "")], |n| NodePorts.reasons_against(&other, n));
            assert_eq!(against.is_empty(), free, "{:?}", other.host_ports);
        }
        let apart = with_node(json!({}), vec![with_port(80, "TCP", "10.0.0.1")], |node| {
            NodePorts.reasons_against(&with_port(80, "TCP", "10.0.0.2"), node).is_empty()
        });
        assert!(apart);
    }
}
