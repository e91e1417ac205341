//! The parts of pods and nodes that scheduling looks at, decoded and kept instead of the whole objects.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, NodeSelector, PodSchedulingGate, PreferredSchedulingTerm, Taint, Toleration,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use knarr_client::Cached;
use serde::Deserialize;

use crate::resource::{Amounts, Request, WireResources};

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    pub namespace: Box<str>,
    pub name: Box<str>,
    pub uid: Box<str>,
    pub resource_version: Box<str>,
    pub labels: BTreeMap<String, String>,
    pub deletion_timestamp: Option<Time>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    pub restart_policy: Option<String>,
    pub resources: ContainerResources,
    pub ports: Vec<ContainerPort>,
}

impl Container {
    pub fn is_sidecar(&self) -> bool {
        self.restart_policy.as_deref() == Some("Always")
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ContainerResources {
    pub requests: WireResources,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    pub host_port: i32,
    #[serde(rename = "hostIP")]
    pub host_ip: String,
    pub protocol: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: Box<str>,
    scheduler_name: Box<str>,
    priority: i32,
    node_selector: BTreeMap<String, String>,
    affinity: Option<Affinity>,
    tolerations: Vec<Toleration>,
    containers: Vec<Container>,
    init_containers: Vec<Container>,
    resources: Option<ContainerResources>,
    overhead: WireResources,
    scheduling_gates: Vec<PodSchedulingGate>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PodStatus {
    phase: Box<str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WirePod {
    metadata: Meta,
    spec: PodSpec,
    status: PodStatus,
}

/// A port that a pod takes on its node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    pub protocol: Box<str>,
    pub port: i32,
    /// `0.0.0.0` stands for every address.
    pub ip: Box<str>,
}

impl HostPort {
    /// Whether both cannot be on one node.
    pub fn conflicts(&self, other: &Self) -> bool {
        const ANY: &str = "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || &*self.ip == ANY || &*other.ip == ANY)
    }
}

/// A pod as the scheduler keeps it: what it needs is worked out once, when it is decoded.
#[derive(Debug, Deserialize)]
#[serde(from = "WirePod")]
pub struct Pod {
    pub metadata: Meta,
    pub node_name: Box<str>,
    pub scheduler_name: Box<str>,
    pub priority: i32,
    pub node_selector: BTreeMap<String, String>,
    pub required_node_affinity: Option<NodeSelector>,
    pub preferred_node_affinity: Vec<PreferredSchedulingTerm>,
    pub tolerations: Vec<Toleration>,
    pub host_ports: Vec<HostPort>,
    pub request: Request,
    pub scheduling_gates: Vec<String>,
    /// Succeeded or Failed: it needs nothing any more.
    pub finished: bool,
}

impl From<WirePod> for Pod {
    fn from(pod: WirePod) -> Self {
        let WirePod { metadata, spec, status } = pod;
        let pod_level = spec.resources.as_ref().map(|resources| &resources.requests);
        let request = Request::of_pod(&spec.containers, &spec.init_containers, pod_level, &spec.overhead);
        let node_affinity = spec.affinity.and_then(|affinity| affinity.node_affinity);
        let (required, preferred) = node_affinity
            .map(|a| {
                let required = a.required_during_scheduling_ignored_during_execution;
                (required, a.preferred_during_scheduling_ignored_during_execution.unwrap_or_default())
            })
            .unwrap_or_default();
        Self {
            node_name: spec.node_name,
            scheduler_name: spec.scheduler_name,
            priority: spec.priority,
            node_selector: spec.node_selector,
            required_node_affinity: required,
            preferred_node_affinity: preferred,
            tolerations: spec.tolerations,
            host_ports: host_ports(&spec.containers, &spec.init_containers),
            request,
            scheduling_gates: spec.scheduling_gates.into_iter().map(|gate| gate.name).collect(),
            finished: matches!(&*status.phase, "Succeeded" | "Failed"),
            metadata,
        }
    }
}

/// Ports of containers and sidecars: ordinary init containers are gone when the pod runs.
fn host_ports(containers: &[Container], init: &[Container]) -> Vec<HostPort> {
    let holding = containers.iter().chain(init.iter().filter(|container| container.is_sidecar()));
    let taken = holding.flat_map(|container| &container.ports).filter(|port| port.host_port > 0);
    taken
        .map(|port| HostPort {
            protocol: if port.protocol.is_empty() { "TCP".into() } else { port.protocol.as_str().into() },
            port: port.host_port,
            ip: if port.host_ip.is_empty() { "0.0.0.0".into() } else { port.host_ip.as_str().into() },
        })
        .collect()
}

impl Cached for Pod {
    fn namespace(&self) -> &str {
        &self.metadata.namespace
    }
    fn name(&self) -> &str {
        &self.metadata.name
    }
    fn uid(&self) -> &str {
        &self.metadata.uid
    }
    fn resource_version(&self) -> &str {
        &self.metadata.resource_version
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeSpec {
    unschedulable: bool,
    taints: Vec<Taint>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeStatus {
    allocatable: WireResources,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WireNode {
    metadata: Meta,
    spec: NodeSpec,
    status: NodeStatus,
}

#[derive(Debug, Deserialize)]
#[serde(from = "WireNode")]
pub struct Node {
    pub metadata: Meta,
    pub unschedulable: bool,
    pub taints: Vec<Taint>,
    pub allocatable: Amounts,
}

impl From<WireNode> for Node {
    fn from(node: WireNode) -> Self {
        Self {
            metadata: node.metadata,
            unschedulable: node.spec.unschedulable,
            taints: node.spec.taints,
            allocatable: Amounts::parse(&node.status.allocatable),
        }
    }
}

impl Cached for Node {
    fn namespace(&self) -> &str {
        ""
    }
    fn name(&self) -> &str {
        &self.metadata.name
    }
    fn uid(&self) -> &str {
        &self.metadata.uid
    }
    fn resource_version(&self) -> &str {
        &self.metadata.resource_version
    }
}
