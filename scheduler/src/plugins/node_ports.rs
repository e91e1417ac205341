//! NodePorts: two pods cannot have one port of a node.

use crate::cluster::Cluster;
use crate::event::{Event, Kinds};
use crate::framework::{Filter, Plugin, PreFilter, Rejection, Verdict};
use crate::object::{HostPort, Pod};
use crate::state::NodeInfo;

pub struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn events(&self) -> Kinds {
        Kinds::NODE_ADD.or(Kinds::POD_DELETE)
    }

    fn helps(&self, pod: &Pod, event: &Event, _: &Cluster) -> bool {
        event.deleted_pod().is_none_or(|gone| clash(&pod.host_ports, &gone.host_ports))
    }

    fn pre_filter<'a>(&'a self, pod: &'a Pod, _: &'a Cluster) -> PreFilter<'a> {
        if pod.host_ports.is_empty() { PreFilter::Skip } else { PreFilter::filter(Wanted(&pod.host_ports)) }
    }
}

fn clash(wanted: &[HostPort], taken: &[HostPort]) -> bool {
    wanted.iter().any(|want| taken.iter().any(|have| want.conflicts(have)))
}

struct Wanted<'a>(&'a [HostPort]);

impl Filter for Wanted<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        if clash(self.0, &node.host_ports) {
            return Err(Rejection::unschedulable(
                "node(s) didn't have free ports for the requested pod ports",
            ));
        }
        Ok(())
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
            let against = with_node(json!({}), vec![with_port(80, "", "")], |n| judge(&NodePorts, &other, n));
            assert_eq!(against.is_empty(), free, "{:?}", other.host_ports);
        }
        let apart = with_node(json!({}), vec![with_port(80, "TCP", "10.0.0.1")], |node| {
            judge(&NodePorts, &with_port(80, "TCP", "10.0.0.2"), node).is_empty()
        });
        assert!(apart);
    }
}
