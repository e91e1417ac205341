//! What policies mean for the pods of one node. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use knarr_api::selector::Selector;
use serde_json::Value;

use super::objects::{NetworkPolicy, Peer, Pod, Port, PortName, Rule};
use crate::kernel::nft::Ip;
use crate::kernel::ranges::Ranges;
use crate::objects::{Meta, Namespace};
use crate::pod::Protocol;

/// Which way, seen from the pod that a policy selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    Ingress,
    Egress,
}

/// Who may be at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peers {
    Anyone,
    Some { pods: BTreeSet<IpAddr>, blocks: Ranges },
}

/// To which port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ports {
    All(Protocol),
    Range(Protocol, u16, u16),
}

/// One rule, for one address family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    pub peers: Peers,
    /// `None` is every port of every protocol.
    pub ports: Option<BTreeSet<Ports>>,
    /// Ports known by name: where they are.
    pub named: BTreeSet<(IpAddr, Protocol, u16)>,
}

/// Pods of this node that the same policies select, and what these allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub pods: BTreeSet<IpAddr>,
    pub allowed: Vec<Allowed>,
}

/// The groups of each direction, by the names of their policies.
pub type Plan = BTreeMap<(Ip, Direction, Vec<String>), Group>;

/// A pod at one of its addresses.
type Addressed<'a> = (IpAddr, &'a Pod);

/// Everything that a plan is made from.
pub struct World<'a> {
    pub policies: &'a [Arc<NetworkPolicy>],
    pub pods: &'a [Arc<Pod>],
    pub namespaces: &'a [Arc<Namespace>],
    pub node: &'a str,
}

impl World<'_> {
    /// What the pods of this node may send and get; pods that no policy selects
    /// are not in it.
    pub fn plan(&self) -> Plan {
        let mut plan = Plan::new();
        let here = self.pods.iter().filter(|pod| &*pod.spec.node_name == self.node);
        let mut groups: BTreeMap<(Ip, Direction, Vec<usize>), Vec<Addressed<'_>>> = BTreeMap::new();
        for pod in here {
            for direction in [Direction::Ingress, Direction::Egress] {
                let selecting = self.selecting(pod, direction);
                if selecting.is_empty() {
                    continue;
                }
                for address in pod.addresses() {
                    let key = (Ip::of(address), direction, selecting.clone());
                    groups.entry(key).or_default().push((address, pod));
                }
            }
        }
        for ((ip, direction, selecting), pods) in groups {
            let names = selecting.iter().map(|at| name_of(&self.policies[*at].metadata)).collect();
            let allowed = selecting.iter().flat_map(|at| self.allowed(*at, ip, direction, &pods)).collect();
            let pods = pods.iter().map(|(address, _)| *address).collect();
            plan.insert((ip, direction, names), Group { pods, allowed });
        }
        plan
    }

    /// The policies that isolate a pod in a direction.
    fn selecting(&self, pod: &Pod, direction: Direction) -> Vec<usize> {
        let selects = |policy: &NetworkPolicy| {
            policy.metadata.namespace == pod.metadata.namespace
                && applies(policy, direction)
                && matches(&policy.spec.pod_selector, &pod.metadata)
        };
        (0..self.policies.len()).filter(|at| selects(&self.policies[*at])).collect()
    }

    fn allowed(&self, at: usize, ip: Ip, direction: Direction, selected: &[Addressed<'_>]) -> Vec<Allowed> {
        let policy = &self.policies[at];
        let rules = match direction {
            Direction::Ingress => &policy.spec.ingress,
            Direction::Egress => &policy.spec.egress,
        };
        let namespace = &policy.metadata.namespace;
        rules.iter().map(|rule| self.rule(rule, namespace, ip, direction, selected)).collect()
    }

    fn rule(
        &self,
        rule: &Rule,
        namespace: &str,
        ip: Ip,
        direction: Direction,
        selected: &[Addressed<'_>],
    ) -> Allowed {
        let peers: Vec<Addressed<'_>> = self.peer_pods(rule, namespace, ip);
        let receivers = match direction {
            Direction::Ingress => selected,
            Direction::Egress => peers.as_slice(),
        };
        let named = rule.ports.iter().flat_map(|port| named_ports(port, receivers)).collect();
        let ports = (!rule.ports.is_empty()).then(|| rule.ports.iter().filter_map(numbered_port).collect());
        let peers = if rule.peers.is_empty() {
            Peers::Anyone
        } else {
            Peers::Some {
                pods: peers.iter().map(|(address, _)| *address).collect(),
                blocks: blocks(rule, ip),
            }
        };
        Allowed { peers, ports, named }
    }

    /// The pods that a rule means; with no peers at all, every pod.
    fn peer_pods(&self, rule: &Rule, namespace: &str, ip: Ip) -> Vec<Addressed<'_>> {
        let is_meant = |pod: &Pod| {
            rule.peers.is_empty() || rule.peers.iter().any(|peer| self.is_peer(peer, namespace, pod))
        };
        let meant = self.pods.iter().filter(|pod| is_meant(pod));
        let addresses =
            meant.flat_map(|pod| pod.addresses().into_iter().map(move |address| (address, &**pod)));
        addresses.filter(|(address, _)| Ip::of(*address) == ip).collect()
    }

    fn is_peer(&self, peer: &Peer, namespace: &str, pod: &Pod) -> bool {
        if peer.ip_block.is_some() || (peer.pod_selector.is_none() && peer.namespace_selector.is_none()) {
            return false;
        }
        let in_namespace = match &peer.namespace_selector {
            None => *pod.metadata.namespace == *namespace,
            Some(selector) => self.namespaces.iter().any(|other| {
                other.metadata.name == pod.metadata.namespace && matches(selector, &other.metadata)
            }),
        };
        in_namespace && peer.pod_selector.as_ref().is_none_or(|selector| matches(selector, &pod.metadata))
    }
}

