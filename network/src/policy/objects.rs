//! The fields of policies and pods that are read here.

use std::net::IpAddr;

use knarr_client::Selection;
use serde::Deserialize;
use serde_json::Value;

use crate::objects::{Meta, nullable};
use crate::pod::Protocol;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct NetworkPolicy {
    pub metadata: Meta,
    pub spec: Spec,
}

impl NetworkPolicy {
    pub fn selection() -> Selection {
        Selection::of("networking.k8s.io", "v1", "networkpolicies")
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    pub pod_selector: Value,
    #[serde(deserialize_with = "nullable")]
    pub policy_types: Vec<Box<str>>,
    #[serde(deserialize_with = "nullable")]
    pub ingress: Vec<Rule>,
    #[serde(deserialize_with = "nullable")]
    pub egress: Vec<Rule>,
}

/// An ingress or egress rule: they differ in the name of the peers only.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Rule {
    #[serde(alias = "from", alias = "to", deserialize_with = "nullable")]
    pub peers: Vec<Peer>,
    #[serde(deserialize_with = "nullable")]
    pub ports: Vec<Port>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Peer {
    pub pod_selector: Option<Value>,
    pub namespace_selector: Option<Value>,
    pub ip_block: Option<IpBlock>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct IpBlock {
    pub cidr: Box<str>,
    #[serde(deserialize_with = "nullable")]
    pub except: Vec<Box<str>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Port {
    pub protocol: Option<Protocol>,
    pub port: Option<PortName>,
    pub end_port: Option<u16>,
}

/// A port of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum PortName {
    Number(u16),
    Name(Box<str>),
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Pod {
    pub metadata: Meta,
    pub spec: PodSpec,
    pub status: PodStatus,
}

impl Pod {
    pub fn selection() -> Selection {
        Selection::of("", "v1", "pods")
    }

    /// The addresses that are its own and in use.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let is_over = matches!(&*self.status.phase, "Succeeded" | "Failed");
        if self.spec.host_network || is_over {
            return Vec::new();
        }
        self.status.pod_ips.iter().filter_map(|pod_ip| pod_ip.ip.parse().ok()).collect()
    }

    /// The numbers of its ports of this name.
    pub fn ports<'a>(&'a self, name: &'a str, protocol: Protocol) -> impl Iterator<Item = u16> + 'a {
        let containers = self.spec.containers.iter().chain(&self.spec.init_containers);
        let named = move |port: &&ContainerPort| {
            port.name.as_deref() == Some(name) && port.protocol.unwrap_or(Protocol::Tcp) == protocol
        };
        containers.flat_map(|container| &container.ports).filter(named).map(|port| port.container_port)
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    pub node_name: Box<str>,
    pub host_network: bool,
    pub containers: Vec<Container>,
    pub init_containers: Vec<Container>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Container {
    pub ports: Vec<ContainerPort>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerPort {
    pub name: Option<Box<str>>,
    pub container_port: u16,
    pub protocol: Option<Protocol>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    pub phase: Box<str>,
    #[serde(rename = "podIPs")]
    pub pod_ips: Vec<PodIp>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct PodIp {
    pub ip: Box<str>,
}

knarr_client::cached_by_metadata!(NetworkPolicy);
knarr_client::cached_by_metadata!(Pod);