fn name_of(meta: &Meta) -> String {
    format!("{}/{}", meta.namespace, meta.name)
}

fn applies(policy: &NetworkPolicy, direction: Direction) -> bool {
    let types = &policy.spec.policy_types;
    match direction {
        Direction::Ingress => types.is_empty() || types.iter().any(|kind| &**kind == "Ingress"),
        Direction::Egress if types.is_empty() => !policy.spec.egress.is_empty(),
        Direction::Egress => types.iter().any(|kind| &**kind == "Egress"),
    }
}

/// A selector that the server should not have let in selects nothing.
fn matches(selector: &Value, meta: &Meta) -> bool {
    match Selector::from_label_selector(Some(selector)) {
        Ok(parsed) => parsed.matches(meta),
        Err(error) => {
            tracing::warn!(%selector, %error, "label selector of a network policy");
            false
        }
    }
}

fn blocks(rule: &Rule, ip: Ip) -> Ranges {
    let mut ranges = Ranges::default();
    for block in rule.peers.iter().filter_map(|peer| peer.ip_block.as_ref()) {
        let Ok(cidr) = block.cidr.parse::<IpNet>() else { continue };
        if Ip::of(cidr.addr()) == ip {
            let except = block.except.iter().filter_map(|text| text.parse::<IpNet>().ok());
            ranges.add_block(cidr, except.filter(|except| Ip::of(except.addr()) == ip));
        }
    }
    ranges
}

fn numbered_port(port: &Port) -> Option<Ports> {
    let protocol = port.protocol.unwrap_or(Protocol::Tcp);
    match &port.port {
        None => Some(Ports::All(protocol)),
        Some(PortName::Number(first)) => {
            Some(Ports::Range(protocol, *first, port.end_port.unwrap_or(*first)))
        }
        Some(PortName::Name(_)) => None,
    }
}

fn named_ports(port: &Port, receivers: &[Addressed<'_>]) -> Vec<(IpAddr, Protocol, u16)> {
    let Some(PortName::Name(name)) = &port.port else { return Vec::new() };
    let protocol = port.protocol.unwrap_or(Protocol::Tcp);
    let at = |(address, pod): &Addressed<'_>| {
        let address = *address;
        pod.ports(name, protocol).map(|number| (address, protocol, number)).collect::<Vec<_>>()
    };
    receivers.iter().flat_map(at).collect()
}

#[cfg(test)]
mod tests;
